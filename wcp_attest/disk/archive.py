"""Archives of packages: write one whose bytes are the same everywhere, and unpack a stranger's safely.

There are three formats: tar, tar in gzip, and zip (an `.mcpb` or a wheel is a zip). The first bytes of a file tell its
format; its name does not. Reading is strict: what two programs could read differently is refused. That is a duplicate
member, a member below a file or a link, a link that leaves the package, a hard link, a device, a sparse file, a name
that is not UTF-8 or not in normal form, zip members that overlap or whose two headers differ, and data that belongs to
no member.

Nothing here decides whether a package may run. An archive is unpacked into a private directory, and `verify` checks
that directory like any other. Formats: POSIX.1-2017 pax, RFC 1952 (gzip), PKWARE APPNOTE.TXT 6.3 (zip).
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
from wcp_attest.disk.directory import CREATE_FLAGS, describe_os_error
from wcp_attest.disk.zip_layout import ENCRYPTED, UTF8_NAME, check_layout
from wcp_attest.package.entries import path_problem, target_problem
from wcp_attest.package.names import folded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Format = Literal["tar", "tar.gz", "zip"]

MAX_MEMBERS: Final = 2_000_000  # as many entries as a manifest of the largest accepted size can list
MAX_HEADER_BYTES: Final = 1 << 20  # of one extended tar header; a path and a link target need 8 KiB
MAX_DIRECTORY_BYTES: Final = 1 << 28  # of a zip's central directory, which is read as a whole
MAX_EXPANSION: Final = 20  # times the size of the archive: text compresses 5 to 10 times, a bomb 1,000 times
MIN_EXPANDED: Final = 1 << 30  # bytes to which any archive may expand: small text compresses well
_BLOCK: Final = 1 << 20
_MAX_TARGET: Final = 4096  # bytes of a link's text
_ZIP_START: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
_UNIX: Final = 3  # "version made by" (APPNOTE.TXT 4.4.2): the upper half of the attributes is a mode
_SINGULAR: Final = frozenset({"path", "linkpath", "size"})  # each member has its own (POSIX.1-2017, pax)
_TOO_FAR: Final = "the archive expands too far for its size; `--max-size` raises the limit"
_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
    OverflowError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, checked.

    Attributes:
        path: relative to the root of the archive, in normal form (`package.entries.path_problem`).
        kind: what it is.
        size: in bytes; 0 for links and directories.
        executable: whether any execute bit is set.
        target: the text of a link, else empty.
    """

    path: str
    kind: Literal["file", "directory", "link"]
    size: int = 0
    executable: bool = False
    target: str = ""


def archive_format(path: str) -> Format | None:
    """Tell by its first bytes which kind of archive a file is.

    Args:
        path: of the file; a symbolic link is followed.

    Returns:
        The format, or None for any other file.

    Raises:
        ConfigError: it cannot be read, or is not a regular file.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            head = file.read(512)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot read {path!r}: {describe_os_error(problem)}") from None
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return "zip"
    if head[:2] == b"\x1f\x8b":
        return "tar.gz"
    return "tar" if head[257:262] == b"ustar" else None


def extract(path: str, directory: str, *, max_bytes: int | None = None) -> None:
    """Unpack an archive.

    Args:
        path: of the archive.
        directory: an empty directory that nobody else can write to; the caller removes it when this raises.
        max_bytes: how many bytes the files may have together; by default 20 times the archive and at least 1 GiB.

    Raises:
        TreeUnsafe: a member cannot be part of a package, the archive is damaged, or it expands too far.
        ConfigError: it is not an archive, or it cannot be read or written.
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
        raise ConfigError(f"cannot unpack {path!r}: {describe_os_error(problem)}") from None


def copy_hashed(path: str, target: str) -> str:
    """Copy an archive to a new file.

    Args:
        path: of the archive.
        target: path of the copy; it must not exist.

    Returns:
        The SHA-256 of the copy, 64 lower-case hex digits.

    Raises:
        ConfigError: the archive cannot be read, or the copy cannot be written.
    """
    digest = sha256()
    try:
        with open(path, "rb", opener=_open_regular) as source, open(target, "xb") as copy:
            while block := source.read(_BLOCK):
                digest.update(block)
                copy.write(block)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot read or copy {path!r}: {describe_os_error(problem)}") from None
    return digest.hexdigest()


