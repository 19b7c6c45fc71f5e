"""Human approval: a request waits under an id until a person answers or it expires (spec 5.8, row 3).

    approvals.hold(hold)                                               # the Hall; the caller gets the pending id
    resolution = approvals.resolve(pending_id, "approve", by=Approver("ada"), at_ms=now_ms())
    hall.route(request, grant=resolution.grant_id)                     # the caller, once, with the same request

An approval does not dispatch anything. It gives a grant. The caller can use the grant once, before the hold expires,
for the same request (by its hash), worker record, package, rule and rules file. Every check is run again.
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
    """What a Hall needs of approvals. Each step happens once across all processes. `LedgerApprovals` implements it."""

    def look(self, hold: Hold) -> tuple[Hold, bool]:
        """Return the hold in force for this request and worker, and whether it is new. Raises `ApprovalError`."""

    def hold(self, hold: Hold) -> Hold:
        """Store a hold and return the one in force. Raises `ApprovalError` when it cannot be stored."""

    def redeem(self, wanted: Redemption, *, use: bool) -> Hold:
        """Use up a grant (`use`), or only check that it is valid. Raises `ApprovalExpired`, `ApprovalError`."""

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:
        """End all holds and unused grants for a worker. Returns how many."""


class LedgerApprovals(Closing):
    """The holds, computed from the events of a ledger.

    Args:
        ledger: the ledger that stores them.
        ids: makes grant ids; tests pass their own function.

    Attributes:
        ledger: the ledger that stores them. It writes a receipt and its hold or grant in one transaction.
    """

    def __init__(self, ledger: Ledger, *, ids: Callable[[], str] = new_grant) -> None:
        self.ledger, self._ids = ledger, ids

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def look(self, hold: Hold) -> tuple[Hold, bool]:
        """Return the hold in force for this request and worker, and whether it is new. Stores nothing.

        Args:
            hold: the hold that the Hall made.

        Raises:
            ApprovalDenied: a human has denied or taken over exactly this request.
            ApprovalError: the id exists already, or too many holds wait.
            StateError: the ledger cannot be read.
        """
        state = self.ledger.state()
        entry = state.in_force(hold.input_hash, hold.worker_id, hold.created_at_ms)
        return (checked_hold(state, hold), True) if entry is None else (entry.hold, False)

    def hold(self, hold: Hold) -> Hold:
        """Store a hold, unless one is in force for the same request and worker; return the one in force.

        Args:
            hold: the hold that the Hall made.

        Raises:
            ApprovalDenied: a human has denied or taken over exactly this request.
            ApprovalError: the id exists already, or too many holds wait.
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
            pending_id: the id of the hold, a UUID.
            action: `approve`, `deny` or `escalate`.
            by: the person who answers; a plain name may approve at level `gatekeeper`.
            at_ms: the time of the answer, milliseconds since 1970.
            reason: why; the first 500 characters are stored.

        Returns:
            The result; after an approval, with the grant.

        Raises:
            ApprovalExpired: the hold has expired.
            ApprovalError: the hold is unknown or no longer waits; this person made the request, enrolled the worker or
                may not approve at this level; or there is no higher level.
            ConfigError: no name or no known action is given, or the ledger cannot be used.
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
        """Use up a grant, or only check that it is valid.

        Args:
            wanted: the grant and the request it is used for.
            use: True uses up the grant; a dry run passes False.

        Returns:
            The hold that the grant was given for.

        Raises:
            ApprovalExpired: the grant has expired.
            ApprovalError: the grant is unknown, used, for another request, or from too low a level.
            StateError: the ledger cannot be used.
        """
        hold = granted(self.ledger.state(), wanted)
        if use:
            self.ledger.change(lambda state: redeemed(state, wanted))
        return hold

    def pending(self, at_ms: int, tenant_id: str | None = None) -> tuple[Hold, ...]:
        """Return the holds that wait and have not expired, oldest first.

        Args:
            at_ms: the current time, milliseconds since 1970.
            tenant_id: only holds of this tenant; None for all tenants.

        Raises:
            StateError: the ledger cannot be read.
        """
        waiting = self.ledger.state().waiting(at_ms, tenant_id)
        return tuple(sorted(waiting, key=lambda hold: (hold.created_at_ms, hold.pending_id)))

    def get(self, pending_id: str) -> Hold | None:
        """Return a hold in any state; None when it is unknown. It is kept for a day after it expires.

        Args:
            pending_id: the id of the hold, a UUID.

        Raises:
            StateError: the ledger cannot be read.
        """
        entry = self.ledger.state().holds.get(pending_id)
        return None if entry is None else entry.hold

    def state(self, pending_id: str) -> HoldState | None:
        """Return the state of a hold; None when it is unknown.

        Args:
            pending_id: the id of the hold, a UUID.

        Raises:
            StateError: the ledger cannot be read.
        """
        entry = self.ledger.state().holds.get(pending_id)
        return None if entry is None else entry.state

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int, via: str = "library") -> int:
        """End all holds and unused grants for a worker; return how many there were.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.
            by: the person who ends them, a printable name of at most 500 characters.
            at_ms: the time of the change, milliseconds since 1970.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …

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
