"""Which list is admitted: it is signed by signers that the policy names, fresh, and not older than one seen before.

Every check of a list is here; a source only brings bytes. A list that is not admitted is an error, so a missing list
never counts as "no bans".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable
from wcp_attest.base.identity import format_utc
from wcp_attest.trust.bans.document import MAX_CLOCK_SKEW, BanList
from wcp_attest.trust.bans.lookup import index_list
from wcp_attest.trust.bans.rollback_guard import RollbackGuard, Seen

if TYPE_CHECKING:
    from wcp_attest.trust.bans.document import Head
    from wcp_attest.trust.bans.lookup import BanIndex
    from wcp_attest.trust.bans.signed_list import ListSigners

MAX_MEMO: Final = 16  # lists kept parsed: one a source and the one before, more or less


class PairMismatch(BansUnusable):
    """A list and signatures that do not belong together; a publisher may be between the two files."""


@dataclass(frozen=True, slots=True)
class FetchedList:
    """A list as a source brought it.

    Attributes:
        document: the bytes of the list.
        signatures: the bytes of its signature file; None where the policy trusts the source without signatures.
    """

    document: bytes
    signatures: bytes | None


@dataclass(frozen=True, slots=True)
class ListVerifier:
    """The conditions under which lists are admitted.

    Attributes:
        signers: who may sign; None where no source's list needs a signature.
        max_age: seconds since its issue after which a list is too old, even if it says that it expires later.
        seen: remembers the issues of each list that were seen before.
        now: seconds since the epoch.
        memo: lists parsed before, by the SHA-256 of their bytes; a program that verifies often parses a list once.
    """

    signers: ListSigners | None
    max_age: int
    seen: RollbackGuard
    now: float
    memo: dict[str, BanIndex] = field(default_factory=dict)

    def admit(self, source: str, copy: FetchedList) -> BanIndex:
        """Admit a list that is read into memory.

        Args:
            source: the source's stable name.
            copy: what it brought.

        Returns:
            The list, in which bans can be looked up.

        Raises:
            PairMismatch: the signatures are over another list.
            BansUnusable: unsigned, malformed, stale, or rolled back.
        """
        digest = sha256(copy.document).hexdigest()
        said = None if copy.signatures is None else self.signed(source, copy.signatures)
        if said is not None and said.list_sha256 != digest:
            raise PairMismatch(
                f"{source}: the signatures are over another list than this one; fetch or sign both again"
            )
        index = self.parse(source, copy.document, digest)
        if said is not None and said.head != index.head:
            raise BansUnusable(f"{source}: the signed statement and the list differ in name, version or times")
        self.admit_head(source, Seen(index.head, digest))
        return index

    def parse(self, source: str, document: bytes, digest: str) -> BanIndex:
        """Parse a list, or return it as parsed before.

        Args:
            source: the source's stable name, for messages.
            document: the bytes of the list.
            digest: its SHA-256, 64 lower-case hex digits.

        Returns:
            The list, in which bans can be looked up.

        Raises:
            BansUnusable: it is malformed.
        """
        known = self.memo.get(digest)
        if known is None:
            known = index_list(BanList.from_bytes(document, what=source), digest)
            if len(self.memo) >= MAX_MEMO:
                self.memo.clear()
            self.memo[digest] = known
        return known

    def belong_together(self, source: str, copy: FetchedList) -> bool:
        """Tell whether the signatures of a copy are valid and over its own document.

        Args:
            source: the source's stable name.
            copy: what it brought.
        """
        try:
            said = self.signed(source, copy.signatures or b"")
        except BansUnusable:
            return False
        return said.list_sha256 == sha256(copy.document).hexdigest()

    def signed(self, source: str, signatures: bytes) -> Seen:
        """Return what the signers of a list say of it.

        Args:
            source: the source's stable name.
            signatures: the bytes of the signature file.

        Returns:
            Head and digest of the list they signed.

        Raises:
            BansUnusable: the policy names no signer of lists, or too few of them have signed.
        """
        if self.signers is None:
            raise BansUnusable(f"{source}: the policy names no signer of ban lists; name one as [[bans.signer]]")
        return self.signers.verify(signatures, what=f"{source}.sig")

    def admit_head(self, source: str, seen: Seen) -> None:
        """Check that a list is fresh and follows what was seen before, and remember it.

        Args:
            source: the source's stable name.
            seen: head and digest of the list.

        Raises:
            BansUnusable: stale, dated in the future, or rolled back.
        """
        self.check_fresh(source, seen.head)
        try:
            self.seen.accept(source, seen)
        except BansUnusable as problem:
            raise BansUnusable(f"{source}: {problem}") from None

    def check_fresh(self, source: str, head: Head) -> None:
        """Check a list's times.

        Args:
            source: the source's stable name, for messages.
            head: of the list.

        Raises:
            BansUnusable: it has expired, is older than `max_age`, or is dated in the future.
        """
        what = f"{source}: list `{head.name}` version {head.version}"
        if head.issued_at > self.now + MAX_CLOCK_SKEW:
            raise BansUnusable(f"{what} is dated {format_utc(head.issued_at)}, which is in the future; check the clock")
        if self.now >= head.expires_at:
            raise BansUnusable(f"{what} is stale: it expired at {format_utc(head.expires_at)}")
        if self.now - head.issued_at > self.max_age:
            raise BansUnusable(f"{what} is stale: issued at {format_utc(head.issued_at)}, older than max_age allows")
