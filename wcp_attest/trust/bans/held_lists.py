"""Verified lists kept in memory between verifications, so that bans cost next to nothing while nothing changes.

A list is used again as long as all of this holds; otherwise its source is opened again:

* the files it was read from are the same (device, inode, size, times), and so is the record of versions seen;
* it is fresh at the time that is asked about: neither expired nor older than `max_age`, nor dated in the future;
* its source need not be asked again yet (`refresh`), unless a `ListRefresher` asks it in the background;
* it was verified at most five minutes ago, so a changed Sigstore root takes effect by then.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from wcp_attest.base.errors import BansUnusable
from wcp_attest.trust.bans.document import MAX_CLOCK_SKEW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from wcp_attest.trust.bans.feeds import Feed, VerifiedList
    from wcp_attest.trust.bans.list_verifier import ListVerifier

MAX_SECONDS: Final = 300.0  # as long as `Recheck` remembers signatures
SETTLED: Final = 2.0  # seconds: a file changed more recently could change again without a new time stamp
MIN_EVERY: Final = 1.0  # seconds between two background refreshes


@dataclass(frozen=True, slots=True)
class _HeldList:
    verified: VerifiedList
    files: tuple[str, ...]
    stamp: tuple[object, ...]
    fresh_from: float
    fresh_until: float
    verified_at: float


class HeldLists:
    """The lists of one `[bans]` table. Safe to use from several threads; one at a time opens a source."""

    def __init__(self) -> None:
        self._held: dict[Feed, _HeldList] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.background = False

    def get(self, feed: Feed, verifier: Callable[[], ListVerifier], *, now: float, state: str) -> VerifiedList:
        """Return the list of a source: the held one while it may be used, else opened again.

        Args:
            feed: the source.
            verifier: makes the conditions of this moment; called when the source is opened.
            now: the time to judge freshness by, in seconds since the epoch.
            state: path of the record of versions seen.

        Raises:
            BansUnusable: there is no list that can be used.
        """
        found = self.held(feed, now=now, state=state)
        if found is not None:
            return found
        if self._process != os.getpid():  # another thread may have held the lock when this process was forked
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            found = self.held(feed, now=now, state=state)
            if found is not None:
                return found
            if self.background and feed.remote:
                raise BansUnusable(f"{feed.name}: the background refresh has not brought a list that is fresh")
            return self.refresh(feed, verifier(), state)

    def held(self, feed: Feed, *, now: float, state: str) -> VerifiedList | None:
        """Return the held list of a source while it may be used, else None. Opens no file, asks no server.

        Args:
            feed: the source.
            now: the time to judge freshness by, in seconds since the epoch.
            state: path of the record of versions seen.
        """
        held = self._held.get(feed)
        if held is None or not held.fresh_from <= now < held.fresh_until:
            return None
        again = held.verified.ask_again_at
        if self.background and again is not None:
            return held.verified  # the refresher asks the source; here freshness alone decides
        if (again is not None and now >= again) or time.monotonic() - held.verified_at >= MAX_SECONDS:
            return None
        return held.verified if held.stamp == _stamp((*held.files, state)) else None

    def refresh(self, feed: Feed, verifier: ListVerifier, state: str) -> VerifiedList:
        """Open a source again, also while its list is held. The held list stays when that fails.

        Args:
            feed: the source.
            verifier: the conditions of this moment.
            state: path of the record of versions seen.

        Returns:
            The admitted list.

        Raises:
            BansUnusable: there is no list that can be used.
        """
        stamp = _stamp((*feed.files, state))  # taken before, so that a change meanwhile shows the next time
        verified = feed.open(verifier)
        head = verified.index.head
        settled = True
        if not feed.remote:
            try:
                settled = all(time.time() - os.stat(path).st_ctime >= SETTLED for path in feed.files)
            except OSError:
                settled = False
        if settled:
            self._held[feed] = _HeldList(
                verified,
                feed.files,
                stamp,
                fresh_from=head.issued_at - MAX_CLOCK_SKEW,
                fresh_until=min(head.expires_at, head.issued_at + verifier.max_age, verified.usable_until),
                verified_at=time.monotonic(),
            )
        return verified


class ListRefresher:
    """Asks the sources behind a network in a thread of its own, so that no verification waits for one.

    Use it as a context manager, or call `start` and `close`. While it runs, a list is used until it is no longer fresh;
    an outage of its source costs no verification anything before that, and denies from then on.

    Args:
        refresh: asks every source; returns a text for each that failed.
        lists: the held lists; they open no remote source while the refresher runs.
        every: seconds between two rounds, at least one.

    Attributes:
        problems: what failed in the last round, a text for each source; empty when nothing did.
    """

    def __init__(self, refresh: Callable[[], Sequence[str]], lists: HeldLists, every: float) -> None:
        self._refresh, self._lists, self._every = refresh, lists, max(every, MIN_EVERY)
        self._ending, self._switching = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.problems: tuple[str, ...] = ()

    def start(self, *, ask_now: bool = True) -> Self:
        """Ask every source once, in this thread, then go on in the background.

        A failure is not raised: `problems` tells it, and packages are denied until a list comes.

        Args:
            ask_now: False begins with a wait; until the first round is over, verifications ask sources themselves.

        Returns:
            The refresher itself.
        """
        if ask_now:
            self.problems = tuple(self._refresh())
            self._lists.background = True
        self._thread = threading.Thread(target=self._run, daemon=True, name="wcp-attest ban lists")
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread; sources are asked by verifications again. Waits for a round that is under way."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    def end(self) -> None:
        """End the thread as `close` does, without waiting for it."""
        with self._switching:
            self._ending.set()
            self._lists.background = False

    def forget(self) -> None:
        """End in a forked child, which does not have the thread and may have its lock, held."""
        self._switching = threading.Lock()
        self._ending.set()
        self._lists.background = False

    def _run(self) -> None:
        while not self._ending.wait(self._every):
            self.problems = tuple(self._refresh())
            with self._switching:
                self._lists.background = not self._ending.is_set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _stamp(paths: Sequence[str]) -> tuple[object, ...]:
    """Return what changes when one of the files does: device, inode, size and times of each."""
    found: list[object] = []
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError) as problem:
            found.append(type(problem).__name__)
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)
