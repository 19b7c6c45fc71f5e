"""A Dask cluster's workers hash and verify a tree as one process does, and are gone when they have."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "dask_hash.py"
SCRIPT = Path(sys.executable).with_name("wcp-attest")
IDENTITY = ("--worker-id", "org.acme.many", "--species-id", "wrk.doc.many", "--worker-version", "1")
POLICY = 'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.key.pub"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of some jobs' worth of files in `many`, signed, and a policy that believes its signer."""
    made = tmp_path_factory.mktemp("dask")
    for number in range(2600):
        path = made / "many" / f"part{number % 3}" / f"file{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 50))
    subprocess.run([SCRIPT, "keygen", "acme.key", "--no-passphrase"], cwd=made, check=True, capture_output=True)
    subprocess.run([SCRIPT, "sign", "many", "--key", "acme.key", *IDENTITY, "-q"], cwd=made, check=True)
    (made / "policy.toml").write_text(POLICY)
    return made


def run_example(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example, and hold it to leave no process behind: all it starts are in its own session."""
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, EXAMPLE, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=120)
            deadline = time.monotonic() + 20  # Dask's own watchers may end a moment after the program
            while (left := in_session(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            for one in in_session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
    assert not left, f"processes were left behind: {left}"
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def in_session(leader: int) -> list[int]:
    """Return the processes of a session that are not over."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    found = []
    for pid, state in (line.split() for line in listed.splitlines()):
        with suppress(ProcessLookupError, PermissionError):
            if not state.startswith("Z") and os.getsid(int(pid)) == leader:
                found.append(int(pid))
    return found


def jobs_of_each(out: str) -> list[int]:
    return [int(jobs) for jobs in re.findall(r"^tcp://127\.0\.0\.1:\d+ did (\d+) jobs$", out, re.MULTILINE)]


def test_two_workers_compute_the_package_hash_of_one_process(folder: Path) -> None:
    alone = subprocess.run([SCRIPT, "hash", "many"], cwd=folder, capture_output=True, text=True, check=True).stdout
    done = run_example(folder, "many")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(alone.split()[0] + "  2600 files, ")
    assert len(jobs_of_each(done.stdout)) == 2
    assert min(jobs_of_each(done.stdout)) > 0, done.stdout


def test_two_workers_verify_a_package_and_refuse_it_once_a_byte_is_changed(folder: Path) -> None:
    good = run_example(folder, "many", "policy.toml")
    assert good.returncode == 0, good.stderr
    assert "org.acme" in good.stdout.splitlines()[0]
    assert min(jobs_of_each(good.stdout)) > 0, good.stdout

    victim = folder / "many" / "part1" / "file0301"
    kept = victim.read_bytes()
    victim.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
    try:
        refused = run_example(folder, "many", "policy.toml")
    finally:
        victim.write_bytes(kept)
    assert refused.returncode == 1
    assert "ATTEST_HASH_MISMATCH" in refused.stderr
    assert "modified: part1/file0301" in refused.stderr
    assert refused.stderr.count("modified:") == 1
