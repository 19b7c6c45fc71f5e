"""The HTTP front: one ephemeral port of 127.0.0.1 for all services."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature

from tests.loopback_sigstore.faults import ANSWERS, Answer, Fault, Service

# What the largest request of the tests needs, a statement in a Rekor v1 entry, many times over.
MAX_BODY: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What a service needs of an HTTP request; header names are in lower case."""

    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that a service turns down.

    Args:
        status: the HTTP status.
        message: the reason, sent in the shape of a gRPC gateway as Fulcio and Rekor do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path of one service."""

    service: Service
    method: str
    path: str
    handler: Handler


def json_response(document: Mapping[str, object], status: int = 200) -> Response:
    """Answer with a JSON object."""
    return Response(status, json.dumps(document).encode())


class LoopbackServer:
    """Serves the routes given to it, and misbehaves as `faults` says at the time of a request.

    Args:
        faults: how it misbehaves.
        certificate: path of a server's key and certificate, to speak https.

    Attributes:
        base: the URL without a path, `http://127.0.0.1:<port>`.
        requests: every request seen so far, as `METHOD /path`.
    """

    def __init__(self, faults: set[Fault], certificate: str | None = None) -> None:
        self._faults = faults
        self._routes: dict[tuple[str, str], Route] = {}
        self._stopped = threading.Event()
        self._http = _QuietServer(("127.0.0.1", 0), _handler_class(self))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.base = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self.requests: list[str] = []

    def add(self, routes: list[Route]) -> None:
        """Serve these routes too."""
        self._routes.update({(route.method, route.path): route for route in routes})

    def __enter__(self) -> Self:
        # The default poll interval of half a second would be most of the time that the tests take.
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response | None:
        """Answer one request; `None` closes the connection without an answer."""
        url = urlsplit(target)
        path = "/" + url.path.lstrip("/")
        self.requests.append(f"{method} {path}")
        route = self._routes.get((method, path))
        if route is None:
            return json_response({"code": 5, "message": f"no such path: {path}"}, 404)
        fault = next((ANSWERS[f] for f in self._faults if f in ANSWERS and ANSWERS[f].service is route.service), None)
        if fault is not None:
            return self._misbehave(fault)
        try:
            return route.handler(Request(dict(parse_qsl(url.query)), headers, body))
        except Refusal as refusal:
            return json_response({"code": 3, "message": str(refusal)}, refusal.status)
        except (KeyError, ValueError, InvalidSignature) as malformed:
            return json_response({"code": 3, "message": f"malformed request: {malformed!r}"}, 400)

    def _misbehave(self, fault: Answer) -> Response | None:
        if fault.status is None:
            self._stopped.wait()
        return Response(fault.status, fault.body.encode(), fault.content_type) if fault.status else None


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away, as those under a deadline do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler_class(server: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An idle connection that a client keeps open must not outlive the test.
        timeout = 60

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            """Keep the test output quiet."""

        def _serve(self) -> None:
            size = min(int(self.headers.get("content-length") or 0), MAX_BODY)
            headers = {name.lower(): value for name, value in self.headers.items()}
            response = server.answer(self.command, self.path, headers, self.rfile.read(size))
            if response is None:
                self.close_connection = True
                return
            self.send_response(response.status)
            self.send_header("content-type", response.content_type)
            self.send_header("content-length", str(len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_POST = _serve  # noqa: N815  # the names are http.server's

    return Handler
