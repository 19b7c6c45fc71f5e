"""One request on its way through the gates: the request, what the Hall decides by, and the findings so far."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import (
    MAX_PRINCIPAL,
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
    from collections.abc import Callable

    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Candidate, Hold, Outcome, Redemption
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.domain.values import Level, RegistrySnapshot, RouteInput
    from wcp_route.gates.attestation import Attested, Attestor, BansOfDecision
    from wcp_route.gates.blast import Chains, Rates
    from wcp_route.gates.callbacks import Callbacks, Deadline
    from wcp_route.gates.controls import Controls
    from wcp_route.gates.policy_gate import PolicyAnswer, PolicyGate
    from wcp_route.gates.refusal import Concern, Refusal
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.approvals import ApprovalStore
    from wcp_route.storage.registry import Registry

T = TypeVar("T")
UNLISTED: Final = "!unlisted"  # the receipt stream of requests whose tenant has no stream; no tenant id begins with `!`
NO_RULE: Final = Rule("", None, 0, (), (), (), Escalation(), 0, Preconditions())
_STREAM: Final = re.compile(r"[\"-~][!-~]{0,127}\Z")
_TO_TENANT: Final = frozenset({Code.UNKNOWN_TENANT, Code.MISSING_TENANT_ID})


class Availability(Protocol):
    """Knows whether a worker can take work now."""

    def __call__(self, worker: WorkerRecord, /) -> bool:
        """Return whether the worker can take work. Called under the Hall's deadline; any value but `True` means no."""


@dataclass(frozen=True, slots=True)
class World:
    """What a Hall decides by. It is swapped as a whole; every decision sees exactly one value.

    Attributes:
        config: the settings.
        controls: tells which controls are missing under these settings.
        rules: the compiled rules.
        registry: who is enrolled.
        attestor: asks the package verifier; None only where attestation is off.
        policy_gate: the operator's policy; None when there is none.
        availability: None when every enrolled worker counts as available.
        approvals: where holds wait; None when there is no approval store.
        trust_policy_digest: of the trust policy, for receipts.
        config_digest: of the settings, for receipts.
        keeps_receipts: whether each decision leaves a receipt.
        holds_with_receipts: whether a hold or a used grant becomes durable together with the receipt, or not at all.
        checked_by_receipts: whether a receipt is refused when the registry has changed since the decision was made.
    """

    config: HallConfig
    controls: Controls
    rules: RuleSet
    registry: Registry
    attestor: Attestor | None
    policy_gate: PolicyGate | None
    availability: Availability | None
    approvals: ApprovalStore | None
    trust_policy_digest: str
    config_digest: str
    keeps_receipts: bool = False
    holds_with_receipts: bool = False
    checked_by_receipts: bool = False


