"""A list compiled for lookup: sorted digests, mapped into memory. It opens in milliseconds, however long it is.

    offset 0      8   magic `WCPBANS\\x01`
           8      4   length of the header, big-endian
          12     32   SHA-256 of the header
          44          the header: JSON, padded with zeros to 4096 bytes in all
        4096          records of 40 bytes, ordered by kind, algorithm and digest:
                          32 bytes digest, 8 bytes big-endian offset into the details
                      the details: a line of JSON for each distinct reason, time, source and reference
                      the other bans: a line of JSON for each ban that names no digest

The header names the SHA-256 of the list it was made from, and the list's own head. The verifier compares both with the
signed ones, so an old compiled form is not taken for the signed list. It is a local file of the operator, and is
refused when another user could have written it. Opening it checks the header and the sizes. A lookup checks the order
of the records that it reads. `check_body` reads and checks all of it.
"""

from __future__ import annotations

import mmap
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.digest import is_hex_digest
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk.files import blame
from wcp_attest.disk.private_files import open_regular
from wcp_attest.trust.bans.ban import Ban, Kind, ban_from_json
from wcp_attest.trust.bans.document import Head
from wcp_attest.trust.bans.lookup import NamedSources

if TYPE_CHECKING:
    from types import TracebackType

    from wcp_attest.base.strictjson import JsonObject, JsonValue

SCHEMA: Final = "wcp.bans.compiled.v1"
MAGIC: Final = b"WCPBANS\x01"
HEADER_BYTES: Final = 4096  # one page; the header itself needs some hundred bytes
PREFIX_BYTES: Final = 44
RECORD: Final = 40
DIGEST: Final = 32
MAX_OTHERS_BYTES: Final = 64 << 20  # read at opening, hence the bound of a list read in memory
MAX_DETAIL_BYTES: Final = 32 << 10  # above the longest ban there can be, in escaped characters
MAX_KNOWN: Final = 1024  # details kept parsed
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Section:
    """The records of one kind and algorithm.

    Attributes:
        kind: of the bans: manifest, package or file.
        algorithm: of the digests: `sha256` or `blake3`.
        count: number of records.
    """

    kind: Kind
    algorithm: str
    count: int


@dataclass(frozen=True, slots=True)
class CompiledHeader:
    """What stands at the beginning of a compiled list.

    Attributes:
        head: of the list it was made from.
        list_sha256: of that list's bytes, 64 lower-case hex digits.
        body_sha256: of everything after the header's 4096 bytes, 64 lower-case hex digits.
        sections: in the order of the records.
        details: length of the details in bytes.
        others: length of the other bans in bytes.
    """

    head: Head
    list_sha256: str
    body_sha256: str
    sections: tuple[Section, ...]
    details: int
    others: int

    @property
    def details_at(self) -> int:
        """Where the details begin."""
        return HEADER_BYTES + RECORD * sum(section.count for section in self.sections)

    def to_bytes(self) -> bytes:
        """Return the first 4096 bytes of the file, in the form of this module's description."""
        value: JsonObject = {
            "schema_version": SCHEMA,
            **self.head.to_json(),
            "list_sha256": self.list_sha256,
            "body_sha256": self.body_sha256,
            "sections": [[str(each.kind), each.algorithm, each.count] for each in self.sections],
            "details": self.details,
            "others": self.others,
        }
        text = strictjson.dumps(value)
        return (MAGIC + len(text).to_bytes(4, "big") + sha256(text).digest() + text).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes, size: int | None = None) -> CompiledHeader:
        """Read the first 4096 bytes of the file.

        Args:
            data: these bytes.
            size: of the whole file in bytes; None does not compare it.

        Returns:
            The header.

        Raises:
            ConfigError: they are not those of a compiled list, or damaged; or the file has another size than they say.
        """
        # 1  The header's own digest, then its JSON.
        length = int.from_bytes(data[8:12], "big")
        text = data[PREFIX_BYTES : PREFIX_BYTES + length]
        if data[:8] != MAGIC or len(text) != length or sha256(text).digest() != data[12:PREFIX_BYTES]:
            raise ConfigError("it is not a compiled ban list, or its header is damaged")
        value = strictjson.loads_object(text, what="the header", max_bytes=HEADER_BYTES)
        if value.get("schema_version") != SCHEMA:
            raise ConfigError(f"its schema is not {SCHEMA}")
        # 2  The digests and the sections of records.
        digests = [value.get(field) for field in ("list_sha256", "body_sha256")]
        if not all(isinstance(text, str) and is_hex_digest(text) for text in digests):
            raise ConfigError("its header is malformed")
        sections = _sections(value.get("sections"))
        details, others = (_natural(value.get(field)) for field in ("details", "others"))
        header = cls(Head.from_json(value), str(digests[0]), str(digests[1]), sections, details, others)
        # 3  The size that follows from all of it.
        right = header.details_at + details + others
        if size is not None and size != right:
            raise ConfigError(f"it has {size} bytes instead of {right}: truncated or damaged")
        return header


