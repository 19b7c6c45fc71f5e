"""What machines ask without a token: health, readiness with reasons, metrics, OpenAPI; no worker, no tenant."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wcp_route.domain.clock import now_ms
from wcp_route.service import openapi
from wcp_route.service.context import CanonicalJSON, Context, context_of, endpoint, principal_of, working
from wcp_route.service.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request


UNSTORED_SECONDS: Final = 30.0  # afterwards requests may come again and show whether receipts can be stored


def missing(context: Context) -> dict[str, str]:
    """Return what keeps the service from being ready.

    Args:
        context: the service.

    Returns:
        The reasons by name: `bans`, `database`, `oidc`, `receipts`, `reload`. The texts may name files and servers.
    """
    found = dict(context.problems)
    if (oidc := context.authenticator.oidc) is not None and oidc.problem:
        found["oidc"] = oidc.problem
    try:
        context.state.registry.snapshot()
    except Exception as problem:  # noqa: BLE001  # any error of the database means that it cannot be used
        found["database"] = str(problem)[:200]
    if time.monotonic() - context.unstored_at < UNSTORED_SECONDS:
        found["receipts"] = "the last receipt could not be stored; the log says why"
    if context.trust is not None:
        for condition in context.trust.conditions:
            try:
                condition.open(now=now_ms() / 1000)
            except Exception as problem:  # noqa: BLE001  # a list that cannot be used denies every decision
                found["bans"] = str(problem)[:200]
    return found


@endpoint
async def readyz(request: Request) -> Response:
    """GET /readyz: 200, or 503 with what is missing; why in full only for those who may read it."""
    context = context_of(request)
    found = await working(lambda: missing(context))
    context.metrics.ready.set(not found)
    try:
        principal_of(request, "reader", "operator")
    except Problem:  # texts of errors name our files and servers
        found = {name: _ABOUT.get(name, "it is missing") for name in found}
    return CanonicalJSON({"ready": not found, "missing": found}, 503 if found else 200)


_ABOUT: Final = {
    "bans": "a ban list is missing or stale",
    "database": "the state cannot be used",
    "oidc": "the issuer's keys are missing",
    "receipts": "the last receipt could not be stored",
    "reload": "the files changed and cannot be used; the earlier ones stay in force",
}


@endpoint
async def metrics(request: Request) -> Response:
    """GET /metrics: the Prometheus text format."""
    context = context_of(request)
    waiting = await working(lambda: len(context.state.approvals.pending(now_ms())))
    context.metrics.pending.set(waiting)
    from prometheus_client import generate_latest

    return Response(generate_latest(context.metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")


ROUTES: Final = [
    Route("/healthz", PlainTextResponse("ok\n"), methods=["GET"]),  # the process answers
    Route("/readyz", readyz),
    Route("/metrics", metrics),
    Route("/openapi.json", CanonicalJSON(openapi.document()), methods=["GET"]),  # for people who write a client
]
