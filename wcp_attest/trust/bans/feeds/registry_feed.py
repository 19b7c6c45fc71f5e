"""A registry's own ban list: rows over https, complete or not at all, without signature, version or expiry.

The rows are trusted only because the named host answered over TLS. Nothing tells an old answer from a new one, and
everybody who can write to the registry can lift a ban. So a policy must say `signed = false` to use such a source, and
a copy is kept for at most `max_age` after it was fetched. Signed lists are the better source.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.base.identity import format_utc, parse_utc
from wcp_attest.trust.bans.ban import DIGEST_KINDS, MAX_REASON, MAX_SOURCE, make_ban
from wcp_attest.trust.bans.document import BanList, Head
from wcp_attest.trust.bans.feeds import DEFAULT_TIMEOUT, SourceDown
from wcp_attest.trust.bans.feeds.list_cache import CachedFeed, CachedList
from wcp_attest.trust.bans.list_verifier import FetchedList

if TYPE_CHECKING:
    from wcp_attest.trust.bans.list_verifier import ListVerifier
    from wcp_attest.trust.bans.lookup import BanIndex

LIST_NAME: Final = "registry"
_HIDDEN = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class RegistryFeed(CachedFeed):
    """The ban list of a registry.

    Attributes:
        url: base URL of the registry.
        directory: path of the state directory.
        refresh: seconds during which the kept copy is used without asking the source.
        ca_file: path of PEM certificates to trust instead of the system's.
        timeout: seconds for the whole list, all pages together.
    """

    url: str
    directory: str
    refresh: int
    ca_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT

    @property
    def name(self) -> str:
        """`registry:` and the URL."""
        return f"registry:{self.url}"

    def admit(self, kept: CachedList, verifier: ListVerifier) -> BanIndex:
        """Check that the rows were fetched recently enough. Nothing else of them can be checked.

        Args:
            kept: what is kept, or was fetched just now.
            verifier: the conditions of this moment.

        Returns:
            The rows, in which bans can be looked up.

        Raises:
            BansUnusable: the copy is malformed or too old.
        """
        document = kept.copy.document
        index = verifier.parse(self.name, document, sha256(document).hexdigest())
        verifier.check_fresh(self.name, index.head)
        return index

    def fetch(self, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Ask for all rows; a registry cannot be asked for changes only.

        Args:
            kept: not used.
            verifier: the conditions of this moment.

        Returns:
            A list of the rows that are in force, issued now; it expires after `max_age`.

        Raises:
            SourceDown: no complete answer came.
            BansUnusable: the answer cannot be used, or may be a part.
        """
        from wcp_attest.net.https_errors import RegistryAnswerError, RegistryUnreachable
        from wcp_attest.trust.registry.client import RegistryClient

        del kept
        try:
            client = RegistryClient(self.url, timeout=self.timeout, ca_file=self.ca_file, list_timeout=self.timeout)
            with contextlib.closing(client):
                entries = client.get_ban_list()
        except RegistryUnreachable as problem:
            raise SourceDown(str(problem)) from None
        except (RegistryAnswerError, ConfigError) as problem:
            raise BansUnusable(f"{self.name}: {problem}") from None
        now = int(verifier.now)
        head = Head(LIST_NAME, max(1, now), now, now + verifier.max_age)
        # A row does not say what its digest is of, so it bans the manifest, the package and the file that have it.
        bans = (
            make_ban(
                kind,
                entry.sha256,
                reason=_visible(entry.reason, "no reason given", MAX_REASON),
                banned_at=entry.reported_at if parse_utc(entry.reported_at) is not None else format_utc(now),
                source=_visible(entry.source, "registry", MAX_SOURCE),
            )
            for entry in entries
            if entry.in_force
            for kind in DIGEST_KINDS
        )
        return CachedList(FetchedList(BanList.make(head, bans).to_bytes(), None))


def _visible(text: str, default: str, limit: int) -> str:
    """Return what is printable of a text that others wrote."""
    return _HIDDEN.sub(" ", text)[:limit].strip() or default
