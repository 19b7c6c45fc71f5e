"""A client of a worker registry: who is registered, which digests are banned, and what to tell it.

Questions and answers are those of the public registry and of Hall servers (`wcp_attest.trust.registry.answers`).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.url_origin import same_origin
from wcp_attest.disk.files import read_bounded
from wcp_attest.net.https import DEFAULT_TIMEOUT, HttpReply, Request, Transport
from wcp_attest.net.https_errors import RegistryAnswerError, RegistryIncompleteError
from wcp_attest.trust.registry.answers import (
    MAX_ANSWER_BYTES,
    AttestationResponse,
    BanEntry,
    Health,
    Page,
    Submission,
    VerifyResponse,
    check_digest,
    check_worker_id,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wcp_attest.base.strictjson import JsonObject

DEFAULT_URL: Final = "https://api.pyhall.dev"
URL_VARIABLE: Final = "PYHALL_REGISTRY_URL"
DEFAULT_TTL: Final = 60.0  # seconds that a positive answer is kept; a revocation takes at most that long to arrive
MAX_CACHED: Final = 10_000  # workers
PAGE: Final = 500  # rows asked for at a time, which is what the public registry gives at most
LIST_TIMEOUT: Final = 60.0  # seconds for all pages of a ban list together
MAX_PAGES: Final = 2_000
MAX_ROWS: Final = 100_000  # of all pages together; larger lists are signed lists (docs/bans.md)
MAX_LIST_BYTES: Final = 64 << 20  # of all pages together
MAX_LINK: Final = 16 << 10  # characters of `Link` headers
MAX_REASON: Final = 2_000  # characters
MAX_TOKEN: Final = 8192  # characters
_JSON: Final = frozenset({"application/json"})
_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN}}}\Z")
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}\Z")  # RFC 6265, section 4.1.1: cookie-octet


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a client proves who it is; the bearer token is preferred.

    Attributes:
        bearer_token: for `Authorization`, or None.
        session_token: for the cookie `pyhall_session`, or None.

    Raises:
        ConfigError: a token is empty or holds characters that no header may.
    """

    bearer_token: str | None = None
    session_token: str | None = None

    def __post_init__(self) -> None:
        if self.bearer_token is not None and not _TOKEN.match(self.bearer_token):
            raise ConfigError("the bearer token is empty or holds spaces, line breaks or characters beyond ASCII")
        if self.session_token is not None and not _COOKIE.match(self.session_token):
            raise ConfigError("the session token is empty or holds characters that no cookie may")

    @classmethod
    def from_token_file(cls, path: str) -> Credentials:
        """Read a bearer token from a file.

        Args:
            path: of the file. White space around the token does not count.

        Raises:
            ConfigError: the file cannot be read, or holds something else than a token.
        """
        data = read_bounded(path, limit=MAX_TOKEN + 2, what="the token file", follow=True)
        try:
            return cls(bearer_token=data.decode("ascii", "replace").strip())
        except ConfigError as problem:
            raise ConfigError(f"the token file {path!r} cannot be used: {problem}") from None

    def headers(self) -> dict[str, str]:
        """Return the header to send: `Authorization`, `Cookie`, or none."""
        if self.bearer_token is not None:
            return {"Authorization": f"Bearer {self.bearer_token}"}
        if self.session_token is not None:
            return {"Cookie": f"pyhall_session={self.session_token}"}
        return {}