def create(source: str, path: str, kind: Format, *, moment: int) -> None:
    """Write a directory as an archive whose bytes depend only on its contents.

    Members are sorted by path and have user and group 0; files are 0644 or 0755; every member has the same time.
    Compressed bytes are the same wherever the same implementation of zlib compresses.

    Args:
        source: a directory in which nobody else writes, such as a verified copy.
        path: of the file to write; it must not exist.
        kind: the format of the archive.
        moment: the time of every member, in seconds since the Unix epoch; in a zip, at least 1980.

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
    """Refuse a path that some file systems cannot tell from an earlier one, by case or Unicode form.

    Such a file system would unpack one of the two over the other.

    Args:
        path: of a member.
        seen: the paths and directories before it, by their folded form (`package.names.folded`). This one is added.

    Raises:
        TreeUnsafe: there is such an earlier path.
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
        raise ValueError("it is not a regular file")
    return descriptor


def _write_members(members: Iterator[tuple[Member, IO[bytes] | None]], directory: str, left: int) -> None:
    links: dict[str, str] = {}
    kinds: dict[str, str] = {}
    folds: dict[str, str] = {}
    for member, data in members:
        _refuse_overlap(member, kinds)
        refuse_twins(member.path, folds)
        # Write it. Links come last, so that nothing is ever written through one.
        place = os.path.join(directory, member.path)
        os.makedirs(place if member.kind == "directory" else os.path.dirname(place), exist_ok=True)
        if member.kind == "link":
            links[member.path] = member.target
        elif data is not None:
            left -= member.size
            if left < 0:
                raise TreeUnsafe(_TOO_FAR)
            _copy(member, data, place)
    for name, target in links.items():
        os.symlink(target, os.path.join(directory, name))


