"""/wcp/…: decisions, discovery, and approvals with polling (specification sections 5.8 and 6)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final, get_args

from starlette.responses import Response
from starlette.routing import Route

import wcp_attest
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.service import gateways
from wcp_route.service.approval_history import Histories
from wcp_route.service.context import CanonicalJSON, context_of, endpoint, json_of, principal_of, tagged, working
from wcp_route.service.problems import Problem, not_found
from wcp_route.storage.approvals import LedgerApprovals
from wcp_route.storage.holds import Action, Approver
from wcp_route.storage.registry import MAX_REASON

if TYPE_CHECKING:
    from starlette.requests import Request

    from wcp_route.domain.decision import Hold, RouteDecision
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.service.context import Context
    from wcp_route.service.principals import Principal

GRANT_HEADER: Final = "x-wcp-grant"
_ACTIONS: Final[tuple[Action, ...]] = get_args(Action.__value__) if hasattr(Action, "__value__") else get_args(Action)


async def decide(request: Request, body: dict[str, Any], principal: Principal, grant: str) -> RouteDecision:
    """Decide on one request for work, count it, and note outcome and code for the log.

    Args:
        request: the HTTP request that it came with.
        body: the request for work, parsed.
        principal: who asks. It is the tenant; the body cannot name another.
        grant: of an approval; empty for none.
    """
    context, state = context_of(request), request.scope["state"]
    started = time.perf_counter()
    decision = await context.decider.decide(body, grant=grant, principal=principal.name)
    context.unstored_at = time.monotonic() if decision.code == Code.RECEIPT_UNAVAILABLE else float("-inf")
    context.metrics.seconds.observe(time.perf_counter() - started)
    state["outcome"], state["code"] = decision.outcome, None if decision.code is None else str(decision.code)
    context.metrics.decisions.labels(decision.outcome, state["code"] or "").inc()
    return decision


@endpoint
async def route(request: Request) -> Response:
    """POST /wcp/route: RouteInput -> RouteDecision. Held and denied requests are answered with 200.

    Roles: `router`.

    Problems: 400 or 415 a malformed body, 401, 403 another tenant or no role.
    """
    principal = principal_of(request, "router")
    body = await json_of(request, floats=True)
    if body.get("tenant_id", principal.name) != principal.name:
        raise Problem(403, "other-tenant", "the request names another tenant than the one that was authenticated")
    decision = await decide(
        request, {"tenant_id": principal.name, **body}, principal, request.headers.get(GRANT_HEADER, "")
    )
    return CanonicalJSON(to_wire(decision), 400 if decision.code == Code.INVALID_INPUT else 200)


@endpoint
async def capabilities(request: Request) -> Response:
    """GET /wcp/capabilities: what can be asked for.

    Roles: `router`, `reader`, `operator`.

    Problems: 401, 403, or 503 when the state cannot be used.
    """
    context = context_of(request)
    principal_of(request, "router", "reader", "operator")
    workers = await working(context.state.registry.workers)
    found: dict[str, set[str]] = {}
    for worker in workers:
        for capability in worker.capabilities:
            found.setdefault(capability, set()).add(worker.worker_species_id)
    rows = [{"capability_id": name, "worker_species": sorted(species)} for name, species in sorted(found.items())]
    return CanonicalJSON({"capabilities": rows, "count": len(rows)})


def _public_worker(worker: WorkerRecord, *, quarantined: bool) -> dict[str, Any]:
    """Return what a tenant may know of a worker: no path, no hash, no secret's name."""
    return {
        "worker_id": worker.worker_id,
        "worker_species_id": worker.worker_species_id,
        "capabilities": [*worker.capabilities],
        "risk_tier": worker.risk_tier,
        "allowed_environments": [*worker.allowed_environments],
        "status": "quarantined" if quarantined else "active",
    }


