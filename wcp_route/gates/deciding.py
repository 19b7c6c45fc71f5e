"""One request on its way through the gates: what is asked, what it is judged by, and what was found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from wcp_route.domain.decision import PRE_ROUTING

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Candidate, Check, Hold
    from wcp_route.domain.values import Level, RegistrySnapshot, RouteInput, WorkerRecord
    from wcp_route.gates.attestation import Attested, Attestor
    from wcp_route.gates.blast import Chains
    from wcp_route.gates.callbacks import Callbacks
    from wcp_route.gates.controls import Controls
    from wcp_route.gates.policy_gate import PolicyAnswer, PolicyGate
    from wcp_route.gates.refusal import Concern
    from wcp_route.rules.rules import Rule, RuleSet
    from wcp_route.storage.approvals import ApprovalStore
    from wcp_route.storage.registry import Registry


class Availability(Protocol):
    """Whoever knows whether a worker can take work now."""

    def __call__(self, worker: WorkerRecord, /) -> bool:
        """Tell. Called under the Hall's deadline; whatever is not `True` means no."""


@dataclass(frozen=True, slots=True)
class World:
    """What a Hall decides by. One value, swapped as a whole; every decision sees exactly one.

    Attributes:
        config: the settings.
        controls: tells which controls are missing under these settings.
        rules: the compiled rules.
        registry: who is enrolled.
        attestor: asks the package verifier; none only where attestation is off.
        policy_gate: the operator's policy; none when there is none.
        availability: none when every enrolled worker counts as available.
        approvals: where holds wait; none when nobody can approve.
        trust_policy_digest: of the trust policy, for receipts.
        config_digest: of the settings, for receipts.
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


@dataclass(slots=True)
class Case:
    """One request and what was found about it. Gates read and add; nobody else does.

    Attributes:
        world: what it is judged by.
        snapshot: the registry as it stood at the start.
        request: what is asked.
        input_hash: of the request without the credential.
        request_hash: of the payload.
        now_ms: the one time of this decision.
        grant_id: the approval that the caller brings; empty for none.
        principal: whom the transport authenticated; none when it does not say.
        callbacks: calls into foreign code.
        chains: what open chains add up to.
        new_id: makes ids.
        config: the Hall's settings.
        matched: the rule; set by the rule gate, for the gates behind it.
        selected: the worker; set by the worker gate, for the gates behind it.
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
    new_id: Callable[[], str]
    config: HallConfig
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
    grant_used: str = ""
