"""`wcp-route watch`: what waits, what is in quarantine and what was decided last, in a terminal, refreshed."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
import time
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import click

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.approvals import authority_option
from wcp_route.cli.opening import by_option, hall_option, key_option, opened_state
from wcp_route.cli.say import printable, raw
from wcp_route.cli.watch_sources import Watched, WatchedService, WatchedState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_route.cli.watch_sources import Deed, Watching
    from wcp_route.domain.values import Level

MIN_WIDTH, MAX_WIDTH, MIN_HEIGHT = 20, 500, 8
MAX_REASON: Final = 500  # characters that can be typed
MAX_KEYS: Final = 64  # bytes taken from the keyboard at once
PIPED_SIZE: Final = (MAX_WIDTH, 1000)  # columns and lines of the one screen for a pipe
GLANCE_SECONDS: Final = 0.05  # between two looks whether the answer of a slow Hall is there
LAST_LOOK_SECONDS: Final = 30.0  # that the end waits for a look at a state which is open here
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen without a cursor, and back
_KEYS: Final = {"hold": "a approve   d deny   ", "worker": "c clear   ", None: ""}
# An arrow, Escape, or characters up to the next one: several together are no key, as when a text is pasted by mistake.
_KEY: Final = re.compile(rb"\x1b[\[O][A-Z]|\x1b|[^\x1b]+")
_DEEDS: Final[dict[tuple[str, bytes], Deed]] = {
    ("hold", b"a"): "approve",
    ("hold", b"d"): "deny",
    ("worker", b"c"): "clear",
}
_DECISION: Final = ("dispatched_at", "outcome", "deny_code", "tenant_id", "worker_id", "decision_id")


@dataclass(slots=True)
class WatchScreen:
    """What is shown and what the keys have done so far.

    Attributes:
        found: the last look.
        chosen: `hold` or `worker` and its id, which the keys are about; it stays chosen while others come and go.
        asking: what the reason that is being typed is for; None when no reason is asked for.
        typed: of the reason.
        told: the last lines: what was done, or why not.
        trouble: why the last look failed; what is shown is older then.
    """

    found: Watched
    chosen: tuple[str, str] | None = None
    asking: Deed | None = None
    typed: str = ""
    told: list[str] = field(default_factory=list)
    trouble: str = ""

    def choices(self) -> list[tuple[str, str]]:
        """Return what can be chosen, from top to bottom."""
        holds, workers = self.found.waiting, self.found.quarantined
        return [*(("hold", one.pending_id) for one in holds), *(("worker", one.worker_id) for one in workers)]

    def look(self, found: Watched) -> None:
        """Take what was found; choose the first line when the chosen one is gone, unless a reason is typed for it."""
        self.found, self.trouble = found, ""
        choices = self.choices()
        if self.chosen not in choices and self.asking is None:
            self.chosen = choices[0] if choices else None

    def press(self, keys: bytes) -> Literal["quit", "look", "answer"] | None:
        """Do what keys mean for the screen.

        Args:
            keys: as the terminal sent them, several at once when they came fast; none does nothing.

        Returns:
            What is left to do: end, look at once, or answer for the reason that is `typed`.
        """
        while keys and self.asking is None:
            found = _KEY.match(keys)
            assert found is not None  # noqa: S101  # for the type checker: any byte is a key
            keys = keys[found.end() :]
            if (done := self._act(found[0])) is not None:
                return done
        return self._type(keys) if self.asking is not None else None

    def _act(self, key: bytes) -> Literal["quit", "look"] | None:
        """Do what one key means while no reason is typed."""
        choices, down = self.choices(), key in (b"\x1b[B", b"\x1bOB", b"j")
        if key in (b"q", b"Q", b"\x04"):
            return "quit"
        if key in (b"r", b"R"):
            return "look"
        if choices and (down or key in (b"\x1b[A", b"\x1bOA", b"k")):
            place = choices.index(self.chosen) + (1 if down else -1) if self.chosen in choices else 0
            self.chosen = choices[min(max(place, 0), len(choices) - 1)]
        elif self.chosen is not None and (self.chosen[0], key) in _DEEDS:
            self.asking, self.typed, self.told = _DEEDS[self.chosen[0], key], "", []
        return None

    def _type(self, keys: bytes) -> Literal["answer"] | None:
        if keys == b"\x1b":
            self.asking, self.told = None, ["nothing was answered"]
        for character in "" if keys.startswith(b"\x1b") else keys.decode("utf-8", "ignore"):
            entered = character in "\r\n"
            if entered and self.typed.strip():
                return "answer"
            if entered:
                self.told = ["a reason is needed; it goes into the receipt"]
            elif character in "\x7f\b":
                self.typed = self.typed[:-1]
            elif character.isprintable() and len(self.typed) < MAX_REASON:
                self.typed += character
        return None

    def lines(self, width: int, height: int) -> list[str]:
        """Return the screen.

        Args:
            width: columns; each line is cut to fit.
            height: the most lines.
        """
        from wcp_route.domain.clock import format_ms

        found, chosen = self.found, self.chosen or ("", "")
        # 1. Below, what must not be cut off: what was told, such as a grant, and the keys, or what is typed.
        if self.asking is None:
            last = ("up/down choose   " if chosen[0] else "") + _KEYS[chosen[0] or None] + "r refresh   q quit"
        else:
            last = f"{self.asking} {chosen[1]}; the reason, then Enter (Escape: not now): {self.typed}_"
        foot = ["", *(line for text in (*self.told, last) for line in _folded(printable(text), width))]
        # 2. Above, how much there is and of when; a screen that is older than it should be says so.
        counts = f"{len(found.waiting)} waiting, {len(found.quarantined)} in quarantine"
        head = [f"{counts}   {format_ms(found.at_ms)}   {found.name}"]
        head += [f"NOT REFRESHED since then: {self.trouble}"] if self.trouble else []
        # 3. In between the lists, as far as they fit; what is chosen is among it, for it is what the keys answer.
        waiting = [
            f"{'>' if chosen == ('hold', one.pending_id) else ' '} {one.pending_id[:8]}  {one.level}  {one.worker_id}  "
            f"{one.asked}  until {format_ms(one.expires_at_ms)}  {one.reason}"
            for one in found.waiting
        ]
        barred = [
            f"{'>' if chosen == ('worker', one.worker_id) else ' '} {one.worker_id}  since {format_ms(one.since_ms)}  "
            f"{one.reason}"
            for one in found.quarantined
        ]
        decided = ["  " + "  ".join(str(one.get(name) or "-") for name in _DECISION) for one in found.decisions]
        parts = {
            "pending": ("Waiting for a human", waiting, "nothing"),
            "quarantined": ("In quarantine", barred, "none"),
            "receipts": ("Last decisions", decided, "none"),
        }
        rows = [
            row
            for name, (title, lines, empty) in parts.items()
            for row in ("", title, *(lines or [f"  {found.hidden.get(name, empty)}"]))
        ]
        room = max(height - len(head) - len(foot), 1)
        place = next((place for place, row in enumerate(rows) if row.startswith(">")), 0)
        above = max(0, min(place - room // 2, len(rows) - room))
        shown = [_cut(printable(row), width) for row in (*head, *rows[above : above + room])]
        return [*shown[: max(height - len(foot), 1)], *foot][-height:]


def _cut(text: str, width: int) -> str:
    """Return as much of a line as fits into so many columns; a wide character takes two."""
    used = 0
    for place, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            return text[:place]
    return text


def _folded(text: str, width: int) -> Iterator[str]:
    """Yield a text in lines of so many columns."""
    while text:
        line = _cut(text, width)
        text = text[len(line) :]
        yield line


@click.command(cls=StrictCommand)
@hall_option
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--decisions", type=click.IntRange(0, 200), default=15, show_default=True, help="How many to show.")
@click.option(
    "--token-file",
    metavar="FILE",
    envvar="WCP_ROUTE_TOKEN_FILE",
    show_envvar=True,
    help="With --hall: the file with your bearer token.",
)
@click.option("--ca-file", metavar="FILE", help="With --hall: certificates to trust instead of the system's.")
@by_option
@authority_option
@key_option
@click.pass_context
def watch(
    context: click.Context,
    interval: float,
    decisions: int,
    token_file: str | None,
    ca_file: str | None,
    by: str,
    authority: Level,
    state: str | None,
    receipt_key: str | None,
    hall: str | None,
) -> int:
    """Show what waits for a human, what is in quarantine and the last decisions, again and again.

    Choose with the arrow keys. `a` approves and `d` denies a request, `c` clears a worker, each with a reason.
    Without a terminal, one screen is printed.

    \b
      wcp-route watch --config hall.toml                          the state itself; a grant is shown once, here
      wcp-route watch --hall https://hall.example --token-file t  a running Hall; the token says who you are
    """
    apart = {"--token-file", "--ca-file"} if hall is None else {"--by", "--authority"}
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is click.core.ParameterSource.COMMANDLINE and apart.intersection(parameter.opts):
            why = "it goes with --hall URL" if hall is None else "with --hall the token says who you are"
            raise click.UsageError(f"leave out {parameter.opts[0]}: {why}", context)
    if hall is not None:
        service = WatchedService(hall, token_file=token_file, decisions=decisions, ca_file=ca_file)
        return _watch(service, interval, 0.0)
    if state is None:
        raise click.UsageError(
            "no Hall: name its state by --state or --config, or a running one by --hall URL", context
        )
    with opened_state(state, read_only=True) as store:
        here = WatchedState(state, store, receipt_key=receipt_key, by=by, authority=authority, decisions=decisions)
        return _watch(here, interval, LAST_LOOK_SECONDS)


def _watch(source: Watching, interval: float, patience: float) -> int:
    """Show one screen in a pipe; in a terminal go on until `q`."""
    screen = WatchScreen(source.look())
    screen.look(screen.found)
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        raw("\n".join(screen.lines(*PIPED_SIZE)[:-1]).rstrip() + "\n")
        return 0
    looker = _Looker(source, interval)
    try:
        with _terminal() as descriptor:
            _run(screen, descriptor, looker)
    finally:
        looker.join(patience)
    return 0


def _run(screen: WatchScreen, descriptor: int, looker: _Looker) -> None:
    """Show, wait for a key or the next look, and act, until `q`."""
    while True:
        _draw(screen)
        ready, _, _ = select.select([descriptor], [], [], looker.wait())
        keys = os.read(descriptor, MAX_KEYS) if ready else b""
        if ready and not keys:  # the terminal is gone
            return
        match screen.press(keys):
            case "quit":
                return
            case "look":
                looker.due = 0.0
            case "answer" if screen.asking is not None and screen.chosen is not None:
                deed, screen.asking, screen.told = screen.asking, None, ["…"]
                _draw(screen)
                try:
                    screen.told = looker.source.answer(deed, screen.chosen[1], screen.typed.strip())
                except Error as problem:
                    screen.told = [f"not done: {problem}"]
                looker.due = 0.0
        looker.step(screen)


class _Looker:
    """Looks again and again, each time in a thread, so that a slow Hall keeps no key waiting.

    Attributes:
        source: where it looks.
        due: when the next look begins, as `time.monotonic` counts.
    """

    def __init__(self, source: Watching, interval: float) -> None:
        self.source, self._interval, self.due = source, interval, time.monotonic() + interval
        self._thread: threading.Thread | None = None
        self._found: Watched | Error | None = None

    def wait(self) -> float:
        """Return the seconds after which `step` has something to do."""
        return max(0.0, self.due - time.monotonic()) if self._thread is None else GLANCE_SECONDS

    def step(self, screen: WatchScreen) -> None:
        """Show what a look has found, and begin the next one when it is due."""

        def look() -> None:
            try:
                self._found = self.source.look()
            except Error as problem:
                self._found = problem

        if self._thread is not None and not self._thread.is_alive():
            found, self._thread = self._found, None
            if isinstance(found, Watched):
                screen.look(found)
            else:
                screen.trouble = str(found or "the look failed")
        if self._thread is None and time.monotonic() >= self.due:
            self._found, self.due = None, time.monotonic() + self._interval
            self._thread = threading.Thread(target=look, daemon=True, name="wcp-route watch")
            self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for a look that is under way, so that what it reads can be closed."""
        if self._thread is not None:
            self._thread.join(seconds)


def _draw(screen: WatchScreen) -> None:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = min(max(size.columns, MIN_WIDTH), MAX_WIDTH), max(size.lines, MIN_HEIGHT)
    except OSError:
        width, height = PIPED_SIZE
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in screen.lines(width, height - 1)) + "\x1b[J")
    sys.stdout.flush()


@contextmanager
def _terminal() -> Iterator[int]:
    """Take keys one by one and show another screen in the block; afterwards the terminal is as it was before."""
    try:
        import termios
        import tty
    except ImportError:
        raise ConfigError("this system has no terminals that `watch` can use; use `wcp-route approvals`") from None

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write(_BEGIN)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write(_END)
        sys.stdout.flush()
        for number, handler in handlers.items():
            signal.signal(number, handler)
