"""`wcp-route watch`: what waits, what is in quarantine and what was decided last, in a terminal, refreshed."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from wcp_attest.base.errors import ConfigError, Error
from wcp_route.cli.approvals import authority_option
from wcp_route.cli.opening import by_option, key_option, opened_state, os_user, state_option
from wcp_route.cli.say import printable, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_route.domain.decision import Hold
    from wcp_route.domain.values import Level, Quarantine
    from wcp_route.storage.state import State

MIN_WIDTH, MAX_WIDTH, MIN_HEIGHT = 20, 500, 8
MAX_REASON: Final = 500  # characters that can be typed
MAX_KEYS: Final = 64  # bytes taken from the keyboard at once
PIPED_SIZE: Final = (MAX_WIDTH, 1000)  # columns and lines of the one screen for a pipe
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen without a cursor, and back
_HELP: Final = "up/down choose   a approve   d deny   r refresh   q quit"


@dataclass(slots=True)
class Watched:
    """What one look at the state found.

    Attributes:
        name: of the state.
        waiting: holds, oldest first.
        quarantined: by worker id.
        decisions: members of the last receipts, newest first.
        at_ms: when, milliseconds since 1970.
    """

    name: str
    waiting: tuple[Hold, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()
    decisions: tuple[dict[str, Any], ...] = ()
    at_ms: int = 0


@dataclass(slots=True)
class WatchScreen:
    """What is shown and what the keys have done so far.

    Attributes:
        found: the last look.
        chosen: the pending id that `a` and `d` are about; it stays chosen while others come and go.
        asking: what the reason that is being typed is for; none when no reason is asked for.
        typed: of the reason.
        told: the last line: what was done, or why not.
    """

    found: Watched
    chosen: str = ""
    asking: Literal["approve", "deny"] | None = None
    typed: str = ""
    told: list[str] = field(default_factory=list)

    def look(self, found: Watched) -> None:
        """Take what was found; choose the first hold when the chosen one is gone, unless a reason is typed for it."""
        self.found = found
        names = [hold.pending_id for hold in found.waiting]
        if self.chosen not in names and self.asking is None:
            self.chosen = names[0] if names else ""

    def move(self, by: int) -> None:
        """Choose another hold."""
        names = [hold.pending_id for hold in self.found.waiting]
        if names:
            place = names.index(self.chosen) + by if self.chosen in names else 0
            self.chosen = names[min(max(place, 0), len(names) - 1)]

    def lines(self, width: int, height: int) -> list[str]:
        """Return the screen, each line short enough, no more lines than there are."""
        from wcp_route.domain.clock import format_ms

        found = self.found
        counts = f"{len(found.waiting)} waiting, {len(found.quarantined)} in quarantine"
        head = f"{counts}   {format_ms(found.at_ms)}   {found.name}"
        foot = [""]
        for told in map(printable, self.told):  # a grant must not be cut off
            foot += [told[start : start + width] for start in range(0, len(told), width)]
        if self.asking is None:
            foot.append(_HELP if found.waiting else "r refresh   q quit")
        else:
            foot.append(f"{self.asking} {self.chosen}; the reason, then Enter (Escape: not now): {self.typed}_")
        rows = [head, "", "Waiting for a human"]
        rows += [self._hold(hold) for hold in found.waiting] or ["  nothing"]
        rows += ["", "In quarantine"]
        rows += [f"  {one.worker_id}  since {format_ms(one.at_ms)}  {one.reason}" for one in found.quarantined] or [
            "  none"
        ]
        rows += ["", "Last decisions"]
        rows += [_decision(one) for one in found.decisions] or ["  none"]
        rows = rows[: max(height - len(foot), 1)]
        return [_cut(printable(row), width) for row in [*rows, *foot]][:height]

    def _hold(self, hold: Hold) -> str:
        from wcp_route.domain.clock import format_ms

        mark = ">" if hold.pending_id == self.chosen else " "
        asked = f"{hold.capability_id} for {hold.requester or hold.tenant_id}"
        until = format_ms(hold.expires_at_ms)
        return f"{mark} {hold.pending_id[:8]}  {hold.level}  {hold.worker_id}  {asked}  until {until}  {hold.reason}"


def _decision(one: dict[str, Any]) -> str:
    names = ("dispatched_at", "outcome", "deny_code", "tenant_id", "worker_id", "decision_id")
    return "  " + "  ".join(str(one.get(name) or "-") for name in names)


def _cut(text: str, width: int) -> str:
    """Return as much of a line as fits into so many columns."""
    used = 0
    for place, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            return text[:place]
    return text


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds to refresh."
)
@click.option("--decisions", type=click.IntRange(0, 200), default=15, show_default=True, help="How many to show.")
@by_option
@authority_option
@state_option
@key_option
def watch(interval: float, decisions: int, by: str, authority: Level, state: str, receipt_key: str | None) -> int:
    """Show what waits for a human, what is in quarantine and the last decisions, and go on.

    Choose with the arrow keys; `a` approves and `d` denies, each with a reason. A grant is shown once, here. Without a
    terminal, one screen is printed.
    """

    def look(store: State) -> Watched:
        from wcp_route.domain.clock import now_ms
        from wcp_route.storage.receipts import last

        now, snapshot = now_ms(), store.registry.snapshot()
        return Watched(
            name=store.ledger.database.name,
            waiting=store.approvals.pending(now),
            quarantined=tuple(snapshot.quarantined[name] for name in sorted(snapshot.quarantined)),
            decisions=tuple([one.to_dict() for one in last(state, decisions, kind="decision")] if decisions else []),
            at_ms=now,
        )

    def resolve(pending_id: str, action: Literal["approve", "deny"], reason: str) -> list[str]:
        from wcp_route.domain.clock import now_ms
        from wcp_route.storage.approvals import Approver

        who = Approver(by, authority, f"os-user:{os_user()}")
        with opened_state(state, receipt_key=receipt_key) as store:
            done = store.approvals.resolve(pending_id, action, by=who, at_ms=now_ms(), reason=reason)
        told = [f"{pending_id} is {done.state}"]
        if done.grant_id:
            return [f"{told[0]}; the grant, good once and shown here only:", done.grant_id]
        return [f"{told[0]}; no worker is dispatched: a human does the work"] if action == "approve" else told

    with opened_state(state, read_only=True) as store:
        screen = WatchScreen(Watched(store.ledger.database.name))
        screen.look(look(store))
        if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
            raw("\n".join(line for line in screen.lines(*PIPED_SIZE)[:-1]).rstrip() + "\n")
            return 0
        with _terminal() as descriptor:
            _run(screen, descriptor, interval, lambda: look(store), resolve)
    return 0


def _run(
    screen: WatchScreen,
    descriptor: int,
    interval: float,
    look: Callable[[], Watched],
    resolve: Callable[[str, Literal["approve", "deny"], str], list[str]],
) -> None:
    """Show, wait for a key or the next refresh, and act, until `q`."""
    due = time.monotonic() + interval
    while True:
        _draw(screen)
        ready, _, _ = select.select([descriptor], [], [], max(0.0, due - time.monotonic()))
        keys = os.read(descriptor, MAX_KEYS) if ready else b""
        if ready and not keys:  # the terminal is gone
            return
        if screen.asking is None and keys in (b"q", b"Q", b"\x04"):
            return
        action, reason = screen.asking, _typed(screen, keys)
        if action is not None and reason is not None:
            try:
                screen.told = resolve(screen.chosen, action, reason)
            except Error as problem:
                screen.told = [f"not done: {problem}"]
        if not ready or reason is not None or keys in (b"r", b"R") or time.monotonic() >= due:
            due = time.monotonic() + interval
            try:
                screen.look(look())
            except Error as problem:
                screen.told = [f"the state cannot be read: {problem}"]


def _typed(screen: WatchScreen, keys: bytes) -> str | None:
    """Do what keys mean for the screen; return the reason once it was entered."""
    if screen.asking is None:
        match keys:
            case b"\x1b[A" | b"\x1bOA" | b"k":
                screen.move(-1)
            case b"\x1b[B" | b"\x1bOB" | b"j":
                screen.move(1)
            case b"a" | b"d" if screen.chosen:
                screen.asking, screen.typed, screen.told = "approve" if keys == b"a" else "deny", "", []
        return None
    if keys == b"\x1b":
        screen.asking, screen.told = None, ["nothing was answered"]
        return None
    for character in "" if keys.startswith(b"\x1b") else keys.decode("utf-8", "ignore"):
        entered = character in "\r\n"
        if entered and screen.typed.strip():
            screen.asking = None
            return screen.typed.strip()
        if entered:
            screen.told = ["a reason is needed; it goes into the receipt"]
        elif character in "\x7f\b":
            screen.typed = screen.typed[:-1]
        elif character.isprintable() and len(screen.typed) < MAX_REASON:
            screen.typed += character
    return None


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

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
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
