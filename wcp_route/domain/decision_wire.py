"""Makes three things from the table of decision fields: the wire object, its JSON Schema, and the body of a receipt.

The wire object has the fields that the earlier SDKs read (`denied`, `deny_reason_if_denied`,
`selected_worker_species_id`) and those that the published schema requires (`outcome`, `correlation_id`, `decided_at`;
conformance row 2). Digests of a package are in the receipt only.
"""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from wcp_route.domain.decision import Form, RouteDecision
from wcp_route.domain.events import events

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.decision import Check, Evidence


def _members(of: str) -> tuple[tuple[str, str, Form], ...]:
    return tuple(
        (name, column.name, form) for column in fields(RouteDecision) for name, form in column.metadata[of].items()
    )


WIRE: Final = _members("wire")  # name in JSON, name of the field, how it is written
RECEIPT: Final = _members("receipt")
_OF_TENANT: Final = ("capability_id", "blast_score", "tenant_risk", "data_label", "policy_version")


def to_wire(decision: RouteDecision, *, operator: bool = False) -> JsonObject:
    """Return a decision as a JSON object.

    Args:
        decision: what was decided.
        operator: True when the reader runs workers on this host: `package_path` is included. Never set it for a tenant.

    Returns:
        The JSON object.
    """
    denied = decision.denied
    found: JsonObject = {
        name: form.when_denied() if denied and form.when_denied is not None else form.write(getattr(decision, field))
        for name, field, form in WIRE
    }
    found["escalation_context"] = {name: found[name] for name in _OF_TENANT} if decision.supervisor_required else None
    found["telemetry_envelopes"] = [event.to_dict() for event in events(decision)]
    if operator:
        found["package_path"] = decision.package_path or None
    return found


def decision_schema() -> JsonObject:
    """Return the JSON Schema of what `to_wire` makes."""
    properties: JsonObject = {name: form.schema for name, _, form in WIRE}
    properties["escalation_context"] = {"anyOf": [{"type": "object"}, {"type": "null"}], "default": None}
    properties["telemetry_envelopes"] = {"type": "array", "items": {"type": "object"}}
    properties["package_path"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    properties["kind"] = {"const": "route-decision", "default": "route-decision"}  # the last two on the command line
    properties["schema_version"] = {"type": "integer", "default": 1}
    required: list[JsonValue] = [name for name, schema in properties.items() if "default" not in schema]  # type: ignore[operator]
    return {
        "title": "RouteDecision",
        "description": "The answer to one request.",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def receipt_members(evidence: Evidence) -> JsonObject:
    """Return all fields of a receipt about a decision, except its place in a chain and its own id.

    A grant is a bearer token, so the receipt holds only its SHA-256.

    Args:
        evidence: the decision with its checks and digests.

    Returns:
        The fields by name.
    """
    decision, versions = evidence.decision, evidence.versions
    found: JsonObject = {name: form.write(getattr(decision, field)) for name, field, form in RECEIPT}
    found["checks"] = [_check(check) for check in evidence.checks]
    found["controls_verified"] = [*evidence.controls_verified]
    found["grant_hash"] = f"sha256:{sha256(evidence.grant_id.encode()).hexdigest()}" if evidence.grant_id else ""
    found["package_hash"] = evidence.package_hash
    if evidence.principal is not None:
        found["principal"] = evidence.principal
    found["signers"] = [*evidence.signers]
    found["stream"] = evidence.stream
    found["versions"] = {name: getattr(versions, name) for name in _VERSIONS}
    return found


_VERSIONS: Final = ("bans", "config", "policy", "registry", "rules", "trust_policy")


def _check(check: Check) -> JsonObject:
    found: JsonObject = {"name": check.name, "outcome": check.outcome}
    if check.detail:
        found["detail"] = check.detail
    if check.digests:
        found["digests"] = dict(check.digests)
    return found
