"""`wcp-route watch` in a real terminal: what it shows, what its keys do, and how it leaves the terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.route.test_route_cli import Desk
from tests.route.worlds import WORKER, a_rule
from wcp_route.cli.watch import WatchScreen
from wcp_route.cli.watch_sources import Watched, WatchedHold, WatchedWorker
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30  # until a test gives up
COMMAND = [sys.executable, "-c", "import sys; from wcp_route.cli import main; sys.exit(main())", "watch"]


class Screen:
    """A program in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(self.ours, (40, 200))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen([*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until the program has written this since the last look; return what it wrote."""
        until = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < until, self.seen[-2000:]
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 65_536).decode()
        found, self.seen = self.seen, ""
        return found

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """Wait for the program to end, reading what it still writes; return its exit status."""
        until = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 65_536).decode()
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait()
        while select.select([self.ours], [], [], 0)[0]:
            self.seen += os.read(self.ours, 65_536).decode()
        assert termios.tcgetattr(self.theirs) == self.before
        assert "\x1b[?1049l" in self.seen  # back on the first screen
        os.close(self.ours)
        os.close(self.theirs)
        return status


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in [name for name in os.environ if name.startswith("WCP_")]:
        monkeypatch.delenv(name)
    found = Desk(tmp_path, capsys)
    human = {"human_required_default": True, "rationale": "money"}
    found.write("rules.json", {"rules": [a_rule(escalation=human)]})
    assert found.enroll("--by", "nobody")[0] == 0
    assert found.decide()[0] == 3
    return found


def test_approves_by_a_key_with_a_reason_and_shows_the_grant(desk: Desk) -> None:
    state = desk.path("hall.db")
    screen = Screen("--state", state, "--by", "ada", "--interval", "0.2")
    assert WORKER in screen.until("q quit")
    screen.press("a")
    screen.until("the reason, then Enter")
    screen.press("\r")
    screen.until("a reason is needed")
    screen.press("looked at itx\x7f\r")
    shown = screen.until("nothing")
    grant = re.search(r"shown here only:\S*\s+([A-Za-z0-9_-]{20,})", re.sub(r"\x1b\[K", "", shown))
    assert grant is not None
    screen.press("q")
    assert screen.end() == 0
    assert desk.decide("--grant", grant[1])[0] == 0
    status, out, _ = desk.run("receipts", "list", "--kind", "approval.approved", "--state", state, "--format", "json")
    assert status == 0
    assert '"looked at it"' in out
    assert '"ada"' in out


def test_denies_by_a_key_and_follows_what_others_do(desk: Desk) -> None:
    state = desk.path("hall.db")
    screen = Screen("--state", state, "--by", "ada", "--interval", "0.2")
    screen.until("q quit")
    assert desk.run("quarantine", "org.acme.other", "--state", state)[0] == 0
    screen.until("org.acme.other")
    screen.press("d")
    screen.until("; the reason")
    screen.press("\x1b")
    screen.until("nothing was answered")
    screen.press("d")
    screen.until("; the reason")
    screen.press("no\r")
    screen.until(" is denied")
    screen.press("q")
    assert screen.end() == 0
    with open_state(state, read_only=True) as opened:
        assert not opened.approvals.pending(0)
    assert desk.decide()[0] == 3


def test_clears_a_worker_by_a_key(desk: Desk) -> None:
    state = desk.path("hall.db")
    assert desk.run("quarantine", "org.acme.other", "--state", state)[0] == 0
    screen = Screen("--state", state, "--by", "ada", "--interval", "0.2")
    screen.until("q quit")
    screen.press("\x1b[B")
    screen.until("> org.acme.other")
    screen.press("c")
    screen.until("clear org.acme.other; the reason")
    screen.press("looked at it\r")
    screen.until("org.acme.other is cleared")
    screen.press("q")
    assert screen.end() == 0
    status, out, _ = desk.run("receipts", "list", "--kind", "worker.cleared", "--state", state, "--format", "json")
    assert (status, '"looked at it"' in out, '"ada"' in out) == (0, True, True)


def test_says_why_an_answer_is_refused_and_goes_on(desk: Desk) -> None:
    screen = Screen("--state", desk.path("hall.db"), "--by", "nobody")  # who has enrolled the worker
    screen.until("q quit")
    screen.press("a")
    screen.until("the reason, then Enter")
    screen.press("mine\r")
    screen.until("not done: ")
    screen.press("q")
    assert screen.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_before(number: signal.Signals, desk: Desk) -> None:
    screen = Screen("--state", desk.path("hall.db"))
    screen.until("q quit")
    screen.process.send_signal(number)
    assert screen.end() == 130


def test_prints_one_screen_into_a_pipe_and_no_control_character(desk: Desk) -> None:
    assert (
        desk.run("quarantine", "org.acme.other", "--reason", "bad\x1b[2Jnews", "--state", desk.path("hall.db"))[0] == 0
    )
    status, out, _ = desk.run("watch", "--state", desk.path("hall.db"), "--decisions", "1")
    assert status == 0
    assert "\x1b" not in out
    assert "1 waiting, 1 in quarantine" in out
    assert WORKER in out
    assert "STEWARD_HOLD" in out


def test_a_misspelt_state_is_an_error(desk: Desk) -> None:
    assert desk.run("watch", "--state", desk.path("hal.db"))[0] == 2


@pytest.mark.parametrize(("width", "height"), [(20, 8), (80, 23), (200, 40)])
@pytest.mark.parametrize("reason", ["looked at it twice", "見た" * 8, "x" * 100])
def test_a_narrow_terminal_shows_the_end_of_what_is_typed(width: int, height: int, reason: str) -> None:
    hold = WatchedHold("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "gatekeeper", WORKER, "cap.doc for acme", 0, "money")
    screen = WatchScreen(Watched("hall.db", (hold,), (), (), 0))
    screen.look(screen.found)
    screen.press(b"a")
    screen.press(reason.encode())
    lines = screen.lines(width, height)
    assert len(lines) <= height
    assert "".join(lines).endswith(f"{reason}_")
    assert all(sum(1 + (character in "見た") for character in line) <= width for line in lines)


@pytest.mark.parametrize("height", [8, 24])
def test_what_is_chosen_is_on_the_screen_however_much_waits(height: int) -> None:
    holds = tuple(
        WatchedHold(f"{number:08d}-bbfd-4b2d-9b5d-ab8dfbbd4bed", "gatekeeper", "org.acme.x", "cap.x for acme", 0, "why")
        for number in range(60)
    )
    barred = tuple(WatchedWorker(f"org.acme.w{number}", 0, "odd") for number in range(60))
    screen = WatchScreen(Watched("hall.db", holds, barred, (), 0))
    screen.look(screen.found)
    for _, name in screen.choices():
        lines = screen.lines(80, height)
        assert len(lines) <= height
        assert lines[0].startswith("60 waiting, 60 in quarantine")
        assert [line for line in lines if line.startswith(f"> {name[:8]}")] != []
        screen.press(b"j")


def test_keys_that_come_together_count_one_by_one_and_a_pasted_text_counts_for_nothing() -> None:
    holds = tuple(WatchedHold(f"{number}", "gatekeeper", WORKER, "cap.x for acme", 0, "why") for number in range(3))
    screen = WatchScreen(Watched("hall.db", holds, (), (), 0))
    screen.look(screen.found)
    assert screen.press(b"\x1b[B\x1bOB\x1b[A") is None
    assert screen.chosen == ("hold", "1")
    assert screen.press(b"d\x1b") is None
    assert (screen.asking, screen.told) == (None, ["nothing was answered"])
    assert screen.press(b"all is well, approve it\r") is None
    assert (screen.asking, screen.chosen) == (None, ("hold", "1"))
    assert screen.press(b"\x1b[Bq") == "quit"
