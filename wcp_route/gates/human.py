"""The last gate: hold the request for a human, or dispatch what a human approved (spec 5.8, conformance row 3).

A client that reads only `denied` sees a hold as a denial. An approval gives a grant that is valid once, for exactly
this request and this worker. Every gate is asked again about a request with a grant: the grant is the human's answer,
and it does not override a refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Check, Hold, Redemption
from wcp_route.domain.values import LEVELS
from wcp_route.gates.refusal import Refusal
from wcp_route.storage.approvals import ApprovalDenied, ApprovalError, ApprovalExpired

if TYPE_CHECKING:
    from wcp_route.domain.values import Level
    from wcp_route.gates.deciding import Deciding
    from wcp_route.gates.refusal import Concern
    from wcp_route.storage.approvals import ApprovalStore

_NOBODY: Final = Check("human", "pass", "no human is needed")
_APPROVED: Final = Check("human", "pass", "approved, and the grant is used up")
_WOULD_BE: Final = Check("human", "pass", "approved; a dry run uses up no grant")


def human(case: Deciding) -> Check:
    """Hold the request, let it pass, or refuse it."""
    levels = [concern.level or case.config.supervisor_level for concern in case.concerns]
    level = max(levels, key=LEVELS.index) if levels else None  # the highest that any gate asked for
    if case.grant_id:
        return _redeemed(case, level)
    if level is None:
        return _NOBODY
    case.supervisor, first = level, case.concerns[0]
    if level == "advisory":
        return Check("human", "warn", f"a human is told: {first.reason}")
    if case.world.approvals is not None and not case.changes_nothing:
        case.hold = _hold(case, case.world.approvals, first, level)
    raise Refusal(first.code, f"a human must decide: {first.reason}", dict(first.extras))


def _hold(case: Deciding, approvals: ApprovalStore, concern: Concern, level: Level) -> Hold:
    request = case.request
    hold = Hold(
        pending_id=case.new_id(),
        input_hash=case.input_hash,
        worker_id=case.selected.worker_id,
        rule_id=case.rule_id,
        level=level,
        code=concern.code,
        reason=concern.reason,
        created_at_ms=case.now_ms,
        expires_at_ms=case.now_ms + case.config.approval_seconds * 1000,
        tenant_id=request.tenant_id,
        correlation_id=request.correlation_id,
        capability_id=request.capability_id,
        blast_score=case.blast_score,
        tenant_risk=request.tenant_risk,
        data_label=request.data_label,
        policy_version=case.answer.policy_version if case.answer else case.config.policy_version,
        manifest_sha256=case.attested.verified.manifest_sha256 if case.attested else "",
        rules_digest=case.world.rules.digest,
        requester=case.principal or request.tenant_id,
    )
    try:
        in_force, is_new = case.wait_for("approval store", lambda: approvals.look(hold))
        if is_new and case.world.holds_with_receipts:
            case.hold_to_keep = in_force
        elif is_new:
            in_force = case.wait_for("approval store", lambda: approvals.hold(hold))
    except ApprovalDenied as problem:
        raise Refusal(concern.code, f"{problem}; it is not asked again", dict(concern.extras)) from None
    except ApprovalError as problem:
        raise Refusal(
            concern.code, f"a human must decide, and cannot be asked: {problem}", dict(concern.extras)
        ) from None
    return in_force


def _redeemed(case: Deciding, level: Level | None) -> Check:
    """Use up the grant, also when no human is needed any more: it is valid for one use of this request."""
    approvals = case.world.approvals
    if approvals is None:
        raise Refusal(Code.APPROVAL_INVALID, "this Hall keeps no approvals")
    dry_run = case.changes_nothing
    try:
        wanted = Redemption(
            grant_id=case.grant_id,
            input_hash=case.input_hash,
            worker_id=case.selected.worker_id,
            level=level,
            rule_id=case.rule_id,
            rules_digest=case.world.rules.digest,
            manifest_sha256=case.attested.verified.manifest_sha256 if case.attested else "",
            at_ms=case.now_ms,
        )
        approvals.redeem(wanted, use=not dry_run and not case.world.holds_with_receipts)
        if not dry_run and case.world.holds_with_receipts:
            case.redemption = wanted
    except ApprovalExpired:
        raise Refusal(Code.APPROVAL_EXPIRED, "the approval has expired; ask again") from None
    except ApprovalError:
        raise Refusal(
            Code.APPROVAL_INVALID,
            "the approval is not for this request as it is now (package, record, rule), was used before, or is of a"
            " lower level than asked for now",
        ) from None
    case.grant_used = case.grant_id
    return _WOULD_BE if dry_run else _APPROVED
