"""Group commit: many threads submit receipts, one thread writes them, no caller returns before they are durable.

While one transaction is written to disk, the next batch collects. The writer then waits a moment for the callers that
it has just answered, so that all share one flush. Every wait has a limit. When a caller gives up, its receipts are not
written; if it is too late to stop them, a correction follows.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wcp_route.storage.receipts.receipt import MAX_BATCH
from wcp_route.storage.state_errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_attest.base.errors import Error
    from wcp_route.storage.ledger_state import LedgerState
    from wcp_route.storage.receipts.body import Draft

# A caller with this many receipts continues to compute at once. A computing thread releases the interpreter's lock only
# every 5 ms, and the writer needs that lock several times per batch. So the writer accepts such a caller only while it
# waits for the disk.
MANY: Final = 64
CLOSE_SECONDS: Final = 15.0
# A caller with a durable receipt submits the next one soon, but callers decide one after the other. Without a wait for
# all of them, two groups take turns: each has half of the callers and its own transaction, and every caller waits for
# both. The wait ends when no caller came for this time, or when it has lasted as long as the last transaction: a longer
# wait gains nothing.
COMPANY_SECONDS: Final = 0.0005


class TakenBack(Exception):  # no error: the transaction is begun again
    """A caller gave up while the transaction was being prepared."""


class Group:
    """What one caller submitted.

    Args:
        drafts: receipts, each of which is written even when another cannot be.
        plan: called in the transaction with the state as it then is, instead of `drafts`; all that it returns becomes
            durable together or not at all. What it raises is the caller's answer.
        seconds: how long the caller waits, seconds.

    Attributes:
        problem: why nothing of it is durable; None when it is.
        problems: why single drafts could not be written, by their place.
        delay: what it waited for; empty when it did not wait.
        placed: whether it is part of the transaction that is being made.
        given_up: whether the caller waits no longer. Under the writer's lock, as is the next.
        final: whether `problem` and `problems` say what became of it, also before the wait is over.
        told: called when the wait is over; see `Submitted.when_settled`.
    """

    __slots__ = (
        "_open", "deadline", "delay", "drafts", "final", "given_up", "placed", "plan", "problem", "problems", "told"
    )  # fmt: skip

    def __init__(
        self,
        drafts: list[Draft],
        seconds: float,
        plan: Callable[[LedgerState], Sequence[Draft]] | None = None,
    ) -> None:
        self.drafts, self.plan = drafts, plan
        self.deadline = time.monotonic() + seconds
        self.problem: Error | None = ReceiptError("the receipt writer has stopped")
        self.problems: dict[int, Error] = {}
        self.delay = ""
        self.placed = False
        self.given_up = self.final = False
        self._open = threading.Lock()  # taken until then; an event costs three times as much
        self._open.acquire()
        self.told: Callable[[], None] | None = None

    def settle(self) -> None:
        """End the wait."""
        self._open.release()
        if self.told is not None:  # looked at after the release: a thread that sets it later sees that the wait is over
            self.told()

    def is_settled(self) -> bool:
        """Return whether the wait is over."""
        return not self._open.locked()

    def wait(self) -> bool:
        """Wait until the caller's deadline; return whether the wait is over before it."""
        if not self._open.acquire(timeout=max(0.0, self.deadline - time.monotonic())):
            return False
        self._open.release()
        return True


