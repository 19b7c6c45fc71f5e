"""The facts of a package that a ban can name, and the questions that `verify` asks every condition of a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.signing import SignedBy


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What is known of a package once its signatures hold and its manifest is parsed, before the tree is read.

    Attributes:
        manifest_sha256: of the exact bytes of `manifest.json`, 64 lower-case hex digits.
        package_hash: 64 lower-case hex digits, in `hash_algorithm`.
        hash_algorithm: of the package hash and of the file digests.
        worker_id: as the manifest names it; its namespace is derived from it.
        worker_version: as the manifest names it.
        signers: every signer whose signature holds, counted or not, of any namespace, and every other one that a line
            names. The order of the lines must not decide whether a ban hits.
        excludes: the patterns that the signed manifest leaves out of what it covers.
    """

    manifest_sha256: str
    package_hash: str
    hash_algorithm: HashAlgorithm
    worker_id: str
    worker_version: str
    signers: tuple[SignedBy, ...] = ()
    excludes: tuple[str, ...] = ()


class BanCheck(Protocol):
    """A source of bans: it says whether a package is banned. `verify` calls both methods for every package.

    The manifest is signed and the tree must match it, so `verify` hands the digests of the manifest's entries to
    `check_files` before the tree is read; no file needs to be opened to know that it is banned.
    """

    def check_before(self, facts: PackageFacts) -> None:
        """Refuse a package that a ban names.

        Args:
            facts: what is known of the package.

        Raises:
            Banned: a ban names the manifest, package, worker, version, a signer or the namespace.
            BansUnusable: a list that the policy asks for cannot be relied on; nothing is known.
        """

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: HashAlgorithm) -> None:
        """Refuse a package that holds a banned file.

        Args:
            files: `(path, digest)` of every file, digests as 64 lower-case hex digits.
            algorithm: of the digests.

        Raises:
            Banned: a ban names one of the files.
            BansUnusable: file bans exist in an algorithm other than `algorithm`, so that absence proves nothing.
        """
