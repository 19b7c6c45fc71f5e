"""Group commit: many threads bring receipts, one thread writes them, nobody returns before they are durable.

While one transaction is on its way to the disk the next batch gathers, and then waits a moment for those who were just
told: the cost of a flush is shared by all who wait for it. Every wait has an end.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_route.storage.receipts.chain import MAX_BATCH
from wcp_route.storage.receipts.receipt import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_route.storage.receipts.body import Draft

# Who brings so many goes on deciding at once, and a thread that computes gives the interpreter's lock away only every
# 5 ms, where the writer needs it a dozen times a batch. So it waits until the writer only waits for the disk.
MANY: Final = 64
APPEND_SECONDS: Final = 10.0  # twice the wait for another process; after that the disk or the writer is stuck
CLOSE_SECONDS: Final = 15.0
# Whoever was told that a receipt is durable brings the next within a fifth of this, with attestation within half of it.
# Without the wait two crowds take turns, each with half of the callers in a transaction of its own, and every caller
# waits for both.
COMPANY_SECONDS: Final = 0.0005


class Group:
    """The receipts that one caller brought; they become durable together or not at all.

    Attributes:
        drafts: what is to be written, in order.
        problem: why it was not; the committer clears it only when they are durable.
    """

    __slots__ = ("_open", "drafts", "problem")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.problem: ReceiptError | None = ReceiptError("the receipt writer has stopped")
        self._open = threading.Lock()  # taken until then; an event costs three times as much
        self._open.acquire()

    def settle(self) -> None:
        """End the wait."""
        self._open.release()

    def wait(self, seconds: float) -> None:
        """Return when they are durable.

        Raises:
            ReceiptError: they are not, or not within so many seconds.
        """
        if not self._open.acquire(timeout=max(0.0, seconds)):
            raise ReceiptError(f"the receipts were not durable within {APPEND_SECONDS:g} seconds; they may be later")
        self._open.release()
        if self.problem is not None:
            raise self.problem


class Pending(NamedTuple):
    """Receipts on their way to the disk.

    Attributes:
        groups: the parts that become durable one by one.
    """

    groups: tuple[Group, ...]

    def wait(self) -> None:
        """Return when all of them are durable.

        Raises:
            ReceiptError: they are not, or not yet: after a time-out they may still become durable.
        """
        end = time.monotonic() + APPEND_SECONDS
        for group in self.groups:
            group.wait(end - time.monotonic())


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
        self._gathered: list[Group] = []
        self._count = 0
        self._wanted = 1  # groups, before the thread is woken
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
        for group in groups:
            self._gather(group)
        return Pending(groups)

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

    def _gather(self, group: Group) -> None:
        count = len(group.drafts)
        with self._lock:
            if self._closed or not self._has_room(count):
                self._wait_for_room(count)
            self._gathered.append(group)
            self._count += count
            if len(self._gathered) >= self._wanted:
                self._work.notify()

    def _wait_for_room(self, count: int) -> None:
        fits = self._room.wait_for(lambda: self._closed or self._has_room(count), timeout=APPEND_SECONDS)
        if self._closed:
            raise ReceiptError("the receipt store is closed")
        if not fits:
            raise ReceiptError(
                f"no room for more receipts within {APPEND_SECONDS:g} seconds; the disk or a process is in the way"
            )

    def _has_room(self, count: int) -> bool:
        return self._count + count <= MAX_BATCH and not (self._preparing and count >= MANY)

    def _prepared(self) -> None:
        with self._lock:
            self._preparing = False
            self._room.notify_all()

    def _run(self) -> None:
        taken: list[Group] = []
        served = 0
        try:
            while taken := self._next(served):
                served = len(taken)
                self._commit(taken, self._prepared)
                self._prepared()  # also when it failed
                _settle(taken)
        finally:  # whatever ends this thread, nobody waits for it any more
            with self._lock:
                self._closed = True
                self._room.notify_all()
            _settle(taken)
            _settle(self._gathered)
            self._finish()

    def _next(self, served: int) -> list[Group]:
        """Take what has gathered; nothing when there will be no more.

        Args:
            served: how many callers were told last, and may be back soon.
        """
        with self._lock:
            everybody = len(self._gathered) + served
            self._wait_for(1)
            self._wait_for(everybody, COMPANY_SECONDS)
            taken, self._gathered, self._count = self._gathered, [], 0
            self._preparing = True
            self._room.notify_all()
        return taken

    def _wait_for(self, groups: int, seconds: float | None = None) -> None:
        self._wanted = groups
        self._work.wait_for(lambda: self._closed or len(self._gathered) >= groups, seconds)


def _settle(groups: list[Group]) -> None:
    """End everybody's wait, once."""
    while groups:
        groups.pop().settle()
