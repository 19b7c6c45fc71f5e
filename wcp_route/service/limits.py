"""Limits of a request before any handler sees it: host, headers, body, time, a place in the queue.

This is plain ASGI middleware. It reads the body itself, so that no handler ever sees one that is too large or too slow.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Final

from wcp_route.domain.ids import new_id
from wcp_route.service.problems import MAX_BODY, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wcp_route.service.settings import ServiceModel

MAX_BODY_UNKNOWN: Final = 16 << 10  # until the caller is known
MAX_HEADERS: Final = 100
ALIVE: Final = "/healthz"
MAX_HEADER_BYTES: Final = 32 << 10
_log = logging.getLogger("wcp_route.service")
_POLICY: Final = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_SAFE: Final = (  # of every answer
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
_SAFE_PAGE: Final = (  # of what a browser shows
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CROSS_ORIGIN: Final = (  # no cookie is allowed, so a page needs a token of its own
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, x-wcp-grant, if-none-match"),
    (b"access-control-expose-headers", b"etag, retry-after, x-request-id"),
    (b"access-control-max-age", b"600"),
)


class Limits:
    """Bounds requests, and writes one line of log for each.

    Args:
        app: what is behind.
        service: the settings.
        known: tells from the headers whether the caller is authenticated.

    Attributes:
        hosts: the names that a request may have in `Host`, beside those of the settings.
        service: the settings; what is set later counts for the requests that begin then.
        draining: whether the service is stopping, so that nothing new is begun.
    """

    def __init__(self, app: ASGIApp, service: ServiceModel, known: object) -> None:
        self.app, self.service, self._known = app, service, known
        if service.listen.startswith("unix:"):
            self.hosts = {"localhost"}
        else:
            local = {"localhost", "127.0.0.1", "[::1]"} if service.is_local else set()
            self.hosts = {f"{name}:{service.address[1]}" for name in {service.host, *local}}
        self._places = asyncio.Semaphore(service.concurrent)
        self._waiting = 0
        self._lines: list[str] = []
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it (ASGI 3).

        Args:
            scope: of the request.
            receive: hands over its body.
            send: takes the answer.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, told = time.perf_counter(), 0, False
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        allowed = self._cross_origin(scope) if self.service.cors_origins else ()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = dict(message["headers"])
                more = _SAFE if present.get(b"content-type", b"").endswith(b"json") else _SAFE + _SAFE_PAGE
                message["headers"] = [  # a list of its own: that of the handler may be one for all answers
                    *message["headers"],
                    *(pair for pair in more if pair[0] not in present),
                    *allowed,
                    (b"x-request-id", _id_of_caller(scope) or request_id.encode()),
                ]
            await send(message)

        async def receiving() -> Message:
            """Hand over the body that was read, and afterwards what else the client sends."""
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            self._check_head(scope)
            # A browser asks before it sends (Fetch, CORS preflight); to a gateway such an answer would be a yes.
            if allowed and scope["method"] == "OPTIONS" and not _asks_for_a_gateway(scope):
                await sending({"type": "http.response.start", "status": 204, "headers": []})
                await sending({"type": "http.response.body", "body": b""})
                return
            body = await self._body(scope, receive)
            await self._take_turn(scope, receiving, sending)
        except Problem as problem:
            await problem.response()(scope, receive, sending)
        finally:
            fields = {
                "id": request_id,
                "principal": scope["state"].get("principal"),
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "outcome": scope["state"].get("outcome"),
                "code": scope["state"].get("code"),
                "ms": round((time.perf_counter() - started) * 1000, 3),
            }
            if not self._lines:  # the lines of one turn of the loop are written together
                asyncio.get_running_loop().call_soon(self._write_lines)
            self._lines.append(json.dumps(fields))  # JSON escapes what a caller sent

    def _cross_origin(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers that let a page of a named origin read the answer; none for any other."""
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(origins) != 1 or origins[0].decode("latin-1") not in self.service.cors_origins:
            return ()
        return ((b"access-control-allow-origin", origins[0]), (b"vary", b"origin"), *_CROSS_ORIGIN)

    def _write_lines(self) -> None:
        _log.info("%s", "\n".join(self._lines))
        self._lines.clear()

    async def _take_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.draining:
            raise Problem(503, "stopping", "the service is stopping; ask another one", {"retry-after": "1"})
        if scope["path"] == ALIVE:  # who is busy is alive, and must not be ended for it
            await self.app(scope, receive, send)
            return
        if self._places.locked() and self._waiting >= self.service.waiting:
            raise Problem(429, "busy", "too many requests are waiting; ask again later", {"retry-after": "1"})
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        working = True

        async def answering(message: Message) -> None:
            nonlocal working
            if working:  # a client that is slow to take its answer keeps nobody else from working
                working = False
                self._places.release()
            await send(message)

        try:
            await self.app(scope, receive, answering)
        finally:
            if working:
                self._places.release()

    def _check_head(self, scope: Scope) -> None:
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            raise Problem(431, "headers-too-large", f"send at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes")
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        known = len(hosts) == 1 and (hosts[0] in self.hosts or hosts[0] in self.service.hosts)
        if not known and (len(hosts) != 1 or not self._is_asked_about(scope)):
            raise Problem(
                421, "unknown-host", "the Host header names no host of this service; its settings name them in `hosts`"
            )
        lengths = [value for name, value in headers if name == b"content-length"]
        coded = any(name == b"transfer-encoding" for name, _ in headers)
        if len(lengths) > 1 or (lengths and coded):  # two servers could see two requests here (RFC 9112, 6.3)
            # The rest of what came may be a request that only one of them sees, so it is not read.
            close = {"connection": "close"}
            raise Problem(400, "ambiguous-length", "send one Content-Length, or chunks, not both", close)

    def _is_asked_about(self, scope: Scope) -> bool:
        """Tell whether a gateway asks about a request: then Host is that request's (Envoy sends it unchanged)."""
        return self.service.auth == "required" and _asks_for_a_gateway(scope)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = MAX_BODY if self._known(scope) else MAX_BODY_UNKNOWN  # type: ignore[operator]
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            raise Problem(413, "too-large", f"the body may have at most {limit} bytes")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.service.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "cut-short", "the request ended before its body did")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise Problem(413, "too-large", f"the body may have at most {limit} bytes")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Problem(408, "too-slow", f"the body must arrive within {self.service.body_seconds:g} s") from None


def _asks_for_a_gateway(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/ext-authz" or path.startswith("/ext-authz/")


def _id_of_caller(scope: Scope) -> bytes:
    """Return the id that a caller of the AuthZEN paths gave its request: every answer there must have the same one."""
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    usable = len(given) == 1 and 0 < len(given[0]) <= 128 and all(0x20 <= one <= 0x7E for one in given[0])
    return given[0] if usable and scope["path"].startswith("/access/v1/") else b""
