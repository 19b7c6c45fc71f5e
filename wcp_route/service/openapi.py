"""The OpenAPI 3.1 document: every path but the gateways' catch-all, with the fields of each body."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import wcp_attest
from wcp_route.json_schemas import schema_of

_LINE: Final = {"type": "string", "minLength": 1, "maxLength": 500}
_DIGEST: Final = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
_FILE: Final = {"type": "string", "contentEncoding": "base64"}
_PART: Final = {"type": "object", "required": ["type", "id"], "properties": {"type": _LINE, "id": _LINE}}
_EVALUATION: Final = {
    "subject": _PART,
    "action": {"type": "object", "required": ["name"], "properties": {"name": _LINE}},
    "resource": _PART,
    "context": {"type": "object"},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(
    summary: str,
    *,
    body: str | dict[str, Any] = "",
    optional: tuple[str, ...] = (),
    answer: str = "",
    status: str = "200",
    kind: str = "application/json",
    open_: bool = False,
) -> dict[str, Any]:
    """Describe one operation.

    Args:
        summary: for people.
        body: the name of a component, or the fields of an object.
        optional: fields that may be left out.
        answer: the name of a component; any object by default.
        status: of an answer that is no problem.
        kind: media type of that answer.
        open_: whether it needs no token.
    """
    free: dict[str, Any] = {"type": "object"} if kind == "application/json" else {"type": "string"}
    problem = {
        "description": "a problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    answers: dict[str, Any] = {status: {"description": "the answer"}}
    if status != "204":
        answers[status]["content"] = {kind: {"schema": _ref(answer) if answer else free}}
    found: dict[str, Any] = {"summary": summary, "responses": {**answers, "default": problem}}
    if body:
        needed = [name for name in body if name not in optional]
        fields = {"type": "object", "required": needed, "properties": body}
        schema = _ref(body) if isinstance(body, str) else fields
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if open_:
        found["security"] = []
    return found


_PATHS: Final[dict[str, Any]] = {
    "/wcp/route": {"post": _operation("Decide on a request", body="RouteInput", answer="RouteDecision")},
    "/wcp/capabilities": {"get": _operation("What can be asked for")},
    "/wcp/workers": {"get": _operation("Enrolled workers")},
    "/wcp/workers/{worker_id}": {"get": _operation("One worker")},
    "/wcp/health": {"get": _operation("Health", open_=True)},
    "/wcp/approvals/pending": {"get": _operation("Holds that wait")},
    "/wcp/approvals/resolve": {
        "post": _operation(
            "Answer a hold",
            body={
                "pending_approval_id": _LINE,
                "decision": {"type": "string", "enum": ["approve", "deny", "escalate"]},
                "reason": _LINE,
            },
            optional=("reason",),
        )
    },
    "/wcp/approvals/escalate": {
        "post": _operation(
            "Hand a hold to the next level",
            body={"pending_approval_id": _LINE, "reason": _LINE},
            optional=("reason",),
        )
    },
    "/wcp/approvals/{pending_id}": {"get": _operation("Poll a hold")},
    "/wcp/approvals/{pending_id}/history": {"get": _operation("Earlier answers, and what changed since")},
    "/access/v1/evaluation": {"post": _operation("AuthZEN evaluation", body=_EVALUATION, optional=("context",))},
    "/access/v1/evaluations": {
        "post": _operation(
            "AuthZEN evaluations",
            body={
                **_EVALUATION,
                "evaluations": {"type": "array", "maxItems": 100, "items": {"type": "object"}},
                "options": {"type": "object"},
            },
            optional=(*_EVALUATION, "evaluations", "options"),
        )
    },
    "/api/v1/verify/{worker_id}": {"get": _operation("Standing of a worker")},
    "/api/v1/workers/{worker_id}/attest": {
        "put": _operation(
            "Hand in a pair; without it the answer is that nothing is known",
            body={"manifest": _FILE, "signatures": _FILE, "package_hash": _DIGEST},
            optional=("manifest", "signatures", "package_hash"),
            status="2XX",
        )
    },
    "/api/v1/ban-list": {"get": _operation("Confirmed bans")},
    "/api/v1/ban-list/report": {
        "post": _operation(
            "Report a package",
            body={"sha256": _DIGEST, "reason": _LINE, "evidence_url": _LINE},
            optional=("evidence_url",),
            status="202",
        )
    },
    "/api/v1/ban-list/reports": {"get": _operation("Reports, for the ban authority")},
    "/api/v1/ban-list/reports/{sha256}": {
        "post": _operation(
            "Confirm or dismiss a report",
            body={"decision": {"type": "string", "enum": ["confirm", "dismiss"]}, "reason": _LINE},
            optional=("reason",),
        )
    },
    "/api/v1/ban-lists/{name}": {
        "get": _operation("A signed ban list"),
        "put": _operation("Put a later signed list", body={"list": _FILE, "signatures": _FILE}),
    },
    "/admin/workers/{worker_id}": {
        "put": _operation("Enroll", body={"worker_id": _LINE, "package_root": _LINE}, status="201"),
        "delete": _operation("Withdraw", status="204"),
    },
    "/admin/quarantine": {"get": _operation("Workers in quarantine, and why")},
    "/admin/quarantine/{worker_id}": {
        "put": _operation("Quarantine", body={"reason": _LINE}),
        "delete": _operation("Clear", status="204"),
    },
    "/receipts": {"get": _operation("Newest receipts")},
    "/receipts/head": {"get": _operation("Head of the chain")},
    "/receipts/{decision_id}": {"get": _operation("One receipt")},
    "/receipts/{decision_id}/proof": {"get": _operation("The bytes of a receipt and the signed batch of its hash")},
    "/healthz": {"get": _operation("The process answers", kind="text/plain", open_=True)},
    "/metrics": {"get": _operation("Counters for Prometheus", kind="text/plain", open_=True)},
    "/receipts/export": {"get": _operation("All receipts, JSON Lines", kind="application/jsonl")},
    "/api/v1/telemetry/decisions": {
        "post": _operation(
            "Counts of earlier clients",
            body={"decisions": {"type": "array", "items": {"type": "object"}}},
            status="202",
        )
    },
    "/.well-known/authzen-configuration": {"get": _operation("AuthZEN metadata", open_=True)},
    "/readyz": {"get": _operation("Readiness with reasons", open_=True)},
}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document; request and decision are made from the tables of fields."""
    paths: dict[str, Any] = copy.deepcopy(_PATHS)
    for path, operations in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        for one in operations.values():
            one["parameters"] = [
                {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
            ]
    schemas: dict[str, Any] = {}
    for name, file in (("RouteInput", "route-input"), ("RouteDecision", "route-decision")):
        # The definitions of a published schema become components beside it.
        schema = json.loads(json.dumps(schema_of(file)).replace('"#/$defs/', '"#/components/schemas/'))
        schemas |= schema.pop("$defs", {})
        schemas[name] = {key: value for key, value in schema.items() if key not in {"$schema", "$id"}}
    members = {"type": "string"}, {"type": "integer"}
    schemas["Problem"] = {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {name: members[name == "status"] for name in ("type", "title", "status", "code", "detail")},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "wcp-route", "version": wcp_attest.__version__, "license": {"name": "Apache-2.0"}},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
