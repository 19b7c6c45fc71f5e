"""Who does not use Sigstore does not pay for it: a quarter of a second of imports."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sigstore.packages import PATIENCE, WORKER, build_package, keyless_line, payload_of, quickly

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback_sigstore import LoopbackSigstore

HEAVY = ("id", "jwt", "pydantic", "requests", "rfc3161_client", "rich", "sigstore", "sigstore_models", "tuf", "urllib3")
PROBE = """
import json, sys
from wcp_attest.cli import main
status = main(json.loads(sys.argv[1]))
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def imported(*arguments: object) -> list[str]:
    """Run the program in a process of its own; return which of the heavy packages it imported."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([str(argument) for argument in arguments])],
        env={"WCP_ATTEST_HMAC_KEY": "correct horse battery staple"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    status, modules = json.loads(ran.stderr.splitlines()[-1])
    assert status == 0, ran
    return sorted(set(HEAVY) & set(modules))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_package(tmp_path_factory.mktemp("cost") / "my-worker")


def test_hmac_and_key_never_import_sigstore(instance: LoopbackSigstore, package: Path, tmp_path: Path) -> None:
    key = tmp_path / "release.key"
    assert quickly("keygen", key, "--no-passphrase").status == 0
    # A keyless line by somebody else stands beside them and is passed over.
    (package / "manifest.sig").write_bytes(keyless_line(instance, payload_of(package)) + b"\n")
    assert imported("sign", package, "--key", key, "--hmac") == []
    assert imported("verify", package, "--public-key", f"{key}.pub", "--worker-id", WORKER) == []
    assert imported("verify", package, "--hmac", "--worker-id", WORKER) == []


@pytest.mark.parametrize("command", [(), ("sign",), ("verify",), ("show",)])
def test_help_never_imports_sigstore(command: tuple[str, ...]) -> None:
    assert imported(*command, "--help") == []


def test_a_keyless_package_does_import_it(instance: LoopbackSigstore, package: Path, tmp_path: Path) -> None:
    """So the probe sees what it looks for."""
    root = tmp_path / "root.json"
    root.write_text(json.dumps(instance.trusted_root()))
    (package / "manifest.sig").write_bytes(keyless_line(instance, payload_of(package)) + b"\n")
    keyless = ("--identity", "https://ci.test/acme/worker", "--issuer", instance.issuer, "--trusted-root", root)
    assert "sigstore" in imported("verify", package, "--worker-id", WORKER, *keyless)
