"""A signed list behind an https URL, its signatures at the same URL with `.sig` appended."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.trust.bans.document import MAX_LIST_BYTES
from wcp_attest.trust.bans.feeds import DEFAULT_TIMEOUT, SourceDown
from wcp_attest.trust.bans.feeds.list_cache import CachedFeed, CachedList
from wcp_attest.trust.bans.list_verifier import FetchedList
from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX

if TYPE_CHECKING:
    from wcp_attest.net.https import HttpReply, Transport
    from wcp_attest.trust.bans.list_verifier import ListVerifier

PAIR_ATTEMPTS: Final = 3  # list and signatures are two files: a publisher may be between them
PAIR_PAUSE: Final = 1.0  # seconds between the attempts
# What static hosts give for a `.json` file; anything else is a login page or an error that calls itself 200.
TYPES: Final = frozenset({"application/json", "application/octet-stream", "text/plain", "binary/octet-stream"})


@dataclass(frozen=True, slots=True)
class UrlFeed(CachedFeed):
    """A signed list behind a URL.

    Attributes:
        url: of the list; https, or http on loopback.
        directory: path of the state directory.
        refresh: seconds during which the kept copy is used without asking the source.
        ca_file: path of PEM certificates to trust instead of the system's.
        timeout: seconds for list and signatures together, with every attempt.
    """

    url: str
    directory: str
    refresh: int
    ca_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT

    @property
    def name(self) -> str:
        """`url:` and the URL."""
        return f"url:{self.url}"

    def fetch(self, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Ask for the list, only if it changed, and then for its signatures.

        Args:
            kept: what is kept of it; its entity tag or date makes the request conditional (RFC 9110, section 13).
            verifier: the conditions of this moment.

        Returns:
            List and signatures, or None when the list did not change.

        Raises:
            SourceDown: no complete answer came.
            BansUnusable: the answer cannot be used.
        """
        from wcp_attest.net.https import Transport
        from wcp_attest.net.https_errors import RegistryAnswerError, RegistryUnreachable

        try:
            transport = Transport(self.url, timeout=self.timeout, ca_file=self.ca_file)
            with contextlib.closing(transport):
                return self._fetch_pair(transport, kept, verifier)
        except RegistryUnreachable as problem:
            raise SourceDown(str(problem)) from None
        except (RegistryAnswerError, ConfigError) as problem:
            raise BansUnusable(f"{self.name}: {problem}") from None

    def _fetch_pair(self, transport: Transport, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Fetch both files until they belong together, all within one deadline."""
        until = time.monotonic() + self.timeout
        conditions: dict[str, str] = {}
        tag, date = (kept.etag, kept.last_modified) if kept is not None else ("", "")
        if tag and tag.isprintable() and tag.isascii():
            conditions["If-None-Match"] = tag
        elif date and date.isprintable() and date.isascii():
            conditions["If-Modified-Since"] = date
        for attempt in range(1, PAIR_ATTEMPTS + 1):
            answer = self._get(transport, self.url, MAX_LIST_BYTES, conditions, until)
            if answer.status == 304:
                return None
            signatures = self._get(transport, self.url + SIGNATURE_SUFFIX, MAX_SIGNATURE_FILE_BYTES, {}, until)
            fetched = CachedList(
                FetchedList(answer.body, signatures.body),
                etag=answer.headers.get("etag", ""),
                last_modified=answer.headers.get("last-modified", ""),
            )
            if attempt == PAIR_ATTEMPTS or verifier.belong_together(self.name, fetched.copy):
                return fetched
            time.sleep(PAIR_PAUSE)
        raise BansUnusable(f"{self.name}: list and signatures never belonged together")

    def _get(self, transport: Transport, url: str, limit: int, headers: dict[str, str], until: float) -> HttpReply:
        from wcp_attest.net.https import Request

        answer = transport.request(Request(url, headers=headers, max_bytes=limit, types=TYPES), until=until)
        if answer.status == 200 or (answer.status == 304 and headers):
            return answer
        raise BansUnusable(f"{self.name}: {url} answers with status {answer.status}")
