"""The copy of a source's list, kept for the time when the source is down, and which of the two is used.

    <state directory>/cache-<16 hex>       one line of JSON, then the list, then its signatures
    <state directory>/cache-<16 hex>.down  is there while the source has not answered since it last failed

Each time, the copy is verified like an answer of the source, and it is used only while the list is fresh. It replaces a
source that is down, never one that gives a wrong answer. A wrong answer is a refusal, and does not replace the copy.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk.private_files import check_private_directory, read_file, replace
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.trust.bans.document import MAX_LIST_BYTES
from wcp_attest.trust.bans.feeds import SourceDown, VerifiedList
from wcp_attest.trust.bans.list_verifier import FetchedList

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.trust.bans.list_verifier import ListVerifier
    from wcp_attest.trust.bans.lookup import BanIndex

SCHEMA: Final = "wcp.bans.cache.v1"
MAX_HEAD_BYTES: Final = 8 << 10
MAX_TAG: Final = 500  # characters of an entity tag or date that is sent back
# Seconds that a source that failed is not asked, so that an outage does not cost each verification its timeout. The
# pause holds without a usable copy, too: the package is denied either way, only sooner.
PAUSE_WHEN_DOWN: Final = 30
DOWN_SUFFIX: Final = ".down"


@dataclass(frozen=True, slots=True)
class CachedList:
    """What is kept of a source.

    Attributes:
        copy: list and signatures.
        etag: of the list's answer, empty when there was none.
        last_modified: of the list's answer, empty when there was none.
        usable_until: seconds since the epoch after which the source's own metadata has expired; None where the source
            has no such metadata.
    """

    copy: FetchedList
    etag: str = ""
    last_modified: str = ""
    usable_until: int | None = None


class CachedFeed:
    """A source behind a network: a copy in the state directory replaces it while it is down.

    The base of every such source: a frozen dataclass with these attributes, which says its `name` and how to `fetch`.

    Attributes:
        directory: path of the state directory.
        refresh: seconds during which the kept copy is used without asking the source.
        ca_file: path of PEM certificates to trust instead of the system's.
        timeout: seconds in which the source has to bring its whole list.
    """

    __slots__ = ()
    directory: str
    refresh: int
    ca_file: str | None
    timeout: float
    remote: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The stable name of the source: its kind, a colon, and its place."""
        raise NotImplementedError

    def fetch(self, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Ask the source.

        Args:
            kept: what is kept of it.
            verifier: the conditions of this moment.

        Returns:
            What the source has now, or None when that is what is kept.

        Raises:
            SourceDown: it gave no complete answer.
            BansUnusable: its answer cannot be used.
        """
        raise NotImplementedError

    def admit(self, kept: CachedList, verifier: ListVerifier) -> BanIndex:
        """Have a copy admitted.

        Args:
            kept: what is kept, or was fetched just now.
            verifier: the conditions of this moment.

        Returns:
            The list, in which bans can be looked up.

        Raises:
            BansUnusable: the list is not admitted.
        """
        return verifier.admit(self.name, kept.copy)

    @property
    def files(self) -> tuple[str, ...]:
        """The path of the kept copy."""
        return (CopyFile(self.directory, self.name).path,)

    def open(self, verifier: ListVerifier) -> VerifiedList:
        """Return the list: the kept copy while that is recent, else the source's, else the kept copy while it is fresh.

        Args:
            verifier: the conditions of this moment.

        Raises:
            BansUnusable: no list is admitted, or the source gave a wrong or incomplete answer.
        """
        cache, now = CopyFile(self.directory, self.name), verifier.now
        kept = cache.load()
        # 1  A copy that was compared with the source a short time ago.
        checked = _time_of(cache.path, now)
        if kept is not None and checked is not None and now - checked < self.refresh:
            with contextlib.suppress(BansUnusable):  # stale by now, say: then the source is asked
                return self._verified(kept, verifier, checked + self.refresh)
        # 2  A source that failed a short time ago is not asked.
        failed = _time_of(cache.path + DOWN_SUFFIX, now)
        if failed is not None and now - failed < PAUSE_WHEN_DOWN:
            why = f"it gave no answer less than {PAUSE_WHEN_DOWN} s ago"
            return self._verified(kept, verifier, failed + PAUSE_WHEN_DOWN, down=why)
        # 3  The source.
        try:
            fetched = self.fetch(kept, verifier)
        except SourceDown as problem:
            cache.mark_failed(now)
            return self._verified(kept, verifier, now + PAUSE_WHEN_DOWN, down=str(problem))
        current = fetched or kept
        if current is None:
            raise BansUnusable(f"{self.name} says that nothing changed although nothing is kept")
        verified = self._verified(current, verifier, now + self.refresh)
        cache.store(current, changed=fetched is not None, now=now)
        return verified

    def _verified(self, kept: CachedList | None, verifier: ListVerifier, again: float, down: str = "") -> VerifiedList:
        """Have a copy admitted; `down` says why the source itself brought none."""
        if kept is None:
            raise BansUnusable(f"{self.name} is down and no copy is kept: {down}")
        try:
            index = self.admit(kept, verifier)
        except BansUnusable as problem:
            if not down:
                raise
            raise BansUnusable(f"{problem} (that is the copy kept of a source that is down: {down})") from None
        note = f"{self.name} is down, its kept copy is used: {down}" if down else ""
        return VerifiedList(self.name, index, note, again, inf if kept.usable_until is None else kept.usable_until)


class CopyFile:
    """The file that keeps a source's copy.

    Args:
        directory: path of the state directory, created when something is stored.
        name: of the source.

    Attributes:
        path: of the file.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._directory, self._name = directory, name
        self.path = os.path.join(directory, f"cache-{sha256(name.encode()).hexdigest()[:16]}")

    def load(self) -> CachedList | None:
        """Return what is kept, or None when there is nothing or it is damaged; then the source decides alone."""
        limit = MAX_LIST_BYTES + MAX_SIGNATURE_FILE_BYTES + MAX_HEAD_BYTES
        try:
            data = read_file(self.path, limit, "the kept copy", private=True)
            line, _, rest = data.partition(b"\n")
            head = strictjson.loads_object(line, what="the kept copy", max_bytes=MAX_HEAD_BYTES)
        except (BansUnusable, ConfigError):
            return None
        match head:
            case {
                "schema_version": str(schema),
                "source": str(source),
                "etag": str(etag),
                "last_modified": str(last_modified),
                "usable_until": int() | None as usable_until,
                "document": int(length),
                "signatures": int() | None as signed,
            } if (schema, source) == (SCHEMA, self._name) and length + (signed or 0) == len(rest) and length >= 0:
                signatures = None if signed is None else rest[length:]
                return CachedList(FetchedList(rest[:length], signatures), etag, last_modified, usable_until)
        return None

    def store(self, kept: CachedList, *, changed: bool, now: float) -> None:
        """Keep a copy, and remember when it was compared with the source.

        Args:
            kept: the copy.
            changed: whether it differs from what is kept.
            now: seconds since the epoch.

        Raises:
            BansUnusable: it cannot be written.
        """
        if changed:
            copy = kept.copy
            head: JsonObject = {
                "schema_version": SCHEMA,
                "source": self._name,
                "etag": kept.etag[:MAX_TAG],
                "last_modified": kept.last_modified[:MAX_TAG],
                "usable_until": kept.usable_until,
                "document": len(copy.document),
                "signatures": None if copy.signatures is None else len(copy.signatures),
            }
            check_private_directory(self._directory)
            replace(self.path, strictjson.dumps(head) + b"\n" + copy.document + (copy.signatures or b""))
        with contextlib.suppress(OSError):  # the source will be asked again the next time
            os.utime(self.path, (now, now))
        with contextlib.suppress(OSError):
            os.unlink(self.path + DOWN_SUFFIX)

    def mark_failed(self, now: float) -> None:
        """Remember that the source failed.

        Args:
            now: seconds since the epoch.
        """
        with contextlib.suppress(OSError, BansUnusable):  # only spares a wait
            check_private_directory(self._directory)
            replace(self.path + DOWN_SUFFIX, b"")
            os.utime(self.path + DOWN_SUFFIX, (now, now))


def _time_of(path: str, now: float) -> float | None:
    """Return the time of a file, None when it is missing or dated in the future."""
    try:
        at = os.stat(path).st_mtime
    except OSError:
        return None
    return at if at <= now else None
