"""From a wish about a hold to the events that carry it out, judged by the state as it is in the write transaction."""

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
    """Return the hold that would be kept, with the digest of the worker's record.

    Args:
        state: as it is in the transaction.
        hold: as the Hall made it.

    Raises:
        ApprovalDenied: a human has denied this very request, or has taken it over.
        ApprovalError: its id is known, or too many wait already, of this tenant or of all.
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
    """Return the events that keep a hold; none when one is in force for this request and worker.

    Args:
        state: as it is in the transaction.
        hold: what waits, or would wait, for a human.

    Raises:
        ApprovalError: as `checked_hold`.
    """
    if state.in_force(hold.input_hash, hold.worker_id, hold.created_at_ms) is not None:
        return []
    kept = checked_hold(state, hold)
    return [event("approval.held", at_ms=hold.created_at_ms, by="hall", via="hall", hold=write_hold(kept))]


def answered(
    state: LedgerState, pending_id: str, action: Action, by: Approver, *, at_ms: int, reason: str, grant_id: str
) -> tuple[list[JsonObject], Resolution]:
    """Return the events of an answer, and what came of the hold.

    Args:
        state: as it is in the transaction.
        pending_id: which hold, a UUID.
        action: `approve`, `deny` or `escalate`.
        by: who answers.
        at_ms: when, milliseconds since 1970.
        reason: why; at most 500 characters of it are kept.
        grant_id: the grant, 64 hex digits; empty for none.

    Raises:
        ApprovalExpired: its time is over.
        ApprovalError: it is unknown or does not wait any more, or this person cannot give this answer.
        ConfigError: there is no such action.
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
    """Return the hold that a grant was given for, if it is good now.

    Args:
        state: as it is in the transaction.
        wanted: the grant and what it is brought for.

    Raises:
        ApprovalExpired: its time is over.
        ApprovalError: it is unknown, used, or for something else.
    """
    entry = state.holds.get(state.granted.get(hash_of(wanted.grant_id), ""))
    return check_grant(entry, wanted, state.record_digest(wanted.worker_id))


def redeemed(state: LedgerState, wanted: Redemption) -> list[JsonObject]:
    """Return the events that use a grant up.

    Args:
        state: as it is in the transaction.
        wanted: the grant and what it is brought for.

    Raises:
        ApprovalError: as `granted`.
    """
    hold = granted(state, wanted)
    return [
        event("approval.redeemed", at_ms=wanted.at_ms, by="hall", via="hall",
              pending_id=hold.pending_id, grant_hash=hash_of(wanted.grant_id))
    ]  # fmt: skip


def plan_for(evidence: Evidence, written: Draft) -> Callable[[LedgerState], Sequence[Draft]] | None:
    """Return what must happen in the transaction of a receipt; none when it is the receipt alone.

    The plan raises `StateMoved` when the hold or the grant is not any more as it was when the decision was made.

    Args:
        evidence: of one decision, with the hold or the grant that goes along.
        written: the draft of its receipt.
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
