"""Bans over HTTP: lists as they were signed, and reports until the ban authority has looked at them.

The Hall makes no ban. It hands signed lists out byte for byte, and takes a new one only when the signers of its own
trust policy signed it and it follows the one before. A report becomes a ban when the ban authority adds it to a list,
signs that, and puts it here.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette.responses import Response
from starlette.routing import Route

from wcp_attest.bans import BanList, BansCondition
from wcp_attest.base.errors import BansUnusable, ConfigError, MachineError, VerificationError
from wcp_attest.disk.files import pending_file, read_bounded
from wcp_route.service.context import CanonicalJSON, context_of, endpoint, json_of, principal_of, tagged, working
from wcp_route.service.problems import Problem, not_found
from wcp_route.service.registry_api import SHA256, decoded
from wcp_route.storage.ban_reports import ReportRefused
from wcp_route.storage.registry import MAX_REASON
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from starlette.requests import Request

    from wcp_route.service.context import Context
    from wcp_route.storage.ledger_state import BanReport

MAX_LIST_BYTES: Final = 64 << 20
DIGEST_KINDS: Final = ("package", "manifest", "file")
_DIGEST: Final = "sha256:"
_REVIEWS: Final[dict[object, Literal["confirmed", "dismissed"]]] = {"confirm": "confirmed", "dismiss": "dismissed"}
_replacing: Final = threading.Lock()
_reading: Final = threading.Lock()  # one reads a long list, and the others wait for it
_log = logging.getLogger("wcp_route.service")


@endpoint
async def ban_list_file(request: Request) -> Response:
    """GET /api/v1/ban-lists/{name}[.sig]: a signed list, byte for byte as it was signed, with an entity tag.

    Roles: any but `approver`; nobody needs a token where `open_to_all` names `bans`.

    Problems: 401, 403, 404 no such list, or 503 when it cannot be read.
    """
    context = context_of(request)
    principal_of(request, "reader", "router", "publisher", "banner", "operator", open_as="bans")
    name, signature = request.path_params["name"], request.path_params["name"].endswith(".sig")
    path = context.settings.ban_lists.get(name.removesuffix(".sig"))
    if path is None:
        raise not_found()
    data = await working(lambda: _read(path + ".sig" if signature else path))
    # Who has the list asks for it alone, so its tag changes with its signatures as well.
    beside = b"" if signature else await working(lambda: _read(path + ".sig") if os.path.exists(path + ".sig") else b"")
    return tagged(request, Response(data, media_type="application/json"), beside)


@endpoint
async def put_ban_list(request: Request) -> Response:
    """PUT /api/v1/ban-lists/{name}: {"list", "signatures"}, both in base64; taken only when it follows the one here.

    Roles: `banner`.

    Problems: 400 a malformed body, 401, 403, 404 no such list, or 409 when the list is not taken.
    """
    context, principal = context_of(request), principal_of(request, "banner")
    path = context.settings.ban_lists.get(request.path_params["name"])
    if path is None:
        raise not_found()
    body = await json_of(request)
    document, signatures = decoded(body, "list"), decoded(body, "signatures")
    version = await working(lambda: _replace(context, path, document, signatures))
    return CanonicalJSON({"name": request.path_params["name"], "version": version, "by": principal.name})


def _replace(context: Context, path: str, document: bytes, signatures: bytes) -> int:
    """Put a new list in the place of the one served, when a verifier with the Hall's policy would take it.

    Args:
        context: the service.
        path: of the list served.
        document: the new list.
        signatures: over it.

    Returns:
        Its version.

    Raises:
        Problem: 409, nobody may sign lists here, the signatures are not good, or the list does not follow the
            one served.
        StateError: the list cannot be written.
    """
    conditions = [] if context.trust is None else context.trust.conditions
    trusted = [one for one in conditions if isinstance(one, BansCondition) and one.signers is not None]
    if not trusted:
        raise Problem(409, "no-ban-signers", "the trust policy names nobody who may sign ban lists")
    verifier = trusted[0].verifier_at(now=time.time())
    try:
        said = verifier.signed("the list", signatures)
        new = BanList.from_bytes(document, what="the list").head
        verifier.check_fresh("the list", new)
    except (BansUnusable, ConfigError, VerificationError) as problem:
        raise Problem(409, "refused", str(problem)[:300]) from None
    if said.list_sha256 != sha256(document).hexdigest() or said.head != new:
        raise Problem(409, "refused", "the signatures are over another list than this one")
    with _replacing:
        if os.path.exists(path):
            old = BanList.from_bytes(_read(path)).head
            if old.name != new.name or old.version >= new.version:
                raise Problem(
                    409,
                    "not-newer",
                    f"version {old.version} of {old.name} is served here; send a later version of that list",
                )
        # The list comes last: if the service is killed in between, the same list is still newer and can be put again.
        try:
            with pending_file(path + ".sig", signatures) as first, pending_file(path, document) as last:
                last.settle()
                first.put()
                last.put()
        except ConfigError as problem:
            raise StateError(str(problem)) from None
    return new.version


@endpoint
async def ban_list(request: Request) -> Response:
    """GET /api/v1/ban-list[?counted=true]: every row of the lists that this Hall serves; counted, with their number.

    Roles: any but `approver`; nobody needs a token where `open_to_all` names `bans`.

    Problems: 401, 403, 422 too many bans for one page without `counted`, or 503 when a list cannot be read.
    """
    context = context_of(request)
    principal_of(request, "reader", "router", "publisher", "banner", "operator", open_as="bans")
    served = await working(lambda: _served(context))
    if request.query_params.get("counted") == "true":
        return Response(served.counted, media_type="application/json")
    # The earlier clients read a bare array, of one page. One that is cut off would say that what is missing is good.
    limit = request.query_params.get("limit", "500")
    if not limit.isdecimal() or len(limit) > 6 or len(served.hashes) > int(limit):
        raise Problem(
            422, "too-long", f"there are {len(served.hashes)} bans, more than one page; ask with ?counted=true"
        )
    return Response(served.bare, media_type="application/json")


@dataclass(frozen=True, slots=True)
class ServedBans:
    """The bans of packages and files that this Hall serves.

    Attributes:
        hashes: SHA-256 of each, in their order.
        bare: a JSON array of all.
        counted: a JSON object with all and their number.
    """

    hashes: tuple[str, ...]
    bare: bytes
    counted: bytes


def _served(context: Context) -> ServedBans:
    """Return the bans of the lists as they lie there now. A list of 100,000 is read in seconds, so it is read once.

    Raises:
        Problem: 503, a list cannot be read.
    """
    stamps = []
    for path in context.settings.ban_lists.values():
        try:
            found = os.stat(path)
        except OSError:
            raise _unreadable() from None
        stamps.append((path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    with _reading:
        return _read_all(tuple(stamps))


@functools.lru_cache(maxsize=1)
def _read_all(stamps: tuple[tuple[str, int, int, int, int], ...]) -> ServedBans:
    rows: list[dict[str, Any]] = []
    for path, *_ in stamps:
        try:
            found = BanList.from_bytes(_read(path))
        except (ConfigError, VerificationError) as problem:  # an empty list must never come of an error
            raise Problem(
                503, "list-unreadable", f"a ban list cannot be read: {problem}", {"retry-after": "30"}
            ) from None
        rows += [
            {
                "sha256": ban.subject.removeprefix(_DIGEST),  # the clients know plain hex digits only
                "reason": ban.reason,
                "reported_at": ban.banned_at,
                "source": ban.source,
                "review_status": "confirmed",
            }
            for ban in found.bans
            if ban.kind in DIGEST_KINDS and ban.subject.startswith(_DIGEST)
        ]
    counted = {"entries": rows, "total": len(rows), "has_more": False}
    hashes = tuple(str(row["sha256"]) for row in rows)
    return ServedBans(hashes, bytes(CanonicalJSON(rows).body), bytes(CanonicalJSON(counted).body))


def _read(path: str) -> bytes:
    """Return the bytes of a list or of its signatures.

    Raises:
        Problem: 503, the file cannot be read.
    """
    try:
        return read_bounded(path, limit=MAX_LIST_BYTES, what="the ban list", follow=True)
    except (ConfigError, MachineError) as problem:
        _log.error("%s", problem)
        raise _unreadable() from None


def _unreadable() -> Problem:
    return Problem(503, "list-unreadable", "the ban list cannot be read", {"retry-after": "30"})


@endpoint
async def report(request: Request) -> Response:
    """POST /api/v1/ban-list/report: kept until the ban authority looks at it; never a ban by itself.

    Roles: any but `approver`.

    Problems: 400 a malformed body, 401, 403, or 429 when too many reports wait.
    """
    context, principal = (
        context_of(request),
        principal_of(request, "reader", "router", "publisher", "banner", "operator"),
    )
    body = await json_of(request)
    digest, reason, url = body.get("sha256"), body.get("reason"), body.get("evidence_url", "")
    if not isinstance(digest, str) or not SHA256.match(digest.lower()) or not isinstance(reason, str):
        raise Problem(400, "malformed", "give `sha256` (64 hex digits) and a `reason`")
    if not 0 < len(reason) <= MAX_REASON or not isinstance(url, str) or len(url) > MAX_REASON:
        raise Problem(400, "malformed", f"give a `reason` and an `evidence_url` of at most {MAX_REASON} characters")
    try:
        kept = await working(
            lambda: context.reports.report(digest.lower(), reason, by=principal.name, via="token", evidence_url=url)
        )
    except Problem as problem:
        if problem.status == 409:
            raise Problem(429, "busy", problem.detail, {"retry-after": "3600"}) from None
        raise
    return CanonicalJSON({"sha256": kept.sha256, "review_status": kept.status}, 202)


@endpoint
async def reports(request: Request) -> Response:
    """GET /api/v1/ban-list/reports: for the ban authority.

    Roles: `banner`, `operator`.

    Problems: 401, 403, or 503 when the state cannot be used.
    """
    context = context_of(request)
    principal_of(request, "banner", "operator")
    rows = await working(lambda: shown_reports(context))
    return CanonicalJSON({"reports": rows, "count": len(rows)})


def shown_reports(context: Context) -> list[dict[str, Any]]:
    """Return the reports, oldest first, and whether a list that this Hall serves bans the package by now.

    Args:
        context: the service.

    Raises:
        Problem: 503, a list cannot be read.
        StateError: the ledger cannot be read.
    """
    listed = frozenset(_served(context).hashes) if context.settings.ban_lists else frozenset()
    return [
        {
            "sha256": one.sha256,
            "reason": one.reason,
            "reported_by": one.by,
            "reported_at_ms": one.at_ms,
            "evidence_url": one.evidence_url,
            "review_status": one.status,
            "reviewed_by": one.reviewed_by,
            "review": one.review,
            "listed": one.sha256 in listed,
        }
        for one in context.reports.all()
    ]


def review_report(context: Context, by: str, digest: str, decision: object, reason: str) -> BanReport:
    """Confirm or dismiss a report in somebody's name.

    Args:
        context: the service.
        by: who decides.
        digest: of the package, 64 hex digits.
        decision: `confirm` or `dismiss`.
        reason: one line, for the receipt.

    Returns:
        The report afterwards.

    Raises:
        Problem: 400, there is no such decision, or the reason is too long.
        ReportRefused: nobody has reported it, or somebody has looked at it already.
    """
    if decision not in _REVIEWS:
        raise Problem(400, "malformed", f"`decision` must be one of {', '.join(map(str, _REVIEWS))}")
    if len(reason) > MAX_REASON:
        raise Problem(400, "malformed", f"`reason` may have at most {MAX_REASON} characters")
    if not SHA256.match(digest):
        raise ReportRefused("nobody has reported that package")
    return context.reports.review(digest, _REVIEWS[decision], by=by, via="token", reason=reason)


@endpoint
async def review(request: Request) -> Response:
    """POST /api/v1/ban-list/reports/{sha256}: {"decision": "confirm" | "dismiss", "reason"}, by the ban authority.

    Roles: `banner`, a person.

    Problems: 400 a malformed body, 401, 403, or 409 when it was reviewed already or nobody reported it.
    """
    context, principal = context_of(request), principal_of(request, "banner")
    if principal.agent:
        raise Problem(403, "not-a-person", "only a person reviews a report")
    body, digest = await json_of(request), request.path_params["sha256"]
    decision, reason = body.get("decision"), body.get("reason", "")
    if not isinstance(decision, str) or not isinstance(reason, str):
        raise Problem(400, "malformed", "give `decision` and a `reason`")
    kept = await working(lambda: review_report(context, principal.name, digest, decision, reason))
    answer = {"sha256": kept.sha256, "review_status": kept.status}
    if kept.status == "confirmed":
        reason = shlex.quote(kept.reason)  # the key that signs the list never comes here
        answer["next"] = f"wcp-attest ban add LIST --package sha256:{kept.sha256} --reason {reason} --key KEY"
    return CanonicalJSON(answer)


ROUTES: Final = [
    Route("/api/v1/ban-list", ban_list),
    Route("/api/v1/ban-list/report", report, methods=["POST"]),
    Route("/api/v1/ban-list/reports", reports),
    Route("/api/v1/ban-list/reports/{sha256}", review, methods=["POST"]),
    Route("/api/v1/ban-lists/{name}", ban_list_file, methods=["GET"]),
    Route("/api/v1/ban-lists/{name}", put_ban_list, methods=["PUT"]),
]
