"""From a case that went through the gates to what the caller is told and what the receipt says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import (
    PRE_ROUTING,
    Check,
    DenyReason,
    Escalation,
    Evidence,
    Preconditions,
    RouteDecision,
    Versions,
)
from wcp_route.rules.rules import Rule

if TYPE_CHECKING:
    from wcp_route.domain.decision import Outcome
    from wcp_route.gates.deciding import Case, World
    from wcp_route.gates.refusal import Refusal

UNLISTED: Final = "unlisted"  # the receipt stream of requests whose tenant cannot have one of its own
NO_RULE: Final = Rule("", None, 0, (), (), (), Escalation(), 0, Preconditions())
_STREAM: Final = re.compile(r"[!-~]{1,128}\Z")
_TO_TENANT: Final = frozenset({Code.UNKNOWN_TENANT, Code.MISSING_TENANT_ID})


def evidence_of(case: Case, decision: RouteDecision) -> Evidence:
    """Return what the receipt of a decision says.

    Args:
        case: after all gates.
        decision: what was decided about it.
    """
    attested = case.attested
    proof = None if attested is None else attested.verified
    bans = "" if attested is None else attested.bans
    return Evidence(
        _stream(decision),
        decision,
        tuple(case.checks),
        versions(case.world, case.snapshot.version, decision.policy_version, bans),
        "" if proof is None else proof.package_hash,
        () if proof is None else tuple([str(signer) for signer in proof.signers]),
        case.controls_verified,
        case.grant_used,
    )


def decided(case: Case, refusal: Refusal | None, decision_id: str, task_id: str) -> RouteDecision:
    """Return the decision on a case.

    Args:
        case: after all gates.
        refusal: the first one; none lets the request go.
        decision_id: UUID.
        task_id: the caller's name for the task.
    """
    request, rule, worker, hold, answer = case.request, case.rule or NO_RULE, case.worker, case.hold, case.answer
    reason = None if refusal is None else DenyReason(refusal.code, refusal.message, refusal.extras)
    # By position, in the order of the fields: naming forty of them takes as long as setting them.
    return RouteDecision(
        decision_id, case.now_ms, _outcome(refusal, case), refusal is not None, reason, case.rule_id,
        request.correlation_id, request.tenant_id, request.capability_id, request.env, request.data_label,
        request.tenant_risk, request.qos_class, request.dry_run,
        "" if worker is None else worker.worker_id, "" if worker is None else worker.worker_species_id,
        _path(case) if refusal is None else "", case.candidates,
        rule.required_controls, rule.recommended_profiles, _escalation(rule, case), rule.preconditions,
        case.request_hash, case.input_hash,
        case.blast_score, case.blast_declared, case.blast_passed, case.privilege_ok,
        None if answer is None else answer.decision,
        case.config.policy_version if answer is None else answer.policy_version,
        "" if answer is None else answer.reason,
        case.attestation_checked, case.attestation_valid,
        case.supervisor is not None, case.supervisor,
        "" if hold is None else hold.pending_id, None if hold is None else hold.expires_at_ms,
        case.quarantined, task_id,
    )  # fmt: skip


def _outcome(refusal: Refusal | None, case: Case) -> Outcome:
    if refusal is None:
        return "DISPATCH"
    return "STEWARD_HOLD" if case.hold is not None else "DENY"


def _path(case: Case) -> str:
    """Say where to run the worker from; a rehearsal runs nothing."""
    if case.request.dry_run or case.worker is None:
        return ""
    return case.worker.package_root if case.attested is None else case.attested.path


def _escalation(rule: Rule, case: Case) -> Escalation:
    if case.blast_passed is False and not rule.escalation.human_required_default:
        return replace(rule.escalation, human_required_default=True)
    return rule.escalation


def _stream(decision: RouteDecision) -> str:
    known = decision.code not in _TO_TENANT and _STREAM.match(decision.tenant_id)
    return decision.tenant_id if known else UNLISTED


def versions(world: World, registry: int, policy: str, bans: str = "") -> Versions:
    """Return what a decision was made from."""
    return Versions(world.rules.digest, policy, world.trust_policy_digest, bans, registry, world.config_digest)


def undecided(world: World, reason: DenyReason, decision_id: str, now_ms: int) -> RouteDecision:
    """Return the refusal of something that never became a request: malformed, or the Hall itself failed.

    Nothing of the input is repeated; it was not understood.
    """
    return replace(
        _NOTHING,
        decision_id=decision_id,
        decided_at_ms=now_ms,
        reason=reason,
        policy_version=world.config.policy_version,
    )


def evidence_of_nothing(world: World, decision: RouteDecision) -> Evidence:
    """Return what the receipt says of something that never became a request."""
    name = "input" if decision.code == Code.INVALID_INPUT else "hall"
    message = "" if decision.reason is None else decision.reason.message
    return Evidence(UNLISTED, decision, (Check(name, "deny", message),), versions(world, 0, decision.policy_version))


# What is told when nothing was understood.
_NOTHING: Final = RouteDecision(
    decision_id="",
    decided_at_ms=0,
    outcome="DENY",
    denied=True,
    reason=None,
    matched_rule_id=PRE_ROUTING,
    correlation_id="",
    tenant_id="",
    capability_id="",
    env=None,
    data_label=None,
    tenant_risk=None,
    qos_class=None,
    dry_run=False,
    worker_id="",
    worker_species_id="",
    package_path="",
    candidates=(),
    required_controls=(),
    recommended_profiles=(),
    escalation=NO_RULE.escalation,
    preconditions=NO_RULE.preconditions,
    request_hash="",
    input_hash="",
    blast_score=None,
    blast_declared=None,
    blast_gate_passed=None,
    privilege_envelope_ok=None,
    policy_decision=None,
    policy_version="",
    policy_reason="",
    worker_attestation_checked=False,
    worker_attestation_valid=None,
    supervisor_required=False,
    supervisor_level=None,
    pending_approval_id="",
    approval_expires_at_ms=None,
    quarantined=False,
    task_id="",
)
