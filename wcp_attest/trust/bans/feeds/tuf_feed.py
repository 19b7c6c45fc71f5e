"""A list as a target of a TUF repository, through python-tuf's client.

The policy pins the repository's root; python-tuf checks signatures, thresholds, versions, expiry and consistency of all
metadata (TUF specification 1.0, section 5), which rules out rollback, freeze and mix-and-match. Its metadata directory
belongs to one policy and is used by one process at a time. While the repository is down, the kept copy is used until
the list expires, or the metadata it came with.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.base.identity import format_utc
from wcp_attest.disk.files import blame
from wcp_attest.disk.private_files import check_private_directory
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.trust.bans.document import MAX_LIST_BYTES
from wcp_attest.trust.bans.feeds import DEFAULT_TIMEOUT, SourceDown
from wcp_attest.trust.bans.feeds.list_cache import CachedFeed, CachedList
from wcp_attest.trust.bans.list_verifier import FetchedList
from wcp_attest.trust.bans.rollback_guard import locked
from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

    from wcp_attest.trust.bans.list_verifier import ListVerifier
    from wcp_attest.trust.bans.lookup import BanIndex

LOCK_WAIT: Final = 20.0
MAX_ROOT_ROTATIONS: Final = 64
_ROLES: Final = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class TufFeed(CachedFeed):
    """A list in a TUF repository.

    Attributes:
        metadata_url: where the metadata is.
        targets_url: where the targets are.
        target: path of the list below it.
        root: the pinned root metadata, bytes of `root.json`.
        directory: path of the state directory.
        refresh: seconds during which the kept copy is used without asking the source.
        signed: whether the list must be signed as well; its signatures are the target with `.sig` appended. False
            relies on the repository's own signatures.
        ca_file: path of PEM certificates to trust instead of the system's.
        timeout: seconds for one update with all its files, however many root rotations it has to follow.
    """

    metadata_url: str
    targets_url: str
    target: str
    root: bytes
    directory: str
    refresh: int
    signed: bool = True
    ca_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT

    @property
    def name(self) -> str:
        """`tuf:`, the metadata's URL, and the target."""
        return f"tuf:{self.metadata_url}#{self.target}"

    def admit(self, kept: CachedList, verifier: ListVerifier) -> BanIndex:
        """Have a copy admitted, unless the metadata it came with has expired.

        Args:
            kept: what is kept, or was fetched just now.
            verifier: the conditions of this moment.

        Returns:
            The list, in which bans can be looked up.

        Raises:
            BansUnusable: the metadata has expired, or the list is not admitted.
        """
        if kept.usable_until is None or verifier.now >= kept.usable_until:
            when = "" if kept.usable_until is None else f" at {format_utc(kept.usable_until)}"
            raise BansUnusable(f"{self.name}: the kept copy is stale: the repository's metadata expired{when}")
        return CachedFeed.admit(self, kept, verifier)  # `super()` does not work in a dataclass with slots

    def fetch(self, kept: CachedList | None, verifier: ListVerifier) -> CachedList | None:
        """Update the metadata, and get the target when it differs from the kept one.

        Args:
            kept: what is kept of it.
            verifier: not used: python-tuf compares expiry with the clock.

        Returns:
            List and signatures, and when the first of the four top-level roles expires.

        Raises:
            SourceDown: the repository gave no complete answer.
            BansUnusable: its answer does not verify, or the target is missing.
            MachineError: this machine is at fault.
        """
        del verifier
        from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError

        # Another root is another repository, so it gets another directory.
        tag = sha256(self.metadata_url.encode() + b"\n" + self.root).hexdigest()[:16]
        directory = os.path.join(self.directory, f"tuf-{tag}")
        try:
            with contextlib.ExitStack() as held:
                try:  # another process that updates is waited for, until a deadline
                    check_private_directory(self.directory)
                    held.enter_context(locked(directory, "update.lock", LOCK_WAIT))
                except BansUnusable as problem:
                    raise SourceDown(str(problem)) from None
                return self._update(directory, kept)
        except (_Refused, DownloadHTTPError, ConfigError) as problem:
            raise BansUnusable(f"{self.name}: {problem}") from None
        except DownloadError as problem:
            raise SourceDown(str(problem)) from None
        except (RepositoryError, ValueError) as problem:
            raise BansUnusable(f"{self.name}: the repository's metadata is refused: {problem}") from None
        except OSError as problem:
            said = f"{self.name}: the metadata directory cannot be used: {problem}"
            raise blame(problem, BansUnusable)(said) from None

    def _update(self, directory: str, kept: CachedList | None) -> CachedList:
        from tuf.api.metadata import Metadata
        from tuf.ngclient.config import UpdaterConfig
        from tuf.ngclient.updater import Updater

        # 1  The metadata, from the pinned root on.
        updater = Updater(
            directory,
            self.metadata_url,
            target_base_url=self.targets_url,
            fetcher=_fetcher(self.metadata_url, self.targets_url, self.ca_file, self.timeout),
            config=UpdaterConfig(max_root_rotations=MAX_ROOT_ROTATIONS),
            bootstrap=self.root,
        )
        updater.refresh()
        # 2  The list and its signatures, as far as they differ from what is kept.
        before = kept.copy if kept is not None else FetchedList(b"", None)
        part = os.path.join(directory, "target.part")
        document = self._target(updater, self.target, before.document, MAX_LIST_BYTES, part)
        signatures = None
        if self.signed:
            name = self.target + SIGNATURE_SUFFIX
            signatures = self._target(updater, name, before.signatures or b"", MAX_SIGNATURE_FILE_BYTES, part)
        # 3  When the first of the four top-level roles expires.
        expiries = []
        for role in _ROLES:
            with open(os.path.join(directory, f"{role}.json"), "rb") as stream:
                expiries.append(Metadata.from_bytes(stream.read()).signed.expires.timestamp())
        return CachedList(FetchedList(document, signatures), usable_until=int(min(expiries)))

    def _target(self, updater: Updater, name: str, kept: bytes, limit: int, path: str) -> bytes:
        """Return a target: what is kept when it still is that, else downloaded by way of a temporary file."""
        from tuf.api.exceptions import LengthOrHashMismatchError

        info = updater.get_targetinfo(name)
        if info is None:
            raise BansUnusable(f"{self.name}: the repository has no target {name!r}")
        if info.length > limit:
            raise BansUnusable(f"{self.name}: target {name!r} is larger than {limit} bytes")
        with contextlib.suppress(LengthOrHashMismatchError):
            info.verify_length_and_hashes(kept)
            return kept
        try:
            updater.download_target(info, path)
            with open(path, "rb") as stream:
                data = stream.read()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
        info.verify_length_and_hashes(data)
        return data


