"""A decision as it goes over the wire: the superset of what the earlier SDKs read and what the published schema asks.

Clients of the SDKs read `denied`, `deny_reason_if_denied` and `selected_worker_species_id`; the schema asks for
`outcome`, `correlation_id` and `decided_at` (conformance row 2). What is digest of a package stays in the receipt.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, WithJsonSchema

from wcp_route.domain.clock import format_ms
from wcp_route.domain.events import events
from wcp_route.domain.values import DataLabel, Env, Level, QosClass, TenantRisk
from wcp_route.domain.wire_model import Model

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.decision import Candidate, DenyReason, Escalation, RouteDecision

_HASH = r"^sha256:[0-9a-f]{64}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"

# Clients of the Python SDK index it; further members depend on the code.
Reason = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    ),
]


class CandidateModel(Model):
    """One candidate of the rule."""

    worker_species_id: str
    score_hint: float | None = None
    requires_controls_minimum: list[str] | None = None
    skip_reason: str | None = None


class EscalationModel(Model):
    """What the rule says about people and policy, and what the Hall made of it."""

    policy_gate: bool
    msavx_step_up: bool
    human_required_default: bool
    human_required_if: list[dict[str, Any]]
    rationale: str | None = None


class PreconditionsModel(Model):
    """What the rule asked for."""

    must_have_correlation_id: bool
    must_attach_policy_version: bool
    must_record_artifact_hash_if_executes: bool
    deny_if_missing_required_controls: bool
    deny_if_unsigned_artifact_in_prod: bool
    deny_if_no_attestation_in_prod: bool


class RouteDecisionModel(Model):
    """The wire form of `RouteDecision`."""

    decision_id: str
    timestamp: Annotated[str, Field(pattern=_TIME)]
    decided_at: Annotated[str, Field(pattern=_TIME)]
    outcome: Literal["DISPATCH", "DENY", "STEWARD_HOLD"]
    denied: bool
    deny_code: str | None = None
    deny_reason_if_denied: Reason | None = None
    matched_rule_id: str
    correlation_id: str
    tenant_id: str
    capability_id: str
    env: Env | None = None
    data_label: DataLabel | None = None
    tenant_risk: TenantRisk | None = None
    qos_class: QosClass | None = None
    dry_run: bool
    worker_id: str | None = None
    selected_worker_species_id: str | None = None
    candidate_workers_ranked: list[CandidateModel]
    required_controls_effective: list[str]
    controls_applied: list[str]
    recommended_profiles_effective: list[Any]
    escalation_effective: EscalationModel
    preconditions_checked: PreconditionsModel
    artifact_hash: Annotated[str, Field(pattern=_HASH)] | None = None
    request_hash: Annotated[str, Field(pattern=_HASH)] | None = None
    input_hash: Annotated[str, Field(pattern=_HASH)] | None = None
    blast_score: Annotated[int, Field(ge=0, le=100)] | None = None
    blast_declared: Annotated[int, Field(ge=0)] | None = None
    blast_gate_passed: bool | None = None
    privilege_envelope_ok: bool | None = None
    policy_version: str
    worker_attestation_checked: bool
    worker_attestation_valid: bool | None = None
    supervisor_required: bool
    supervisor_level: Level | None = None
    pending_approval_id: str | None = None
    approval_expires_at: Annotated[str, Field(pattern=_TIME)] | None = None
    escalation_context: dict[str, Any] | None = None
    telemetry_envelopes: list[dict[str, Any]]


def to_wire(decision: RouteDecision) -> JsonObject:
    """Return a decision as a JSON object."""
    return {
        **_head(decision),
        **_choice(decision),
        "blast_score": decision.blast_score,
        "blast_declared": decision.blast_declared,
        "blast_gate_passed": decision.blast_gate_passed,
        "privilege_envelope_ok": decision.privilege_envelope_ok,
        "policy_version": decision.policy_version,
        "worker_attestation_checked": decision.worker_attestation_checked,
        "worker_attestation_valid": decision.worker_attestation_valid,
        **_human(decision),
        "telemetry_envelopes": [event.to_dict() for event in events(decision)],
    }


def _head(decision: RouteDecision) -> JsonObject:
    """What was asked, and the answer in short."""
    at, reason = format_ms(decision.decided_at_ms), decision.reason
    return {
        "decision_id": decision.decision_id,
        "timestamp": at,
        "decided_at": at,
        "outcome": decision.outcome,
        "denied": decision.denied,
        "deny_code": None if reason is None else reason.code.value,
        "deny_reason_if_denied": None if reason is None else _reason(reason),
        "matched_rule_id": decision.matched_rule_id,
        "correlation_id": decision.correlation_id,
        "tenant_id": decision.tenant_id,
        "capability_id": decision.capability_id,
        "env": decision.env,
        "data_label": decision.data_label,
        "tenant_risk": decision.tenant_risk,
        "qos_class": decision.qos_class,
        "dry_run": decision.dry_run,
        "artifact_hash": decision.request_hash or None,
        "request_hash": decision.request_hash or None,
        "input_hash": decision.input_hash or None,
    }


def _choice(decision: RouteDecision) -> JsonObject:
    """What the rule says, and which worker was chosen."""
    return {
        "worker_id": decision.worker_id or None,
        "selected_worker_species_id": None if decision.denied else decision.worker_species_id,
        "candidate_workers_ranked": [_candidate(candidate) for candidate in decision.candidates],
        "required_controls_effective": [*decision.required_controls],
        "controls_applied": [] if decision.denied else [*decision.required_controls],
        "recommended_profiles_effective": [*decision.recommended_profiles],
        "escalation_effective": _escalation(decision.escalation),
        "preconditions_checked": asdict(decision.preconditions),
    }


def _human(decision: RouteDecision) -> JsonObject:
    """What waits for whom."""
    expires = decision.approval_expires_at_ms
    return {
        "supervisor_required": decision.supervisor_required,
        "supervisor_level": decision.supervisor_level,
        "pending_approval_id": decision.pending_approval_id or None,
        "approval_expires_at": None if expires is None else format_ms(expires),
        "escalation_context": _escalation_context(decision) if decision.supervisor_required else None,
    }


def _reason(reason: DenyReason) -> JsonObject:
    return {"code": reason.code.value, "message": reason.message, **dict(reason.extras)}


def _candidate(candidate: Candidate) -> JsonObject:
    found: JsonObject = {"worker_species_id": candidate.worker_species_id}
    if candidate.score_hint is not None:
        found["score_hint"] = candidate.score_hint
    if candidate.skip_reason:
        found["skip_reason"] = candidate.skip_reason
    return found


def _escalation(escalation: Escalation) -> JsonObject:
    return {
        "policy_gate": escalation.policy_gate,
        "msavx_step_up": escalation.msavx_step_up,
        "human_required_default": escalation.human_required_default,
        "human_required_if": cast("list[JsonValue]", [dict(condition) for condition in escalation.human_required_if]),
        "rationale": escalation.rationale or None,
    }


def _escalation_context(decision: RouteDecision) -> JsonObject:
    return {
        "capability_id": decision.capability_id,
        "blast_score": decision.blast_score,
        "tenant_risk": decision.tenant_risk,
        "data_label": decision.data_label,
        "policy_version": decision.policy_version,
    }
