"""What people look at: overview, decisions, approvals, workers, bans. Rendered here, usable without script."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from wcp_attest.bans import BansCondition
from wcp_attest.base.errors import BansUnusable, Error
from wcp_attest.cli.text import visible
from wcp_route.domain.clock import now_ms, parse_ms
from wcp_route.service.approval_history import Histories
from wcp_route.service.ban_lists import review_report, shown_reports
from wcp_route.service.context import context_of, working
from wcp_route.service.machines import missing
from wcp_route.service.operators import last_receipts
from wcp_route.service.problems import Problem, not_found
from wcp_route.service.protocol import answer_hold, shown_hold
from wcp_route.service.sessions import COOKIE, SECONDS, form_of, form_of_session
from wcp_route.storage.receipts import read
from wcp_route.storage.registry import MAX_REASON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from wcp_route.service.context import Context
    from wcp_route.service.sessions import Session

SHOWN: Final = 100
WITH_HISTORY: Final = 10
HOURS: Final = 24
HOUR_MS: Final = 3_600_000
MAX_CODES: Final = 8
_pages: Final = Environment(
    loader=PackageLoader("wcp_route.service"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    # What others wrote must not turn the text beside it round, or hide something (U+202E, U+200B).
    finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
)
_pages.filters["utc"] = lambda ms: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000))


def _render(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(name).render(**values), status)


def page(*roles: Any) -> Callable[[Callable[..., Awaitable[Response]]], Callable[[Request], Awaitable[Response]]]:
    """Give a handler the session of a person with one of the roles.

    Args:
        roles: which of them are enough.

    Returns:
        A decorator. Without a session the handler leads to the sign-in page; without a role it shows a problem.
    """

    def decorate(handler: Callable[..., Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        @functools.wraps(handler)
        async def call(request: Request) -> Response:
            session = context_of(request).sessions.of(request)
            if session is None:
                return RedirectResponse("/signin", 303)
            request.scope["state"]["principal"] = session.principal.name
            try:
                session.principal.require(*roles)
                return await handler(request, context_of(request), session)
            except Problem as problem:
                request.scope["state"]["code"] = problem.code
                return _render("problem.html", problem.status, problem=problem, session=session, here="")

        return call

    return decorate


async def signin(request: Request) -> Response:
    """GET and POST /signin: a token, once; afterwards a cookie."""
    if request.method != "POST":
        return _render("signin.html", session=None, here="", wrong=False)
    try:
        token = (await form_of(request)).get("token", "").strip()
        principal = context_of(request).authenticator.of_token(token) if token else None
        if principal is None or principal.roles.isdisjoint({"reader", "approver", "operator", "banner"}):
            return _render("signin.html", 401, session=None, here="", wrong=True)
        cookie = context_of(request).sessions.begin(principal)
    except Problem as problem:
        return _render("problem.html", problem.status, problem=problem, session=None, here="")
    answer = RedirectResponse("/", 303)
    # `Origin` is our own, or the form was refused; it tells what a proxy in front speaks.
    secure = "https" in (request.url.scheme, request.headers.get("origin", "").partition(":")[0])
    answer.set_cookie(COOKIE, cookie, max_age=SECONDS, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@page("reader", "approver", "operator", "banner")
async def signout(request: Request, context: Context, session: Session) -> Response:
    """POST /signout."""
    del context
    await form_of_session(request, session)
    context_of(request).sessions.end(request)
    answer = RedirectResponse("/signin", 303)
    answer.delete_cookie(COOKIE)
    return answer


@page("reader", "approver", "operator", "banner")
async def overview(request: Request, context: Context, session: Session) -> Response:
    """GET /: decisions by the hour, why requests were refused, readiness, ban lists, the head of the chain."""
    del request

    def look() -> dict[str, Any]:
        now = now_ms()
        day = [json.loads(one.body) for one in read.last(
            context.address, read.MAX_SHOWN, kind="decision", since_ms=now - HOURS * HOUR_MS
        )]  # fmt: skip
        snapshot = context.state.registry.snapshot()
        head = ""
        with contextlib.suppress(Error):  # a chain without a batch has none yet
            head = sha256(read.head(context.address)).hexdigest()
        return {
            "counts": Counter(row["outcome"] for row in day).most_common(),
            "codes": Counter(row["deny_code"] for row in day if row["deny_code"]).most_common(MAX_CODES),
            "hours": _by_hour(day, now),
            "total": max(1, len(day)),
            "more": len(day) == read.MAX_SHOWN,
            "workers": len(snapshot.workers),
            "quarantined": len(snapshot.quarantined),
            "pending": len(context.state.approvals.pending(now)),
            "missing": missing(context),
            "bans": _ban_lists(context, now),
            "head": head,
        }

    world = context.hall.world
    return _render(
        "overview.html", session=session, here="overview", env=world.config.env, rules=len(world.rules.rules),
        policy=world.trust_policy_digest, **await working(look),
    )  # fmt: skip


def _by_hour(day: list[dict[str, Any]], now: int) -> list[tuple[int, int, int]]:
    """Return for each of the last hours, oldest first: how many hours ago, dispatched, and not."""
    counts: Counter[tuple[int, bool]] = Counter()
    for row in day:
        ago = min(HOURS - 1, max(0, (now - parse_ms(row["dispatched_at"])) // HOUR_MS))
        counts[ago, row["outcome"] == "DISPATCH"] += 1
    return [(ago, counts[ago, True], counts[ago, False]) for ago in range(HOURS - 1, -1, -1)]


def _ban_lists(context: Context, now: int) -> list[dict[str, Any]]:
    """Return name, version, age and expiry of each list of the policy; none when one of them cannot be used."""
    rows = []
    for condition in () if context.trust is None else context.trust.conditions:
        if isinstance(condition, BansCondition):
            with contextlib.suppress(BansUnusable):  # `missing` says why
                rows += [each.index.head for each in condition.open(now=now / 1000).opened]
    hour = HOUR_MS // 1000
    return [
        {"name": head.name, "version": head.version, "age": (now // 1000 - head.issued_at) // hour,
         "left": (head.expires_at - now // 1000) // hour}
        for head in rows
    ]  # fmt: skip


@page("reader", "approver", "operator")
async def decisions(request: Request, context: Context, session: Session) -> Response:
    """GET /decisions: filtered, newest first."""
    filters = {name: value for name, value in request.query_params.items() if value and name != "limit"}
    filters.setdefault("kind", "decision")
    rows = await working(lambda: last_receipts(context, filters, SHOWN))
    return _render(
        "decisions.html", session=session, here="decisions", rows=rows, filters=filters, more=len(rows) == SHOWN
    )


@page("reader", "approver", "operator")
async def decision(request: Request, context: Context, session: Session) -> Response:
    """GET /decisions/{id}: every check and why."""
    found = await working(lambda: read.find(context.address, request.path_params["decision_id"]))
    if not found:
        raise not_found()
    body = json.loads(found[0].body)
    return _render("decision.html", session=session, here="decisions", row=body, text=json.dumps(body, indent=2))


@page("approver", "operator", "reader")
async def approvals(request: Request, context: Context, session: Session) -> Response:
    """GET /approvals: what waits for a person."""
    del request

    def look() -> dict[str, Any]:
        holds = context.state.approvals.pending(now_ms())
        enrolled = context.state.registry.snapshot().workers
        # Each history is a few reads, so those at the top have it; the others have it once they are at the top.
        histories = Histories(context)
        rows = [
            shown_hold(hold, "pending")
            | {"history": histories.of(hold) if number < WITH_HISTORY else None}
            | {"record": enrolled.get(hold.worker_id)}
            for number, hold in enumerate(holds[:SHOWN])
        ]
        return {"rows": rows, "count": len(holds)}

    return _render("approvals.html", session=session, here="approvals", **await working(look))


@page("approver")
async def answer(request: Request, context: Context, session: Session) -> Response:
    """POST /approvals: approve, deny or escalate."""
    form = await form_of_session(request, session)
    name, action, reason = (form.get(field, "") for field in ("pending_approval_id", "decision", "reason"))
    await answer_hold(context, session.principal, name, action, reason[:MAX_REASON])
    return RedirectResponse("/approvals", 303)


@page("reader", "approver", "operator")
async def workers(request: Request, context: Context, session: Session) -> Response:
    """GET /workers: identity, signers, the last decision (a ban is its code), quarantine with its cause."""
    part = request.query_params.get("worker", "")

    def look() -> dict[str, Any]:
        snapshot = context.state.registry.snapshot()
        names = sorted(name for name in {*snapshot.workers, *snapshot.quarantined} if part in name)
        names.sort(key=lambda name: name not in snapshot.quarantined)  # those in quarantine come first
        newest: dict[str, dict[str, Any]] = {}
        signers: dict[str, list[str]] = {}
        for receipt in read.last(context.address, read.MAX_SHOWN, kind="decision"):
            body = json.loads(receipt.body)
            name = body.get("worker_id") or body.get("selected_worker_id") or ""
            newest.setdefault(name, body)
            if body.get("signers"):
                signers.setdefault(name, body["signers"])
        rows = [
            (name, snapshot.workers.get(name), snapshot.quarantined.get(name), signers.get(name, []), newest.get(name))
            for name in names[:SHOWN]
        ]
        return {"rows": rows, "count": len(names), "part": part}

    return _render("workers.html", session=session, here="workers", **await working(look))


@page("operator")
async def clear(request: Request, context: Context, session: Session) -> Response:
    """POST /workers/clear: end a quarantine."""
    form = await form_of_session(request, session)
    name, by = form.get("worker_id", ""), session.principal.name
    if not await working(lambda: context.state.registry.clear(name, by=by, at_ms=now_ms(), via="token")):
        raise not_found()
    return RedirectResponse("/workers", 303)


@page("reader", "banner", "operator", "approver")
async def bans(request: Request, context: Context, session: Session) -> Response:
    """GET /bans: the lists of the policy and what was reported."""
    del request
    found = await working(lambda: missing(context).get("bans", ""))
    configured = context.trust is not None and bool(context.trust.conditions)
    reports = await working(lambda: shown_reports(context))
    reports.sort(key=lambda report: str(report["review_status"]) != "pending")  # those that wait come first
    return _render(
        "bans.html", session=session, here="bans", problem=found, configured=configured, reports=reports[:SHOWN],
        count=len(reports),
    )  # fmt: skip


@page("banner")
async def review(request: Request, context: Context, session: Session) -> Response:
    """POST /bans: confirm or dismiss a report."""
    form = await form_of_session(request, session)
    if session.principal.agent:
        raise Problem(403, "not-a-person", "only a person reviews a report")
    digest, decision, reason = (form.get(name, "") for name in ("sha256", "decision", "reason"))
    await working(lambda: review_report(context, session.principal.name, digest, decision, reason[:MAX_REASON]))
    return RedirectResponse("/bans", 303)


_STYLE: Final = Response(
    _pages.get_template("style.css").render(), media_type="text/css", headers={"cache-control": "public, max-age=3600"}
)
ROUTES: Final = [
    Route("/", overview),
    Route("/signin", signin, methods=["GET", "POST"]),
    Route("/signout", signout, methods=["POST"]),
    Route("/decisions", decisions),
    Route("/decisions/{decision_id}", decision),
    Route("/approvals", approvals, methods=["GET"]),
    Route("/approvals", answer, methods=["POST"]),
    Route("/workers", workers),
    Route("/workers/clear", clear, methods=["POST"]),
    Route("/bans", bans, methods=["GET"]),
    Route("/bans", review, methods=["POST"]),
    Route("/style.css", _STYLE, methods=["GET"]),
]