@endpoint
async def workers(request: Request) -> Response:
    """GET /wcp/workers.

    Roles: `router`, `reader`, `operator`.

    Problems: 401, 403, or 503 when the state cannot be used.
    """
    context = context_of(request)
    principal_of(request, "router", "reader", "operator")
    snapshot = await working(context.state.registry.snapshot)
    rows = [
        _public_worker(worker, quarantined=name in snapshot.quarantined)
        for name, worker in sorted(snapshot.workers.items())
    ]
    return CanonicalJSON({"workers": rows, "count": len(rows)})


@endpoint
async def worker(request: Request) -> Response:
    """GET /wcp/workers/{id}.

    Roles: `router`, `reader`, `operator`.

    Problems: 401, 403, 404 no such worker, or 503 when the state cannot be used.
    """
    context, name = context_of(request), request.path_params["worker_id"]
    principal_of(request, "router", "reader", "operator")
    snapshot = await working(context.state.registry.snapshot)
    if name not in snapshot.workers:
        raise not_found()
    return CanonicalJSON(_public_worker(snapshot.workers[name], quarantined=name in snapshot.quarantined))


@endpoint
async def health(request: Request) -> Response:
    """GET /wcp/health and /health: no worker and no tenant is told."""
    context = context_of(request)
    ok = not context.problems
    return CanonicalJSON({"ok": ok, "status": "ok" if ok else "degraded", "version": wcp_attest.__version__})


def shown_hold(hold: Hold, state: str) -> dict[str, Any]:
    """Return a hold as approvers and its requester see it.

    Args:
        hold: the hold.
        state: `pending`, `approved`, `denied`, `expired`, …
    """
    return {
        "pending_approval_id": hold.pending_id,
        "state": state,
        "supervisor_level": hold.level,
        "code": str(hold.code),
        "reason": hold.reason,
        "worker_id": hold.worker_id,
        "capability_id": hold.capability_id,
        "tenant_id": hold.tenant_id,
        "correlation_id": hold.correlation_id,
        "rule_id": hold.rule_id,
        "blast_score": hold.blast_score,
        "tenant_risk": hold.tenant_risk,
        "data_label": hold.data_label,
        "policy_version": hold.policy_version,
        "created_at_ms": hold.created_at_ms,
        "approval_expires_at_ms": hold.expires_at_ms,
    }


@endpoint
async def pending(request: Request) -> Response:
    """GET /wcp/approvals/pending: for approvers, with an entity tag for those who poll.

    Roles: `approver`, `operator`.

    Problems: 401, 403, or 503 when the state cannot be used.
    """
    context = context_of(request)
    principal_of(request, "approver", "operator")
    holds = await working(lambda: context.state.approvals.pending(now_ms()))
    rows = [shown_hold(hold, "pending") for hold in holds]
    return tagged(request, CanonicalJSON({"pending": rows, "count": len(rows)}))


@endpoint
async def hold(request: Request) -> Response:
    """GET /wcp/approvals/{id}: the requester polls here, and finds the grant once it is approved.

    Roles: `router` for its own holds, `approver`, `operator`.

    Problems: 401, 403, 404 no such hold or another tenant's, or 503.
    """
    context = context_of(request)
    principal = principal_of(request, "router", "approver", "operator")
    name = request.path_params["pending_id"]
    found, state = await working(lambda: (context.state.approvals.get(name), context.state.approvals.state(name)))
    if found is None or state is None:
        raise not_found()
    mine = found.tenant_id == principal.name
    if not mine and not principal.roles & {"approver", "operator"}:
        raise not_found()
    shown: str = state
    if state in {"pending", "approved"} and found.expires_at_ms <= now_ms():
        shown = "expired"
    body = shown_hold(found, shown)
    if mine and shown == "approved":
        body["grant"] = context.grant_of(found.pending_id)
    return CanonicalJSON(body, headers={"retry-after": "2"} if shown == "pending" else None)


@endpoint
async def history(request: Request) -> Response:
    """GET /wcp/approvals/{id}/history: for approvers, who answered the same work before and what changed since.

    Roles: `approver`, `operator`.

    Problems: 401, 403, 404 no such hold, or 503 when the ledger cannot be read.
    """
    context = context_of(request)
    principal_of(request, "approver", "operator")
    found = await working(lambda: context.state.approvals.get(request.path_params["pending_id"]))
    if found is None:
        raise not_found()
    return CanonicalJSON(await working(lambda: Histories(context).of(found)))


