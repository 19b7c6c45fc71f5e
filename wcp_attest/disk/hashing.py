"""Hash files of one directory, each opened once and read once.

Everything is done relative to a directory descriptor, so no path is too long and no link is followed. A file is
`fstat`ed before and after it is read, and refused when it changed meanwhile. This module imports only the standard
library, so that worker processes start in a few milliseconds (`wcp_attest.disk.workers`).

Every file gives one manifest line (`wcp_attest.package.entries`) and one record of the package hash (`base.digest`).
Where lines are expected, a file whose name, size or execute bit differs from its line is not read: its line gets an
empty digest, which no manifest can hold.
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
    CREATE_FLAGS,
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
BLOCK = 256 * 1024  # bytes of each further read; larger blocks do not stay in the processor's cache (bar: `one`)
_MAX_EXTENTS = 1000  # of a file with holes; more are not looked up
_EARLY_BYTES = 8 * 1024 * 1024  # of a copy for a store, after which the disk begins to write them (`benchmarks.store`)
MANY_BLOCKS = 1024 * 1024  # bytes from which a file is announced to the parent and mapped
SEPARATOR = ",\n"  # between manifest lines; no line holds a newline
_KIND_AND_SET_ID = 0o176000  # the file type and the set-user-id and set-group-id bits
_REGULAR = 0o100000
_SET_ID = 0o006000
_EXECUTE = 0o111
_OTHERS_WRITE = 0o022


class Task:
    """What is to be done with every file.

    Attributes:
        algorithm: `sha256` or `blake3`.
        owner: the id of the user who may own files when permissions are strict, else None.
        stage: descriptor of the directory that takes a copy of every file, or None.
        rights: of copies: the mode of a plain file, that of an executable one, and the group id or None. Without them
            copies are 0666 or 0777, reduced by the umask.
        limits: the most bytes of a file, and of holes in it, where no signed manifest says its size; else None.
        new: starts a hash.
        watch: called with the number of bytes that were read of unfinished files; None when nobody asks.
        buffer: room for one block, made when it is first needed and used again.
    """

    __slots__ = ("algorithm", "buffer", "limits", "new", "owner", "rights", "stage", "watch")

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
        self.buffer: memoryview | None = None
        self.watch: Callable[[int], None] | None = None
        self.new: Callable[..., Any] = sha256
        if algorithm == "blake3":
            from blake3 import blake3

            self.new = blake3

    def notice(self, index: int, size: int) -> None:
        """Called before a file of many blocks is read.

        Args:
            index: its place among the names of the request.
            size: in bytes.
        """

    def hash_mapped(self, descriptor: int, size: int) -> str | None:  # noqa: ARG002
        """Hash a file by mapping it into memory.

        Args:
            descriptor: of the file.
            size: in bytes.

        Returns:
            64 lower-case hex digits; None when it must be read instead. Here always None: when a mapped file is
            truncated, the system ends the process, and this may be the user's own.
        """
        return None

    def between_blocks(self, done: int) -> None:
        """Called after each block of a file that was announced by `notice`.

        Args:
            done: how many bytes of it were read.
        """
        if self.watch is not None:
            self.watch(done)


class Worker:
    """Hashes regular files of a tree, one directory at a time.

    Args:
        root: descriptor of the root of the tree.
        task: what is to be done with every file.

    Raises:
        OSError: the root cannot be opened once more.
    """

    def __init__(self, root: int, task: Task) -> None:
        self._task = task
        self._tree = Descent(root)
        self._copy = None if task.stage is None else Descent(task.stage)

    def answer(
        self, path: str, identity: Identity | None, names: Sequence[str], expected: bytes | str | None
    ) -> tuple[bytes | None, bytes, int, int] | None:
        """Do a request (`wcp_attest.disk.batches.request`): hash files, or look at a directory again.

        Args:
            path: of the directory, empty or ending in `/`.
            identity: what the directory must be (`directory.identity_of`); None accepts any.
            names: of the files; none for a second look.
            expected: as for `hash`; for a second look, the names that the directory must hold, as `fingerprint` gave
                them.

        Returns:
            As `hash`, but None in place of lines that are as expected; for a second look, None.

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
            identity: what the directory must be (`directory.identity_of`); None accepts any.
            names: of the files, in order.
            expected: the manifest lines that they should have, joined by `SEPARATOR`; None accepts what is there.

        Returns:
            The manifest lines of what is there, joined by `SEPARATOR`; the records of the package hash, joined; how
            many bytes were read; with `limits`, how many of these take no room on the disk.

        Raises:
            FileProblem: the directory was replaced, or a file is not a regular one, cannot be read, or has changed.
        """
        copies = None if self._copy is None else self._copy.open(path, None)
        lines = None
        if expected is not None:
            lines = expected.decode(errors="replace").split(SEPARATOR)
            if len(lines) != len(names):  # a stray newline: it is unclear which line is whose, so that none matches
                lines = [""] * len(names)
        reader = _FileReader(self._tree.open(path, identity), path, self._task, copies)
        try:
            reader.read(names, lines)
        except OSError as problem:
            raise FileProblem.of(path + names[len(reader.lines)], "cannot be read: ", problem) from None
        return SEPARATOR.join(reader.lines).encode(), "".join(reader.records).encode(), reader.size, reader.holes

    def close(self) -> None:
        """Close every descriptor."""
        self._tree.close()
        if self._copy is not None:
            self._copy.close()


def check_file(path: str, status: os.stat_result, owner: int | None, descriptor: int = -1) -> None:
    """Refuse what is not a plain file.

    Args:
        path: of the file, for messages.
        status: of the file.
        owner: the id of the user who may own it when permissions are strict, else None.
        descriptor: of the file when it is open: only then can its file capabilities be read.

    Raises:
        FileProblem: it is a special file or has a set-id bit; or, when permissions are strict, others may write it, it
            belongs to somebody else, has further hard links, or has file capabilities.
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
    """Say what strict permissions deny about a file or directory.

    Args:
        status: of the file or directory.
        owner: the id of the user who may own it, beside root.

    Returns:
        What is wrong, to follow the path; None when nothing is.
    """
    if status.st_mode & _OTHERS_WRITE:
        return "is writable by its group or by everyone; take that away with `chmod go-w`"
    if status.st_uid not in {0, owner}:
        return f"belongs to the user {status.st_uid}"
    return None


