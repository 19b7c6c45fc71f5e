"""HTTP with bounds: of time, of size, and of where it goes.

One request has one deadline for name resolution, connection, TLS, headers, body and retries together. It runs in a
thread of its own, and at the deadline its socket is shut down. Headers and bodies are bounded, and nothing is
decompressed. Redirects are followed only within the origin. Proxies of the environment are not used. A request is tried
again after a failed connection or a 5xx status, if repeating it changes nothing, and after a 429 at the time that the
server names.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from wcp_attest import __version__
from wcp_attest.base.errors import ConfigError, MachineError
from wcp_attest.base.url_origin import UrlOrigin, same_origin
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.net.authorities import tls_context
from wcp_attest.net.https_errors import RegistryAnswerError, RegistryError, RegistryRateLimitError, RegistryUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TIMEOUT: Final = 10.0  # seconds for one request with its retries and redirects
CONNECT_TIMEOUT: Final = 5.0
MAX_ATTEMPTS: Final = 3
MAX_REDIRECTS: Final = 3
FIRST_PAUSE: Final = 0.2  # seconds before the second attempt, doubled before the third
MAX_HEADER_BYTES: Final = 64 << 10  # of all headers of an answer together
_BLOCK: Final = 1 << 16
_REPEATABLE: Final = frozenset({"GET", "PUT"})
_OUR_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})  # nothing about the server
_NETWORK_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_running = threading.local()


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        url: absolute, of the transport's origin.
        method: `GET`, `PUT`, `POST` or `DELETE`. Only `GET` and `PUT` are
            sent again after a failure, and only `GET` is redirected.
        headers: sent beside `User-Agent` and `Accept-Encoding`.
        body: the bytes to send with `PUT` and `POST`, or None.
        max_bytes: the largest body of an answer, in bytes.
        types: media types that a body may have, in lower case and without parameters; any `…+json` passes, too. Empty
            for any.
        refusals: statuses from 400 to 499 whose answers the caller reads; every other one is an error.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    max_bytes: int = 8 << 20
    types: frozenset[str] = frozenset()
    refusals: frozenset[int] = frozenset()

    def allows(self, kind: str) -> bool:
        """Tell whether an answer may be of a media type.

        Args:
            kind: the type, in lower case and without parameters.
        """
        return not self.types or kind in self.types or kind.endswith("+json")


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One complete answer: 2xx, 304, 404, or a refusal that the caller reads.

    Attributes:
        status: HTTP status: 200, 201, 202, 204, 304, 404, or one of the request's `refusals`.
        headers: with lower-case names; of repeated ones the values joined by `, `.
        body: as received.
        url: that answered, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Transport:
    """Requests to one origin. Safe to use from several threads; connections are kept and shared.

    Args:
        url: any URL of the origin.
        timeout: seconds for one request with its retries and redirects.
        ca_file: PEM certificates to trust instead of those of the environment and the system (`net.authorities`).

    Attributes:
        encrypted: whether requests travel by https.

    Raises:
        ConfigError: the URL or the timeout cannot be used, or the certificates cannot be read.
    """

    def __init__(self, url: str, *, timeout: float = DEFAULT_TIMEOUT, ca_file: str | None = None) -> None:
        if not 0 < timeout <= 600:
            raise ConfigError("the timeout must be more than 0 and at most 600 seconds")
        self._origin, self._timeout = UrlOrigin.of(url), timeout
        self.encrypted = self._origin.scheme == "https"
        place = (self._origin.host, self._origin.port)
        self._pool: urllib3.HTTPConnectionPool
        if self.encrypted:
            self._pool = urllib3.HTTPSConnectionPool(*place, maxsize=4, ssl_context=tls_context(ca_file))
            self._pool.ConnectionCls = _WatchedTls
        else:
            self._pool = urllib3.HTTPConnectionPool(*place, maxsize=4)
            self._pool.ConnectionCls = _WatchedConnection

    def request(self, request: Request, *, until: float | None = None) -> HttpReply:
        """Send a request and return the complete answer.

        Args:
            request: the request.
            until: a deadline that several requests share, in seconds of `time.monotonic`. The timeout holds as well.

        Returns:
            The answer, with status 200, 201, 202, 204, 304 or 404, and of a media type that the request allows.

        Raises:
            RegistryUnreachable: no complete answer came in time.
            RegistryRateLimitError: the server is busy for longer than the deadline.
            MachineError: this machine has no descriptors or memory left to ask.
            RegistryAnswerError: the answer cannot be used: another status, a redirect to another origin, too many
                bytes, compressed, or of another media type.
        """
        deadline = time.monotonic() + self._timeout
        deadline = deadline if until is None else min(deadline, until)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._follow(request, deadline)
            except RegistryUnreachable as problem:
                # A busy server did nothing yet. After any other failure, only what changes nothing is sent again.
                busy = isinstance(problem, RegistryRateLimitError)
                pause: float | None = getattr(problem, "retry_after", None)
                if pause is None and not busy:
                    pause = FIRST_PAUSE * 2 ** (attempt - 1)
                if attempt == MAX_ATTEMPTS or not (busy or request.method in _REPEATABLE):
                    raise
                if pause is None or time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
        raise RegistryUnreachable(f"{self._origin} gave no answer")

    def close(self) -> None:
        """Close the connections that were kept for further requests."""
        self._pool.close()

    def _follow(self, request: Request, deadline: float) -> HttpReply:
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._send(request, url, deadline)
            if reply.status not in {301, 302, 303, 307, 308}:
                return _usable(reply, request)
            location = reply.headers.get("location", "")
            target = same_origin(url, location)
            if target is None or request.method != "GET":
                raise RegistryAnswerError(f"{self._origin} redirects to {location[:120]!r}, which is not followed")
            url = target
        raise RegistryAnswerError(f"{self._origin} redirects more than {MAX_REDIRECTS} times")

    def _send(self, request: Request, url: str, deadline: float) -> HttpReply:
        """Run one exchange in a thread, so that nothing it waits for outlives the deadline."""
        late = RegistryUnreachable(f"{self._origin} gave no complete answer in time ({self._timeout:g} s a request)")
        left = deadline - time.monotonic()
        if left <= 0:
            raise late
        call = _HttpCall(self._pool, request, url, deadline)
        call.start()
        call.join(left)
        if call.is_alive():
            call.abort()
            raise late
        problem = call.problem
        cause: BaseException | None = problem
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _OUR_FAULT:
                raise MachineError(f"cannot ask {self._origin}: {describe_os_error(cause)}; nothing was decided")
            cause = cause.__cause__ or cause.__context__
        if isinstance(problem, _NETWORK_ERRORS):
            raise RegistryUnreachable(f"{self._origin} cannot be reached: {_in_words(problem)}")
        if problem is not None:
            raise problem
        if call.reply is None:
            raise RegistryUnreachable(f"{self._origin} gave no answer")
        return call.reply


class _HttpCall(threading.Thread):
    """One exchange. A daemon: an abandoned one must not keep the program from ending."""

    def __init__(self, pool: urllib3.HTTPConnectionPool, request: Request, url: str, deadline: float) -> None:
        super().__init__(daemon=True, name="wcp-attest request")
        self._pool, self._request, self._url, self._deadline = pool, request, url, deadline
        self.connection: HTTPConnection | None = None
        self.reply: HttpReply | None = None
        self.problem: Exception | None = None

    def run(self) -> None:
        """Exchange; keep the answer or the problem."""
        _running.call = self
        try:
            self.reply = self._exchange()
        except (RegistryError, ValueError, MemoryError, *_NETWORK_ERRORS) as problem:
            self.problem = problem

    def abort(self) -> None:
        """Shut the socket down, below TLS, so that every call that waits on it returns."""
        sock = getattr(self.connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _exchange(self) -> HttpReply:
        request, parts = self._request, urlsplit(self._url)
        limit, left = request.max_bytes, max(0.05, self._deadline - time.monotonic())
        response = self._pool.urlopen(
            request.method,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body=request.body,
            headers={"User-Agent": f"wcp-attest/{__version__}", "Accept-Encoding": "identity", **request.headers},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, left), read=left),
        )
        try:
            # 1  The headers: bounded, and no compression, which could make much of little.
            names = {name.lower() for name in response.headers}
            found = {name: ", ".join(response.headers.getlist(name)) for name in names}
            if sum(map(len, found)) + sum(map(len, found.values())) > MAX_HEADER_BYTES:
                raise RegistryAnswerError(f"{self._url} answers with more than {MAX_HEADER_BYTES} bytes of headers")
            if found.get("content-encoding", "identity").strip().lower() != "identity":
                raise RegistryAnswerError(f"{self._url} answers compressed although asked not to")
            # 2  The body: refused by its stated length where there is one, else as soon as it is too long.
            length = found.get("content-length", "0")
            if not (length.isascii() and length.isdecimal()):
                raise RegistryAnswerError(f"{self._url} answers with the malformed length {length[:40]!r}")
            too_long = int(length[:20]) > limit
            body = bytearray()
            while not too_long and (block := response.read1(_BLOCK, decode_content=False)):
                body += block
                too_long = len(body) > limit
                if time.monotonic() > self._deadline:
                    raise TimeoutError("the body is too slow")
            if too_long:
                raise RegistryAnswerError(f"{self._url} answers with more than {limit} bytes")
            response.release_conn()
            return HttpReply(response.status, found, bytes(body), self._url)
        finally:
            response.close()


class _WatchedConnection(HTTPConnection):
    """A connection that its call can shut down."""

    def connect(self) -> None:
        _running.call.connection = self
        super().connect()

    def request(self, *args: object, **options: object) -> None:
        _running.call.connection = self
        super().request(*args, **options)  # type: ignore[arg-type]


class _WatchedTls(_WatchedConnection, HTTPSConnection):
    """The same with TLS: `super()` above leads to `HTTPSConnection`."""


def _in_words(problem: Exception) -> str:
    """Say on one line what went wrong in the network, in the words of the innermost cause."""
    # urllib3 wraps the cause, and the cause says more.
    while isinstance(problem, urllib3.exceptions.ProtocolError) and isinstance(problem.args[-1], Exception):
        problem = problem.args[-1]
    said = str(problem)
    if isinstance(problem, urllib3.exceptions.PoolError | urllib3.exceptions.NewConnectionError):
        said = said.partition("): ")[2] or said  # without the name of our class of connections
    elif isinstance(problem, http.client.HTTPException):
        said = f"{type(problem).__name__} {said}"  # the text may be a line of the server and nothing else
    said = "".join(each if each.isprintable() else " " for each in said[:300])
    return " ".join(said.split()) or type(problem).__name__


def _usable(reply: HttpReply, request: Request) -> HttpReply:
    """Return an answer that a caller can read; raise for all others."""
    status, place = reply.status, f"{request.method} {reply.url}"
    if status == 429 or status >= 500:
        wait = _retry_after(reply)
        if status >= 500:
            raise _Failing(f"{place}: the server fails with status {status}", wait)
        when = "later" if wait is None else f"in {wait:.0f} s"
        raise RegistryRateLimitError(f"{place}: too many requests; ask again {when}", wait)
    if status in request.refusals:
        return reply
    if status not in {200, 201, 202, 204, 304, 404}:
        hint = "; is the token right?" if status in {401, 403} else ""
        raise RegistryAnswerError(f"{place}: refused with status {status}{hint}", status)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if reply.body and status < 204 and not request.allows(kind):
        raise RegistryAnswerError(f"{place}: the answer is of type {kind[:80]!r}, not {min(request.types)}")
    return reply


def _retry_after(reply: HttpReply) -> float | None:
    """Return how many seconds a server asks to wait (RFC 9110, section 10.2.3), or None."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):  # no date either
        return None


class _Failing(RegistryUnreachable):
    """A 5xx answer, with the time that the server asks to wait."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
