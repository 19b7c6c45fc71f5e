"""What operators call: enrolment, quarantine, receipts. Every change is a receipt with the operator's name in it."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from wcp_route.domain.clock import now_ms
from wcp_route.domain.record_model import read_record
from wcp_route.service.context import CanonicalJSON, context_of, endpoint, json_of, principal_of, tagged, working
from wcp_route.service.problems import Problem, not_found
from wcp_route.storage.receipts import read
from wcp_route.storage.registry import MAX_REASON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from starlette.requests import Request

    from wcp_route.service.context import Context
    from wcp_route.storage.receipts.receipt import Receipt

MAX_SHOWN: Final = 200
FILTERS: Final = ("worker", "tenant", "outcome", "code", "kind")
TIMES: Final = ("since", "until")


@endpoint
async def enroll(request: Request) -> Response:
    """PUT /admin/workers/{id}: a record with its `package_root`.

    Roles: `operator`.

    Problems: 400 a malformed record, 401, 403, or 409 when the worker is enrolled and `replace` was not asked for.
    """
    context, principal = context_of(request), principal_of(request, "operator")
    body, name = await json_of(request), request.path_params["worker_id"]
    root = body.pop("package_root", None)
    if body.get("worker_id") != name or not isinstance(root, str) or not root.startswith("/"):
        raise Problem(400, "malformed", "give the record of this worker, with an absolute `package_root`")

    again = request.query_params.get("replace") == "true"
    await working(
        lambda: context.state.registry.enroll(
            replace(read_record(json.dumps(body).encode()), package_root=root), replace=again,
            by=principal.name, via="token", at_ms=now_ms(),
        )
    )  # fmt: skip
    return CanonicalJSON({"worker_id": name, "enrolled": True}, 201)


@endpoint
async def withdraw(request: Request) -> Response:
    """DELETE /admin/workers/{id}.

    Roles: `operator`.

    Problems: 401, 403, or 404 no such worker.
    """
    context, principal = context_of(request), principal_of(request, "operator")
    name = request.path_params["worker_id"]
    if not await working(lambda: context.state.registry.withdraw(name, by=principal.name, via="token", at_ms=now_ms())):
        raise not_found()
    return Response(status_code=204)


@endpoint
async def quarantine(request: Request) -> Response:
    """PUT /admin/quarantine/{id}: {"reason"}.

    Roles: `operator`.

    Problems: 400 no reason, 401 or 403.
    """
    context, principal = context_of(request), principal_of(request, "operator")
    body, name = await json_of(request), request.path_params["worker_id"]
    reason = body.get("reason")
    if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON:
        raise Problem(400, "malformed", f"give a `reason` of 1 to {MAX_REASON} characters")
    await working(
        lambda: context.state.registry.quarantine(name, reason, by=principal.name, at_ms=now_ms(), via="token")
    )
    return CanonicalJSON({"worker_id": name, "quarantined": True})


@endpoint
async def quarantined(request: Request) -> Response:
    """GET /admin/quarantine: which workers are in quarantine and why, with an entity tag for those who poll.

    Roles: `reader`, `approver`, `operator`.

    Problems: 401, 403, or 503 when the state cannot be used.
    """
    context = context_of(request)
    principal_of(request, "reader", "approver", "operator")
    found = (await working(context.state.registry.snapshot)).quarantined
    rows = [{"worker_id": one.worker_id, "reason": one.reason, "by": one.by, "since_ms": one.at_ms}
            for _, one in sorted(found.items())]  # fmt: skip
    return tagged(request, CanonicalJSON({"quarantined": rows, "count": len(rows)}))


@endpoint
async def clear(request: Request) -> Response:
    """DELETE /admin/quarantine/{id}?reason=…: the reason goes into the receipt.

    Roles: `operator`.

    Problems: 400 a reason that is too long, 401, 403, or 404 not in quarantine.
    """
    context, principal = context_of(request), principal_of(request, "operator")
    name, reason = request.path_params["worker_id"], request.query_params.get("reason", "")
    if len(reason) > MAX_REASON:
        raise Problem(400, "malformed", f"`reason` may have at most {MAX_REASON} characters")

    registry = context.state.registry
    if not await working(lambda: registry.clear(name, by=principal.name, at_ms=now_ms(), via="token", reason=reason)):
        raise not_found()
    return Response(status_code=204)


def last_receipts(context: Context, filters: dict[str, str], limit: int) -> list[dict[str, Any]]:
    """Return the newest receipts that fit, newest first.

    Args:
        context: the service.
        filters: by name: worker, tenant, outcome, code, kind, since, until.
        limit: how many at most.

    Raises:
        Problem: 400, a filter is unknown, or a time cannot be read.
        StateError: the ledger cannot be read.
    """
    unknown = filters.keys() - {*FILTERS, *TIMES, "limit"}
    if unknown:
        known = ", ".join((*FILTERS, *TIMES))
        raise Problem(400, "malformed", f"unknown filter {min(unknown)[:40]!r}; known are {known}")
    worker, tenant, outcome, code, kind = (filters.get(name) for name in FILTERS)
    since, until = (_moment(filters.get(name)) for name in TIMES)
    found = read.last(
        context.address, limit, worker=worker, tenant=tenant, outcome=outcome, code=code, kind=kind,
        since_ms=since, until_ms=until,
    )  # fmt: skip
    return [shown_receipt(receipt) for receipt in found]


def _moment(text: str | None) -> int | None:
    """Return the milliseconds of a time of RFC 3339; without an offset it is UTC.

    Raises:
        Problem: 400.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Problem(400, "malformed", "give times like 2026-01-31 or 2026-01-31T08:00:00Z") from None


