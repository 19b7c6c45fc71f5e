"""Archives of packages: write one that is the same bytes everywhere, and take a stranger's apart safely.

Three formats, told apart by their first bytes, never by their name: tar, tar in gzip, and zip (an `.mcpb` or a wheel is
a zip). Reading is strict. What two programs could read differently is refused by name: duplicate members, a member
below a file or a link, links that leave the package, hard links, devices, sparse files, names that are not UTF-8 or
not in normal form, overlapping zip members, data after the end.

Nothing here decides whether a package may run. An archive is taken apart in a private directory, and `verify` looks at
that directory as at any other.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import closing, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.package.entries import path_problem, target_problem
from wcp_attest.package.names import folded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Format = Literal["tar", "tar.gz", "zip"]

MAX_MEMBERS: Final = 2_000_000  # as many entries as a manifest of the largest accepted size can list
MAX_HEADER_BYTES: Final = 1 << 20  # of one extended tar header; a path and a link target need 8 KiB
MAX_DIRECTORY_BYTES: Final = 1 << 28  # of a zip's central directory, which is read as a whole
MAX_EXPANSION: Final = 20  # times the size of the archive; text compresses 5 to 10 times, a bomb 1,000 times
MIN_EXPANDED: Final = 1 << 30  # bytes that any archive may expand to: small text compresses well
_BLOCK: Final = 1 << 20
_MAX_TARGET: Final = 4096  # bytes of a link's text
_ZIP_START: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
_UTF8_NAME: Final = 0x800  # general purpose bit 11 (APPNOTE.TXT 4.4.4)
_UNIX: Final = 3  # "version made by" (APPNOTE.TXT 4.4.2): the upper half of the attributes is a mode
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, checked.

    Attributes:
        path: normal form, below the root of the archive.
        kind: what it is.
        size: in bytes; 0 for links and directories.
        executable: whether any execute bit is set.
        target: of a link.
    """

    path: str
    kind: Literal["file", "directory", "link"]
    size: int = 0
    executable: bool = False
    target: str = ""