def too_large(size: int, holes: int) -> str:
    """Return what is wrong with files of unsigned size that have too many bytes, or too many bytes of holes.

    Args:
        size: of the files, in bytes.
        holes: how many of these take no room on the disk.

    Returns:
        Words to follow a path or "the tree".
    """
    return f"would take {size} bytes to be read, {holes} of them holes: more than the limits for files of unsigned size"


def _has_capabilities(descriptor: int) -> bool:
    try:
        return bool(os.getxattr(descriptor, "security.capability"))
    except (AttributeError, OSError):  # no such attributes on this system, or none on this file
        return False


def _holes_in(descriptor: int, status: os.stat_result) -> int:
    """Return how many bytes of a file take no room on the disk; judged by its blocks where the system cannot tell."""
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
        """Read files, except those whose name, size or mode shows that they are not what is expected.

        One loop without calls of our own functions: for a hundred thousand small files, each such call would take a
        hundredth of the time (bar: `small`).

        Raises:
            FileProblem: a file is not a regular one, or has changed.
            OSError: the first file without a line cannot be read.
        """
        task, folder, prefix, new = self.task, self.folder, self.prefix, self.task.new
        lines, records = self.lines, self.records
        start, middle = '"' + prefix.replace('"', '\\"'), f'": {{"{task.algorithm}":"'
        copies = self.copies
        for name, line in zip(names, repeat(None) if expected is None else expected, strict=False):
            descriptor = os_open(name if UTF8 else native(name), FILE_FLAGS, dir_fd=folder)
            try:
                before = fstat(descriptor)
                mode, size = before.st_mode, before.st_size
                if mode & _KIND_AND_SET_ID != _REGULAR or task.owner is not None:
                    check_file(prefix + name, before, task.owner, descriptor)
                head = start + (name.replace('"', '\\"') if '"' in name else name) + middle
                tail = f'","size":{size},"executable":true}}' if mode & _EXECUTE else f'","size":{size}}}'
                if line is not None and not (line.startswith(head) and line.endswith(tail)):
                    lines.append(head + tail)
                    continue
                block = read(descriptor, size + 1) if size < SMALL else b""
                plain = len(block) == size < SMALL and copies is None
                digest = new(block).hexdigest() if plain else self._digest(descriptor, block, name, before)
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
        """Hash a file that is large or is to be copied. It must have exactly as many bytes as its status says.

        Args:
            descriptor: of the file.
            first: what was read of it already.
            name: of the file.
            status: of the file, before it was read.
        """
        size = status.st_size
        # 1. Holes cost the sender of a tree nothing, but take as long to read as other bytes.
        if self.task.limits is not None:
            holes = _holes_in(descriptor, status)
            self.holes += holes
            most, most_holes = self.task.limits
            if size > most or holes > most_holes:
                raise FileProblem(self.prefix + name, too_large(size, holes))
        # 2. Map it, where that is possible.
        if size >= MANY_BLOCKS:
            self.task.notice(len(self.lines), size)
            mapped = self.task.hash_mapped(descriptor, size) if self.copies is None else None
            if mapped is not None:
                return mapped
        # 3. Read it.
        return self._read_blocks(descriptor, first, name, status)

    def _read_blocks(self, descriptor: int, first: bytes, name: str, status: os.stat_result) -> str:
        """Hash a file block by block, and copy it where that is asked for; the arguments are those of `_digest`."""
        size, path = status.st_size, self.prefix + name
        hasher = self.task.new()
        buffer = self.task.buffer = self.task.buffer or memoryview(bytearray(BLOCK))
        block: bytes | memoryview = first or read(descriptor, min(size + 1, SMALL))
        copy = None if self.copies is None else _FileCopy(self.copies, name, path, status.st_mode, self.task.rights)
        done = 0
        try:
            while block:
                hasher.update(block)
                done += len(block)
                if copy is not None:
                    copy.write(block)
                if size >= MANY_BLOCKS:
                    self.task.between_blocks(done)
                # One byte more than there should be, to see that there are no more.
                block = buffer[: os.readv(descriptor, [buffer[: size + 1 - done]])] if done <= size else b""
        finally:
            if copy is not None:
                copy.close()
        if done != size:
            raise FileProblem(path, "changed while it was read")
        digest: str = hasher.hexdigest()
        return digest


