"""Look a package up in every admitted list, and refuse it with the most specific ban first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import Banned, BansUnusable
from wcp_attest.trust.bans.ban import RANK
from wcp_attest.trust.bans.lookup import find, find_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.trust.bans.ban import Ban
    from wcp_attest.trust.bans.feeds import VerifiedList
    from wcp_attest.trust.bans.lookup import BanIndex
    from wcp_attest.trust.conditions import PackageFacts

MAX_NAMED: Final = 3  # files named in a message
# Patterns of a checkout's own `.git`, which signing records by default; nothing runs from there.
NO_CODE: Final = frozenset({"/.git", "/.git/", ".git/"})


@dataclass(frozen=True, slots=True)
class Hit:
    """A ban that hits a package.

    Attributes:
        ban: the ban.
        index: the list that holds it.
        path: of the banned file, empty for other bans.
    """

    ban: Ban
    index: BanIndex
    path: str = ""

    def __str__(self) -> str:
        ban, head = self.ban, self.index.head
        where = f" in {self.path!r}" if self.path else ""
        more = f", {ban.reference}" if ban.reference else ""
        return (
            f"{ban}{where} is banned: {ban.reason} (by {ban.source} since {ban.banned_at}{more}; "
            f"list {head.name} version {head.version})"
        )


class Bans:
    """The lists of a policy, verified; a `BanCheck`.

    Args:
        opened: the lists, at least one.

    Attributes:
        opened: the lists.
        versions: which issue of each list was opened: `acme-soc=7, acme-ci=12`.

    Raises:
        BansUnusable: there is none.
    """

    def __init__(self, opened: Sequence[VerifiedList]) -> None:
        if not opened:
            raise BansUnusable("no ban list was opened")
        self.opened: Final = tuple(opened)
        self.versions: Final = ", ".join(f"{each.index.head.name}={each.index.head.version}" for each in opened)

    def hits(self, facts: PackageFacts) -> tuple[Hit, ...]:
        """Return every ban that hits what is known of a package before its files, most specific first.

        Args:
            facts: what is known of the package.

        Raises:
            BansUnusable: a list is damaged, or bans what cannot be looked up in this package.
        """
        found: list[Hit] = []
        unknown: BansUnusable | None = None
        for each in self.opened:
            try:
                found += [Hit(ban, each.index) for ban in find(each.index, facts)]
            except BansUnusable as problem:  # a ban of another list says more
                unknown = unknown or problem
        if unknown is not None and not found:
            raise unknown
        files = next((each.index.head.name for each in self.opened if each.index.names_files), None)
        excludes = [pattern for pattern in facts.excludes if pattern not in NO_CODE]
        if files is not None and excludes and not found:
            raise BansUnusable(
                f"list {files} bans files, and the package leaves {excludes[0]!r} out of its manifest: what lies there "
                "was not compared with the list; sign the package without excludes"
            )
        return tuple(sorted(found, key=lambda hit: (RANK[hit.ban.kind], bool(hit.ban.versions))))

    def file_hits(self, files: Iterable[tuple[str, str]], algorithm: HashAlgorithm) -> tuple[Hit, ...]:
        """Return every ban that hits a file.

        Args:
            files: `(path, digest)`, digests as 64 lower-case hex digits.
            algorithm: of the digests.

        Raises:
            BansUnusable: a list is damaged, or bans files and the digests are of another algorithm than its own.
        """
        indexes = [each.index for each in self.opened if each.index.names_files]
        if indexes and algorithm != "sha256":
            raise BansUnusable(
                f"list {indexes[0].head.name} bans files by their sha256, and this package is hashed with {algorithm}; "
                "build it with --algorithm sha256 and sign it again"
            )
        listed = list(files) if len(indexes) > 1 else files
        return tuple(Hit(ban, index, path) for index in indexes for path, ban in find_files(index, listed))

    def check_before(self, facts: PackageFacts) -> None:
        """Refuse a package that a ban names.

        Args:
            facts: what is known of the package.

        Raises:
            Banned: a ban names it; the message names the three most specific ones.
            BansUnusable: as `hits`.
        """
        _refuse(self.hits(facts))

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: HashAlgorithm) -> None:
        """Refuse a package that holds a banned file.

        Args:
            files: `(path, digest)`, digests as 64 lower-case hex digits.
            algorithm: of the digests.

        Raises:
            Banned: a ban names a file.
            BansUnusable: as `file_hits`.
        """
        _refuse(self.file_hits(files, algorithm))


def _refuse(hits: Sequence[Hit]) -> None:
    if not hits:
        return
    others = len(hits) - MAX_NAMED
    named = "; ".join(str(hit) for hit in hits[:MAX_NAMED])
    raise Banned(named + (f"; and {others} more" if others > 0 else ""))