class _Refused(Exception):
    """An answer came and cannot be used. Python-tuf must not take it for a download that failed."""


def _fetcher(metadata_url: str, targets_url: str, ca_file: str | None, timeout: float) -> FetcherInterface:
    """Return a fetcher for python-tuf over the one transport of this toolkit."""
    from tuf.api.exceptions import DownloadError, DownloadHTTPError
    from tuf.ngclient.fetcher import FetcherInterface

    from wcp_attest.base.url_origin import UrlOrigin
    from wcp_attest.net.https import Request, Transport
    from wcp_attest.net.https_errors import RegistryAnswerError, RegistryUnreachable

    transports = {
        UrlOrigin.of(url): Transport(url, timeout=timeout, ca_file=ca_file) for url in (metadata_url, targets_url)
    }
    deadline = time.monotonic() + timeout

    class TufFetcher(FetcherInterface):
        """Downloads whole files, bounded in size and time."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            yield self.download_bytes(url, MAX_LIST_BYTES)

        def download_bytes(self, url: str, max_length: int) -> bytes:
            if time.monotonic() > deadline:
                raise DownloadError(f"the repository took longer than {timeout:g} s")
            try:
                reply = transports[UrlOrigin.of(url)].request(Request(url, max_bytes=max_length), until=deadline)
            except RegistryUnreachable as problem:
                raise DownloadError(str(problem)) from None
            except RegistryAnswerError as problem:
                if problem.status in {403, 404}:  # how a repository says that there is no newer root
                    raise DownloadHTTPError(str(problem), problem.status) from None
                raise _Refused(str(problem)) from None
            if reply.status != 200:
                raise DownloadHTTPError(f"{url}: status {reply.status}", reply.status)
            return reply.body

        @contextlib.contextmanager
        def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
            yield io.BytesIO(self.download_bytes(url, max_length))

    return TufFetcher()