class RegistryClient:
    """A client of one registry. Safe to use from several threads.

    Args:
        base_url: by default that of `PYHALL_REGISTRY_URL`, else the public registry.
        credentials: sent to this registry only, and only by https.
        timeout: seconds for one request with its retries.
        cache_ttl: seconds that "active" is kept; nothing else is kept.
        telemetry: whether counts of decisions are sent; they never are unless asked for.
        ca_file: PEM certificates to trust instead of the system's.
        list_timeout: seconds for all pages of a ban list together.

    Attributes:
        base_url: where requests go, without a slash at its end.

    Raises:
        ConfigError: the URL cannot be used, or credentials would travel by plain http.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        credentials: Credentials | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        cache_ttl: float = DEFAULT_TTL,
        telemetry: bool = False,
        ca_file: str | os.PathLike[str] | None = None,
        list_timeout: float = LIST_TIMEOUT,
    ) -> None:
        url = base_url if base_url is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL
        if "?" in url:
            raise ConfigError("the registry's URL must not carry a query")
        self.base_url = url.rstrip("/")
        self._transport = Transport(url, timeout=timeout, ca_file=None if ca_file is None else os.fspath(ca_file))
        self._headers = (credentials or Credentials()).headers()
        if self._headers and not self._transport.encrypted:
            raise ConfigError(
                "a token is never sent over plain http, not even on loopback; use an https URL (a Hall: [service.tls])"
            )
        self._ttl, self._telemetry, self._list_timeout = cache_ttl, telemetry, list_timeout
        self._lock = threading.Lock()
        self._active: dict[str, tuple[float, VerifyResponse]] = {}
        self._banned: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def verify(self, worker_id: str) -> VerifyResponse:
        """Return what the registry knows of a worker.

        Args:
            worker_id: such as `org.acme.summarizer`; not a species.

        Returns:
            The answer; status `unknown` when the registry does not know the worker. "active" is kept for the TTL.

        Raises:
            ConfigError: it is not a worker id.
            RegistryUnreachable: no answer came.
            RegistryRateLimitError: too many requests.
            RegistryAnswerError: the answer cannot be used.
        """
        check_worker_id(worker_id)
        now = time.monotonic()
        with self._lock:
            kept = self._active.get(worker_id)
        if kept is not None and now < kept[0]:
            return kept[1]
        reply = self._get(f"/api/v1/verify/{quote(worker_id, safe='')}", may_be_absent=True)
        if reply.status == 404:
            answer = VerifyResponse(worker_id, "unknown")
        else:
            answer = VerifyResponse.from_json(parse_object(reply.body), worker_id)
        with self._lock:
            self._active.pop(worker_id, None)
            if answer.status == "active":
                while len(self._active) >= MAX_CACHED:
                    del self._active[next(iter(self._active))]
                self._active[worker_id] = now + self._ttl, answer
        return answer

    def get_worker_hash(self, worker_id: str) -> str | None:
        """Return the package hash that the registry holds for a worker, or None unless it is active.

        Args:
            worker_id: such as `org.acme.summarizer`.

        Returns:
            64 lower-case hex digits, or None.

        Raises:
            ConfigError: it is not a worker id.
            RegistryUnreachable: no answer came.
            RegistryRateLimitError: too many requests.
            RegistryAnswerError: the answer cannot be used.
        """
        answer = self.verify(worker_id)
        return answer.current_hash if answer.status == "active" else None

    def prefetch(self, worker_ids: Iterable[str]) -> dict[str, VerifyResponse]:
        """Ask for several workers, so that the next questions are answered without a request.

        Args:
            worker_ids: such as `org.acme.summarizer`.

        Returns:
            The answer for each worker.

        Raises:
            ConfigError: one is not a worker id.
            RegistryError: as `verify`, at the first failure.
        """
        return {worker_id: self.verify(worker_id) for worker_id in worker_ids}

    def get_ban_list(self) -> tuple[BanEntry, ...]:
        """Return the whole ban list, all pages of it.

        A list is whole only when the registry says so: by `total`, by `has_more: false` or by a cursor that is null. A
        bare array says nothing of what it leaves out. All pages together have one deadline, one limit of rows and one
        limit of bytes.

        Raises:
            RegistryIncompleteError: the registry gave a part, or does not say that it gave all.
            RegistryUnreachable: no answer came in time.
            RegistryAnswerError: the answer cannot be used, or the list is too long.
        """
        return tuple(entry for page in self._pages() for entry in page)

    def is_hash_banned(self, digest: str) -> bool:
        """Tell whether a digest is on the registry's ban list.

        "Banned" is kept for the TTL, and returned as soon as a page says so. "Not banned" needs the whole list, each
        time.

        Args:
            digest: SHA-256 in hex, any case, with or without `sha256:`.

        Raises:
            ConfigError: it is no digest.
            RegistryError: as `get_ban_list`.
        """
        wanted = check_digest(digest)
        now = time.monotonic()
        with self._lock:
            if self._banned.get(wanted, 0.0) > now:
                return True
        for page in self._pages():
            banned = {entry.sha256 for entry in page if entry.in_force}
            with self._lock:
                if len(self._banned) >= MAX_ROWS:
                    self._banned.clear()
                self._banned.update(dict.fromkeys(banned, now + self._ttl))
            if wanted in banned:
                return True
        return False

    def _pages(self) -> Iterator[tuple[BanEntry, ...]]:
        """Yield the rows of each page; end only when the registry says that there are no more."""
        until = time.monotonic() + self._list_timeout
        path: str | None = f"/api/v1/ban-list?limit={PAGE}&counted=true"  # a Hall's whole list, with its length
        asked: set[str] = set()
        seen: set[BanEntry] = set()
        total: int | None = None
        rows = size = 0
        while path is not None:
            if path in asked or len(asked) >= MAX_PAGES:
                raise RegistryIncompleteError("the registry's ban list never ends: a page leads to one read before")
            asked.add(path)
            reply = self._get(path, until)
            page = Page.from_bytes(reply.body)
            rows, size = rows + len(page.entries), size + len(reply.body)
            if rows > MAX_ROWS or size > MAX_LIST_BYTES:
                raise RegistryAnswerError(
                    f"the registry's ban list has more than {MAX_ROWS} rows or {MAX_LIST_BYTES} bytes; publish a list "
                    "of that size signed, as a `url` source"
                )
            seen.update(page.entries)
            if page.total is not None:
                if total not in {None, page.total}:
                    raise RegistryIncompleteError(
                        "the registry's ban list changed its `total` between pages; ask again"
                    )
                total = page.total
            yield page.entries
            path = _next_path(self.base_url, reply, page)
        # Rows that come twice hide others that were never sent, so each counts once.
        if total is not None and total != len(seen):
            raise RegistryIncompleteError(
                f"the registry's ban list has {total} rows and gave {len(seen)} different ones"
            )
        if total is None and not page.last:
            raise RegistryIncompleteError(
                f"the registry gave {rows} rows and does not say that these are all: neither `total` nor `has_more` "
                "nor a cursor that is null"
            )

    def health(self) -> Health:
        """Ask whether the registry is up.

        Returns:
            What the registry says of itself.

        Raises:
            RegistryError: as `verify`.
        """
        return Health.from_json(parse_object(self._get("/health").body))

    def report_hash(self, digest: str, reason: str, evidence_url: str | None = None) -> JsonObject:
        """Report a digest for review; nothing is banned by a report alone.

        Args:
            digest: SHA-256 in hex.
            reason: 1 to 2000 characters.
            evidence_url: a page with more about it, or None.

        Returns:
            The registry's answer.

        Raises:
            ConfigError: an argument is malformed.
            RegistryError: as `verify`.
        """
        if not 0 < len(reason.strip()) <= MAX_REASON:
            raise ConfigError(f"the reason is not 1 to {MAX_REASON} characters")
        body: JsonObject = {"sha256": check_digest(digest), "reason": reason}
        if evidence_url is not None:
            body["evidence_url"] = evidence_url
        return self._send("POST", "/api/v1/ban-list/report", body)

    def submit_attestation(self, submission: Submission) -> AttestationResponse:
        """Tell the registry which package a worker now is.

        Args:
            submission: the worker and its package.

        Returns:
            What the registry recorded.

        Raises:
            RegistryAnswerError: the answer cannot be used, or the registry recorded something else.
            RegistryError: otherwise as `verify`.
        """
        path = f"/api/v1/workers/{quote(submission.worker_id, safe='')}/attest"
        answer = self._send("PUT", path, submission.to_json())
        with self._lock:
            self._active.pop(submission.worker_id, None)
        return AttestationResponse.from_json(answer, submission)

    def record_decision(self, worker_id: str) -> None:
        """Count a decision for a worker; kept here until `flush_decisions`, and only with `telemetry`.

        Args:
            worker_id: such as `org.acme.summarizer`.

        Raises:
            ConfigError: it is not a worker id.
        """
        check_worker_id(worker_id)
        if self._telemetry:
            with self._lock:
                if worker_id in self._counts or len(self._counts) < MAX_CACHED:
                    self._counts[worker_id] += 1

    def flush_decisions(self) -> int:
        """Send the counts, if `telemetry` was asked for.

        Returns:
            How many decisions were told.

        Raises:
            RegistryError: as `verify`; the counts are kept then.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return 0
        told: JsonObject = {
            "decisions": [{"worker_id": worker_id, "count": count} for worker_id, count in sorted(counts.items())]
        }
        try:
            self._send("POST", "/api/v1/telemetry/decisions", told, read=False)
        except BaseException:
            with self._lock:
                self._counts.update(counts)
            raise
        return counts.total()

    def close(self) -> None:
        """Close the connections kept."""
        self._transport.close()

    def _get(self, path: str, until: float | None = None, *, may_be_absent: bool = False) -> HttpReply:
        url = self.base_url + path
        headers = {"Accept": "application/json", **self._headers}
        reply = self._transport.request(
            Request(url, headers=headers, max_bytes=MAX_ANSWER_BYTES, types=_JSON), until=until
        )
        if reply.status != 200 and not may_be_absent:
            raise RegistryAnswerError(f"{url}: status {reply.status}; is this a worker registry?")
        return reply

    def _send(self, method: str, path: str, body: Mapping[str, object], *, read: bool = True) -> JsonObject:
        headers = {"Accept": "application/json", "Content-Type": "application/json", **self._headers}
        try:
            data = strictjson.dumps(dict(body))  # type: ignore[arg-type]
        except ValueError:
            raise ConfigError("a text for the registry holds bytes that are not UTF-8") from None
        request = Request(
            self.base_url + path,
            method,
            headers=headers,
            body=data,
            max_bytes=MAX_ANSWER_BYTES,
            types=_JSON if read else frozenset(),
        )
        reply = self._transport.request(request)
        if reply.status in {304, 404}:
            raise RegistryAnswerError(f"{method} {self.base_url}{path}: status {reply.status}")
        return parse_object(reply.body) if read and reply.body else {}