class GroupWriter:
    """Runs `commit` in one thread of its own.

    Args:
        commit: makes the groups durable, sets each one's problems, and raises nothing; calls its second argument when
            only the disk is left to wait for.
        refuses: why nothing can be brought; empty when it can.
    """

    def __init__(self, commit: Callable[[list[Group], Callable[[], None]], None], *, refuses: str = "") -> None:
        self._commit, self._refuses = commit, refuses or "the receipt store is closed"
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._gathered: list[Group] = []
        self._count = 0
        self._wanted = 1  # groups, before the thread is woken
        self._closed = bool(refuses)
        self._preparing = False
        self._process = os.getpid()
        self._thread: threading.Thread | None = None  # begun with the first receipt

    def put(self, group: Group) -> None:
        """Submit receipts.

        Args:
            group: the receipts, with the deadline of their caller.

        Raises:
            ReceiptError: there was no room for them in time, or the store is closed.
        """
        if os.getpid() != self._process:
            raise ReceiptError("the receipt store was opened before a fork; open it in the process that uses it")
        count = len(group.drafts) or 1
        with self._lock:
            if self._closed or not self._has_room(count):
                left = max(0.0, group.deadline - time.monotonic())
                fits = self._room.wait_for(lambda: self._closed or self._has_room(count), timeout=left)
                if self._closed:
                    raise ReceiptError(self._refuses)
                if not fits:
                    raise ReceiptError("no room for more receipts in time; the disk or a process is in the way")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
                self._thread.start()
            self._gathered.append(group)
            self._count += count
            if len(self._gathered) >= self._wanted:
                self._work.notify()

    def give_up(self, group: Group) -> bool:
        """Take a group back. It is not written; if it is too late to stop it, a correction is written.

        Args:
            group: the group that was put.

        Returns:
            False when it is too late for a correction as well: then the group says what became of it.
        """
        with self._lock:
            group.given_up = not group.final
            return group.given_up

    def given_up(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups that must be corrected. What became of the others is final from now on.

        Args:
            groups: the groups of a transaction that is durable.
        """
        with self._lock:
            for group in groups:
                group.final = not group.given_up
            return [group for group in groups if group.given_up]

    def still_wanted(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups whose callers still wait.

        Args:
            groups: the groups that callers submitted.
        """
        with self._lock:
            return [group for group in groups if not group.given_up]

    def begin_commit(self, groups: Sequence[Group]) -> None:
        """Check that all callers still wait, at the last moment when the transaction can be stopped.

        Args:
            groups: the groups that callers submitted.

        Raises:
            TakenBack: one of them has given up.
        """
        if len(self.still_wanted(groups)) < len(groups):
            raise TakenBack

    def close(self) -> None:
        """Write what is waiting, and end the thread.

        Raises:
            ReceiptError: the thread is stuck.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
            self._work.notify()
            self._room.notify_all()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                raise ReceiptError(f"the receipt writer did not end within {CLOSE_SECONDS:g} seconds")

    def _has_room(self, count: int) -> bool:
        return self._count + count <= MAX_BATCH and not (self._preparing and count >= MANY)

    def _prepared(self) -> None:
        with self._lock:
            self._preparing = False
            self._room.notify_all()

    def _run(self) -> None:
        taken: list[Group] = []
        served, lasted = 0, 0.0
        try:
            while taken := self._next(served, lasted):
                served, begun = len(taken), time.monotonic()
                self._commit(list(taken), self._prepared)
                lasted = time.monotonic() - begun
                self._prepared()  # also when it failed
                _settle(taken)
        finally:  # however this thread ends, no caller may wait for it
            with self._lock:
                self._closed = True
                self._room.notify_all()
            _settle(taken)
            _settle(self._gathered)

    def _next(self, served: int, lasted: float) -> list[Group]:
        """Take the groups that have collected; an empty list after the end.

        Args:
            served: how many callers got an answer last and may return soon.
            lasted: how long their transaction took, seconds.
        """
        with self._lock:
            everybody = len(self._gathered) + served
            self._wanted = 1
            self._work.wait_for(lambda: self._closed or self._gathered)
            there, until = 0, time.monotonic() + lasted
            while there < len(self._gathered) < everybody and not self._closed and time.monotonic() < until:
                there = len(self._gathered)
                self._wanted = everybody
                self._work.wait_for(lambda: self._closed or len(self._gathered) >= everybody, COMPANY_SECONDS)
            taken, self._gathered, self._count = self._gathered, [], 0
            self._preparing = True
            self._room.notify_all()
        return taken


@dataclass(slots=True)
class Submitted:
    """Evidence on its way to the disk.

    Attributes:
        writer: the writer of the groups.
        groups: each group with the places of its evidence in the submitted list.
        early: why evidence could not be submitted at all, by place.
        late: the message when a wait ends too early; `{why}` stands for what was waited for.
    """

    writer: GroupWriter
    groups: list[tuple[list[int], Group]]
    early: dict[int, Error] = field(default_factory=dict)
    late: str = "the receipt was not durable in time{why}; it is not written, or corrected"

    def problems(self) -> dict[int, Error]:
        """Wait, and return why pieces of evidence are not durable, by place; empty when all are.

        A `StateMoved` means that the state has changed since the decision: decide again.
        """
        found = dict(self.early)
        for places, group in self.groups:
            if not group.wait() and self.writer.give_up(group):
                why = f"; {group.delay}" if group.delay else ""
                late: Error = ReceiptError(self.late.format(why=why))
                found.update(dict.fromkeys(places, late))
            elif group.problem is not None:
                found.update(dict.fromkeys(places, group.problem))
            else:
                found.update({places[place]: problem for place, problem in group.problems.items()})
        return found

    @property
    def is_durable(self) -> bool:
        """Whether all are durable by now."""
        return not self.early and all(
            group.is_settled() and group.problem is None and not group.problems for _, group in self.groups
        )

    def when_settled(self, told: Callable[[], None]) -> None:
        """Have the writer's thread call `told` when all waits are over.

        Args:
            told: called at least once; at once when no wait is left. It must return at once and raise nothing.
        """
        for _, group in self.groups:
            group.told = told
        if all(group.is_settled() for _, group in self.groups):
            told()

    def wait(self) -> None:
        """Return when all are durable.

        Raises:
            ReceiptError: one is not durable, or that is not known.
            ApprovalError: a grant or hold of the evidence is no longer valid.
        """
        found = self.problems()
        if found:
            raise found[min(found)]


def _settle(groups: list[Group]) -> None:
    """End the wait of every group, once."""
    while groups:
        groups.pop().settle()
