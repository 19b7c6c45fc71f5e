"""Hash files of one directory, each opened once and read once.

Everything is done relative to a directory descriptor, so no path is too long and no link is followed. A file is
`fstat`ed before and after it is read and refused when it changed meanwhile. This module needs nothing but the standard
library, so that worker processes start in a few milliseconds (`wcp_attest.disk.workers`).

For every file one manifest line comes back (`wcp_attest.package.entries`) and one record of the package hash
(`base.digest`). Where lines are expected, a file whose name, size or execute bit does not fit its line is not read at
all: its line comes back with an empty digest, which fits nothing.
"""

from __future__ import annotations

import os
from errno import ENXIO
from itertools import repeat
from os import close, fstat, read
from os import open as os_open

try:
    from _hashlib import openssl_sha256 as sha256  # what `hashlib.sha256` is; a worker starts 4 ms sooner without it
except ImportError:
    from hashlib import sha256

from wcp_attest.disk.directory import (
    FILE_FLAGS,
    UTF8,
    Descent,
    FileProblem,
    Identity,
    describe_os_error,
    native,
    unchanged,
)

TYPE_CHECKING = False  # as in `typing`, whose import would cost a worker more than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

SMALL = 64 * 1024  # bytes of the first read, which takes most files whole
BLOCK = 256 * 1024  # bytes of each further one; larger ones fall out of the processor's cache
_MAX_EXTENTS = 1000  # of a file with holes that are looked up
_EARLY_BYTES = 8 * 1024 * 1024  # of a copy for a store, which is to be on disk at the end: the disk works meanwhile
MANY_BLOCKS = 1024 * 1024  # from here on a file is worth a notice and a mapping
SEPARATOR = ",\n"  # between manifest lines; no line holds a newline
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_KIND_AND_SET_ID = 0o176000  # the file type and the set-user-id and set-group-id bits
_REGULAR = 0o100000
_SET_ID = 0o006000
_EXECUTE = 0o111
_OTHERS_WRITE = 0o022


