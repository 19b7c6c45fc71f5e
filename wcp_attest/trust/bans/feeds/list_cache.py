"""The copy of a source's list, kept for the time when the source is down, and which of the two is used.

    <state directory>/cache-<16 hex>       one line of JSON, then the list, then its signatures
    <state directory>/cache-<16 hex>.down  there since the source last failed

Each time, the copy is verified like an answer of the source, and it is used only while the list is fresh. It stands in
for a source that is down, never for one that gives a wrong answer. A wrong answer is a refusal, and does not replace
the copy.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

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
# Seconds that a source that failed is left alone, so that an outage does not cost each verification its timeout. The
# pause holds without a usable copy, too: the package is denied either way, only sooner.
PAUSE_WHEN_DOWN: Final = 30


@dataclass(frozen=True, slots=True)
class CachedList:
    """What is kept of a source.

    Attributes:
        copy: list and signatures.
        etag: of the list's answer, empty when there was none.
        last_modified: of the list's answer, empty when there was none.
        usable_until: seconds since the epoch after which the source's own metadata has expired; None without such.
    """

    copy: FetchedList
    etag: str = ""
    last_modified: str = ""
    usable_until: int | None = None


class RemoteSource(Protocol):
    """A source behind a network."""

    @property
    def name(self) -> str:
        """The stable name of the source."""

    @property
    def directory(self) -> str:
        """The state directory."""

    @property
    def refresh(self) -> int:
        """Seconds during which the kept copy is used without asking the source."""

    def fetch(self, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Ask the source.

        Args:
            kept: what is kept.
            verifier: the conditions of this moment.

        Returns:
            What the source has now, or None when that is what is kept.

        Raises:
            SourceDown: it gave no complete answer.
            BansUnusable: its answer cannot be used.
        """

    def admit(self, kept: CachedList, verifier: ListVerifier) -> BanIndex:
        """Have a copy admitted.

        Raises:
            BansUnusable: it is not.
        """


class CachedFeed:
    """What every source that asks a server has in common: a copy in the state directory stands in for it.

    A base of frozen dataclasses, which say the rest that `RemoteSource` asks for.
    """

    __slots__ = ()

    @property
    def files(self: RemoteSource) -> tuple[str, ...]:
        """The cached copy."""
        return (cache_path(self.directory, self.name),)

    @property
    def remote(self) -> bool:
        """True: a server is asked."""
        return True

    def open(self: RemoteSource, verifier: ListVerifier) -> VerifiedList:
        """Get the list from the server or the kept copy.

        Raises:
            BansUnusable: no list is admitted, or the server gave a wrong or incomplete answer.
        """
        return open_cached(self, self.directory, verifier)


def open_cached(source: RemoteSource, directory: str, verifier: ListVerifier) -> VerifiedList:
    """Return a source's list: the kept copy while that is recent, else the source's, else the kept copy while fresh.

    Args:
        source: the source.
        directory: the state directory.
        verifier: the conditions of this moment.

    Raises:
        BansUnusable: no list is admitted; or the source gave a wrong answer.
    """
    cache = CopyFile(directory, source.name)
    kept = cache.load()
    now = verifier.now
    checked, failed = cache.checked_at(now), cache.failed_at(now)
    if kept is not None and checked is not None and now - checked < source.refresh:
        with contextlib.suppress(BansUnusable):  # stale by now, say: then the source is asked
            return _verified(source, kept, verifier, checked + source.refresh)
    if failed is not None and now - failed < PAUSE_WHEN_DOWN:
        why = f"it gave no answer less than {PAUSE_WHEN_DOWN} s ago"
        return _from_kept(source, kept, why, verifier, failed + PAUSE_WHEN_DOWN)
    try:
        fetched = source.fetch(kept, verifier)
    except SourceDown as problem:
        cache.mark_failed(now)
        return _from_kept(source, kept, str(problem), verifier, now + PAUSE_WHEN_DOWN)
    current = fetched or kept
    if current is None:
        raise BansUnusable(f"{source.name} says that nothing changed although nothing is kept")
    verified = _verified(source, current, verifier, now + source.refresh)
    cache.store(current, changed=fetched is not None, now=now)
    return verified