@dataclass(slots=True)
class Deciding:
    """One request and what was found about it. Only gates read and add findings.

    Attributes:
        world: what it is judged by.
        snapshot: the registry as it stood at the start.
        request: what is asked.
        input_hash: of the request without the credential.
        request_hash: of the payload.
        now_ms: the one time of this decision.
        grant_id: the approval grant that the caller sent; empty for none.
        principal: the tenant that the transport authenticated; None when it authenticated none.
        callbacks: calls the operator's code.
        chains: the sums of the open chains.
        rates: how often each tenant asks.
        new_id: makes ids.
        deadline: when the decision must be made.
        lists: the ban lists of the trust policy; None when the attestor opens them.
        waiting: threads for calls that may wait for another process; None when the decision itself has a thread.
        rehearsal: only explain; holds, grants, quarantine and chains do not change.
        config: the Hall's settings.
        matched: the rule; the rule gate sets it for the gates after it.
        selected: the worker; the worker gate sets it for the gates after it.
    """

    world: World
    snapshot: RegistrySnapshot
    request: RouteInput
    input_hash: str
    request_hash: str
    now_ms: int
    grant_id: str
    principal: str | None
    callbacks: Callbacks
    chains: Chains
    rates: Rates
    new_id: Callable[[], str]
    config: HallConfig
    deadline: Deadline
    lists: BansOfDecision | None = None
    waiting: Callbacks | None = None
    rehearsal: bool = False
    matched: Rule = field(init=False)
    selected: WorkerRecord = field(init=False)

    checks: list[Check] = field(default_factory=list)
    concerns: list[Concern] = field(default_factory=list)
    rule: Rule | None = None
    rule_id: str = PRE_ROUTING
    candidates: tuple[Candidate, ...] = ()
    eligible: tuple[WorkerRecord, ...] = ()
    worker: WorkerRecord | None = None
    attested: Attested | None = None
    attestation_checked: bool = False
    attestation_valid: bool | None = None
    quarantined: bool = False
    controls_verified: tuple[str, ...] = ()
    privilege_ok: bool | None = None
    blast_score: int | None = None
    blast_declared: int | None = None
    blast_passed: bool | None = None
    reserved: tuple[tuple[str, str], int] | None = None
    answer: PolicyAnswer | None = None
    supervisor: Level | None = None
    hold: Hold | None = None
    hold_to_keep: Hold | None = None
    redemption: Redemption | None = None
    grant_used: str = ""
    availability_seconds: float | None = None

    def wait_for(self, what: str, run: Callable[[], T]) -> T:
        """Make a call that may wait for another process, and wait for it until the deadline at most.

        Args:
            what: what is called, for messages (`approval store`).
            run: the call.

        Raises:
            CallbackFailed: it took too long.
            Exception: what the call raises.
        """
        if self.waiting is None:
            return run()
        return self.waiting.call(what, run, seconds=self.deadline.remaining(), ours=True)

    @property
    def changes_nothing(self) -> bool:
        """Whether this is a dry run or an explanation, which hold nothing and put nobody into quarantine."""
        return self.rehearsal or self.request.dry_run


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a decision needs from outside the process, when it is available without waiting.

    Attributes:
        snapshot: of the registry.
        lists: the ban lists; None where no worker is attested.
    """

    snapshot: RegistrySnapshot
    lists: BansOfDecision | None


def known_now(world: World, now_ms: int, *, rehearsal: bool) -> AtHand | None:
    """Return what a decision needs, or None when it must wait for another process: then it gets a thread.

    Handing a decision to a thread costs three times the decision itself (bar: plain decisions, benchmarks/route.py).
    When the receipt's transaction checks that the registry is unchanged, no earlier check is needed
    (bar: sealed decisions with receipts on 8 threads).

    Args:
        world: what the Hall decides by.
        now_ms: the time of the decision, milliseconds since 1970.
        rehearsal: whether the decision leaves no receipt.
    """
    snapshot_now = getattr(world.registry, "snapshot_now", None)
    later = world.checked_by_receipts and not rehearsal
    snapshot = None if snapshot_now is None else snapshot_now(checked_later=True) if later else snapshot_now()
    if snapshot is None:
        return None
    if world.attestor is None:
        return AtHand(snapshot, None)
    lists = world.attestor.lists_now(now_ms / 1000)
    return None if lists is None else AtHand(snapshot, lists)


def evidence_of(case: Deciding, decision: RouteDecision) -> Evidence:
    """Return what the receipt of a decision says.

    Args:
        case: after all gates.
        decision: what was decided about it.
    """
    attested = case.attested
    proof = None if attested is None else attested.verified
    known = decision.code not in _TO_TENANT and _STREAM.match(decision.tenant_id)
    return Evidence(
        stream=decision.tenant_id if known else UNLISTED,
        decision=decision,
        checks=tuple(case.checks),
        versions=versions(
            case.world, case.snapshot.version, decision.policy_version, "" if attested is None else attested.bans
        ),
        package_hash="" if proof is None else proof.package_hash,
        signers=() if proof is None else tuple([str(signer) for signer in proof.signers]),
        controls_verified=case.controls_verified,
        grant_id=case.grant_used,
        hold=case.hold_to_keep,
        redemption=case.redemption,
        principal=None if case.principal is None else case.principal[:MAX_PRINCIPAL],
    )


def decided(case: Deciding, refusal: Refusal | None, decision_id: str, task_id: str) -> RouteDecision:
    """Return the decision on a case.

    Args:
        case: after all gates.
        refusal: the first one; None lets the request go.
        decision_id: UUID.
        task_id: the caller's name for the task.
    """
    request, rule, worker, hold, answer = case.request, case.rule or NO_RULE, case.worker, case.hold, case.answer
    outcome: Outcome = "DISPATCH"
    if refusal is not None:
        outcome = "STEWARD_HOLD" if hold is not None else "DENY"
    path = ""
    if refusal is None and worker is not None and not case.changes_nothing:
        path = worker.package_root if case.attested is None else case.attested.path
    escalation = rule.escalation
    if case.blast_passed is False and not escalation.human_required_default:
        escalation = replace(escalation, human_required_default=True)
    return RouteDecision(
        decision_id=decision_id,
        decided_at_ms=case.now_ms,
        outcome=outcome,
        denied=refusal is not None,
        reason=None if refusal is None else DenyReason(refusal.code, refusal.message, refusal.extras),
        matched_rule_id=case.rule_id,
        correlation_id=request.correlation_id,
        tenant_id=request.tenant_id,
        capability_id=request.capability_id,
        env=request.env,
        data_label=request.data_label,
        tenant_risk=request.tenant_risk,
        qos_class=request.qos_class,
        dry_run=case.changes_nothing,
        worker_id="" if worker is None else worker.worker_id,
        worker_species_id="" if worker is None else worker.worker_species_id,
        package_path=path,
        candidates=case.candidates,
        required_controls=rule.required_controls,
        recommended_profiles=rule.recommended_profiles,
        escalation=escalation,
        preconditions=rule.preconditions,
        request_hash=case.request_hash,
        input_hash=case.input_hash,
        blast_score=case.blast_score,
        blast_declared=case.blast_declared,
        blast_gate_passed=case.blast_passed,
        privilege_envelope_ok=case.privilege_ok,
        policy_decision=None if answer is None else answer.decision,
        policy_version=case.config.policy_version if answer is None else answer.policy_version,
        policy_reason="" if answer is None else answer.reason,
        worker_attestation_checked=case.attestation_checked,
        worker_attestation_valid=case.attestation_valid,
        supervisor_required=case.supervisor is not None,
        supervisor_level=case.supervisor,
        pending_approval_id="" if hold is None else hold.pending_id,
        approval_expires_at_ms=None if hold is None else hold.expires_at_ms,
        quarantined=case.quarantined,
        task_id=task_id,
    )


def versions(world: World, registry: int, policy: str, bans: str = "") -> Versions:
    """Return what a decision was made from."""
    return Versions(world.rules.digest, policy, world.trust_policy_digest, bans, registry, world.config_digest)


def undecided(world: World, reason: DenyReason, decision_id: str, now_ms: int) -> RouteDecision:
    """Return the denial of an input that could not be read as a request, or on which the Hall itself failed.

    The denial repeats nothing of the input.

    Args:
        world: what the Hall decides by.
        reason: why it is denied.
        decision_id: UUID.
        now_ms: the time of the decision, milliseconds since 1970.
    """
    return RouteDecision(
        decision_id=decision_id, decided_at_ms=now_ms, reason=reason, policy_version=world.config.policy_version
    )


def evidence_of_nothing(world: World, decision: RouteDecision, principal: str | None) -> Evidence:
    """Return what the receipt says about an input that could not be read as a request.

    Args:
        world: what the Hall decides by.
        decision: the denial.
        principal: the tenant that the transport authenticated; None when it authenticated none.
    """
    name = "input" if decision.code == Code.INVALID_INPUT else "tenant" if decision.code in _TO_TENANT else "hall"
    message = "" if decision.reason is None else decision.reason.message
    made_from = versions(world, 0, decision.policy_version)
    who = None if principal is None else principal[:MAX_PRINCIPAL]
    return Evidence(UNLISTED, decision, (Check(name, "deny", message),), made_from, principal=who)
