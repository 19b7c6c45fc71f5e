"""Compile a list in one pass over its lines, in bounded memory.

A list of at most 64 MiB is read whole, in any layout. A larger one must be in the layout that is written
(`wcp_attest.trust.bans.document`), one ban a line and sorted, and is read line by line.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import IO, TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk.overwrite import OutputKind, check_place
from wcp_attest.disk.private_files import open_regular
from wcp_attest.trust.bans.ban import DIGEST_KINDS, RANK, Kind, ban_from_json
from wcp_attest.trust.bans.compiled import HEADER_BYTES, MAX_OTHERS_BYTES, CompiledBans, CompiledHeader, Section
from wcp_attest.trust.bans.document import MAX_LIST_BYTES, MAX_SOURCE_BYTES, BanList, Head, check_shape, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.digest import Hasher

MAX_LINE_BYTES: Final = 32 << 10  # above the longest ban there can be, in escaped characters
MAX_SHARED: Final = 200_000  # distinct details remembered to be written once; bounds the memory
_HEAD_LINES: Final = 7  # of the layout: up to and with `"bans":[`
# A ban of a digest in the layout. What follows the digest is the same for many, and is checked once.
_DIGEST_LINE = re.compile(
    rb'\{"kind":"(manifest|package|file)","subject":"(sha256|blake3):([0-9a-f]{64})",("reason":.*\})\Z'
)


@dataclass(slots=True)
class _CompiledOutput:
    """The three regions of the body as they grow."""

    records: IO[bytes]
    details: IO[bytes]
    sections: list[Section] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    shared: dict[bytes, int] = field(default_factory=dict)
    details_length: int = 0
    others_length: int = 0
    last: tuple[object, ...] = ()

    def add(self, line: bytes) -> None:
        """Take one ban in the layout's spelling.

        Raises:
            ConfigError: it is malformed, out of order or a duplicate.
        """
        found = _DIGEST_LINE.match(line)
        if found is None:
            ban = ban_from_json(strictjson.loads(line, what="a ban", max_bytes=MAX_LINE_BYTES))
            if ban.kind in DIGEST_KINDS:
                raise ConfigError("a ban is not in the layout that is written")
            self._in_order(*ban.sort_key())
            self.others_length += len(line) + 1
            if self.others_length > MAX_OTHERS_BYTES:
                raise ConfigError(f"more than {MAX_OTHERS_BYTES} bytes of bans that name no digest")
            self.others.append(line + b"\n")
            return
        kind, algorithm, digest = Kind(found[1].decode()), found[2].decode(), found[3]
        self._in_order(RANK[kind], algorithm, digest)
        rest = b"{" + found[4]
        key = found[1] + found[2] + rest
        offset = self.shared.get(key)
        if offset is None:
            ban_from_json(strictjson.loads(line, what="a ban", max_bytes=MAX_LINE_BYTES))
            offset = self.details_length
            self.details_length += self.details.write(rest + b"\n")
            if len(self.shared) < MAX_SHARED:
                self.shared[key] = offset
        self.records.write(bytes.fromhex(digest.decode()) + offset.to_bytes(8, "big"))
        last = self.sections[-1] if self.sections else None
        if last is None or (last.kind, last.algorithm) != (kind, algorithm):
            self.sections.append(Section(kind, algorithm, 1))
        else:
            self.sections[-1] = Section(kind, algorithm, last.count + 1)

    def _in_order(self, *key: object) -> None:
        if not self.last < key:
            raise ConfigError("the bans are not sorted, or one stands twice")
        self.last = key


def compile_list(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> CompiledHeader:
    """Compile a list into a file, which is replaced as a whole or not at all.

    Args:
        source: path of the list: at most 16 GiB, and above 64 MiB in the layout that is written.
        target: path of the compiled form, readable by its owner only. Its folder takes two temporary files meanwhile.

    Returns:
        The header of what was written.

    Raises:
        BansUnusable: the list is malformed, too large, or large and not in the layout that is written.
        ConfigError: a file cannot be read or written, or what stands at `target` is no compiled list.
    """
    source, target = os.fspath(source), os.fspath(target)
    check_place(target, COMPILED)
    try:
        with open(_opened(source), "rb") as stream:
            return _compile(stream, source, target)
    except OSError as problem:
        raise ConfigError(f"cannot compile `{source}` to `{target}`: {problem.strerror or problem}") from None


def _opened(source: str) -> int:
    """Open a list that the command line names: a file that cannot be read is a mistake there, not a list to refuse."""
    try:
        return open_regular(source, f"the ban list `{source}`", follow=True)
    except BansUnusable as problem:
        raise ConfigError(str(problem)) from None


def _is_compiled(data: bytes) -> bool:
    try:
        CompiledHeader.from_bytes(data[:HEADER_BYTES])
    except ConfigError:
        return False
    return True


COMPILED: Final = OutputKind("a compiled ban list", _is_compiled, HEADER_BYTES)


def check_compiled(source: str, target: str) -> None:
    """Check that a compiled list is whole and was made from a list as that is now.

    Args:
        source: path of the list.
        target: path of the compiled form.

    Raises:
        BansUnusable: it is damaged, or was made from another list.
        ConfigError: the list cannot be read.
    """
    hasher = sha256()
    try:
        with open(_opened(source), "rb") as stream:
            while block := stream.read(1 << 20):
                hasher.update(block)
    except OSError as problem:
        raise ConfigError(f"cannot read `{source}`: {problem.strerror}") from None
    with CompiledBans.open(target) as compiled:
        if compiled.list_sha256 != hasher.hexdigest():
            raise BansUnusable(f"`{target}` was not made from `{source}` as it is now; compile it again")
        compiled.check_body()


def _compile(stream: IO[bytes], source: str, target: str) -> CompiledHeader:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_SOURCE_BYTES:
        raise BansUnusable(f"`{source}` is larger than {MAX_SOURCE_BYTES} bytes")
    if size <= MAX_LIST_BYTES:
        data = stream.read(MAX_LIST_BYTES + 1)
        listed = BanList.from_bytes(data, what=f"`{source}`")
        hasher: Hasher = sha256(data)
        lines: Iterator[bytes] = iter(b"".join(layout(listed.head, listed.bans)).splitlines(keepends=True))
    else:
        hasher = sha256()
        lines = _hashed(stream, hasher)
    directory = os.path.dirname(os.path.abspath(target))
    with tempfile.TemporaryFile(dir=directory) as details:
        return _write(lines, hasher, details, target=target, source=source)


def _hashed(stream: IO[bytes], hasher: Hasher) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE_BYTES):
        hasher.update(line)
        yield line


def _write(lines: Iterator[bytes], hasher: Hasher, details: IO[bytes], *, target: str, source: str) -> CompiledHeader:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(target)), prefix=".compiling-")
    try:
        with open(descriptor, "w+b", buffering=1 << 20) as records:
            records.write(bytes(HEADER_BYTES))
            output = _CompiledOutput(records, details)
            try:
                head = _parse(lines, output)
            except ConfigError as problem:
                raise BansUnusable(
                    f"`{source}`: {problem}; a list this large must be as `wcp-attest ban` writes it"
                ) from None
            header = _finish(output, head, hasher.digest().hex())
            os.fsync(records.fileno())
        check_place(target, COMPILED)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return header


def _parse(lines: Iterator[bytes], output: _CompiledOutput) -> Head:
    first = b"".join(islice(lines, _HEAD_LINES))
    value = strictjson.loads_object(first + b"]}", what="the head", max_bytes=HEADER_BYTES)
    check_shape(value)
    head = Head.from_json(value)
    comma = True
    for line in lines:
        if line == b"]\n":
            break
        if not comma or not line.endswith(b"\n"):
            raise ConfigError("a comma is missing, or a line is too long")
        text = line[:-1]
        comma = text.endswith(b",")
        output.add(text[:-1] if comma else text)
    if next(lines, b"") != b"}\n" or next(lines, None) is not None or (comma and output.last):
        raise ConfigError("it does not end as it should")
    return head


def _finish(output: _CompiledOutput, head: Head, list_sha256: str) -> CompiledHeader:
    """Append details and other bans to the records, hash the body, and write the header before it."""
    records, details = output.records, output.details
    details.seek(0)
    shutil.copyfileobj(details, records)
    records.writelines(output.others)
    records.seek(HEADER_BYTES)
    body = sha256()
    while block := records.read(1 << 20):
        body.update(block)
    header = CompiledHeader(
        head=head,
        list_sha256=list_sha256,
        body_sha256=body.hexdigest(),
        sections=tuple(output.sections),
        details=output.details_length,
        others=output.others_length,
    )
    records.seek(0)
    records.write(header.to_bytes())
    records.flush()
    return header
