"""No process that is started gets a secret of its parent: read from the processes themselves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.advice.git_command import Git
from wcp_attest.base.child_environment import bare_environment, signing_environment
from wcp_attest.base.errors import SigningError
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.signing.sigstore.keyless_signer import SigstoreSigner

if TYPE_CHECKING:
    from wcp_attest.disk.options import Progress

OURS = (
    "WCP_ATTEST_HMAC_KEY",
    "WCP_ATTEST_KEY_PASSPHRASE",
    "WCP_ATTEST_REGISTRY_TOKEN",
    "WCP_ROUTE_RECEIPT_KEY",
)
TOKENS = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SIGSTORE_ID_TOKEN")
OTHERS = (
    "GITHUB_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "CI_JOB_JWT_V2",
    "POLICY_SECRET",
    "DB_PASSWORD",
)
SECRETS = (*OURS, *TOKENS, *OTHERS)
MARK = "do-not-pass-on"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"{MARK} {name}")


def environment_of(process: str) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


@pytest.mark.usefixtures("secrets")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not show environments")
def test_processes_that_hash_get_no_secret(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    found: dict[str, bytes] = {}

    def look(_: Progress) -> None:
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                found.setdefault(child, environment_of(child))

    read_tree(os.fspath(tmp_path), options=ReadOptions(jobs=3, progress=look))
    assert found, "no process was seen while files were read"
    assert not [child for child, environment in found.items() if MARK.encode() in environment]


@pytest.mark.usefixtures("secrets")
def test_git_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text(f"#!{sys.executable}\nimport sys\nprint(open('/proc/self/environ').read())\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = Git(None).output("status").decode()
    assert "GIT_ALLOW_PROTOCOL=" in said
    assert MARK not in said


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("asks", [True, False])
def test_the_process_that_signs_gets_tokens_only_to_ask_for_one(
    asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import json, os\nopen({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(dict(os.environ)))\nos._exit(0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SigningError):
        SigstoreSigner(token=None if asks else b"a.b.c").sign(b"{}")
    seen = json.loads((tmp_path / "seen").read_text())
    assert {name for name in SECRETS if name in seen} == (set(TOKENS) if asks else set())


names = st.sampled_from(SECRETS) | st.from_regex(r"[A-Z_]{1,12}", fullmatch=True)


@given(st.dictionaries(names, st.just("value")))
def test_an_environment_is_a_part_of_what_there_is_and_without_secrets(environ: dict[str, str]) -> None:
    for part in (
        bare_environment(environ),
        bare_environment(environ, git=True),
        signing_environment(environ, ask_for_token=False),
    ):
        assert part.items() <= environ.items()
        assert not set(SECRETS) & set(part)


def test_what_a_program_needs_to_start_stays() -> None:
    needed = dict.fromkeys(("PATH", "HOME", "LD_LIBRARY_PATH", "LC_ALL", "TMPDIR"), "value")
    assert bare_environment(needed) == bare_environment(needed, git=True) == needed
    network = dict.fromkeys(("HTTPS_PROXY", "SSL_CERT_FILE", "BROWSER", "XDG_DATA_HOME"), "value")
    assert signing_environment(needed | network, ask_for_token=False) == needed | network
