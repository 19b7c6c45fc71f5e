"""The zipapp: built twice, the same bytes; and on a host with Python alone it verifies, or says what it lacks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.store.worlds import KEY, WORKER, make_package
from tests.vectors.packages import materialise_case
from wcp_attest import HmacSecret, build_manifest, sign
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BARE = [sys.executable, "-I", "-S"]  # no site-packages, no variables, not the folder we are in
TRUST = ["--namespace", "org.acme"]


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "wcp-attest.pyz"
    subprocess.run([sys.executable, ROOT / "scripts" / "build_zipapp.py", path], check=True, capture_output=True)
    return path


@pytest.fixture
def call(zipapp: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object, **variables: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*BARE, zipapp, *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables},
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "acme.pub").write_bytes(KEY.public_pem())
    return make_package(tmp_path / "worker", now=time.time())


def test_the_same_sources_give_the_same_bytes(zipapp: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "build_zipapp.py", again],
        check=True, capture_output=True, umask=0o077, env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(zipapp.read_bytes()).digest()


def test_it_holds_ours_and_click_and_no_compiled_code(zipapp: Path) -> None:
    names = zipfile.ZipFile(zipapp).namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"__main__.py", "wcp_attest", "click"}
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pyd"))]
    assert [name for name in names if "click" in name and "LICENSE" in name]
    bare = subprocess.run([*BARE, "-c", "import cryptography"], capture_output=True, check=False)
    assert bare.returncode == 1  # so that the tests below show something


def test_a_key_is_verified_by_python_alone(call: Callable[..., tuple[int, str, str]], package: Path) -> None:
    status, out, _ = call("verify", package, "--public-key", "acme.pub", *TRUST)
    assert (status, out.splitlines()[0]) == (0, f"VERIFIED  {package}")
    (package / "code" / "worker_logic.py").write_text("import os\n")
    status, out, _ = call("verify", package, "--public-key", "acme.pub", *TRUST)
    assert status == 1
    assert "ATTEST_HASH_MISMATCH" in out


VECTORS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from wcp_attest import load_policy, verify
answers = {}
for name, now, pair in json.load(sys.stdin):
    policy = load_policy(f"{name}.toml")
    verdict = verify(name, policy, now=now, attestation=pair)
    answers[name] = [verdict.ok, str(verdict.code or "")]
assert "cryptography" not in sys.modules
json.dump(answers, sys.stdout)
"""


def test_it_answers_the_vectors_signed_by_ed25519_keys_as_the_wheel_does(zipapp: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests/vectors/keys", tmp_path / "keys")
    asked, wanted = [], {}
    for path in sorted((ROOT / "tests/vectors/cases").glob("key-*.json")):
        case = json.loads(path.read_bytes())
        if set(re.findall(r'key = "(.*?)"', case["policy"])) != {"keys/ed25519.pub"} or case["expect"]:
            continue
        if "hmac" in case["policy"] or "blake3" in case["name"]:
            continue
        _, pair = materialise_case(case, tmp_path / case["name"])
        (tmp_path / f"{case['name']}.toml").write_text(case["policy"])
        asked.append((case["name"], case["now"], pair and str(pair)))
        wanted[case["name"]] = [case["expected"]["ok"], case["expected"].get("code", "")]
    assert len(asked) > 90
    done = subprocess.run(
        [*BARE, "-c", VECTORS, zipapp], input=json.dumps(asked), cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted


def test_another_key_and_a_spoilt_signature_are_refused(
    call: Callable[..., tuple[int, str, str]], package: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.pub").write_bytes(generate().public_pem())
    assert call("verify", package, "--public-key", "other.pub", *TRUST)[0] == 1
    signature = package / "manifest.sig"
    text = signature.read_text()
    at = text.rindex('"sig"') + 12
    signature.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    assert call("verify", package, "--public-key", "acme.pub", *TRUST)[0] == 1


def test_a_policy_and_hmac_are_verified_by_python_alone(
    call: Callable[..., tuple[int, str, str]], package: Path, tmp_path: Path
) -> None:
    (tmp_path / "policy.toml").write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
    )
    assert call("verify", package, "--policy", "policy.toml")[0] == 0
    secret = "a secret of the tests only, long enough"
    manifest = build_manifest(package, worker_id=WORKER, worker_species_id="wrk.doc.x", worker_version="1")
    sign(package, [HmacSecret(secret.encode())], manifest=manifest)
    assert call("verify", package, "--hmac", *TRUST, WCP_ATTEST_HMAC_KEY=secret)[0] == 0
    assert call("verify", package, "--hmac", *TRUST, WCP_ATTEST_HMAC_KEY=secret + "x")[0] == 1


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_a_key_of_another_kind_is_a_mistake_not_a_pass(
    kind: str, call: Callable[..., tuple[int, str, str]], package: Path, tmp_path: Path
) -> None:
    signer = generate(kind)  # type: ignore[arg-type]
    manifest = build_manifest(package, worker_id=WORKER, worker_species_id="wrk.doc.x", worker_version="1")
    sign(package, [signer], manifest=manifest)
    (tmp_path / "other.pub").write_bytes(signer.public_pem())
    status, out, errors = call("verify", package, "--public-key", "other.pub", *TRUST)
    assert (status, out) == (2, "")
    assert "cryptography" in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["keygen", "new", "--no-passphrase"],
        ["verify", "worker", "--repository", "acme/x", *TRUST],
        ["hash", "worker", "--algorithm", "blake3"],
    ],
)
def test_what_needs_a_package_says_which(
    arguments: list[str], call: Callable[..., tuple[int, str, str]], package: Path, tmp_path: Path
) -> None:
    status, out, errors = call(*arguments)
    assert (status, out) == (2, "")
    assert "needs the Python package" in errors
    assert not (tmp_path / "new").exists()


def test_a_store_and_run_work_too(call: Callable[..., tuple[int, str, str]], package: Path) -> None:
    trust = ["--public-key", "acme.pub", *TRUST]
    status, out, errors = call("run", package, *trust, "--no-store", "--", "cat", "code/worker_logic.py")
    assert (status, out) == (0, "print('hello')\n"), errors