class CompiledBans(AbstractContextManager["CompiledBans"]):
    """An open compiled list; close it, or use it as a context manager. Safe to use from several threads.

    Args:
        path: of the file, for messages.
        header: its header.
        view: the whole file, mapped into memory.

    Attributes:
        head: the head of the list it was made from.
        list_sha256: the SHA-256 of that list, 64 lower-case hex digits.
        others: the bans that name no digest.
        names_files: whether the list bans any file.
        package_algorithms: the algorithms of the package hashes that the list bans.

    Raises:
        ConfigError: a ban that names no digest is malformed, or there are too many of them.
    """

    def __init__(self, path: str, header: CompiledHeader, view: mmap.mmap) -> None:
        self._path, self._header, self._view = path, header, view
        self._starts: dict[tuple[Kind, str], tuple[int, int]] = {}
        self._known: dict[tuple[Kind, int], Ban] = {}
        start = HEADER_BYTES
        for section in header.sections:
            self._starts[section.kind, section.algorithm] = start, section.count
            start += RECORD * section.count
        self.head, self.list_sha256 = header.head, header.list_sha256
        self.names_files = any(section.kind is Kind.FILE for section in header.sections)
        self.package_algorithms = frozenset(
            each.algorithm for each in header.sections if each.kind is Kind.PACKAGE and each.count
        )
        if header.others > MAX_OTHERS_BYTES:
            raise ConfigError(f"it holds more than {MAX_OTHERS_BYTES} bytes of bans that name no digest")
        begin = header.details_at + header.details
        self.others = NamedSources(
            ban_from_json(strictjson.loads(line, what="a ban", max_bytes=MAX_DETAIL_BYTES))
            for line in view[begin : begin + header.others].splitlines()
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CompiledBans:
        """Open a compiled list and check its header and size.

        Args:
            path: of the file.

        Returns:
            The list; the caller closes it.

        Raises:
            BansUnusable: it is missing, unreadable, not a regular file, could have been written by another user, is
                not a compiled list, damaged or truncated.
            MachineError: this machine is at fault.
        """
        path = os.fspath(path)
        descriptor = open_regular(path, f"compiled ban list `{path}`", private=True)
        try:
            size = os.fstat(descriptor).st_size
            header = CompiledHeader.from_bytes(os.pread(descriptor, HEADER_BYTES, 0), size)
            return cls(path, header, mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        except (ConfigError, OSError) as problem:
            raise blame(problem, BansUnusable)(f"compiled ban list `{path}`: {problem}; compile it again") from None
        finally:
            os.close(descriptor)

    def __len__(self) -> int:
        return sum(section.count for section in self._header.sections)

    def find_digest(self, kind: Kind, digest: str) -> Ban | None:
        """Return the ban of a digest, or None.

        Args:
            kind: what the digest is of.
            digest: `sha256:<hex>` or `blake3:<hex>`, 64 lower-case hex digits.

        Raises:
            BansUnusable: the records or details that were read are damaged.
        """
        algorithm, _, text = digest.partition(":")
        view, key = self._view, bytes.fromhex(text)
        # 1  Bisect the records of this kind; each one that is read must lie between its neighbours read before.
        start, count = self._starts.get((kind, algorithm), (0, 0))
        low, high, at = 0, count, 0
        floor, ceiling = b"", b"\xff" * (DIGEST + 1)
        while low < high and not at:
            middle = (low + high) >> 1
            record = start + middle * RECORD
            probe = view[record : record + DIGEST]
            if not floor < probe < ceiling:
                raise self._damaged(f"record {middle} is out of order")
            if probe < key:
                low, floor = middle + 1, probe
            elif probe > key:
                high, ceiling = middle, probe
            else:
                at = record
        if not at:
            return None
        # 2  Its details. Many bans share theirs, so those of the last few are kept.
        offset = int.from_bytes(view[at + DIGEST : at + RECORD], "big")
        known = self._known.get((kind, offset))
        if known is None:
            begin, end = self._header.details_at + offset, self._header.details_at + self._header.details
            end = view.find(b"\n", begin, min(begin + MAX_DETAIL_BYTES, end))
            if end < 0:
                raise self._damaged(f"the details of {digest} are missing")
            try:
                value = strictjson.loads_object(view[begin:end], what="details", max_bytes=MAX_DETAIL_BYTES)
                known = ban_from_json({"kind": str(kind), "subject": digest, **value})
            except ConfigError as problem:
                raise self._damaged(str(problem)) from None
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[kind, offset] = known
        return replace(known, subject=digest)

    def check_body(self) -> None:
        """Read all of it and compare it with the digest in the header.

        Raises:
            BansUnusable: it is damaged.
        """
        hasher = sha256()
        for start in range(HEADER_BYTES, len(self._view), _BLOCK):
            hasher.update(self._view[start : start + _BLOCK])
        if hasher.hexdigest() != self._header.body_sha256:
            raise self._damaged("its body is not what the header says")

    def close(self) -> None:
        """Unmap the file."""
        self._view.close()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _damaged(self, why: str) -> BansUnusable:
        return BansUnusable(f"compiled ban list `{self._path}` is damaged: {why}; compile it again")


def _sections(listed: JsonValue) -> tuple[Section, ...]:
    """Read which records there are, in their order.

    Raises:
        ConfigError: it is malformed, or names the same records twice.
    """
    if not isinstance(listed, list):
        raise ConfigError("its header is malformed")
    sections: list[Section] = []
    for each in listed:
        match each:
            case [("manifest" | "package" | "file") as kind, ("sha256" | "blake3") as algorithm, count]:
                sections.append(Section(Kind(kind), algorithm, _natural(count)))
            case _:
                raise ConfigError("its header is malformed")
    if len({(section.kind, section.algorithm) for section in sections}) != len(sections):
        raise ConfigError("its header names the same records twice")
    return tuple(sections)


def _natural(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ConfigError("its header is malformed")
    return value