async def answer_hold(
    context: Context, principal: Principal, pending_id: str, action: str, reason: str
) -> dict[str, Any]:
    """Answer a hold in a principal's name.

    Args:
        context: the service.
        principal: who answers; the level is theirs, not the request's.
        pending_id: of the hold.
        action: `approve`, `deny` or `escalate`.
        reason: one line, for the receipt.

    Returns:
        The state of the hold afterwards.

    Raises:
        Problem: 400, there is no such action; 403, they may not; or 409, the hold does not wait any more.
    """
    principal.require("approver")
    if principal.agent or principal.level is None:
        raise Problem(403, "not-a-person", "only a person with a level of approval answers a hold")
    if action not in _ACTIONS:
        raise Problem(400, "malformed", f"`decision` must be one of {', '.join(_ACTIONS)}")
    approvals = LedgerApprovals(context.state.ledger, ids=lambda: context.grant_of(pending_id))
    by = Approver(principal.name, principal.level, "token")
    resolution = await working(lambda: approvals.resolve(pending_id, action, by=by, at_ms=now_ms(), reason=reason))
    return {
        "pending_approval_id": resolution.pending_id,
        "state": resolution.state,
        "supervisor_level": resolution.level,
        "approval_expires_at_ms": resolution.expires_at_ms,
    }


@endpoint
async def resolve(request: Request) -> Response:
    """POST /wcp/approvals/resolve: {"pending_approval_id", "decision": "approve" | "deny" | "escalate", "reason"}.

    Roles: `approver`, a person with a level.

    Problems: 400 a malformed body, 401, 403, or 409 when the hold does not wait any more or four eyes are missing.
    """
    return await _answered(request, None)


@endpoint
async def escalate(request: Request) -> Response:
    """POST /wcp/approvals/escalate: {"pending_approval_id", "reason"}.

    Roles and problems: as `resolve`.
    """
    return await _answered(request, "escalate")


async def _answered(request: Request, action: str | None) -> Response:
    """Answer the hold that a body names; `action`: None for the decision that stands there."""
    principal = principal_of(request, "approver")
    body = await json_of(request)
    name, reason = body.get("pending_approval_id"), body.get("reason", "")
    chosen = body.get("decision") if action is None else action
    if (
        not isinstance(name, str)
        or not isinstance(reason, str)
        or not isinstance(chosen, str)
        or len(reason) > MAX_REASON
    ):
        raise Problem(
            400,
            "malformed",
            "give `pending_approval_id`, `decision` (approve, deny or escalate), and perhaps a `reason` of at most "
            f"{MAX_REASON} characters",
        )
    return CanonicalJSON(await answer_hold(context_of(request), principal, name, chosen, reason))


@endpoint
async def evaluation(request: Request) -> Response:
    """POST /access/v1/evaluation (AuthZEN 1.0, section 6).

    Roles: `router`.

    Problems: 400 a part is missing or the body is no JSON, 401 or 403.
    """
    context, principal = context_of(request), principal_of(request, "router")
    body = await json_of(request, floats=True, wrong_type=400)
    asked = gateways.request_of(body, tenant=principal.name, env=context.hall.world.config.env)
    decision = await decide(request, asked, principal, request.headers.get(GRANT_HEADER, ""))
    return CanonicalJSON(gateways.answer_of(decision))


