"""A real HTTP server on loopback that misbehaves on request.

    with BadServer() as server:
        server.route("/bans.json", cut(b"{}", declared=100), reply(b"{}"))
        client.get(server.url + "/bans.json")           # the first answer breaks off, all later ones are good

Each answer is a function of the request's handler, which owns the raw socket and may do with it what it likes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self, TypeAlias

from tests.bad_http.tls import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = [
    "BadServer",
    "Certificates",
    "Exchange",
    "cut",
    "drip",
    "drip_headers",
    "endless",
    "hang",
    "many_headers",
    "raw",
    "redirect",
    "reply",
    "reset",
    "silent_close",
]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    """Reads a request, then lets the route's next answer do what it does."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(self.command, self.path, headers, body)
        answer = self.server.owner.next_answer(exchange)
        with contextlib.suppress(OSError):
            answer(self, exchange)

    do_PUT = do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than the server lives; tell whether it still does."""
        return not self.server.owner.stopping.wait(seconds)


Answer: TypeAlias = "Callable[[Handler, Exchange], None]"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: BadServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: clients that hang up are what is being tested."""


@dataclass
class BadServer:
    """A server on 127.0.0.1; use it as a context manager.

    Attributes:
        certificates: for https; plain http when None.
        requests: every request that arrived.
    """

    certificates: Certificates | None = None
    requests: list[Exchange] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _routes: dict[str, list[Answer]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        if self.certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates.server)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{'http' if self.certificates is None else 'https'}://127.0.0.1:{self.port}"

    def route(self, path: str, *answers: Answer) -> None:
        """Answer a path: one answer a request, the last one for good. A path with a query goes before
        the same without, and one ending in `*` is a prefix."""
        with self._lock:
            self._routes[path] = list(answers)

    def next_answer(self, exchange: Exchange) -> Answer:
        with self._lock:
            self.requests.append(exchange)
            answers = self._answers(exchange.path)
            if not answers:
                return reply(b'{"error":"no such thing"}', 404)
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def _answers(self, path: str) -> list[Answer]:
        for exact in (path, path.partition("?")[0]):
            if exact in self._routes:
                return self._routes[exact]
        prefixes = (known for known in self._routes if known.endswith("*") and path.startswith(known[:-1]))
        return self._routes.get(next(prefixes, ""), [])


def reply(
    body: bytes = b"", status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer properly."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.send_response(status)
        if kind:
            handler.send_header("Content-Type", kind)
        if status not in {204, 304}:
            handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if status not in {204, 304}:
            handler.wfile.write(body)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    """Send the client elsewhere."""
    return reply(b"", status, headers={"Location": location})


def raw(data: bytes) -> Answer:
    """Send bytes that may be no HTTP at all, then close."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def silent_close() -> Answer:
    """Close without a word."""
    return raw(b"")


def reset() -> Answer:
    """Reset the connection."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.close_connection = True
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return answer


def cut(body: bytes, declared: int, kind: str = "application/json") -> Answer:
    """Promise `declared` bytes, send fewer, close."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {declared}\r\n\r\n"
    return raw(head.encode() + body)


def hang() -> Answer:
    """Accept the request and never answer."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.close_connection = True
        handler.wait(120)

    return answer


def drip(body: bytes, pause: float, kind: str = "application/json") -> Answer:
    """Send the body one byte at a time."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for at in range(len(body)):
            handler.wfile.write(body[at : at + 1])
            if not handler.wait(pause):
                return

    return answer


def drip_headers(pause: float) -> Answer:
    """Send headers one byte at a time, without end."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while handler.wait(pause):
            handler.wfile.write(b"x")

    return answer


def many_headers(count: int) -> Answer:
    """Send more headers than anybody needs."""
    lines = b"".join(b"X-%d: x\r\n" % number for number in range(count))
    return raw(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\n{}")


def endless(kind: str = "application/json") -> Answer:
    """Send a body without end, as fast as it is taken."""

    def answer(handler: Handler, exchange: Exchange) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while not handler.server.owner.stopping.is_set():
            handler.wfile.write(chunk)

    return answer
