"""Which bans hit a package: exact lookups, the same for a list in memory and for a compiled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wcp_attest.base.errors import BansUnusable
from wcp_attest.base.forge_name import ban_spelling
from wcp_attest.base.identity import namespace_of
from wcp_attest.trust.bans.ban import DIGEST_KINDS, RANK, Ban, Kind
from wcp_attest.trust.bans.versions import Specifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wcp_attest.trust.bans.document import BanList, Head
    from wcp_attest.trust.conditions import PackageFacts


class BanIndex(Protocol):
    """A list in which bans can be looked up.

    Attributes:
        head: the head of the list.
        list_sha256: the SHA-256 of the document's exact bytes, 64 lower-case hex digits.
        others: the bans that name no digest.
        names_files: whether the list bans any file.
        package_algorithms: the algorithms of the package hashes that the list bans.
    """

    head: Head
    list_sha256: str
    others: NamedSources
    names_files: bool
    package_algorithms: frozenset[str]

    def find_digest(self, kind: Kind, digest: str) -> Ban | None:
        """Return the ban of a digest, or None.

        Args:
            kind: what the digest is of: manifest, package or file.
            digest: `sha256:<hex>` or `blake3:<hex>`, 64 lower-case hex digits.

        Raises:
            BansUnusable: what was read in order to answer is damaged.
        """


class NamedSources:
    """Bans of workers, keys, identities and namespaces, by what they name.

    Args:
        bans: in any order.
    """

    def __init__(self, bans: Iterable[Ban]) -> None:
        self._by_subject: dict[tuple[Kind, str], list[tuple[Ban, Specifier | None]]] = {}
        lengths: set[int] = set()  # of the beginnings that identities are banned by
        for ban in bans:
            specifier = Specifier.parse(ban.versions) if ban.versions else None
            self._by_subject.setdefault((ban.kind, ban.subject), []).append((ban, specifier))
            if ban.kind is Kind.IDENTITY and ban.subject.endswith("*"):
                lengths.add(len(ban.subject) - 1)
        self._lengths = sorted(lengths)

    def __iter__(self) -> Iterator[Ban]:
        return (ban for found in self._by_subject.values() for ban, _ in found)

    def find(self, facts: PackageFacts) -> Iterator[Ban]:
        """Yield every ban that hits a package; one that hits by two names comes twice.

        Args:
            facts: what is known of the package.
        """
        by_subject = self._by_subject
        if not by_subject:
            return
        # 1  The worker. A ban of a worker hits its instances, which lie below its id.
        segments = facts.worker_id.split(".")
        ids = [".".join(segments[:count]) for count in range(3, len(segments) + 1)]
        for ban, specifier in (entry for each in ids for entry in by_subject.get((Kind.WORKER, each), ())):
            if specifier is None or specifier.matches(facts.worker_version):
                yield ban
        # 2  The signers: by key, and by every name of a certificate.
        for signer in facts.signers:
            if signer.key_id:
                key_id = signer.key_id if ":" in signer.key_id else f"sha256:{signer.key_id}"
                yield from (ban for ban, _ in by_subject.get((Kind.KEY, key_id), ()))
            issuer = ban_spelling(signer.issuer)
            for name in filter(None, map(ban_spelling, (signer.identity, signer.repository, *signer.names))):
                # A name is hit by itself, by its beginnings, and `…/worker` by `…/worker/*`.
                beginnings = (name[:length] + "*" for length in self._lengths if length <= len(name))
                for subject in (name, *beginnings, name + "/*"):
                    named = by_subject.get((Kind.IDENTITY, subject), ())
                    yield from (ban for ban, _ in named if ban.issuer in {"", issuer})
        # 3  The namespace.
        yield from (ban for ban, _ in by_subject.get((Kind.NAMESPACE, namespace_of(facts.worker_id)), ()))


@dataclass(slots=True)
class ListIndex:
    """A list held in memory; made by `index_list`."""

    head: Head
    list_sha256: str
    others: NamedSources
    names_files: bool
    package_algorithms: frozenset[str]
    _digests: dict[tuple[Kind, str], Ban]

    def find_digest(self, kind: Kind, digest: str) -> Ban | None:
        """Return the ban of a digest, or None.

        Args:
            kind: what the digest is of: manifest, package or file.
            digest: `sha256:<hex>` or `blake3:<hex>`, 64 lower-case hex digits.
        """
        return self._digests.get((kind, digest))


def index_list(listed: BanList, list_sha256: str) -> ListIndex:
    """Index a list in memory.

    Args:
        listed: the list.
        list_sha256: SHA-256 of the bytes it was read from, 64 lower-case hex digits.

    Returns:
        The index.
    """
    digests: dict[tuple[Kind, str], Ban] = {
        (ban.kind, ban.subject): ban for ban in listed.bans if ban.kind in DIGEST_KINDS
    }
    return ListIndex(
        head=listed.head,
        list_sha256=list_sha256,
        others=NamedSources(ban for ban in listed.bans if ban.kind not in DIGEST_KINDS),
        names_files=any(kind is Kind.FILE for kind, _ in digests),
        package_algorithms=frozenset(subject.partition(":")[0] for kind, subject in digests if kind is Kind.PACKAGE),
        _digests=digests,
    )


def find(index: BanIndex, facts: PackageFacts) -> list[Ban]:
    """Return the bans of a list that hit what is known before the tree is read, most specific first.

    Args:
        index: the list.
        facts: what is known of the package.

    Raises:
        BansUnusable: the list is damaged; or it bans packages by SHA-256, this one is hashed with another algorithm,
            and no other ban of the list hits it.
    """
    digests = (
        (Kind.MANIFEST, f"sha256:{facts.manifest_sha256}"),
        (Kind.PACKAGE, f"{facts.hash_algorithm}:{facts.package_hash}"),
    )
    found = [ban for kind, digest in digests if (ban := index.find_digest(kind, digest)) is not None]
    found += dict.fromkeys(index.others.find(facts))  # a signer may be hit by its name and by its repository
    if not found and facts.hash_algorithm != "sha256" and "sha256" in index.package_algorithms:
        raise BansUnusable(
            f"list {index.head.name} bans packages by their sha256, and this one is hashed with "
            f"{facts.hash_algorithm}: the same tree could be on the list; build it with --algorithm sha256 and sign it "
            "again"
        )
    return sorted(found, key=lambda ban: (RANK[ban.kind], bool(ban.versions)))


def find_files(index: BanIndex, files: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Ban]]:
    """Yield the path and the ban of every banned file.

    Args:
        index: the list.
        files: `(path, hex digest)`, SHA-256.

    Raises:
        BansUnusable: the list is damaged.
    """
    if not index.names_files:
        return
    for path, digest in files:
        ban = index.find_digest(Kind.FILE, f"sha256:{digest}")
        if ban is not None:
            yield path, ban