def _verified(
    source: RemoteSource, kept: CachedList, verifier: ListVerifier, again: float, note: str = ""
) -> VerifiedList:
    index = source.admit(kept, verifier)
    return VerifiedList(source.name, index, note, again, inf if kept.usable_until is None else kept.usable_until)


def _from_kept(
    source: RemoteSource, kept: CachedList | None, down: str, verifier: ListVerifier, again: float
) -> VerifiedList:
    if kept is None:
        raise BansUnusable(f"{source.name} is down and no copy is kept: {down}")
    try:
        return _verified(source, kept, verifier, again, f"{source.name} is down, its kept copy is used: {down}")
    except BansUnusable as problem:
        raise BansUnusable(f"{problem} (that is the copy kept of a source that is down: {down})") from None


def cache_path(directory: str, name: str) -> str:
    """Return the path of the file that keeps the copy of a source.

    Args:
        directory: the state directory.
        name: of the source.
    """
    return os.path.join(directory, f"cache-{sha256(name.encode()).hexdigest()[:16]}")


class CopyFile:
    """The file that keeps a source's copy.

    Args:
        directory: the state directory, created when something is stored.
        name: of the source.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._directory, self._name = directory, name
        self._path = cache_path(directory, name)

    def load(self) -> CachedList | None:
        """Return what is kept, or None when there is nothing or it is damaged; then the source decides alone."""
        limit = MAX_LIST_BYTES + MAX_SIGNATURE_FILE_BYTES + MAX_HEAD_BYTES
        try:
            data = read_file(self._path, limit, "the kept copy", private=True)
            return _parse(data, self._name)
        except (BansUnusable, ConfigError):
            return None

    def store(self, kept: CachedList, *, changed: bool, now: float) -> None:
        """Keep a copy, and remember when it was checked.

        Raises:
            BansUnusable: it cannot be written.
        """
        if changed:
            check_private_directory(self._directory)
            replace(self._path, _render(kept, self._name))
        with contextlib.suppress(OSError):  # the source will be asked again the next time
            os.utime(self._path, (now, now))
        with contextlib.suppress(OSError):
            os.unlink(self._path + ".down")

    def mark_failed(self, now: float) -> None:
        """Remember that the source failed."""
        with contextlib.suppress(OSError, BansUnusable):  # only spares a wait
            check_private_directory(self._directory)
            replace(self._path + ".down", b"")
            os.utime(self._path + ".down", (now, now))

    def checked_at(self, now: float) -> float | None:
        """Return when the copy was last what the source had, in seconds since the epoch; None when it is not known."""
        return _time_of(self._path, now)

    def failed_at(self, now: float) -> float | None:
        """Return when the source failed, in seconds since the epoch; None when it answered since."""
        return _time_of(self._path + ".down", now)


def _time_of(path: str, now: float) -> float | None:
    """Return the time of a file, None when it is missing or dated in the future."""
    try:
        at = os.stat(path).st_mtime
    except OSError:
        return None
    return at if at <= now else None


def _render(kept: CachedList, name: str) -> bytes:
    copy = kept.copy
    signatures = copy.signatures
    head: JsonObject = {
        "schema_version": SCHEMA,
        "source": name,
        "etag": kept.etag[:MAX_TAG],
        "last_modified": kept.last_modified[:MAX_TAG],
        "usable_until": kept.usable_until,
        "document": len(copy.document),
        "signatures": None if signatures is None else len(signatures),
    }
    return strictjson.dumps(head) + b"\n" + copy.document + (signatures or b"")


def _parse(data: bytes, name: str) -> CachedList:
    line, _, rest = data.partition(b"\n")
    match strictjson.loads_object(line, what="the kept copy", max_bytes=MAX_HEAD_BYTES):
        case {
            "schema_version": str(schema),
            "source": str(source),
            "etag": str(etag),
            "last_modified": str(last_modified),
            "usable_until": int() | None as usable_until,
            "document": int(length),
            "signatures": int() | None as signed,
        } if schema == SCHEMA and source == name and length + (signed or 0) == len(rest) and length >= 0:
            signatures = None if signed is None else rest[length:]
            return CachedList(FetchedList(rest[:length], signatures), etag, last_modified, usable_until)
    raise ConfigError("the kept copy is damaged")
