"""What machines ask without a token: health, readiness with reasons, metrics, OpenAPI; no worker, no tenant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import wcp_attest
from wcp_route.domain.clock import now_ms
from wcp_route.json_schemas import schema_of
from wcp_route.service.context import CanonicalJSON, Context, context_of, endpoint, working

if TYPE_CHECKING:
    from starlette.requests import Request


@endpoint
async def healthz(request: Request) -> Response:
    """GET /healthz: the process answers."""
    del request
    return PlainTextResponse("ok\n")


def missing(context: Context) -> dict[str, str]:
    """Return what keeps the service from being ready, by name."""
    found = dict(context.problems)
    try:
        context.state.registry.snapshot()
    except Exception as problem:  # noqa: BLE001  # whatever the database raises means that it cannot be used
        found["database"] = str(problem)[:200]
    if context.trust is not None:
        for condition in context.trust.conditions:
            try:
                condition.open(now=now_ms() / 1000)
            except Exception as problem:  # noqa: BLE001  # a list that cannot be used denies every decision
                found["bans"] = str(problem)[:200]
    return found


@endpoint
async def readyz(request: Request) -> Response:
    """GET /readyz: 200, or 503 with what is missing."""
    context = context_of(request)
    found = await working(lambda: missing(context))
    context.metrics.ready.set(not found)
    return CanonicalJSON({"ready": not found, "missing": found}, 503 if found else 200)


@endpoint
async def metrics(request: Request) -> Response:
    """GET /metrics: the Prometheus text format."""
    context = context_of(request)
    waiting = await working(lambda: len(context.state.approvals.pending(now_ms())))
    context.metrics.pending.set(waiting)
    return Response(context.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _operation(
    summary: str, *, body: str = "", answer: str = "", status: str = "200", open_: bool = False
) -> dict[str, Any]:
    """Describe one operation; what has no schema of its own is an object."""
    free: dict[str, Any] = {"type": "object"}
    problem = {
        "description": "a problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    answers: dict[str, Any] = {status: {"description": "the answer"}}
    if status != "204":
        answers[status]["content"] = {"application/json": {"schema": _ref(answer) if answer else free}}
    found: dict[str, Any] = {"summary": summary, "responses": {**answers, "default": problem}}
    if body:
        schema = free if body == "object" else _ref(body)
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if open_:
        found["security"] = []
    return found


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document; request and decision are made from the tables of fields."""
    paths: dict[str, Any] = {
        "/wcp/route": {"post": _operation("Decide on a request", body="RouteInput", answer="RouteDecision")},
        "/wcp/capabilities": {"get": _operation("What can be asked for")},
        "/wcp/workers": {"get": _operation("Enrolled workers")},
        "/wcp/workers/{worker_id}": {"get": _operation("One worker")},
        "/wcp/health": {"get": _operation("Health", open_=True)},
        "/wcp/approvals/pending": {"get": _operation("Holds that wait")},
        "/wcp/approvals/resolve": {"post": _operation("Answer a hold", body="object")},
        "/wcp/approvals/escalate": {"post": _operation("Hand a hold to the next level", body="object")},
        "/wcp/approvals/{pending_id}": {"get": _operation("Poll a hold")},
        "/access/v1/evaluation": {"post": _operation("AuthZEN evaluation", body="object")},
        "/access/v1/evaluations": {"post": _operation("AuthZEN evaluations", body="object")},
        "/api/v1/verify/{worker_id}": {"get": _operation("Standing of a worker")},
        "/api/v1/workers/{worker_id}/attest": {"put": _operation("Hand in a pair", body="object")},
        "/api/v1/ban-list": {"get": _operation("Confirmed bans")},
        "/api/v1/ban-list/report": {"post": _operation("Report a package", body="object", status="202")},
        "/api/v1/ban-list/reports": {"get": _operation("Reports, for the ban authority")},
        "/api/v1/ban-list/reports/{sha256}": {"post": _operation("Confirm or dismiss a report", body="object")},
        "/api/v1/ban-lists/{name}": {
            "get": _operation("A signed ban list"),
            "put": _operation("Put a later signed list", body="object"),
        },
        "/admin/workers/{worker_id}": {
            "put": _operation("Enroll", body="object", status="201"),
            "delete": _operation("Withdraw", status="204"),
        },
        "/admin/quarantine/{worker_id}": {
            "put": _operation("Quarantine", body="object"),
            "delete": _operation("Clear", status="204"),
        },
        "/receipts": {"get": _operation("Newest receipts")},
        "/receipts/head": {"get": _operation("Head of the chain")},
        "/receipts/{decision_id}": {"get": _operation("One receipt")},
        "/receipts/{decision_id}/proof": {"get": _operation("The bytes of a receipt and the signed batch of its hash")},
        "/healthz": {"get": _operation("The process answers", open_=True)},
        "/readyz": {"get": _operation("Readiness with reasons", open_=True)},
    }
    for path, operations in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        for one in operations.values():
            one["parameters"] = [
                {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
            ]
    schemas = _schemas(RouteInput="route-input", RouteDecision="route-decision")
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


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(**files: str) -> dict[str, Any]:
    """Return published schemas as components; their own definitions become components beside them."""
    found: dict[str, Any] = {}
    for name, file in files.items():
        text = json.dumps(schema_of(file)).replace('"#/$defs/', '"#/components/schemas/')
        schema = json.loads(text)
        found |= schema.pop("$defs", {})
        found[name] = {key: value for key, value in schema.items() if key not in {"$schema", "$id"}}
    return found


@endpoint
async def openapi(request: Request) -> Response:
    """GET /openapi.json."""
    del request
    return CanonicalJSON(document())


ROUTES: Final = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
    Route("/openapi.json", openapi),
]