@endpoint
async def evaluations(request: Request) -> Response:
    """POST /access/v1/evaluations (AuthZEN 1.0, section 7).

    Roles: `router`.

    Problems: 400 a malformed batch, 401 or 403.
    """
    context, principal = context_of(request), principal_of(request, "router")
    asked, stop_at, single = gateways.evaluations_of(await json_of(request, floats=True, wrong_type=400))
    answers = []
    for one in asked:
        try:
            body = gateways.request_of(one, tenant=principal.name, env=context.hall.world.config.env)
        except Problem as problem:
            if single:
                raise
            # One malformed evaluation is a no of its own, and costs its neighbours nothing (section 7.2).
            answers.append(
                {"decision": False, "context": {"error": {"status": problem.status, "message": problem.detail}}}
            )
        else:
            answers.append(gateways.answer_of(await decide(request, body, principal, "")))
        if answers[-1]["decision"] is stop_at:
            break
    return CanonicalJSON(answers[0] if single else {"evaluations": answers})


@endpoint
async def authzen_metadata(request: Request) -> Response:
    """GET /.well-known/authzen-configuration (AuthZEN 1.0, section 9).

    A name of `hosts` is told with https, which the specification demands: a proxy in front encrypts.
    """
    host = request.headers["host"]
    named = host.lower() in context_of(request).settings.hosts
    base = f"{'https' if named else request.url.scheme}://{host}"
    return CanonicalJSON(
        {
            "policy_decision_point": base,
            "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
            "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
        }
    )


@endpoint
async def ext_authz(request: Request) -> Response:
    """Any method on /ext-authz/…: 200 or 403 (Envoy, HTTP external authorisation).

    The gateway names what is asked for in headers that it sets itself: `x-wcp-capability`, `x-wcp-data-label`,
    `x-wcp-tenant-risk`, `x-wcp-qos-class`. None of them says who asks. Its `x-request-id`, when it is an id, is the
    correlation id.

    Roles: `router`.

    Problems: 401, or 403 when a header is there twice.
    """
    context, principal = context_of(request), principal_of(request, "router")
    given = {
        name: request.headers.getlist(f"x-wcp-{name}")
        for name in ("capability", "data-label", "tenant-risk", "qos-class")
    }
    if any(len(values) > 1 for values in given.values()):
        raise Problem(403, "ambiguous", "an x-wcp-… header is there twice")
    named = ",".join(request.headers.getlist("x-request-id"))
    body: dict[str, Any] = {
        "capability_id": "".join(given["capability"]),
        "tenant_id": principal.name,
        "correlation_id": named if _ID.fullmatch(named) else request.scope["state"]["request_id"],
        "env": context.hall.world.config.env,
        "request": {"method": request.method, "path": request.url.path.removeprefix("/ext-authz")[:1024]},
    }
    fields = {"data-label": "data_label", "tenant-risk": "tenant_risk", "qos-class": "qos_class"}
    body |= {field: given[name][0] for name, field in fields.items() if given[name]}
    decision = await decide(request, body, principal, request.headers.get(GRANT_HEADER, ""))
    headers = {"x-wcp-decision": decision.decision_id, "x-wcp-outcome": decision.outcome}
    if decision.denied:
        return CanonicalJSON(gateways.answer_of(decision), 403, headers)
    return Response(status_code=200, headers={**headers, "x-wcp-worker": decision.worker_id or ""})


_ID: Final = re.compile(r"[A-Za-z0-9-]{8,64}")
_ANY: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ROUTES: Final = [
    Route("/wcp/route", route, methods=["POST"]),
    Route("/wcp/capabilities", capabilities),
    Route("/wcp/workers", workers),
    Route("/wcp/workers/{worker_id}", worker),
    Route("/wcp/health", health),
    Route("/health", health),
    Route("/wcp/approvals/pending", pending),
    Route("/wcp/approvals/resolve", resolve, methods=["POST"]),
    Route("/wcp/approvals/escalate", escalate, methods=["POST"]),
    Route("/wcp/approvals/{pending_id}", hold),
    Route("/wcp/approvals/{pending_id}/history", history),
    Route("/access/v1/evaluation", evaluation, methods=["POST"]),
    Route("/access/v1/evaluations", evaluations, methods=["POST"]),
    Route("/.well-known/authzen-configuration", authzen_metadata),
    Route("/ext-authz", ext_authz, methods=_ANY),
    Route("/ext-authz/{path:path}", ext_authz, methods=_ANY),
]
