"""All handlers as one ASGI application, behind the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from wcp_route.service import ban_lists, machines, operators, pages, protocol, registry_api
from wcp_route.service.context import AUTHENTICATED
from wcp_route.service.limits import Limits
from wcp_route.service.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Scope

    from wcp_route.service.context import Context


def application(context: Context) -> Limits:
    """Return the ASGI application of a service.

    Args:
        context: the Hall and all that the handlers share.

    Returns:
        The handlers behind the limits.
    """
    routes = [
        *protocol.ROUTES,
        *registry_api.ROUTES,
        *ban_lists.ROUTES,
        *operators.ROUTES,
        *machines.ROUTES,
        *pages.ROUTES,
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _as_problem, Exception: _failed})
    app.router.redirect_slashes = False  # a redirect would name the scheme that a proxy speaks here, not its own
    app.state.context = context

    def known(scope: Scope) -> bool:
        """Tell whether the caller is authenticated, from the headers alone."""
        connection = HTTPConnection(scope)
        if context.sessions.of(connection) is not None:
            return True
        try:
            scope["state"][AUTHENTICATED] = context.authenticator.of(connection)
        except Problem:
            return False
        return True

    return Limits(app, context.settings, known)


async def _as_problem(request: Request, problem: Any) -> Response:
    del request
    allowed = (problem.headers or {}).get("Allow", "")
    code, detail = {
        404: ("not-found", "there is nothing at this path; /openapi.json lists all of them"),
        405: ("wrong-method", f"this path is for {allowed}; /openapi.json describes it"),
    }.get(problem.status_code, ("refused", str(problem.detail)))
    return Problem(problem.status_code, code, detail, problem.headers).response()


async def _failed(request: Request, problem: Exception) -> Response:
    del request, problem  # the log has it; the caller learns nothing about the service from it
    return Problem(500, "internal-error", "the service failed; its log says why").response()
