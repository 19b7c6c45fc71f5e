"""The fast writer of bodies writes what the RFC 8785 library would, for evidence of every kind."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import resources
from typing import TYPE_CHECKING, get_args
from uuid import UUID

from hypothesis import strategies as st

from tests.route.state_worlds import a_decision, some_evidence
from tests.route.stores import MemoryReceipts
from wcp_route.domain.clock import LATEST_MS, format_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import (
    Candidate,
    Check,
    CheckOutcome,
    DenyReason,
    Evidence,
    Outcome,
    RouteDecision,
    Versions,
)
from wcp_route.domain.values import (
    DATA_LABELS,
    ENVS,
    LEVELS,
    QOS_CLASSES,
    TENANT_RISKS,
)
from wcp_route.storage.receipts.body import NOT_EVALUATED
from wcp_route.storage.receipts.receipt import Receipt

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

SCHEMA = json.loads(resources.files("wcp_route").joinpath("schemas", "receipt.json").read_bytes())

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
texts = st.lists(text, max_size=3).map(tuple)
flag = st.none() | st.booleans()
small = st.none() | st.integers(0, 100)
times = st.integers(0, LATEST_MS)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
names = st.text(st.characters(codec="ascii"), max_size=10)
checks = st.builds(
    Check,
    text,
    st.sampled_from(get_args(CheckOutcome)),
    text,
    st.dictionaries(names, text, max_size=3).map(lambda found: tuple(found.items())),
)
reasons = st.builds(
    DenyReason,
    st.sampled_from(Code),
    text,
    st.dictionaries(text, json_values, max_size=3).map(lambda found: tuple(found.items())),
)
TEXT_FIELDS = (
    "decision_id",
    "matched_rule_id",
    "correlation_id",
    "tenant_id",
    "capability_id",
    "worker_id",
    "worker_species_id",
    "package_path",
    "request_hash",
    "input_hash",
    "policy_version",
    "policy_reason",
    "pending_approval_id",
    "task_id",
)
decisions = st.builds(
    RouteDecision,
    **dict.fromkeys(TEXT_FIELDS, text),
    **dict.fromkeys(
        ("denied", "dry_run", "worker_attestation_checked", "supervisor_required", "quarantined"), st.booleans()
    ),
    decided_at_ms=times,
    approval_expires_at_ms=st.none() | times,
    outcome=st.sampled_from(get_args(Outcome)),
    reason=st.none() | reasons,
    env=st.sampled_from((*ENVS, None)),
    data_label=st.sampled_from((*DATA_LABELS, None)),
    tenant_risk=st.sampled_from((*TENANT_RISKS, None)),
    qos_class=st.sampled_from((*QOS_CLASSES, None)),
    supervisor_level=st.sampled_from((*LEVELS, None)),
    candidates=st.lists(st.builds(Candidate, text, st.none() | st.floats(), text), max_size=2).map(tuple),
    required_controls=texts,
    recommended_profiles=texts,
    escalation=st.just(a_decision().escalation),
    preconditions=st.just(a_decision().preconditions),
    blast_score=small,
    blast_declared=small,
    blast_gate_passed=flag,
    privilege_envelope_ok=flag,
    policy_decision=st.none() | text,
    worker_attestation_valid=flag,
)
evidence = st.builds(
    Evidence,
    stream=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128),
    decision=decisions,
    checks=st.lists(checks, max_size=4).map(tuple),
    versions=st.builds(Versions, text, text, text, text, st.integers(0, 2**53 - 1), text),
    package_hash=text,
    signers=texts,
    controls_verified=texts,
    grant_id=text,
    principal=st.none() | text,
)


def as_value(one: Evidence, body: JsonObject) -> JsonObject:
    """What the receipt should say, field by field, the slow and obvious way."""
    decision, reason, versions = one.decision, one.decision.reason, one.versions
    expires = decision.approval_expires_at_ms
    same = (
        "decision_id correlation_id tenant_id task_id capability_id env data_label tenant_risk qos_class dry_run"
        " input_hash outcome denied matched_rule_id worker_id worker_species_id blast_score blast_declared"
        " blast_gate_passed privilege_envelope_ok policy_reason worker_attestation_checked worker_attestation_valid"
        " quarantined pending_approval_id supervisor_level"
    )
    return {
        **{name: getattr(decision, name) for name in same.split()},
        "artifact_hash": decision.request_hash,
        "dispatched_at": format_ms(decision.decided_at_ms),
        "approval_expires_at": None if expires is None else format_ms(expires),
        "policy_decision": decision.policy_decision or NOT_EVALUATED,
        "deny_code": None if reason is None else reason.code.value,
        "deny_message": None if reason is None else reason.message,
        "deny_extras": {} if reason is None else dict(reason.extras),
        "candidates": [
            {"worker_species_id": one.worker_species_id, "skip_reason": one.skip_reason} for one in decision.candidates
        ],
        "controls_required": list(decision.required_controls),
        "controls_verified": list(one.controls_verified),
        "checks": [
            {
                "name": check.name,
                "outcome": check.outcome,
                **({"detail": check.detail} if check.detail else {}),
                **({"digests": dict(check.digests)} if check.digests else {}),
            }
            for check in one.checks
        ],
        "package_hash": one.package_hash,
        **({} if one.principal is None else {"principal": one.principal}),
        "signers": list(one.signers),
        "versions": asdict(versions),
        "stream": one.stream,
        "schema": "wcp.receipt.v1",
        "spec_version": "0.2",
        **{name: body[name] for name in ("receipt_id", "seq", "prev_receipt_hash", "grant_hash")},
    }


def spoilt(**changes: object) -> Evidence:
    one = some_evidence()
    return replace(one, decision=replace(one.decision, **changes))  # type: ignore[arg-type]


def test_receipt_ids_are_unique_and_in_time_order() -> None:
    memory = MemoryReceipts()
    memory.append([some_evidence(number) for number in range(500)])
    ids = [
        str(Receipt(row.position, row.stream, row.seq, row.hash, row.body).to_dict()["receipt_id"])
        for row in memory.rows
    ]
    assert len(set(ids)) == 500
    assert {UUID(one).version for one in ids} == {7}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
