"""May a directory be used without hashing it again? The one rule that decides it.

Hashing 30 GB takes a minute. It may be left out only when the kernel keeps everybody from changing the files who is not
trusted anyway: root, and a keeper whom the operator names. No time stamp, inode or size is ever taken as evidence.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.disk.directory import describe_os_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH  # with an ACL, the group bits are the most that its entries can give
# Where this machine's kernel decides who may write. On others (nfs, cifs, 9p, fuse, …) a server or a process does.
_LOCAL = frozenset(
    [
        "bcachefs",
        "btrfs",
        "erofs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "iso9660",
        "jfs",
        "overlay",
        "ramfs",
        "reiserfs",
        "squashfs",
        "tmpfs",
        "udf",
        "ubifs",
        "xfs",
        "zfs",
    ]
)


class Step(NamedTuple):
    """One component of an absolute path.

    Attributes:
        path: up to and including it.
        status: what the system says of it.
        above: whether it lies above the store, where a sticky directory of root's is as good as a closed one.
    """

    path: str
    status: os.stat_result
    above: bool


def changeable(
    store: str, entry: str, members: Sequence[str], *, keeper: int, users: Collection[int], quick: bool = False
) -> str | None:
    """Say who could change an entry of a store, or return None when nobody can but root and its keeper.

    Args:
        store: absolute path of the store.
        entry: name of the entry in it.
        members: names in the entry that are used: its package directory and its two files.
        keeper: user id of whoever keeps the store; 0 is root.
        users: ids of those who may not be the keeper: who asks, and whom the command will run as.
        quick: look at owners and modes alone. What only root can change in a running system, user namespace and file
            system, was looked at by the same process a moment ago.

    Returns:
        The reason for hashing the entry again, or None: then it may be used as it is.
    """
    # 1. Nobody vouches for himself. Root is excepted: an attacker who is root decides anyway.
    if keeper != ROOT and keeper in users:
        return f"the keeper of the store (user {keeper}) is also its user"
    # 2. The ids must be real: in a user namespace, "root" may be an ordinary user outside, and "nobody" is anybody.
    if not quick and not _ids_are_real(keeper):
        return "this user namespace does not show who really owns the store"
    try:
        # 3. Each component from / to the entry is a directory, not a link, that nobody else owns or may write.
        for step in _steps(store, entry, members):
            if step.status.st_uid not in (ROOT, keeper):
                return f"{step.path!r} belongs to user {step.status.st_uid}"
            sticky = step.above and step.status.st_uid == ROOT and step.status.st_mode & stat.S_ISVTX
            if step.status.st_mode & _OTHERS_WRITE and not sticky:
                return f"{step.path!r} can be written by its group or by everyone"
    except OSError as problem:
        return f"{os.fsdecode(problem.filename or entry)!r} cannot be looked at ({describe_os_error(problem)})"
    if quick:
        return None
    # 4. It is this machine's kernel that keeps others from writing.
    system = _file_system(os.path.join(store, entry))
    return None if system in _LOCAL else f"the store lies on a file system ({system}) that others may write elsewhere"


def _steps(store: str, entry: str, members: Sequence[str]) -> Iterator[Step]:
    """Look at each component, from the root on, through no link.

    Each is looked at once the caller has found that nobody else can change what lies above it, so its path means the
    same at each look, and no descriptor is needed (a third of the system calls; bar: sealed decisions on 8 threads).

    Raises:
        OSError: one is missing, no directory, or a link.
    """
    names = [name for name in store.split("/") if name]
    path = ""
    for index, name in enumerate(["", *names, entry]):
        path = f"{path}/{name}" if index > 1 else f"/{name}"
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, os.strerror(20), path)
        yield Step(path, status, index < len(names))
    for name in members:
        status = os.lstat(f"{path}/{name}")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise NotADirectoryError(20, "neither a file nor a directory", name)
        yield Step(f"{path}/{name}", status, above=False)


def _ids_are_real(keeper: int) -> bool:
    """Tell whether user ids mean what they mean outside: root is root, and the keeper is somebody in particular."""
    if sys.platform != "linux":
        return False  # how to tell is known for Linux only; elsewhere everything is hashed
    try:
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            rows = [[int(number) for number in row.split()] for row in stream.read(65_536).splitlines()]
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            nobody = int(stream.read(32))
    except (OSError, ValueError):
        return False
    return keeper != nobody and any(len(row) == 3 and row[:2] == [ROOT, ROOT] for row in rows)


def _file_system(path: str) -> str:
    """Return the type of the file system that a path without links lies on, or `unknown`."""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            rows = stream.read(16 << 20).splitlines()
    except OSError:
        return "unknown"
    found, longest = "unknown", -1
    for row in rows:
        front, _, back = row.partition(b" - ")
        fields = front.split(b" ")
        if len(fields) < 5 or not back:
            continue
        place = os.fsdecode(fields[4].replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\134", b"\\"))
        inside = place in {"/", path} or path.startswith(place + "/")
        if inside and len(place) >= longest:  # of two at one place, the later one lies on top
            found, longest = back.split(b" ", 1)[0].decode("ascii", "replace"), len(place)
    return found