class _FileCopy:
    """The copy of one file, written while the file is hashed.

    Args:
        folder: descriptor of the directory that takes it.
        name: of the file.
        path: of the file in the tree, for messages.
        mode: of the file; it tells whether the copy is executable.
        rights: of copies, as of a `Task`.

    Raises:
        FileProblem: it cannot be made.
    """

    __slots__ = ("_begun", "_descriptor", "_done", "_early", "_path")

    def __init__(
        self, folder: int, name: str, path: str, mode: int, rights: tuple[int, int, int | None] | None
    ) -> None:
        self._path = path
        self._early = rights is not None and hasattr(os, "posix_fadvise")
        self._done = self._begun = 0  # bytes that were written, and of those, how many the disk has begun to write
        plain, executable, group = rights or (0o666, 0o777, None)
        wanted = executable if mode & _EXECUTE else plain
        self._descriptor = -1
        try:
            # The copy has its final mode from the start; this descriptor may write to it all the same.
            self._descriptor = os_open(name if UTF8 else native(name), CREATE_FLAGS, wanted, dir_fd=folder)
            if group is not None:
                os.fchown(self._descriptor, -1, group)
            if rights is not None and fstat(self._descriptor).st_mode & 0o7777 != wanted:  # the umask, or an ACL
                os.fchmod(self._descriptor, wanted)
        except OSError as problem:
            if self._descriptor >= 0:
                close(self._descriptor)
            raise FileProblem(path, f"cannot be staged: {describe_os_error(problem)}", "copy") from None

    def write(self, block: bytes | memoryview) -> None:
        """Write the next block.

        Raises:
            FileProblem: it cannot be written.
        """
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as problem:
            raise FileProblem(self._path, f"cannot be staged: {describe_os_error(problem)}", "copy") from None
        self._done += len(block)
        if self._early and self._done - self._begun >= _EARLY_BYTES:  # Linux begins to write it back
            os.posix_fadvise(self._descriptor, self._begun, self._done - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._done

    def close(self) -> None:
        """Close the file."""
        close(self._descriptor)