def _refuse_overlap(member: Member, kinds: dict[str, str]) -> None:
    """Refuse a member where another is already, or below a file or a link; or one more than are allowed.

    Args:
        member: the next one.
        kinds: of the members and directories before it, by path. Those of this one are added.
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
    descriptor = os.open(place, CREATE_FLAGS, 0o755 if member.executable else 0o644)
    with open(descriptor, "wb") as out:
        left = member.size
        while left and (block := data.read(min(left, _BLOCK))):
            out.write(block)
            left -= len(block)
        if left or data.read(1):
            raise TreeUnsafe(f"the archive is damaged: {member.path!r} does not have the size that it states")


def _checked(name: str, kind: Literal["file", "directory", "link"], **facts: object) -> Member | None:
    """Return a member, or None for the root itself; refuse one whose path or target no package can hold."""
    path = name.removeprefix("./").removesuffix("/") if kind == "directory" else name.removeprefix("./")
    if kind == "directory" and path in {"", "."}:
        return None
    problem = path_problem(path)
    if problem is None and kind == "link":
        problem = target_problem(path, str(facts["target"]))
    if problem is not None:
        raise TreeUnsafe(f"the archive holds {path[:200]!r}, which {problem}")
    return Member(path, kind, **facts)  # type: ignore[arg-type]  # the callers below give its fields


class _Bounded(io.RawIOBase):
    """An archive of which the library may not read too much at once, nor go too far.

    Args:
        inner: the stream; for a tar in gzip, unpacked.
        at_once: the most bytes of one read: a tar header, or the directory of a zip, which is read as a whole.
        length: of a tar, the farthest place that may be sought; a gzip stream is unpacked up to there.
    """

    def __init__(self, inner: IO[bytes], at_once: int, length: int | None = None) -> None:
        self._inner, self._at_once, self._length = inner, at_once, length
        # The last 64 KiB of a zip are read without a size; the headers of a tar state it.
        self._least = -1 if length is None else 0

    def read(self, size: int = -1) -> bytes:
        """Read, as a file does; refuse what is too large."""
        if not self._least <= size <= self._at_once:
            raise TreeUnsafe(f"the archive holds a header or directory of more than {self._at_once} bytes")
        return self._inner.read(size)

    def seekable(self) -> bool:
        """Say that it can seek."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek, as a file does; refuse what is too far."""
        if self._length is not None and offset > self._length:
            raise TreeUnsafe(_TOO_FAR)
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the stream."""
        return self._inner.tell()


# tar ------------------------------------------------------------------------------------------------------------------


def _tar_members(
    file: IO[bytes], limit: int, *, gzipped: bool
) -> Generator[tuple[Member, IO[bytes] | None], None, None]:
    plain: IO[bytes] = gzip.GzipFile(fileobj=file) if gzipped else file  # type: ignore[assignment]
    overhead = 3 * 512 * MAX_MEMBERS
    with tarfile.open(
        fileobj=_Bounded(plain, MAX_HEADER_BYTES, limit + overhead),
        mode="r:",
        encoding="utf-8",
        errors="surrogateescape",
    ) as tar:
        while (info := tar.next()) is not None:
            member = _tar_member(tar, info)
            tar.members = []  # type: ignore[attr-defined]  # else the list would grow with the archive
            if member is not None:
                yield member, tar.extractfile(info) if member.kind == "file" else None
        # The library stops without an error at a header that it cannot read. So look: only zeros may follow.
        plain.seek(tar.offset)
        while block := plain.read(_BLOCK):
            if block.count(0) != len(block):
                raise TreeUnsafe("the archive holds data after its end, or a member that cannot be read")


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member | None:
    if info.size < 0:
        raise TreeUnsafe(f"the archive is damaged: {info.name[:200]!r} states a negative size")
    # Some programs obey these, others do not. Those of the second kind are for sparse files, which are refused.
    sparse = any(key.startswith("GNU.sparse.") for key in info.pax_headers)
    if sparse or _SINGULAR.intersection(tar.pax_headers):
        where = "sparse files" if sparse else "all members"
        raise TreeUnsafe(f"the archive holds {info.name[:200]!r}, which has a header meant for {where}")
    if info.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not info.issparse():
        member = _checked(info.name, "file", size=info.size, executable=bool(info.mode & 0o111))
    elif info.type == tarfile.DIRTYPE:
        member = _checked(info.name, "directory")
    elif info.type == tarfile.SYMTYPE:
        member = _checked(info.name, "link", target=info.linkname)
    else:
        raise TreeUnsafe(f"the archive holds {info.name[:200]!r}, which is not a file, directory or symbolic link")
    if info.mode & (stat.S_ISUID | stat.S_ISGID) and member is not None and member.kind == "file":
        raise TreeUnsafe(f"the archive holds {member.path!r} with a set-id bit")
    return member


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


def _zip_members(file: IO[bytes]) -> Generator[tuple[Member, IO[bytes] | None], None, None]:
    with zipfile.ZipFile(_Bounded(file, MAX_DIRECTORY_BYTES)) as archive:
        members = sorted(archive.infolist(), key=lambda info: info.header_offset)
        check_layout(file, members, archive.start_dir)
        for info in members:
            member = _zip_member(archive, info)
            if member is None:
                continue
            with archive.open(info) if member.kind == "file" else nullcontext() as data:
                yield member, data


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    name = info.orig_filename  # `filename` ends at a NUL
    if not name.isascii() and not info.flag_bits & UTF8_NAME:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, whose name is not marked as UTF-8")
    if info.flag_bits & ENCRYPTED:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, which is encrypted")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, packed by a method other than store and deflate")
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK} or mode & (stat.S_ISUID | stat.S_ISGID):
        raise TreeUnsafe(f"the archive holds {name[:200]!r}, which is not a plain file, directory or symbolic link")
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


def _tree(root: str) -> Iterator[Member]:
    """Yield what is below a directory: files, links and empty directories, sorted by path."""
    found: list[Member] = []
    folders = [""]
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
