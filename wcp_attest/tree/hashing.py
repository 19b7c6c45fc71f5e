"""Hash files of one directory, each opened once and read once; also the program that helper processes run.

Everything is done relative to a directory descriptor, so no path is too long and no link is followed. A file is
`fstat`ed before and after it is read and refused when it changed meanwhile. This module needs nothing but the standard
library: `python -I -S` starts it in a few milliseconds (`wcp_attest.tree.helpers`).

For every file one manifest line comes back (`wcp_attest.entries`) and one record of the package hash
(`wcp_attest.digest`). Where lines are expected, a file whose name, size or execute bit does not fit its line is not
read at all: its line comes back with an empty digest, which fits nothing.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256

TYPE_CHECKING = False  # as in `typing`, whose import would cost a helper more than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

BLOCK = 256 * 1024  # bytes a read; larger ones fall out of the processor's cache
LARGE = 8 * 1024 * 1024  # from here on a file is worth a process of its own
_NONE = 0  # a flag that the system does not have
FILE_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", _NONE)
    | getattr(os, "O_NONBLOCK", _NONE)
    | getattr(os, "O_CLOEXEC", _NONE)
    | getattr(os, "O_NOCTTY", _NONE)
)
FOLDER_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", _NONE)
    | getattr(os, "O_NOFOLLOW", _NONE)
    | getattr(os, "O_NONBLOCK", _NONE)
    | getattr(os, "O_CLOEXEC", _NONE)
)
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", _NONE) | getattr(os, "O_CLOEXEC", 0)
_KIND_AND_SET_ID = 0o176000  # the file type and the set-user-id and set-group-id bits
_REGULAR = 0o100000
_SET_ID = 0o006000
_EXECUTE = 0o111
_OTHERS_WRITE = 0o022


_UTF8 = sys.getfilesystemencoding() == "utf-8"


def native(name: str) -> str | bytes:
    """Return a name as the system calls take it: its UTF-8 bytes, whatever the locale says."""
    return name if _UTF8 else name.encode("utf-8", "surrogateescape")


class FileProblem(Exception):  # never leaves the package
    """An entry cannot be read safely.

    Attributes:
        path: of the entry, relative to the root.
        reason: what is wrong, to follow the quoted path.
        ours: whether it is the caller's side that failed: the staged copy, not the tree.
    """

    def __init__(self, path: str, reason: str, *, ours: bool = False) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason
        self.ours = ours


class Task:
    """What is asked of every file.

    Attributes:
        algorithm: `sha256` or `blake3`.
        new: starts a hash.
        owner: the user who may own files when permissions are strict, else None.
        stage: descriptor of the directory that takes a copy of every file, or None.
    """

    __slots__ = ("algorithm", "new", "owner", "stage")

    def __init__(self, algorithm: str, *, owner: int | None = None, stage: int | None = None) -> None:
        self.algorithm = algorithm
        self.new: Callable[..., Any] = sha256 if algorithm == "sha256" else _blake3()
        self.owner = owner
        self.stage = stage


class Hashed:
    """What came of some files of one directory, in their order.

    Attributes:
        lines: the manifest lines as they are found.
        records: the records of the package hash, joined.
        size: how many bytes were read.
    """

    __slots__ = ("lines", "records", "size")

    def __init__(self, lines: list[bytes], records: bytes, size: int) -> None:
        self.lines = lines
        self.records = records
        self.size = size


def _blake3() -> Callable[..., Any]:
    from blake3 import blake3

    return blake3


def open_folder(root: int, path: str, identity: tuple[int, int] | None) -> int:
    """Open a directory below `root`, component by component, following no link.

    Args:
        root: descriptor of the root.
        path: empty for the root itself, else `a/b/`.
        identity: the device and inode it must have, or None.

    Raises:
        FileProblem: it is gone, no longer a directory, or another one.
    """
    descriptor = os.open(".", FOLDER_FLAGS, dir_fd=root)
    try:
        for name in path.split("/")[:-1]:
            below = os.open(native(name), FOLDER_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        status = os.fstat(descriptor)
    except OSError as problem:
        os.close(descriptor)
        raise FileProblem(path, f"changed while it was read ({_words(problem)})") from None
    if identity is not None and identity != (status.st_dev, status.st_ino):
        os.close(descriptor)
        raise FileProblem(path, "was replaced by another directory while it was read")
    return descriptor


def hash_folder(
    root: int,
    folder: tuple[str, tuple[int, int] | None],
    names: Sequence[str],
    expected: Sequence[bytes] | None,
    task: Task,
) -> Hashed:
    """Hash the named regular files of one directory.

    Args:
        root: descriptor of the root of the tree.
        folder: path of the directory, empty or ending in `/`, and the device and inode that it must have, if known.
        names: of the files, in order.
        expected: the manifest line that each should have, or None to take what is there.
        task: what is asked of every file.

    Raises:
        FileProblem: the directory was replaced, or a file is not a regular one, cannot be read, or changed meanwhile.
    """
    path, identity = folder
    descriptor = open_folder(root, path, identity)
    copies = None
    try:
        if task.stage is not None:
            copies = open_folder(task.stage, path, None)
        return _hash_files(descriptor, path, names, expected, task, copies)
    finally:
        os.close(descriptor)
        if copies is not None:
            os.close(copies)


def _hash_files(
    folder: int, prefix: str, names: Sequence[str], expected: Sequence[bytes] | None, task: Task, copies: int | None
) -> Hashed:
    lines: list[bytes] = []
    records: list[str] = []
    total = 0
    for index, name in enumerate(names):
        path = prefix + name
        wanted = None if expected is None else expected[index]
        try:
            line, record, size = _hash_file(folder, name, path, wanted, task, copies)
        except OSError as problem:
            raise FileProblem(path, f"cannot be read: {_words(problem)}") from None
        lines.append(line)
        records.append(record)
        total += size
    return Hashed(lines, "".join(records).encode(), total)


def _hash_file(
    folder: int, name: str, path: str, expected: bytes | None, task: Task, copies: int | None
) -> tuple[bytes, str, int]:
    descriptor = os.open(native(name), FILE_FLAGS, dir_fd=folder)
    copy = None
    try:
        before = os.fstat(descriptor)
        check_file(path, before, task.owner)
        size = before.st_size
        head = '"' + path.replace('"', '\\"') + '": {"' + task.algorithm + '":"'
        tail = f'","size":{size},"executable":true}}' if before.st_mode & _EXECUTE else f'","size":{size}}}'
        if expected is not None and not (expected.startswith(head.encode()) and expected.endswith(tail.encode())):
            return (head + tail).encode(), "", 0
        if copies is not None:
            copy = _create(copies, name, path, before.st_mode)
        digest = _digest(descriptor, size, path, task, copy)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
        if copy is not None:
            os.close(copy)
    if (
        before[:7] != after[:7]  # mode, inode, device, links, owner, group, size
        or before.st_mtime_ns != after.st_mtime_ns
        or before.st_ctime_ns != after.st_ctime_ns
    ):
        raise FileProblem(path, "changed while it was read")
    return (head + digest + tail).encode(), f"{path}\n{size}\n{digest}\n", size


def check_file(path: str, status: os.stat_result, owner: int | None) -> None:
    """Refuse what is not a plain file.

    Raises:
        FileProblem: it is a special file, has a set-id bit, or breaks the strict rules of permission.
    """
    if status.st_mode & _KIND_AND_SET_ID != _REGULAR:
        raise FileProblem(path, "has a set-id bit" if status.st_mode & _SET_ID else "is not a regular file")
    if owner is not None:
        problem = "has further hard links" if status.st_nlink != 1 else permission_problem(status, owner)
        if problem is not None:
            raise FileProblem(path, problem)


def permission_problem(status: os.stat_result, owner: int) -> str | None:
    """Say what strict permissions deny about a file or directory, or return None."""
    if status.st_mode & _OTHERS_WRITE:
        return "is writable by its group or by everyone"
    if status.st_uid not in {0, owner}:
        return f"belongs to the user {status.st_uid}"
    return None


def _digest(descriptor: int, size: int, path: str, task: Task, copy: int | None) -> str:
    """Read exactly `size` bytes, and one more to see that there are no more."""
    hasher = task.new()
    left = size + 1
    while left > 0:
        block = os.read(descriptor, min(BLOCK, left))
        if not block:
            break
        left -= len(block)
        hasher.update(block)
        if copy is not None:
            _copy(copy, block, path)
    if left != 1:
        raise FileProblem(path, "changed while it was read")
    digest: str = hasher.hexdigest()
    return digest


def _create(folder: int, name: str, path: str, mode: int) -> int:
    permissions = 0o755 if mode & _EXECUTE else 0o644
    try:
        copy = os.open(native(name), _CREATE_FLAGS, permissions, dir_fd=folder)
        os.fchmod(copy, permissions)
    except OSError as problem:
        raise FileProblem(path, f"cannot be staged: {_words(problem)}", ours=True) from None
    return copy


def _copy(descriptor: int, block: bytes, path: str) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as problem:
        raise FileProblem(path, f"cannot be staged: {_words(problem)}", ours=True) from None


def _words(problem: OSError) -> str:
    return (problem.strerror or str(problem)).lower()
