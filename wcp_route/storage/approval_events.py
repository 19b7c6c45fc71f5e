"""Turn an action on a hold into events. The state in the write transaction decides whether the action is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wcp_route.domain.values import LEVELS
from wcp_route.storage.holds import (
    HUMAN_ACTS,
    MAX_PENDING,
    MAX_PENDING_OF_TENANT,
    MAX_TEXT,
    Resolution,
    check_answer,
    check_grant,
    hash_of,
)
from wcp_route.storage.ledger_state import event, write_hold
from wcp_route.storage.receipts.body import draft_event
from wcp_route.storage.state_errors import ApprovalDenied, ApprovalError, StateMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Evidence, Hold, Redemption
    from wcp_route.storage.holds import Action, Approver
    from wcp_route.storage.ledger_state import LedgerState
    from wcp_route.storage.receipts.body import Draft


def checked_hold(state: LedgerState, hold: Hold) -> Hold:
    """Return the hold as it is to be stored, with the digest of the worker's record.

    Args:
        state: the state in the transaction.
        hold: the hold that the Hall made.

    Raises:
        ApprovalDenied: a human has denied or taken over exactly this request.
        ApprovalError: the id exists already, or too many holds wait, for this tenant or in total.
    """
    reason = state.denied.get(hold.input_hash)
    if reason is not None:
        raise ApprovalDenied(f"a human has {reason} this very request")
    if hold.pending_id in state.holds:
        raise ApprovalError(f"there is a hold {hold.pending_id} already")
    waiting = state.waiting(hold.created_at_ms)
    if len(waiting) >= MAX_PENDING:
        raise ApprovalError(f"{MAX_PENDING} requests wait for a human already")
    if sum(one.tenant_id == hold.tenant_id for one in waiting) >= MAX_PENDING_OF_TENANT:
        raise ApprovalError(f"{MAX_PENDING_OF_TENANT} requests of this tenant wait for a human already")
    return replace(hold, record_digest=state.record_digest(hold.worker_id))


def held(state: LedgerState, hold: Hold) -> list[JsonObject]:
    """Return the events that store a hold; an empty list when one is in force for this request and worker.

    Args:
        state: the state in the transaction.
        hold: the hold to be stored.

    Raises:
        ApprovalError: as for `checked_hold`.
    """
    if state.in_force(hold.input_hash, hold.worker_id, hold.created_at_ms) is not None:
        return []
    kept = checked_hold(state, hold)
    return [event("approval.held", at_ms=hold.created_at_ms, by="hall", via="hall", hold=write_hold(kept))]


def answered(
    state: LedgerState, pending_id: str, action: Action, by: Approver, *, at_ms: int, reason: str, grant_id: str
) -> tuple[list[JsonObject], Resolution]:
    """Return the events of an answer, and the result for the hold.

    Args:
        state: the state in the transaction.
        pending_id: the id of the hold, a UUID.
        action: `approve`, `deny` or `escalate`.
        by: the person who answers.
        at_ms: the time of the answer, milliseconds since 1970.
        reason: why; the first 500 characters are stored.
        grant_id: the grant that an approval gives, 64 hex digits; empty for none.

    Raises:
        ApprovalExpired: the hold has expired.
        ApprovalError: the hold is unknown or no longer waits, or this person cannot give this answer.
        ConfigError: `action` is not one of the three.
    """
    entry = state.holds.get(pending_id)
    enrolled = None if entry is None else state.workers.get(entry.hold.worker_id)
    enroller = "" if enrolled is None else enrolled.by
    hold = check_answer(entry, pending_id, action, by, enroller=enroller, at_ms=at_ms).hold
    said: JsonObject = {"pending_id": pending_id, "reason": reason[:MAX_TEXT], "authority": by.level}
    if action == "deny":
        made = event("approval.denied", at_ms=at_ms, by=by.name, via=by.via, **said)
        return [made], Resolution(pending_id, "denied", "", hold.level, hold.expires_at_ms)
    if action == "escalate":
        level = LEVELS[LEVELS.index(hold.level) + 1]
        made = event("approval.escalated", at_ms=at_ms, by=by.name, via=by.via, level=level, **said)
        return [made], Resolution(pending_id, "escalated", "", level, hold.expires_at_ms)
    grant = "" if hold.level in HUMAN_ACTS else grant_id
    grant_hash = hash_of(grant) if grant else ""
    made = event(
        "approval.approved", at_ms=at_ms, by=by.name, via=by.via, level=hold.level, grant_hash=grant_hash, **said
    )
    return [made], Resolution(pending_id, "approved", grant, hold.level, hold.expires_at_ms)


def granted(state: LedgerState, wanted: Redemption) -> Hold:
    """Return the hold of a grant, if the grant is valid now.

    Args:
        state: the state in the transaction.
        wanted: the grant and the request it is used for.

    Raises:
        ApprovalExpired: the grant has expired.
        ApprovalError: the grant is unknown, used, or for another request.
    """
    entry = state.holds.get(state.granted.get(hash_of(wanted.grant_id), ""))
    return check_grant(entry, wanted, state.record_digest(wanted.worker_id))


def redeemed(state: LedgerState, wanted: Redemption) -> list[JsonObject]:
    """Return the event that uses up a grant, in a list.

    Args:
        state: the state in the transaction.
        wanted: the grant and the request it is used for.

    Raises:
        ApprovalError: as for `granted`.
    """
    hold = granted(state, wanted)
    return [
        event("approval.redeemed", at_ms=wanted.at_ms, by="hall", via="hall",
              pending_id=hold.pending_id, grant_hash=hash_of(wanted.grant_id))
    ]  # fmt: skip


def plan_for(evidence: Evidence, written: Draft) -> Callable[[LedgerState], Sequence[Draft]] | None:
    """Return the plan for the transaction of a receipt; None when only the receipt is to be written.

    The plan raises `StateMoved` when the hold or the grant has changed since the decision was made.

    Args:
        evidence: the evidence of one decision, with its hold or grant.
        written: the draft of the receipt.

    Returns:
        A function from the state in the transaction to the drafts to be written together.
    """
    hold, redemption = evidence.hold, evidence.redemption
    if hold is None and redemption is None:
        return None

    def plan(state: LedgerState) -> list[Draft]:
        try:
            events = [] if redemption is None else redeemed(state, redemption)
            more = [] if hold is None else held(state, hold)
        except ApprovalError as problem:
            raise StateMoved(str(problem)) from None
        if hold is not None and not more:
            raise StateMoved("the request is held already")
        return [*(draft_event(one) for one in events + more), written]

    return plan