def archive_format(path: str) -> Format | None:
    """Tell by its first bytes which archive a file is; None for anything else.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            head = file.read(512)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot read {path!r}: {getattr(problem, 'strerror', None) or problem}") from None
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return "zip"
    if head[:2] == b"\x1f\x8b":
        return "tar.gz"
    return "tar" if head[257:262] == b"ustar" else None


def extract(path: str, directory: str, *, max_bytes: int | None = None) -> None:
    """Take an archive apart.

    Args:
        path: of the archive.
        directory: an empty directory that nobody else can write to; the caller removes it when this raises.
        max_bytes: how many bytes the files may have in all; by default 20 times the archive and at least 1 GiB.

    Raises:
        TreeUnsafe: a member cannot be part of a package, the archive is damaged, or it expands too far.
        ConfigError: it is no archive, or it cannot be read or written.
    """
    kind = archive_format(path)
    if kind is None:
        raise ConfigError(f"{path!r} is no archive that can be verified; it must be a tar, a tar.gz or a zip file")
    try:
        with open(path, "rb", opener=_open_regular) as file:
            if max_bytes is None:
                max_bytes = max(MIN_EXPANDED, MAX_EXPANSION * os.fstat(file.fileno()).st_size)
            members = _zip_members(file) if kind == "zip" else _tar_members(file, max_bytes, gzipped=kind == "tar.gz")
            with closing(members):
                _write_members(members, directory, max_bytes)
    except _DAMAGE as problem:
        raise TreeUnsafe(f"the archive is damaged: {str(problem)[:200] or type(problem).__name__}") from None
    except OSError as problem:
        raise ConfigError(f"cannot unpack {path!r}: {(problem.strerror or str(problem)).lower()}") from None


def copy_hashed(path: str, target: str) -> str:
    """Copy an archive to a new file and return the SHA-256 of the copy, 64 lower-case hex digits.

    Raises:
        ConfigError: it cannot be read, or the copy cannot be written.
    """
    digest = sha256()
    try:
        with open(path, "rb", opener=_open_regular) as source, open(target, "xb") as copy:
            while block := source.read(_BLOCK):
                digest.update(block)
                copy.write(block)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot read or copy {path!r}: {getattr(problem, 'strerror', None) or problem}") from None
    return digest.hexdigest()


def create(source: str, path: str, kind: Format, *, moment: int) -> None:
    """Write a directory as an archive whose bytes depend on nothing but its contents.

    Members are sorted by path and owned by nobody; files are 0644 or 0755; each carries the same time. Compressed
    bytes are the same wherever the same implementation of zlib compresses.

    Args:
        source: a directory in which nobody else writes, as `verify` stages one.
        path: of the file to write.
        kind: of archive.
        moment: the time of every member, seconds since the epoch; a zip holds none before 1980.

    Raises:
        OSError: the directory cannot be read, or the archive cannot be written.
    """
    with open(path, "xb") as file:
        if kind == "zip":
            _write_zip(source, file, moment)
        elif kind == "tar":
            _write_tar(source, file, moment)
        else:
            with gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as squeezed:
                _write_tar(source, squeezed, moment)
        file.flush()
        os.fsync(file.fileno())


def refuse_twins(path: str, seen: dict[str, str]) -> None:
    """Refuse a path that a file system without letter case, or with other Unicode forms, takes for an earlier one.

    Args:
        path: of a member.
        seen: the paths and folders before it, by what such a file system makes of them; this one is added.

    Raises:
        TreeUnsafe: it is one of two such paths, which would be unpacked over each other there.
    """
    while path:
        other = seen.setdefault(folded(path), path)
        if other != path:
            raise TreeUnsafe(
                f"the archive holds {other!a} and {path!a}, which some file systems cannot tell apart; rename"
                " one of them"
            )
        path = path.rpartition("/")[0]


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no regular file")
    return descriptor


def _write_members(members: Iterator[tuple[Member, IO[bytes] | None]], directory: str, left: int) -> None:
    links: dict[str, str] = {}
    kinds: dict[str, str] = {}
    folds: dict[str, str] = {}
    for member, data in members:
        _claim(member, kinds)
        refuse_twins(member.path, folds)
        place = os.path.join(directory, member.path)
        os.makedirs(place if member.kind == "directory" else os.path.dirname(place), exist_ok=True)
        if member.kind == "link":
            links[member.path] = member.target
        elif data is not None:
            left -= member.size
            if left < 0:
                raise TreeUnsafe("the archive expands too far for its size; `--max-size` raises the limit")
            _copy(member, data, place)
    # Links come last, so that nothing is ever written through one.
    for name, target in links.items():
        os.symlink(target, os.path.join(directory, name))


def _claim(member: Member, kinds: dict[str, str]) -> None:
    """Note a member's path and those above it; refuse what cannot stand beside what came before.

    Raises:
        TreeUnsafe: it is there already, or lies below a file or a link.
    """
    if len(kinds) >= MAX_MEMBERS:
        raise TreeUnsafe(f"the archive has more than {MAX_MEMBERS} members")
    before = kinds.get(member.path)
    if before is not None and not (before == "implied" and member.kind == "directory"):
        raise TreeUnsafe(f"the archive holds {member.path!r} twice")
    above = member.path
    while cut := above.rfind("/") + 1:
        above = above[: cut - 1]
        if (there := kinds.setdefault(above, "implied")) in {"file", "link"}:
            raise TreeUnsafe(f"the archive holds {member.path!r} below {above!r}, which is a {there}")
    kinds[member.path] = member.kind


def _copy(member: Member, data: IO[bytes], place: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags, 0o755 if member.executable else 0o644)
    with open(descriptor, "wb") as out:
        left = member.size
        while left and (block := data.read(min(left, _BLOCK))):
            out.write(block)
            left -= len(block)
        if left or data.read(1):
            raise TreeUnsafe(f"the archive is damaged: {member.path!r} does not have the size that it states")


def _checked(name: str, kind: Literal["file", "directory", "link"], **facts: object) -> Member | None:
    """Return a member, or None for the root itself.

    Raises:
        TreeUnsafe: its path or its target cannot be part of a package.
    """
    path = name.removeprefix("./").removesuffix("/") if kind == "directory" else name.removeprefix("./")
    if kind == "directory" and path in {"", "."}:
        return None
    problem = path_problem(path)
    if problem is None and kind == "link":
        problem = target_problem(path, str(facts["target"]))
    if problem is not None:
        raise TreeUnsafe(f"the archive holds {path[:200]!r}, which {problem}")
    return Member(path, kind, **facts)  # type: ignore[arg-type]  # the callers below name its fields


# tar ------------------------------------------------------------------------------------------------------------------


class _Metered(io.RawIOBase):
    """A tar stream of which no header may be read that is larger than a header needs, and no more than a limit."""

    def __init__(self, inner: IO[bytes], limit: int) -> None:
        self.inner = inner
        self.left = limit

    def read(self, size: int = -1) -> bytes:
        """Read, as a file does.

        Raises:
            TreeUnsafe: a header is larger than any path needs.
        """
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise TreeUnsafe("the archive holds a header that is larger than any path needs")
        return self.inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek; in a gzip stream that reads what lies between.

        Raises:
            TreeUnsafe: the stream expands too far.
        """
        if offset > self.left:
            raise TreeUnsafe("the archive expands too far for its size; `--max-size` raises the limit")
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the stream."""
        return self.inner.tell()


def _tar_members(
    file: IO[bytes], limit: int, *, gzipped: bool
) -> Generator[tuple[Member, IO[bytes] | None], None, None]:
    plain: IO[bytes] = gzip.GzipFile(fileobj=file) if gzipped else file  # type: ignore[assignment]
    overhead = 3 * 512 * MAX_MEMBERS
    with tarfile.open(
        fileobj=_Metered(plain, limit + overhead), mode="r:", encoding="utf-8", errors="surrogateescape"
    ) as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # its list of members would grow with the archive
            if info.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not info.issparse():
                member = _checked(info.name, "file", size=info.size, executable=bool(info.mode & 0o111))
            elif info.type == tarfile.DIRTYPE:
                member = _checked(info.name, "directory")
            elif info.type == tarfile.SYMTYPE:
                member = _checked(info.name, "link", target=info.linkname)
            else:
                raise TreeUnsafe(f"the archive holds {info.name[:200]!r}, which is no file, directory or symbolic link")
            if info.mode & (stat.S_ISUID | stat.S_ISGID) and member is not None and member.kind == "file":
                raise TreeUnsafe(f"the archive holds {member.path!r} with a set-id bit")
            if member is not None:
                yield member, tar.extractfile(info) if member.kind == "file" else None
        # The library ends in silence at a header that it cannot read; only zeros may stand behind the last member.
        plain.seek(tar.offset)
        while block := plain.read(_BLOCK):
            if block.count(0) != len(block):
                raise TreeUnsafe("the archive holds data after its end, or a member that cannot be read")


def _write_tar(source: str, file: Any, moment: int) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for member in _tree(source):
            info = tarfile.TarInfo(member.path)
            info.mtime = moment
            if member.kind != "file":
                info.type = tarfile.DIRTYPE if member.kind == "directory" else tarfile.SYMTYPE
                info.mode, info.linkname = 0o755 if member.kind == "directory" else 0o777, member.target
                tar.addfile(info)
                continue
            info.size, info.mode = member.size, 0o755 if member.executable else 0o644
            with open(os.path.join(source, member.path), "rb") as data:
                tar.addfile(info, data)


# zip ------------------------------------------------------------------------------------------------------------------


class _Directory(io.RawIOBase):
    """A zip file whose central directory may not be larger than memory allows."""

    def __init__(self, inner: IO[bytes]) -> None:
        self.inner = inner

    def read(self, size: int = -1) -> bytes:
        """Read, as a file does.

        Raises:
            TreeUnsafe: the central directory is too large.
        """
        if size > MAX_DIRECTORY_BYTES:
            raise TreeUnsafe(f"the archive's directory has more than {MAX_DIRECTORY_BYTES} bytes")
        return self.inner.read(size)

    def seekable(self) -> bool:
        """Say that it can seek."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek, as a file does."""
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self.inner.tell()