def shown_receipt(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as JSON.

    Args:
        receipt: from the ledger; its body is what was hashed.
    """
    return {"seq": receipt.seq, "stream": receipt.stream, "receipt": json.loads(receipt.body)}


@endpoint
async def receipts(request: Request) -> Response:
    """GET /receipts?worker=…&tenant=…&outcome=…&code=…&limit=…: newest first, with an entity tag for polling.

    Roles: `reader`, `operator`.

    Problems: 400 an unknown filter, 401, 403, or 503 when the ledger cannot be read.
    """
    context = context_of(request)
    principal_of(request, "reader", "operator")
    text = request.query_params.get("limit", "50")
    if not text.isdecimal() or len(text) > len(str(MAX_SHOWN)) or not 1 <= int(text) <= MAX_SHOWN:
        raise Problem(400, "malformed", f"`limit` must be 1 to {MAX_SHOWN}")
    filters = dict(request.query_params)
    rows = await working(lambda: last_receipts(context, filters, int(text)))
    return tagged(request, CanonicalJSON({"receipts": rows, "count": len(rows)}))


@endpoint
async def receipt(request: Request) -> Response:
    """GET /receipts/{id}: by decision id.

    Roles: `reader`, `operator`.

    Problems: 401, 403, 404 no such receipt, or 503.
    """
    context = context_of(request)
    principal_of(request, "reader", "operator")
    found = await working(lambda: read.find(context.address, request.path_params["decision_id"]))
    if not found:
        raise not_found()
    return CanonicalJSON({"receipts": [shown_receipt(one) for one in found]})


@endpoint
async def proof(request: Request) -> Response:
    """GET /receipts/{id}/proof: the receipt's bytes and the signed batch that lists their SHA-256 (DSSE).

    Roles: `reader`, `operator`.

    Problems: 401, 403, 404 no such decision, 409 the Hall has no receipt key, or 503.
    """
    context, name = context_of(request), request.path_params["decision_id"]
    principal_of(request, "reader", "operator")
    _check_signed(context)
    about = await working(lambda: read.find(context.address, name))
    found = [one for one in about if one.to_dict().get("decision_id") == name]
    if not found:
        raise not_found()
    batch = json.loads(await working(lambda: read.proof(context.address, found[0])))
    return CanonicalJSON({"body": base64.b64encode(found[0].body).decode(), "batch": batch})


def _check_signed(context: Context) -> None:
    """Check that there can be a signed batch.

    Raises:
        Problem: 409.
    """
    if not context.state.ledger.signed:
        raise Problem(409, "not-signed", "this Hall has no receipt key, so nobody signs its receipts")


@endpoint
async def head(request: Request) -> Response:
    """GET /receipts/head: keep it elsewhere; a restored older database is refused with it.

    Roles: `reader`, `operator`.

    Problems: 401, 403, 409 the Hall has no receipt key, or 503 when the ledger cannot be read.
    """
    context = context_of(request)
    principal_of(request, "reader", "operator")
    _check_signed(context)
    return Response(await working(lambda: read.head(context.address)), media_type="application/json")


@endpoint
async def export(request: Request) -> Response:
    """GET /receipts/export: JSON Lines that `wcp-route receipts verify` checks.

    Roles: `reader`, `operator`.

    Problems: 401, 403, or 503 when the ledger cannot be read.
    """
    context = context_of(request)
    principal_of(request, "reader", "operator")

    def spool() -> BinaryIO:
        import tempfile

        with contextlib.ExitStack() as stack:  # read in one transaction, however slowly the client takes it
            file = stack.enter_context(tempfile.TemporaryFile())
            read.export(context.address, file.write)
            file.seek(0)
            stack.pop_all()
        return file

    file = await working(spool)  # before the answer begins, so that what is wrong is a problem and no cut answer

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(1 << 16):
                yield block

    return StreamingResponse(blocks(), media_type="application/jsonl")


ROUTES: Final = [
    Route("/admin/workers/{worker_id}", enroll, methods=["PUT"]),
    Route("/admin/workers/{worker_id}", withdraw, methods=["DELETE"]),
    Route("/admin/quarantine", quarantined),
    Route("/admin/quarantine/{worker_id}", quarantine, methods=["PUT"]),
    Route("/admin/quarantine/{worker_id}", clear, methods=["DELETE"]),
    Route("/receipts", receipts),
    Route("/receipts/head", head),
    Route("/receipts/export", export),
    Route("/receipts/{decision_id}", receipt),
    Route("/receipts/{decision_id}/proof", proof),
]
