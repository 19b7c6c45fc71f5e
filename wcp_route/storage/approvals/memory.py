"""Approvals in memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from wcp_route.storage.approvals.shared import (
    MAX_PENDING,
    ApprovalError,
    Entry,
    check_speaker,
    hash_of,
    new_grant,
    redeemable,
    resolved,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_route.domain.decision import Hold
    from wcp_route.domain.values import Level
    from wcp_route.storage.approvals.shared import Action, Resolution, State


class MemoryApprovals:
    """Lives as long as the process; what has expired is forgotten when room is needed.

    Args:
        ids: makes grants; tests give their own.
    """

    def __init__(self, *, ids: Callable[[], str] = new_grant) -> None:
        self._ids = ids
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._granted: dict[str, str] = {}  # grant hash to pending id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing; the holds can still be read."""

    def hold(self, hold: Hold) -> None:
        """Keep a hold.

        Raises:
            ApprovalError: its id is known, or too many wait already.
        """
        with self._lock:
            if hold.pending_id in self._entries:
                raise ApprovalError(f"there is a hold {hold.pending_id} already")
            if len(self._entries) >= MAX_PENDING:
                self._forget(hold.created_at_ms)
            if len(self._entries) >= MAX_PENDING:
                raise ApprovalError(f"{MAX_PENDING} requests wait for a human already")
            self._entries[hold.pending_id] = Entry(hold)

    def resolve(self, pending_id: str, action: Action, *, by: str, at_ms: int, reason: str = "") -> Resolution:  # noqa: ARG002  # there is no log to write the reason to
        """Approve, deny or escalate a hold.

        Args:
            pending_id: which.
            action: `approve`, `deny` or `escalate`.
            by: who says so.
            at_ms: when, milliseconds since 1970.
            reason: why.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown or does not wait any more, or there is no higher level.
            ConfigError: nobody's name is given.
        """
        check_speaker(by)
        with self._lock:
            entry, resolution = resolved(
                self._entries.get(pending_id), action, pending_id=pending_id, at_ms=at_ms, grant_id=self._ids()
            )
            self._entries[pending_id] = entry
            if entry.grant_hash:
                self._granted[entry.grant_hash] = pending_id
        return resolution

    def redeem(
        self, grant_id: str, *, input_hash: str, worker_id: str, level: Level | None, at_ms: int, use: bool
    ) -> Hold:
        """Use a grant up, or only look whether it is good.

        Args:
            grant_id: what the caller brought.
            input_hash: of the request it is brought with.
            worker_id: that the request would go to.
            level: who must say now; none when nobody must.
            at_ms: when, milliseconds since 1970.
            use: whether it is used up; a dry run only looks.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown, used, for another request or worker, or given by a lower level.
        """
        with self._lock:
            entry = self._entries.get(self._granted.get(hash_of(grant_id), ""))
            hold = redeemable(entry, grant_id, input_hash=input_hash, worker_id=worker_id, level=level, at_ms=at_ms)
            if use:
                self._entries[hold.pending_id] = Entry(hold, "redeemed")
                del self._granted[hash_of(grant_id)]
        return hold

    def pending(self, at_ms: int) -> tuple[Hold, ...]:
        """Return what waits and is not expired, oldest first."""
        with self._lock:
            waiting = [
                entry.hold
                for entry in self._entries.values()
                if entry.state == "pending" and at_ms < entry.hold.expires_at_ms
            ]
        return tuple(sorted(waiting, key=lambda hold: (hold.created_at_ms, hold.pending_id)))

    def get(self, pending_id: str) -> Hold | None:
        """Return a hold, whatever has become of it."""
        entry = self._entries.get(pending_id)
        return None if entry is None else entry.hold

    def state(self, pending_id: str) -> State | None:
        """Tell what has become of a hold."""
        entry = self._entries.get(pending_id)
        return None if entry is None else entry.state

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:  # noqa: ARG002  # there is no log to write to
        """End all holds and unused grants for a worker; tell how many there were."""
        with self._lock:
            found = [
                entry
                for entry in self._entries.values()
                if entry.hold.worker_id == worker_id and entry.state in ("pending", "approved")
            ]
            for entry in found:
                self._granted.pop(entry.grant_hash, None)
                self._entries[entry.hold.pending_id] = replace(entry, state="cancelled", grant_hash="")
        return len(found)

    def _forget(self, at_ms: int) -> None:
        """Make room: what is expired or settled needs no answer any more."""
        for pending_id, entry in list(self._entries.items()):
            if at_ms >= entry.hold.expires_at_ms or entry.state not in ("pending", "approved"):
                self._granted.pop(entry.grant_hash, None)
                del self._entries[pending_id]
