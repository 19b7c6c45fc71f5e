"""The counter on standard error: only for long work, one line on a terminal, whole lines in a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, TIMEOUT, Command, write_files

if TYPE_CHECKING:
    from pathlib import Path

# Every reading is long to a program that waits for nothing, so no clock decides what these tests see.
IMPATIENT = """
import sys
from wcp_attest.cli import main, output
output.FIRST_AFTER = output.ON_TERMINAL_EVERY = output.IN_LOG_EVERY = 0.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_files(tmp_path / "many", {f"d{number % 7}/f{number}": b"x" * 100 for number in range(600)})


def on_terminal(wcp: Command, *arguments: object, columns: int = 80) -> tuple[int, str, str]:
    """Run with a terminal as standard error; return status, output and what the terminal got."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, *map(str, arguments)],
        cwd=wcp.folder,
        env={**wcp.environment(), "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:  # Linux says EIO when the other side is closed
                break
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    return process.returncode, out, shown.decode()


def in_pipe(wcp: Command, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPATIENT, *map(str, arguments)],
        cwd=wcp.folder, env=wcp.environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["build", "sign", "hash"])
def test_a_terminal_gets_one_line_that_goes_away(wcp: Command, many: Path, key: Path, command: str) -> None:
    options = {"build": IDENTITY, "sign": ("--key", key, *IDENTITY), "hash": ()}[command]
    # A line is cut where the terminal ends, and the rate of a slow machine is long.
    status, out, shown = on_terminal(wcp, command, many, *options, columns=120)
    assert status == 0
    assert "\r" in shown
    assert " files" in shown
    assert "\n" not in shown.replace("\r\n", "")
    assert shown.rstrip("\r\n").endswith(" ")  # wiped out
    assert "\r" not in out


def test_a_terminal_gets_none_when_it_is_not_wanted(wcp: Command, many: Path) -> None:
    for option in ("--no-progress", "--quiet"):
        assert on_terminal(wcp, "hash", many, option)[2] == ""


def test_a_pipe_gets_lines_only_when_they_are_wanted(wcp: Command, many: Path) -> None:
    assert in_pipe(wcp, "hash", many).stderr == ""
    shown = in_pipe(wcp, "hash", many, "--progress").stderr
    assert "\r" not in shown
    assert all("/s, " in line and line.endswith(" files") for line in shown.splitlines())
    assert shown


def test_verify_counts_towards_a_known_total(wcp: Command, many: Path, key: Path) -> None:
    wcp.ok("sign", many, "--key", key, *IDENTITY)
    trust = ("--public-key", "acme.key.pub", "--namespace", "org.acme")
    done = in_pipe(wcp, "verify", many, *trust, "--progress")
    assert done.returncode == 0
    assert "600/600 files" in done.stderr
    assert "100 %  58.6 KiB of 58.6 KiB" in done.stderr


def test_a_terminal_gets_a_bar_that_moves_within_one_large_file(wcp: Command, key: Path) -> None:
    """The file has 2 GiB, so it also shows that no counter has 31 bits; it is a hole, so it takes no room."""
    root = write_files(wcp.folder / "large", {"empty": b""})
    with (root / "model.bin").open("wb") as file:
        file.truncate(2**31)
    wcp.ok("sign", root, "--key", key, *IDENTITY)
    digest = "a7c744c13cc101ed66c29f672f92455547889cc586ce6d44fe76ae824958ea51"  # by sha256sum
    assert f'"model.bin": {{"sha256":"{digest}","size":{2**31}}}' in (root / "manifest.json").read_text()
    trust = ("--public-key", "acme.key.pub", "--namespace", "org.acme")
    for jobs in "12":
        status, _, shown = on_terminal(wcp, "verify", root, *trust, "-j", jobs)
        assert status == 0
        percents = [int(found) for found in re.findall(r"\[[#-]{12}\] +([0-9]+) %", shown)]
        assert percents == sorted(percents)
        assert len({percent for percent in percents if 0 < percent < 100}) >= 2
        assert re.search(r"of 2\.0 GiB, [0-9.]+ [KMG]iB/s, [0-9: smin]+ left", shown)


def test_signing_gets_a_percentage_without_a_manifest(wcp: Command, many: Path, key: Path) -> None:
    write_files(many, {"large": b"x" * 30_000_000})
    status, _, shown = on_terminal(wcp, "sign", many, "--key", key, *IDENTITY, "-j", "1")
    assert status == 0
    assert " %  " in shown
    assert " s left" in shown


def test_a_bar_is_no_wider_than_the_terminal(wcp: Command, many: Path, key: Path) -> None:
    wcp.ok("sign", many, "--key", key, *IDENTITY)
    trust = ("--public-key", "acme.key.pub", "--namespace", "org.acme")
    environment = Command(wcp.folder)
    shown = on_terminal(environment, "verify", many, *trust)[2]
    assert max(map(len, re.split(r"[\r\n]+", shown))) < 80
