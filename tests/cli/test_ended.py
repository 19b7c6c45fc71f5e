"""What a supervisor's signal leaves behind: nothing half done, and a process that died of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, WORKER, Command

if TYPE_CHECKING:
    from pathlib import Path

# Send the process a real signal at its Nth step that changes a file system, then tell how many steps there were.
SENDER = """
import os, sys
number, step = int(sys.argv[1]), int(sys.argv[2])
steps = 0
def hook(event, arguments):
    global steps
    writes = event == "open" and arguments[2] & (os.O_CREAT | os.O_WRONLY)
    if writes or event in {"os.mkdir", "os.chmod", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.rmtree"}:
        steps += 1
        if steps == step:
            os.kill(os.getpid(), number)
from wcp_attest.cli import program
sys.argv[1:] = sys.argv[3:]
sys.addaudithook(hook)
program()
"""


def sent(wcp: Command, number: int, step: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SENDER, str(number), str(step), *map(str, arguments)],
        cwd=wcp.folder,
        env=wcp.environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("number", "option"), [(signal.SIGTERM, "--stage"), (signal.SIGHUP, "--stage"), (signal.SIGTERM, "--stage-link")]
)
def test_a_copy_that_is_ended_half_way_is_removed(
    wcp: Command, signed: Path, number: signal.Signals, option: str
) -> None:
    trust = ("--public-key", "acme.key.pub", *WORKER, "--jobs", 1)
    before = sorted(os.listdir(wcp.folder))
    for step in range(1, 100):
        done = sent(wcp, number, step, "verify", signed, *trust, option, "copy")
        if done.returncode == 0:
            break
        assert (done.returncode, done.stderr) == (-number, ""), step
        if (wcp.folder / "copy").exists():  # the last step had been done
            wcp.ok("verify", (wcp.folder / "copy").resolve(), *trust)
        subprocess.run(["rm", "-rf", wcp.folder / "copy", wcp.folder / "copy.1"], check=True)  # whole copies
        assert sorted(os.listdir(wcp.folder)) == before, step
    assert step > 5
    wcp.ok("verify", (wcp.folder / "copy").resolve(), *trust)


def test_an_archive_that_is_ended_half_way_is_removed(wcp: Command, signed: Path) -> None:
    before = sorted(os.listdir(wcp.folder))
    for step in range(1, 100, 2):
        done = sent(wcp, signal.SIGTERM, step, "pack", signed, "-o", "worker.tar", "--jobs", 1)
        if done.returncode == 0:
            break
        assert (done.returncode, done.stderr) == (-signal.SIGTERM, ""), step
        (wcp.folder / "worker.tar").unlink(missing_ok=True)  # the last steps remove what it was made in
        assert sorted(os.listdir(wcp.folder)) == before, step
    assert step > 5


@pytest.mark.parametrize("command", ["build", "sign"])
def test_a_write_that_is_ended_leaves_no_temporary_file(wcp: Command, signed: Path, key: Path, command: str) -> None:
    signer = ("--key", key) if command == "sign" else ()
    before = sorted(os.listdir(signed))
    for step in range(1, 100):
        done = sent(
            wcp, signal.SIGTERM, step, command, signed, *signer, *IDENTITY, "--built-at", f"20{step:02}-01-01T00:00:00Z"
        )
        assert sorted(os.listdir(signed)) == before, step
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGTERM
    assert step > 1


# Interrupt the process when the program, which has just been called, imports its first module.
EARLY = """
import os, signal, sys
number = signal.SIGINT
del sys.modules["signal"]
from wcp_attest.cli import program
def hook(event, arguments):
    if event == "import" and arguments[0] == "signal":
        os.kill(os.getpid(), number)
sys.addaudithook(hook)
program()
"""


def test_an_interrupt_at_the_very_start_is_no_traceback(wcp: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY], env=wcp.environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_signal_that_the_parent_had_ignored_stays_ignored(wcp: Command, signed: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    done = subprocess.run(
        [sys.executable, "-c", SENDER, str(int(signal.SIGHUP)), "1", "build", str(signed), *IDENTITY, "--fresh"],
        cwd=wcp.folder,
        env=wcp.environment(),
        preexec_fn=ignore,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
