"""What comes out: a decision, the checks behind it, the evidence for its receipt, and a hold that waits for a human.

A `RouteDecision` is what the caller is told. `Evidence` is what the stored receipt is made from: the decision, every
check with what it said, and the digests, which never go into a reply (conformance row 18).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.codes import Code
    from wcp_route.domain.values import DataLabel, Env, Level, QosClass, TenantRisk

Outcome: TypeAlias = Literal["DISPATCH", "DENY", "STEWARD_HOLD"]
CheckOutcome: TypeAlias = Literal["pass", "deny", "hold", "warn", "off", "skipped"]

NO_MATCH = "NO_MATCH"  # matched_rule_id when the rules were asked and none applies
PRE_ROUTING = "PRE_ROUTING"  # matched_rule_id when the rules were not asked


@dataclass(frozen=True, slots=True)
class Check:
    """What one gate said.

    Attributes:
        name: the gate, `attestation`.
        outcome: `pass`, `deny`, `hold` (a human must say), `warn` (passed, but report it), `off` (switched off or not
            wanted by rule and Hall), `skipped` (not reached, because an earlier one refused).
        detail: one line for people; no hashes, no secrets.
        digests: name and value of what was compared; for the stored receipt only.
    """

    name: str
    outcome: CheckOutcome
    detail: str = ""
    digests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DenyReason:
    """Why not: a code, one line for people, and what else the code promises.

    Attributes:
        code: the reason.
        message: one line, no hashes.
        extras: further members of the wire object, sorted by name (`missing`, `reason`, `policy_version`, …).
    """

    code: Code
    message: str
    extras: tuple[tuple[str, JsonValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of the rule, in rank order, and why it was passed over (empty when it was not)."""

    worker_species_id: str
    score_hint: float | None = None
    skip_reason: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """What the matched rule says about people and policy."""

    policy_gate: bool = False
    msavx_step_up: bool = False
    human_required_default: bool = False
    human_required_if: tuple[Mapping[str, JsonValue], ...] = ()
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What the matched rule asks for before anything runs; the defaults are the protocol's."""

    must_have_correlation_id: bool = True
    must_attach_policy_version: bool = True
    must_record_artifact_hash_if_executes: bool = True
    deny_if_missing_required_controls: bool = True
    deny_if_unsigned_artifact_in_prod: bool = False
    deny_if_no_attestation_in_prod: bool = False


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The answer to one request: the SDKs' fields and the published schema's, as one value.

    `wcp_route.domain.decision_model.to_wire` writes it as JSON; `wcp_route.domain.events` makes its events.

    Attributes:
        decision_id: UUID.
        decided_at_ms: milliseconds since 1970.
        outcome: dispatch, deny, or hold for a human (which is also denied).
        denied: whether the caller must not run it. An advisory human note leaves it false.
        reason: why not; none when dispatched.
        matched_rule_id: the rule, `NO_MATCH` or `PRE_ROUTING`.
        worker_id: the enrolled worker chosen, also on a denial about it; empty when none was.
        worker_species_id: its species.
        package_path: where to run the worker from, set only on a dispatch: the sealed copy or the package root.
        request_hash: `sha256:` of the canonical payload, on allow and deny.
        input_hash: `sha256:` of the canonical request without the credential; an approval is bound to it.
        blast_score: situational, 0 to 100.
        blast_declared: declared by the worker, 0 to 25, summed along the chain; none when no worker was chosen.
        blast_gate_passed: none when the gate did not run; the same for `privilege_envelope_ok`, `policy_decision`
            and `worker_attestation_valid`.
        policy_decision: `ALLOW`, `DENY` or `REQUIRE_HUMAN`, as the policy gate said.
        quarantined: whether this decision put the worker into quarantine.
        task_id: the caller's name for the task, for telemetry.
    """

    decision_id: str
    decided_at_ms: int
    outcome: Outcome
    denied: bool
    reason: DenyReason | None
    matched_rule_id: str
    correlation_id: str
    tenant_id: str
    capability_id: str
    env: Env | None
    data_label: DataLabel | None
    tenant_risk: TenantRisk | None
    qos_class: QosClass | None
    dry_run: bool
    worker_id: str
    worker_species_id: str
    package_path: str
    candidates: tuple[Candidate, ...]
    required_controls: tuple[str, ...]
    recommended_profiles: tuple[JsonValue, ...]
    escalation: Escalation
    preconditions: Preconditions
    request_hash: str
    input_hash: str
    blast_score: int | None
    blast_declared: int | None
    blast_gate_passed: bool | None
    privilege_envelope_ok: bool | None
    policy_decision: str | None
    policy_version: str
    policy_reason: str
    worker_attestation_checked: bool
    worker_attestation_valid: bool | None
    supervisor_required: bool
    supervisor_level: Level | None
    pending_approval_id: str
    approval_expires_at_ms: int | None
    quarantined: bool
    task_id: str

    @property
    def code(self) -> Code | None:
        """The reason's code; none when dispatched."""
        return None if self.reason is None else self.reason.code


@dataclass(frozen=True, slots=True)
class Versions:
    """What a decision was made from; with the input they allow it to be made again, bit for bit.

    Attributes:
        rules: `sha256:` of the rules document.
        policy: the version the policy gate answered with, else the Hall's own.
        trust_policy: digest of the trust policy; empty when attestation is off.
        bans: versions of the ban lists looked at; empty when there are none.
        registry: the registry snapshot's version.
        config: `sha256:` of the Hall's settings.
    """

    rules: str
    policy: str
    trust_policy: str
    bans: str
    registry: int
    config: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a stored receipt says about one decision.

    Attributes:
        stream: whose chain the receipt joins; one printable token of at most 128 characters.
        decision: what the caller is told.
        checks: every gate in order, each with what it said and the digests it compared.
        versions: what the decision was made from.
        package_hash: of the attested package, lower-case hex; empty when none was attested.
        signers: who signed the attested package.
        controls_verified: controls that were required and found, sorted (spec 5.7).
        grant_id: the approval grant that was used; empty when none was.
    """

    stream: str
    decision: RouteDecision
    checks: tuple[Check, ...]
    versions: Versions
    package_hash: str = ""
    signers: tuple[str, ...] = ()
    controls_verified: tuple[str, ...] = ()
    grant_id: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A request that waits for a human (spec 5.8). The Hall makes it, the approval store keeps it.

    Attributes:
        pending_id: UUID.
        input_hash: the request it is for; a grant is good for this request only.
        worker_id: the worker it is for; a grant is good for this worker only.
        rule_id: the rule that matched.
        level: who must say.
        code: why it was held.
        reason: one line for the human.
        created_at_ms: milliseconds since 1970.
        expires_at_ms: from then on it is denied.
        tenant_id: context for the human, as are the next six.
    """

    pending_id: str
    input_hash: str
    worker_id: str
    rule_id: str
    level: Level
    code: Code
    reason: str
    created_at_ms: int
    expires_at_ms: int
    tenant_id: str
    correlation_id: str
    capability_id: str
    blast_score: int | None
    tenant_risk: TenantRisk
    data_label: DataLabel
    policy_version: str