class Task:
    """What is asked of every file.

    Attributes:
        algorithm: `sha256` or `blake3`.
        owner: the user who may own files when permissions are strict, else None.
        stage: descriptor of the directory that takes a copy of every file, or None.
        rights: of copies: the mode of a file, that of an executable one, and the group or None. Without them copies are
            0666 or 0777, reduced by the umask.
        limits: the most bytes of a file, and of holes in it, where no signed manifest says its size; else None.
        new: starts a hash.
        watch: hears how many bytes of unfinished files were read, where somebody wants to know.
    """

    __slots__ = ("_buffer", "algorithm", "limits", "new", "owner", "rights", "stage", "watch")

    def __init__(
        self,
        algorithm: str,
        *,
        owner: int | None = None,
        stage: int | None = None,
        rights: tuple[int, int, int | None] | None = None,
        limits: tuple[int, int] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.owner = owner
        self.stage = stage
        self.rights = rights
        self.limits = limits
        self._buffer: memoryview | None = None
        self.watch: Callable[[int], None] | None = None
        self.new: Callable[..., Any] = sha256
        if algorithm == "blake3":
            from blake3 import blake3

            self.new = blake3

    def buffer(self) -> memoryview:
        """Return room for a block, always the same."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BLOCK))
        return self._buffer

    def notice(self, index: int, size: int) -> None:
        """Called before a file of many blocks is read, with its place among the names and its size."""

    def hash_mapped(self, descriptor: int, size: int) -> str | None:  # noqa: ARG002
        """Return the digest of a file by mapping it, where that is safe and possible, else None."""
        return None  # a mapped file that is truncated ends the process: not here

    def between_blocks(self, done: int) -> None:
        """Called from time to time while a file of many blocks is read, with how many bytes of it were read."""
        if self.watch is not None:
            self.watch(done)


class Worker:
    """Hashes regular files of a tree, one directory at a time.

    Args:
        root: descriptor of the root of the tree.
        task: what is asked of every file.
    """

    def __init__(self, root: int, task: Task) -> None:
        self._task = task
        self._tree = Descent(root)
        self._copy = None if task.stage is None else Descent(task.stage)

    def answer(
        self, path: str, identity: Identity | None, names: Sequence[str], expected: bytes | str | None
    ) -> tuple[bytes | None, bytes, int, int] | None:
        """Do what a request asks (`wcp_attest.disk.batches.request`): hash files, or look at a directory again.

        Args:
            path: of the directory, empty or ending in `/`.
            identity: the device and inode that it must have, if known.
            names: of the files.
            expected: as for `hash`; or the names of the directory, as `fingerprint` gave them, to see that it is the
                same one and holds the same names.

        Returns:
            What `hash` returns, the lines None when they are as expected; None for a directory.

        Raises:
            FileProblem: as `hash`, or the directory changed.
        """
        if not isinstance(expected, str):
            lines, records, size, holes = self.hash(path, identity, names, expected)
            return None if lines == expected else lines, records, size, holes
        try:
            if unchanged(os.listdir(self._tree.open(path, identity)), expected):
                return None
        except FileProblem as problem:
            if problem.fault == "machine":
                raise
        except OSError as problem:
            raise FileProblem.of(path, "changed while it was read (", problem, ")") from None
        raise FileProblem(path, "changed while it was read")

    def hash(
        self, path: str, identity: Identity | None, names: Sequence[str], expected: bytes | None
    ) -> tuple[bytes, bytes, int, int]:
        """Hash the named files of one directory.

        Args:
            path: of the directory, empty or ending in `/`.
            identity: the device and inode that it must have, if known.
            names: of the files, in order.
            expected: the manifest lines that they should have, joined by `SEPARATOR`, or None to take what is there.

        Returns:
            The manifest lines as they are found, joined by `SEPARATOR`; the records of the package hash, joined; how
            many bytes were read; how many of them take no room on the disk, where that was asked.

        Raises:
            FileProblem: the directory was replaced, or a file is not a regular one, cannot be read, or has changed.
        """
        copies = None if self._copy is None else self._copy.open(path, None)
        lines = None
        if expected is not None:
            lines = expected.decode(errors="replace").split(SEPARATOR)
            if len(lines) != len(names):  # a stray newline makes it unclear whose is whose, so that nothing fits
                lines = [""] * len(names)
        reader = _FileReader(self._tree.open(path, identity), path, self._task, copies)
        try:
            reader.read(names, lines)
        except OSError as problem:
            raise FileProblem.of(path + names[len(reader.lines)], "cannot be read: ", problem) from None
        return SEPARATOR.join(reader.lines).encode(), "".join(reader.records).encode(), reader.size, reader.holes

    def close(self) -> None:
        """Close the way to the last directory."""
        self._tree.close()
        if self._copy is not None:
            self._copy.close()


def check_file(path: str, status: os.stat_result, owner: int | None, descriptor: int = -1) -> None:
    """Refuse what is not a plain file.

    Args:
        path: of the file, for messages.
        status: of the file.
        owner: the user who may own it when permissions are strict, else None.
        descriptor: of the file, where it is open: only then its capabilities can be seen.

    Raises:
        FileProblem: it is a special file, has a set-id bit, or breaks the strict rules of permission.
    """
    if status.st_mode & _KIND_AND_SET_ID != _REGULAR:
        set_id = "has a set-id bit; take it away with `chmod ug-s`"
        raise FileProblem(path, set_id if status.st_mode & _SET_ID else "is not a regular file")
    if owner is not None:
        problem = "has further hard links" if status.st_nlink != 1 else permission_problem(status, owner)
        if problem is None and descriptor >= 0 and _has_capabilities(descriptor):
            problem = "has file capabilities, which give it rights like a set-id bit; take them away with `setcap -r`"
        if problem is not None:
            raise FileProblem(path, problem)


def permission_problem(status: os.stat_result, owner: int) -> str | None:
    """Say what strict permissions deny about a file or directory, or return None."""
    if status.st_mode & _OTHERS_WRITE:
        return "is writable by its group or by everyone; take that away with `chmod go-w`"
    if status.st_uid not in {0, owner}:
        return f"belongs to the user {status.st_uid}"
    return None


def too_large(size: int, holes: int) -> str:
    """Return what is wrong with files that have more bytes, or more bytes of holes, than may be read unsigned."""
    return f"would take {size} bytes to be read, {holes} of them holes: more than the limits for files of unsigned size"


def _has_capabilities(descriptor: int) -> bool:
    try:
        return bool(os.getxattr(descriptor, "security.capability"))
    except (AttributeError, OSError):  # no such attributes on this system, or none on this file
        return False


def _holes_in(descriptor: int, status: os.stat_result) -> int:
    """Return how many bytes of a file take no room; where the system cannot tell, by the blocks that it has."""
    missing: int = status.st_size - 512 * getattr(status, "st_blocks", status.st_size)
    if missing <= SMALL or not hasattr(os, "SEEK_DATA"):
        return max(missing, 0)
    data = at = 0
    try:
        for _ in range(_MAX_EXTENTS):
            at = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, at, os.SEEK_HOLE)
            data, at = data + end - at, end
    except OSError as problem:
        if problem.errno == ENXIO:  # no data behind this place
            missing = status.st_size - data
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return missing


class _FileReader:
    """Reads files of one directory and gathers their lines and records."""

    __slots__ = ("copies", "folder", "holes", "lines", "prefix", "records", "size", "task")

    def __init__(self, folder: int, prefix: str, task: Task, copies: int | None) -> None:
        self.folder = folder
        self.prefix = prefix
        self.task = task
        self.copies = copies
        self.lines: list[str] = []
        self.records: list[str] = []
        self.size = self.holes = 0

    def read(self, names: Sequence[str], expected: Sequence[str] | None) -> None:
        """Read files, except those that are known not to be what is expected.

        One loop without calls of our own: with a hundred thousand small files each call is a hundredth of the time.

        Raises:
            FileProblem: a file is not a regular one, or has changed.
            OSError: the first file without a line cannot be read.
        """
        task, folder, prefix, new = self.task, self.folder, self.prefix, self.task.new
        lines, records = self.lines, self.records
        start, middle = '"' + _escaped(prefix), f'": {{"{task.algorithm}":"'
        copies = self.copies
        for name, line in zip(names, repeat(None) if expected is None else expected, strict=False):
            descriptor = os_open(name if UTF8 else native(name), FILE_FLAGS, dir_fd=folder)
            try:
                before = fstat(descriptor)
                mode, size = before.st_mode, before.st_size
                if mode & _KIND_AND_SET_ID != _REGULAR or task.owner is not None:
                    check_file(prefix + name, before, task.owner, descriptor)
                head = start + (_escaped(name) if '"' in name else name) + middle
                tail = f'","size":{size},"executable":true}}' if mode & _EXECUTE else f'","size":{size}}}'
                if line is not None and not (line.startswith(head) and line.endswith(tail)):
                    lines.append(head + tail)
                    continue
                block = read(descriptor, size + 1) if size < SMALL else b""
                plain = len(block) == size < SMALL
                digest = new(block).hexdigest() if plain else self._digest(descriptor, block, name, before)
                if copies is not None and plain:
                    self._copy_whole(name, mode, block)
                after = fstat(descriptor)
            finally:
                close(descriptor)
            if (
                before[:7] != after[:7]  # mode, inode, device, links, owner, group, size
                or before.st_mtime_ns != after.st_mtime_ns
                or before.st_ctime_ns != after.st_ctime_ns
            ):
                raise FileProblem(prefix + name, "changed while it was read")
            lines.append(f"{head}{digest}{tail}")
            records.append(f"{prefix}{name}\n{size}\n{digest}\n")
            self.size += size

    def _digest(self, descriptor: int, first: bytes, name: str, status: os.stat_result) -> str:
        """Read exactly as many bytes as the file has, and one more to see that there are no more.

        Args:
            descriptor: of the file.
            first: what was read of it already.
            name: of the file.
            status: of the file, before it was read.
        """
        size = status.st_size
        if self.task.limits is not None:
            holes = _holes_in(descriptor, status)
            self.holes += holes
            most, most_holes = self.task.limits
            if size > most or holes > most_holes:
                raise FileProblem(self.prefix + name, too_large(size, holes))
        if size >= MANY_BLOCKS:
            self.task.notice(len(self.lines), size)
            mapped = self.task.hash_mapped(descriptor, size) if self.copies is None else None
            if mapped is not None:
                return mapped
        copy = None if self.copies is None else self._create(name, status.st_mode)
        try:
            return self._digest_on(descriptor, first or read(descriptor, min(size + 1, SMALL)), size, name, copy)
        finally:
            if copy is not None:
                os.close(copy)

    def _digest_on(self, descriptor: int, first: bytes, size: int, name: str, copy: int | None) -> str:
        """Go on after the first block."""
        hasher = self.task.new()
        left = size + 1
        buffer = self.task.buffer()
        block: bytes | memoryview = first
        begun = 0
        early = copy is not None and self.task.rights is not None and hasattr(os, "posix_fadvise")
        while block:
            left -= len(block)
            hasher.update(block)
            if copy is not None:
                self._copy(copy, block, name)
                if early and size + 1 - left - begun >= _EARLY_BYTES:  # tells Linux to begin to write it back
                    os.posix_fadvise(copy, begun, size + 1 - left - begun, os.POSIX_FADV_DONTNEED)
                    begun = size + 1 - left
            self.task.between_blocks(size + 1 - left)
            block = buffer[: os.readv(descriptor, [buffer[:left]])] if left else b""
        if left != 1:
            raise FileProblem(self.prefix + name, "changed while it was read")
        digest: str = hasher.hexdigest()
        return digest

    def _copy_whole(self, name: str, mode: int, data: bytes) -> None:
        copy = self._create(name, mode)
        try:
            if data:
                self._copy(copy, data, name)
        finally:
            close(copy)

    def _create(self, name: str, mode: int) -> int:
        plain, executable, group = self.task.rights or (0o666, 0o777, None)
        wanted = executable if mode & _EXECUTE else plain
        copy = -1
        try:
            # The file has its last mode from the start, and this descriptor may write all the same.
            copy = os_open(name if UTF8 else native(name), _CREATE_FLAGS, wanted, dir_fd=self.copies)
            if group is not None:
                os.fchown(copy, -1, group)
            if self.task.rights is not None and fstat(copy).st_mode & 0o7777 != wanted:  # the umask, or an ACL
                os.fchmod(copy, wanted)
        except OSError as problem:
            if copy >= 0:
                close(copy)
            raise FileProblem(self.prefix + name, f"cannot be staged: {describe_os_error(problem)}", "copy") from None
        return copy

    def _copy(self, descriptor: int, block: bytes | memoryview, name: str) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as problem:
            raise FileProblem(self.prefix + name, f"cannot be staged: {describe_os_error(problem)}", "copy") from None


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')
