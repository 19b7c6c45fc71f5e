"""Evidence, holds and records to fill a state file with."""

from __future__ import annotations

from dataclasses import replace

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import (
    Candidate,
    Check,
    DenyReason,
    Escalation,
    Evidence,
    Hold,
    Preconditions,
    RouteDecision,
    Versions,
)
from wcp_route.domain.record import BlastRadius, DeclaredAttestation, PrivilegeEnvelope, WorkerRecord

START_MS = 1_764_000_000_123
SHA = "sha256:" + "ab" * 32
VERSIONS = Versions(rules=SHA, policy="policy.v0", trust_policy=SHA, bans="acme=7", registry=3, config=SHA)
GATES = ("input", "tenant", "environment", "rule", "preconditions", "controls", "candidates", "bans", "attestation")


def a_decision(number: int = 1, *, tenant: str = "acme", code: Code | None = None) -> RouteDecision:
    reason = None if code is None else DenyReason(code, "the reason in one line", (("missing", ["ctrl.a", "ctrl.b"]),))
    return RouteDecision(
        decision_id=f"00000000-0000-4000-8000-{number:012x}",
        decided_at_ms=START_MS + number,
        outcome="DISPATCH" if code is None else "DENY",
        denied=code is not None,
        reason=reason,
        matched_rule_id="rule-7",
        correlation_id=f"corr-{number}",
        tenant_id=tenant,
        capability_id="cap.doc.summarize",
        env="prod",
        data_label="INTERNAL",
        tenant_risk="low",
        qos_class="P2",
        dry_run=False,
        worker_id="org.acme.summarizer",
        worker_species_id="wrk.doc.summarizer",
        package_path="",
        candidates=(Candidate("wrk.doc.summarizer", 1.0), Candidate("wrk.doc.other", 0.5, "unavailable")),
        required_controls=("ctrl.obs.audit-log",),
        recommended_profiles=(),
        escalation=Escalation(),
        preconditions=Preconditions(),
        request_hash=SHA,
        input_hash=SHA,
        blast_score=45,
        blast_declared=7,
        blast_gate_passed=True,
        privilege_envelope_ok=True,
        policy_decision="ALLOW",
        policy_version="policy.v0",
        policy_reason="policy_gate_allow",
        worker_attestation_checked=True,
        worker_attestation_valid=code is None,
        supervisor_required=False,
        supervisor_level=None,
        pending_approval_id="",
        approval_expires_at_ms=None,
        quarantined=False,
        task_id="task_default",
    )


def some_evidence(number: int = 1, *, stream: str = "acme", code: Code | None = None) -> Evidence:
    checks = tuple(Check(name, "pass", "all is well") for name in GATES)
    digests = (("registered_hash", SHA), ("current_hash", SHA))
    return Evidence(
        stream=stream,
        decision=a_decision(number, tenant=stream, code=code),
        checks=(*checks, Check("seal", "pass", "", digests)),
        versions=VERSIONS,
        package_hash="ab" * 32,
        signers=("key sha256:" + "cd" * 32,),
        controls_verified=("ctrl.obs.audit-log",),
    )


def a_record(worker_id: str = "org.acme.summarizer", **changes: object) -> WorkerRecord:
    record = WorkerRecord(
        worker_id=worker_id,
        worker_species_id="wrk.doc.summarizer",
        capabilities=("cap.doc.summarize",),
        risk_tier="low",
        idempotency="full",
        determinism="deterministic",
        required_controls=("ctrl.obs.audit-log",),
        currently_implements=("ctrl.obs.audit-log",),
        allowed_environments=("dev", "prod"),
        privilege_envelope=PrivilegeEnvelope(network_egress="allowlisted", egress_allowlist=("api.acme.example",)),
        blast_radius=BlastRadius(1, 2, 0, 1, 3),
        owner="team-docs",
        attestation=DeclaredAttestation(SHA, "manifest"),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def a_hold(number: int = 1, **changes: object) -> Hold:
    hold = Hold(
        pending_id=f"hold-{number}",
        input_hash=SHA if number == 1 else f"sha256:{number:064x}",
        worker_id="org.acme.summarizer",
        rule_id="rule-7",
        level="gatekeeper",
        code=Code.REQUIRES_HUMAN_APPROVAL,
        reason="the policy gate asks for a human",
        created_at_ms=START_MS + number,
        expires_at_ms=START_MS + 60_000,
        tenant_id="acme",
        correlation_id="corr-1",
        capability_id="cap.doc.summarize",
        blast_score=45,
        tenant_risk="low",
        data_label="INTERNAL",
        policy_version="policy.v0",
    )
    return replace(hold, **changes)  # type: ignore[arg-type]
