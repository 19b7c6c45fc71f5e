"""Group commit: many threads bring receipts, one thread writes them, nobody returns before they are durable.

While one transaction is on its way to the disk the next batch gathers, so the cost of a flush is shared by all who
wait for it. Every wait has an end.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_route.receipts.chain import MAX_BATCH
from wcp_route.receipts.receipt import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_route.receipts.body import Draft

# Who brings so many goes on deciding at once, and a thread that computes gives the interpreter's lock away only every
# 5 ms, where the writer needs it a dozen times a batch. So it waits until the writer only waits for the disk.
MANY: Final = 64
APPEND_SECONDS: Final = 10.0  # twice the wait for another process; after that the disk or the writer is stuck
CLOSE_SECONDS: Final = 15.0


@dataclass(slots=True)
class Group:
    """The receipts that one caller brought; they become durable together or not at all.

    Attributes:
        drafts: what is to be written, in order.
        problem: why it was not; the committer clears it only when they are durable.
    """

    drafts: Sequence[Draft]
    problem: ReceiptError | None = field(default_factory=lambda: ReceiptError("the receipt writer has stopped"))


class _Gathering:
    """The groups of the next transaction, and the event that ends everybody's wait."""

    __slots__ = ("count", "done", "groups")

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.count = 0
        self.done = threading.Event()


class Pending(NamedTuple):
    """Receipts on their way to the disk.

    Attributes:
        gathering: the transactions that they are in, in order.
        groups: what became of them there.
    """

    gathering: tuple[_Gathering, ...]
    groups: tuple[Group, ...]

    def wait(self) -> None:
        """Return when all of them are durable.

        Raises:
            ReceiptError: they are not, or not yet: after a time-out they may still become durable.
        """
        end = time.monotonic() + APPEND_SECONDS
        for gathering, group in zip(self.gathering, self.groups, strict=True):
            if not gathering.done.wait(max(0.0, end - time.monotonic())):
                raise ReceiptError(
                    f"the receipts were not durable within {APPEND_SECONDS:g} seconds; they may be later"
                )
            if group.problem is not None:
                raise group.problem


class GroupWriter:
    """Runs `commit` in one thread of its own.

    Args:
        commit: makes the groups durable in one transaction, sets each one's `problem`, and raises nothing; calls its
            second argument when only the disk is left to wait for.
        finish: called in that thread at the end.
    """

    def __init__(
        self, commit: Callable[[Sequence[Group], Callable[[], None]], None], finish: Callable[[], None]
    ) -> None:
        self._commit, self._finish = commit, finish
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._gathering = _Gathering()
        self._closed = False
        self._preparing = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._thread.start()

    def put(self, drafts: Sequence[Draft]) -> Pending:
        """Bring receipts; each `MAX_BATCH` of them become durable together or not at all.

        Raises:
            ReceiptError: there was no room for them in time, or the store is closed.
        """
        if os.getpid() != self._process:
            raise ReceiptError("the receipt store was opened before a fork; open it in the process that uses it")
        groups = tuple(Group(drafts[start : start + MAX_BATCH]) for start in range(0, len(drafts), MAX_BATCH))
        return Pending(tuple([self._gather(group) for group in groups]), groups)

    def close(self) -> None:
        """Write what is waiting, and end the thread.

        Raises:
            ReceiptError: the thread is stuck.
        """
        with self._lock:
            self._closed = True
            self._work.notify()
            self._room.notify_all()
        if os.getpid() == self._process:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                raise ReceiptError(f"the receipt writer did not end within {CLOSE_SECONDS:g} seconds")

    def _gather(self, group: Group) -> _Gathering:
        with self._lock:
            self._wait_for_room(len(group.drafts))
            gathering = self._gathering
            gathering.groups.append(group)
            gathering.count += len(group.drafts)
            self._work.notify()
        return gathering

    def _wait_for_room(self, count: int) -> None:
        fits = self._room.wait_for(lambda: self._closed or self._has_room(count), timeout=APPEND_SECONDS)
        if self._closed:
            raise ReceiptError("the receipt store is closed")
        if not fits:
            raise ReceiptError(
                f"no room for more receipts within {APPEND_SECONDS:g} seconds; the disk or a process is in the way"
            )

    def _has_room(self, count: int) -> bool:
        return self._gathering.count + count <= MAX_BATCH and not (self._preparing and count >= MANY)

    def _prepared(self) -> None:
        with self._lock:
            self._preparing = False
            self._room.notify_all()

    def _run(self) -> None:
        taken: _Gathering | None = None
        try:
            while (taken := self._next()) is not None:
                self._commit(taken.groups, self._prepared)
                self._prepared()  # also when it failed
                taken.done.set()
        finally:  # whatever ends this thread, nobody waits for it any more
            with self._lock:
                self._closed = True
                self._room.notify_all()
            for left in (taken, self._gathering):
                if left is not None:
                    left.done.set()
            self._finish()

    def _next(self) -> _Gathering | None:
        """Take what has gathered; none when there will be no more."""
        with self._lock:
            while not self._gathering.groups:
                if self._closed:
                    return None
                self._work.wait()
            taken, self._gathering = self._gathering, _Gathering()
            self._preparing = True
            self._room.notify_all()
        return taken
