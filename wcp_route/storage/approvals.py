"""Human approval: a request waits under an id until somebody answers, or its time is over (spec 5.8, row 3).

    approvals.hold(hold)                                               # the Hall; the caller gets the pending id
    resolution = approvals.resolve(pending_id, "approve", by=Approver("ada"), at_ms=now_ms())
    hall.route(request, grant=resolution.grant_id)                     # the caller, once, with the same request

An approval does not dispatch anything. It gives a grant: good once, until the hold expires, for that request (by its
hash), that worker as it was enrolled, its package, and that rule of those rules; and every check is run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from wcp_route.domain.closing import Closing
from wcp_route.storage.approval_events import answered, checked_hold, granted, held, redeemed
from wcp_route.storage.holds import (
    MAX_PENDING,
    MAX_PENDING_OF_TENANT,
    Action,
    Approver,
    HoldState,
    Resolution,
    check_name,
    new_grant,
)
from wcp_route.storage.ledger_state import event
from wcp_route.storage.state_errors import ApprovalDenied, ApprovalError, ApprovalExpired, StateMoved

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Hold, Redemption
    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.ledger_state import LedgerState

__all__ = [
    "MAX_PENDING",
    "MAX_PENDING_OF_TENANT",
    "Action",
    "ApprovalDenied",
    "ApprovalError",
    "ApprovalExpired",
    "ApprovalStore",
    "Approver",
    "HoldState",
    "LedgerApprovals",
    "Resolution",
    "StateMoved",
]


class ApprovalStore(Protocol):
    """What a Hall needs of approvals. Every step happens once, for all processes; `LedgerApprovals` does it."""

    def look(self, hold: Hold) -> tuple[Hold, bool]:
        """Return the hold in force for this request and worker, and whether it is a new one. Raises `ApprovalError`."""

    def hold(self, hold: Hold) -> Hold:
        """Keep a hold, and return the one in force. Raises `ApprovalError` when it cannot be kept."""

    def redeem(self, wanted: Redemption, *, use: bool) -> Hold:
        """Use a grant up (`use`), or only look whether it is good. Raises `ApprovalExpired`, `ApprovalError`."""

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:
        """End all holds and unused grants for a worker; tell how many."""


class LedgerApprovals(Closing):
    """The holds that the events of a ledger add up to.

    Args:
        ledger: where they are kept.
        ids: makes grants; tests give their own.

    Attributes:
        ledger: where they are kept: receipts that go there carry holds and grants along in one transaction.
    """

    def __init__(self, ledger: Ledger, *, ids: Callable[[], str] = new_grant) -> None:
        self.ledger, self._ids = ledger, ids

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def look(self, hold: Hold) -> tuple[Hold, bool]:
        """Return the hold in force for this request and worker, and whether it is a new one. Nothing is kept.

        Args:
            hold: what waits, or would wait, for a human.

        Raises:
            ApprovalDenied: a human has denied this very request, or has taken it over.
            ApprovalError: too many wait already.
            StateError: the ledger cannot be read.
        """
        state = self.ledger.state()
        entry = state.in_force(hold.input_hash, hold.worker_id, hold.created_at_ms)
        return (checked_hold(state, hold), True) if entry is None else (entry.hold, False)

    def hold(self, hold: Hold) -> Hold:
        """Keep a hold, unless one is in force for the same request and worker; return the one in force.

        Args:
            hold: what waits, or would wait, for a human.

        Raises:
            ApprovalDenied: a human has denied this very request, or has taken it over.
            ApprovalError: its id is known, or too many wait already.
            StateError: the ledger cannot be written.
        """
        self.ledger.change(lambda state: held(state, hold))
        entry = self.ledger.state().in_force(hold.input_hash, hold.worker_id, hold.created_at_ms)
        return hold if entry is None else entry.hold

    def resolve(
        self, pending_id: str, action: Action, *, by: Approver | str, at_ms: int, reason: str = ""
    ) -> Resolution:
        """Approve, deny or escalate a hold.

        Args:
            pending_id: which.
            action: `approve`, `deny` or `escalate`.
            by: who says so; a name alone may approve at `gatekeeper`.
            at_ms: when, milliseconds since 1970.
            reason: why.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown or does not wait any more, this person asked for it, enrolled the worker or
                may not approve at its level, or there is no higher level.
            ConfigError: no name is given, or the ledger cannot be used.
        """
        who = Approver(by) if isinstance(by, str) else by
        check_name(who.name)
        grant_id = self._ids()
        told: list[Resolution] = []

        def plan(state: LedgerState) -> list[JsonObject]:
            events, resolution = answered(state, pending_id, action, who, at_ms=at_ms, reason=reason, grant_id=grant_id)
            told[:] = [resolution]
            return events

        self.ledger.change(plan)
        return told[0]

    def redeem(self, wanted: Redemption, *, use: bool) -> Hold:
        """Use a grant up, or only look whether it is good.

        Args:
            wanted: the grant and what it is brought for.
            use: whether it is used up; a dry run only looks.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown, used, for anything else, or given by a lower level.
            StateError: the ledger cannot be used.
        """
        hold = granted(self.ledger.state(), wanted)
        if use:
            self.ledger.change(lambda state: redeemed(state, wanted))
        return hold

    def pending(self, at_ms: int, tenant_id: str | None = None) -> tuple[Hold, ...]:
        """Return what waits and is not expired, oldest first.

        Args:
            at_ms: the present, milliseconds since 1970.
            tenant_id: only what is this tenant's; None for everybody's.

        Raises:
            StateError: the ledger cannot be read.
        """
        waiting = self.ledger.state().waiting(at_ms, tenant_id)
        return tuple(sorted(waiting, key=lambda hold: (hold.created_at_ms, hold.pending_id)))

    def get(self, pending_id: str) -> Hold | None:
        """Return a hold, whatever has become of it, for a day after its time is over.

        Args:
            pending_id: which hold, a UUID.

        Raises:
            StateError: the ledger cannot be read.
        """
        entry = self.ledger.state().holds.get(pending_id)
        return None if entry is None else entry.hold

    def state(self, pending_id: str) -> HoldState | None:
        """Tell what has become of a hold.

        Args:
            pending_id: which hold, a UUID.

        Raises:
            StateError: the ledger cannot be read.
        """
        entry = self.ledger.state().holds.get(pending_id)
        return None if entry is None else entry.state

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int, via: str = "library") -> int:
        """End all holds and unused grants for a worker; tell how many there were.

        Args:
            worker_id: which worker, such as `org.acme.summarizer`.
            by: who ends them, a printable name.
            at_ms: when, milliseconds since 1970.
            via: how that name is known: `os-user`, `token`, `oidc`, `library`, …

        Raises:
            StateError: the ledger cannot be written.
        """
        count = 0

        def plan(state: LedgerState) -> list[JsonObject]:
            nonlocal count
            open_ = ("pending", "approved")
            count = sum(one.hold.worker_id == worker_id and one.state in open_ for one in state.holds.values())
            if not count:
                return []
            return [event("worker.holds_cancelled", at_ms=at_ms, by=by, via=via, worker_id=worker_id)]

        self.ledger.change(plan)
        return count