def _next_path(base: str, reply: HttpReply, page: Page) -> str | None:
    """Return the path of the page after this one: from `Link` (RFC 8288), a URL in the body, or a cursor."""
    found = next_link(reply.headers.get("link", ""))
    link = page.following if found is None else found
    if link is None:
        return None
    if found is None and "/" not in link and "?" not in link:
        return "/api/v1/ban-list?" + urlencode({"limit": PAGE, "cursor": link})
    target = same_origin(reply.url, link)
    if target is None or not target.startswith(base + "/"):
        raise RegistryAnswerError(f"the registry's ban list continues at {link[:120]!r}, outside of {base}")
    return target[len(base) :]


def next_link(header: str) -> str | None:
    """Return the target of the link with relation `next` (RFC 8288, section 3), or None when there is none.

    Reads the header once from left to right, so that its cost grows with its length only.

    Args:
        header: the value of `Link`, several joined by commas.

    Raises:
        RegistryAnswerError: it is longer than 16 KiB, malformed, or names two different next pages.
    """
    if len(header) > MAX_LINK:
        raise RegistryAnswerError(f"the registry's `Link` header is longer than {MAX_LINK} characters")
    targets: set[str] = set()
    for link in _split(header, ","):
        target, *parameters = _split(link, ";")
        target = target.strip()
        if not target and not parameters:
            continue  # an empty element of a list (RFC 9110, section 5.6.1)
        if not (target.startswith("<") and target.endswith(">")):
            raise RegistryAnswerError("the registry's `Link` header is malformed")
        pairs = [parameter.partition("=") for parameter in parameters]
        relations = [
            value.strip().strip('"').lower().split() for name, _, value in pairs if name.strip().lower() == "rel"
        ]
        if relations and "next" in relations[0]:
            targets.add(target[1:-1])
    if len(targets) > 1:
        raise RegistryAnswerError("the registry's `Link` header names two next pages")
    return next(iter(targets), None)


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside of quotes and angle brackets."""
    parts: list[str] = []
    start, closing = 0, ""
    for at, character in enumerate(text):
        if closing:
            closing = "" if character == closing else closing
        elif character in '<"':
            closing = ">" if character == "<" else '"'
        elif character == separator:
            parts.append(text[start:at])
            start = at + 1
    if closing:
        raise RegistryAnswerError("the registry's `Link` header is malformed")
    return [*parts, text[start:]]
