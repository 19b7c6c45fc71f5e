"""With a pinned trusted root nobody is asked and nothing is remembered: no connection, no cache, no home directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loopback_sigstore import github_claims
from tests.sigstore.packages import PATIENCE, WORKER, WORKFLOW, build_package, keyless_line, payload_of

if TYPE_CHECKING:
    from tests.loopback_sigstore import LoopbackSigstore

CHECKOUT = Path(__file__).parents[2]
IN_AN_EMPTY_NETWORK = ("unshare", "--user", "--map-root-user", "--net")


def cannot_unshare() -> str | None:
    """Say why there is no empty network namespace to be had, None when there is."""
    try:
        tried = subprocess.run([*IN_AN_EMPTY_NETWORK, "true"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as problem:
        return f"offline verification was NOT proven: `unshare` cannot be run: {problem.strerror}"
    return None if tried.returncode == 0 else f"offline verification was NOT proven: {tried.stderr.strip()}"


@pytest.fixture
def arguments(instance: LoopbackSigstore, tmp_path: Path, rekor: int) -> list[str]:
    """Return the command line that verifies a keyless package by a policy with a pinned root."""
    package = build_package(tmp_path / "my-worker")
    line = keyless_line(instance, payload_of(package), github_claims(), rekor=rekor)
    (package / "manifest.sig").write_bytes(line + b"\n")
    (tmp_path / "trusted_root.json").write_text(json.dumps(instance.trusted_root()))
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\n'
        f'sigstore = {{ issuer = "{instance.issuer}", identity = "{WORKFLOW}" }}\n'
        '[sigstore]\ntrusted_root = "trusted_root.json"\nrequire_timestamp = true\n'
    )
    return ["verify", str(package), "--policy", str(policy), "--worker-id", WORKER]


@pytest.fixture(params=[1, 2], ids=["rekor-1", "rekor-2"])
def rekor(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.skipif(cannot_unshare() is not None, reason=cannot_unshare() or "")
def test_it_verifies_in_an_empty_network_without_a_home(arguments: list[str], tmp_path: Path) -> None:
    """Not even the loopback interface is up there."""
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    inside = [*IN_AN_EMPTY_NETWORK, "env", "-i", f"PYTHONPATH={CHECKOUT}", sys.executable]
    unreachable = subprocess.run([*inside, "-c", probe], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "Network is unreachable" in unreachable.stderr
    verified = subprocess.run(
        [*inside, "-m", "wcp_attest", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("VERIFIED")


# Notes every socket and every file that is opened, from inside the interpreter, and prints them at the end.
WATCHED = """
import json, sys
seen = []
def watch(event, arguments):
    if event.startswith("socket.") or event in ("open", "os.mkdir", "os.listdir", "os.scandir"):
        seen.append([event, str(arguments[1 if event == "socket.bind" else 0]) if arguments else ""])
sys.addaudithook(watch)
from wcp_attest.cli import main
status = main(sys.argv[1:])
sys.stdout.flush()
print(json.dumps({"status": status, "seen": seen}), file=sys.stderr)
"""


def test_it_connects_to_nothing_and_touches_no_home_or_cache(arguments: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    homes = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_DATA_HOME": str(home / "data")}
    watched = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **homes},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    report = json.loads(watched.stderr)
    assert report["status"] == 0, watched.stdout
    # Python's own start-up looks for a user's site directory; that is not ours to change.
    touched = [path for event, path in report["seen"] if path.startswith(str(home)) and "site-packages" not in path]
    assert touched == []
    # urllib3, which sigstore imports, binds a socket once to learn whether there is IPv6; nothing is ever connected.
    sockets = [(event, what) for event, what in report["seen"] if event.startswith("socket.")]
    assert [pair for pair in sockets if pair[0] != "socket.__new__" and pair != ("socket.bind", "('::1', 0)")] == []
    assert len(sockets) <= 2
    assert list(home.iterdir()) == []
    assert any(path.endswith("manifest.sig") for _, path in report["seen"])  # the watch works