def _zip_members(file: IO[bytes]) -> Generator[tuple[Member, IO[bytes] | None], None, None]:
    with zipfile.ZipFile(_Directory(file)) as archive:
        end = 0
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            name = info.orig_filename
            # A member's data may be read by one program at one place and by another at the next: no two may overlap.
            if info.header_offset < end or info.header_offset + info.compress_size > archive.start_dir:
                raise TreeUnsafe(f"the archive holds {name[:200]!r}, which overlaps another member")
            if end == 0 and info.header_offset:
                raise TreeUnsafe("the archive holds data before its first member")
            end = info.header_offset + 30 + len(name.encode("utf-8", "surrogateescape")) + info.compress_size
            member = _zip_member(archive, info)
            if member is None:
                continue
            with archive.open(info) if member.kind == "file" else nullcontext() as data:
                yield member, data


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    name = info.orig_filename  # `filename` ends at a NUL
    if not name.isascii() and not info.flag_bits & _UTF8_NAME:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, whose name is not marked as UTF-8")
    if info.flag_bits & _ENCRYPTED:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, which is encrypted")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, packed by a method other than store and deflate")
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK} or mode & (stat.S_ISUID | stat.S_ISGID):
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, which is no plain file, directory or symbolic link")
    if name.endswith("/") or kind == stat.S_IFDIR:
        return _checked(name, "directory")
    if kind == stat.S_IFLNK:
        with archive.open(info) as data:
            target = data.read(_MAX_TARGET + 1)
        return _checked(name, "link", target=target.decode("utf-8", "surrogateescape"))
    return _checked(name, "file", size=info.file_size, executable=bool(mode & 0o111))


