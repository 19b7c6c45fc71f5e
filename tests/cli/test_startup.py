"""What a command imports, since that is what its start-up costs; no clock is asked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import SECRET, WORKER, Command

if TYPE_CHECKING:
    from pathlib import Path

# Heavy modules that no quick command may import, and the libraries of other commands.
HEAVY = {
    "asyncio",
    "blake3",
    "email",
    "http",
    "importlib.metadata",
    "jsonschema",
    "logging",
    "multiprocessing",
    "pathlib",
    "pydantic",
    "requests",
    "rich",
    "sigstore",
    "socket",
    "ssl",
    "tuf",
    "urllib",
    "urllib3",
    "zipfile",
}
PROBE = """
import sys
before = set(sys.modules)
from wcp_attest.cli import main
status = main(sys.argv[1:])
print(status, *(name for name in sys.modules if name not in before), file=sys.stderr)
"""


def imported(wcp: Command, *arguments: object, env: dict[str, str] | None = None) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, *map(str, arguments)],
        cwd=wcp.folder,
        env=wcp.environment(env),
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0", done.stderr
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_import_no_command(wcp: Command, arguments: tuple[str, ...]) -> None:
    modules = imported(wcp, *arguments)
    assert modules & (HEAVY | {"json", "cryptography", "hashlib", "tomllib"}) == set()
    ours = {name for name in modules if name.startswith("wcp_attest")}
    assert ours == {"wcp_attest", "wcp_attest.cli", "wcp_attest.cli.command_table"}


def test_verify_with_a_shared_secret_imports_little(wcp: Command, package: Path) -> None:
    env = {"WCP_ATTEST_HMAC_KEY": SECRET}
    wcp.ok("sign", package, "--hmac", *WORKER, "--species-id", "wrk.a", "--worker-version", "1", env=env)
    modules = imported(wcp, "verify", package, "--hmac", *WORKER, env=env)
    assert modules & (HEAVY | {"cryptography", "tomllib", "pathspec"}) == set()


def test_verify_with_a_key_imports_little(wcp: Command, signed: Path) -> None:
    modules = imported(wcp, "verify", signed, "--public-key", "acme.key.pub", *WORKER)
    assert modules & (HEAVY | {"tomllib", "pathspec", "wcp_attest.signing.hmac"}) == set()


def test_sign_with_a_plain_key_imports_no_other_key_format(wcp: Command, package: Path, key: Path) -> None:
    identity = (*WORKER, "--species-id", "wrk.a", "--worker-version", "1")
    modules = imported(wcp, "sign", package, "--key", key, *identity, "-q")
    assert (
        modules & (HEAVY | {"tomllib", "pathspec", "bcrypt", "cryptography.hazmat.primitives.serialization"}) == set()
    )


def test_importing_the_library_needs_no_click() -> None:
    names = "[getattr(wcp_attest, name) for name in wcp_attest.__all__]"
    code = f"import sys, wcp_attest; {names}; print('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
