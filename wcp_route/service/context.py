"""What the handlers share: the Hall and what it works on, who asks, and the JSON of a body."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, Error, MachineError
from wcp_route.service.principals import ANYBODY
from wcp_route.service.problems import MAX_BODY, Problem
from wcp_route.service.sessions import Sessions
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from wcp_attest import Policy
    from wcp_route.hall import Hall
    from wcp_route.service.decider import Decider
    from wcp_route.service.metrics import Metrics
    from wcp_route.service.pair_store import PairStore
    from wcp_route.service.principals import Authenticator, Principal
    from wcp_route.service.settings import Open, Role, ServiceModel
    from wcp_route.storage.ban_reports import LedgerBanReports
    from wcp_route.storage.state import State

AUTHENTICATED: Final = "authenticated"
T = TypeVar("T")
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_log = logging.getLogger("wcp_route.service")


@dataclass
class Context:
    """One running service.

    Attributes:
        hall: decides.
        state: what it remembers.
        settings: the `[service]` table.
        authenticator: finds out who asks.
        metrics: counts.
        trust: the trust policy in force, for the registry; None where the Hall has none.
        secret: makes grants, so that a requester can fetch one from any Hall with the same secret.
        address: of the state, for reading receipts.
        pairs: what publishers handed in.
        reports: packages that somebody asked to ban.
        decider: asks the Hall for the event loop.
        sessions: of people at the pages.
        problems: why the service is not ready, by the name of what is missing.
        unstored_at: when the last receipt could not be stored, seconds on the monotonic clock; a later one that was
            stored puts it back to minus infinity.
    """

    hall: Hall
    state: State
    settings: ServiceModel
    authenticator: Authenticator
    metrics: Metrics
    trust: Policy | None
    secret: bytes
    address: str
    pairs: PairStore
    reports: LedgerBanReports
    decider: Decider
    sessions: Sessions = field(default_factory=Sessions)
    problems: dict[str, str] = field(default_factory=dict)
    unstored_at: float = float("-inf")

    def grant_of(self, pending_id: str) -> str:
        """Return the grant of a hold. Only a service with the same secret can make it.

        Args:
            pending_id: of the hold.

        Returns:
            64 hex digits (HMAC-SHA-256).
        """
        return hmac.new(self.secret, b"wcp grant\0" + pending_id.encode(), "sha256").hexdigest()


def context_of(request: Request) -> Context:
    """Return the service that a request came to.

    Args:
        request: the request.
    """
    found: Context = request.app.state.context
    return found


def principal_of(request: Request, *roles: Role, open_as: Open | None = None) -> Principal:
    """Return who asks, when they have one of the roles.

    Args:
        request: the request.
        roles: which of them are enough.
        open_as: what is asked for; where the settings open it to everybody, a request without a token may ask, too.

    Raises:
        Problem: 401 or 403.
    """
    context = context_of(request)
    if open_as in context.settings.open_to_all and "authorization" not in request.headers:
        return ANYBODY
    known: Principal | None = request.scope["state"].get(AUTHENTICATED)  # of this very request, from its headers
    principal = context.authenticator.of(request) if known is None else known
    request.scope["state"]["principal"] = principal.name
    principal.require(*roles)
    return principal


async def json_of(request: Request, *, floats: bool = False, wrong_type: int = 415) -> dict[str, Any]:
    """Return the JSON object of a body.

    Args:
        request: the request.
        floats: whether numbers with a fraction are allowed.
        wrong_type: the status for a body of another type.

    Raises:
        Problem: 400, it is no JSON object; or 415, it is a form or plain text, as a page of another site could send
            without being asked (CORS).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(wrong_type, "wrong-type", "send Content-Type: application/json")
    try:
        value = strictjson.loads(await request.body(), what="the body", max_bytes=MAX_BODY, floats=floats)
    except ConfigError as problem:
        raise Problem(400, "malformed", str(problem)) from None
    if not isinstance(value, dict):
        raise Problem(400, "malformed", "the body is not a JSON object")
    return value


async def working(function: Callable[[], T]) -> T:
    """Run what may block in a thread, and turn our own errors into problems.

    Args:
        function: what to run.

    Raises:
        Problem: 503, the state cannot be used; 400, the request cannot be used; or 409, it is refused.
    """
    try:
        return await run_in_threadpool(function)
    except Problem:
        raise
    except (StateError, MachineError, OSError) as problem:  # may name our files and servers, so only the log has it
        _log.error("the state cannot be used: %s", problem)
        raise Problem(503, "state-unusable", "the Hall's state cannot be used now", {"retry-after": "5"}) from None
    except ConfigError as problem:
        raise Problem(400, "refused", str(problem)[:500]) from None
    except Error as problem:
        raise Problem(409, "refused", str(problem)[:500]) from None


def endpoint(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer with the problem that a handler raises.

    Args:
        handler: of one path.

    Returns:
        A handler that raises no problem.
    """

    @functools.wraps(handler)
    async def call(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            request.scope["state"]["code"] = problem.code
            return problem.response()

    return call


class CanonicalJSON(JSONResponse):
    """JSON in ASCII, so that nothing a caller sent comes back unescaped."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return _ENCODER.encode(content).encode()


def tagged(request: Request, full: Response, beside: bytes = b"") -> Response:
    """Give an answer its entity tag, or answer with 304 when the caller has it already (RFC 9110, section 13.1.2).

    Args:
        request: which may bring `If-None-Match`.
        full: the answer.
        beside: what else changes the tag.

    Returns:
        The answer. Only the caller's own client may keep it, and must ask before it uses it again.
    """
    digest = hashlib.sha256(full.body)
    digest.update(beside)
    tag = f'"{digest.hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, no-cache", "vary": "authorization"}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    full.headers.update(headers)
    return full