def _write_zip(source: str, file: IO[bytes], moment: int) -> None:
    import time

    stamp = max(_ZIP_START, time.gmtime(moment)[:6])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member in _tree(source):
            info = zipfile.ZipInfo(member.path + ("/" if member.kind == "directory" else ""), stamp)
            info.create_system = _UNIX
            if member.kind != "file":
                mode = stat.S_IFDIR | 0o755 if member.kind == "directory" else stat.S_IFLNK | 0o777
                info.external_attr = mode << 16 | (0x10 if member.kind == "directory" else 0)
                archive.writestr(info, member.target.encode())
                continue
            info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, member.size
            info.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
            with open(os.path.join(source, member.path), "rb") as data, archive.open(info, "w") as out:
                shutil.copyfileobj(data, out, _BLOCK)


def _tree(root: str, above: str = "") -> Iterator[Member]:
    """Yield what lies below a directory: files, links and empty directories, sorted by path."""
    found: list[Member] = []
    folders = [above]
    while folders:
        folder = folders.pop()
        names = sorted(os.listdir(os.path.join(root, folder)))
        if not names and folder:
            found.append(Member(folder.removesuffix("/"), "directory"))
        for name in names:
            status = os.lstat(os.path.join(root, folder + name))
            if stat.S_ISDIR(status.st_mode):
                folders.append(f"{folder}{name}/")
            elif stat.S_ISLNK(status.st_mode):
                found.append(Member(folder + name, "link", target=os.readlink(os.path.join(root, folder + name))))
            else:
                found.append(Member(folder + name, "file", status.st_size, bool(status.st_mode & 0o111)))
    yield from sorted(found, key=lambda member: member.path.encode())
