"""The one rule that decides whether a directory may be used without hashing it again.

Hashing 30 GB takes a minute. It may be left out only when nobody can change the files but root and one user whom the
operator names, the keeper: the kernel must prevent everybody else. Times, inode numbers and sizes are no evidence.
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
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH  # with an ACL, the group bits are the most that it can allow
# File systems on which this machine's kernel decides who may write. On others (nfs, cifs, 9p, fuse, …) a server or
# another process decides.
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
        path: up to and including this component.
        status: of this component.
        above: whether it is above the store. There, a sticky directory of root (like `/tmp`) is accepted, because only
            the owner of an entry can rename or remove it.
    """

    path: str
    status: os.stat_result
    above: bool

    def problem(self, keeper: int) -> str | None:
        """Say how somebody else than root and the keeper could change this component; None when nobody could."""
        if self.status.st_uid not in (ROOT, keeper):
            return f"{self.path!r} belongs to user {self.status.st_uid}"
        sticky = self.above and self.status.st_uid == ROOT and self.status.st_mode & stat.S_ISVTX
        if self.status.st_mode & _OTHERS_WRITE and not sticky:
            return f"{self.path!r} can be written by its group or by everyone"
        return None


def changeable(
    store: str, entry: str, members: Sequence[str], *, keeper: int, users: Collection[int], quick: bool = False
) -> str | None:
    """Say who could change an entry of a store, beside root and the keeper.

    Args:
        store: absolute path of the store.
        entry: name of the entry in it.
        members: names in the entry that are used: its package directory and its two files.
        keeper: id of the user who keeps the store; 0 is root.
        users: ids of the users who may not be the keeper: the one who asks, and the one as whom the command will run.
        quick: check owners and modes only. The same process has just checked the user namespace and the file system,
            which only root can change.

    Returns:
        The reason why the entry must be hashed again; None when it may be used as it is.
    """
    # 1. The keeper must not be the user who is to be protected. Root may be: nothing protects from root.
    if keeper != ROOT and keeper in users:
        return f"the keeper of the store (user {keeper}) is also its user"
    # 2. The ids must be real: inside a user namespace, "root" may be an ordinary user, and "nobody" may be anybody.
    if not quick and not _ids_are_real(keeper):
        return "this user namespace does not show who really owns the store"
    try:
        # 3. Every component from / to the entry is a directory and no link, and nobody else owns it or may write it.
        for step in _steps(store, entry, members):
            problem = step.problem(keeper)
            if problem is not None:
                return problem
    except OSError as failure:
        return f"{os.fsdecode(failure.filename or entry)!r} cannot be checked ({describe_os_error(failure)})"
    if quick:
        return None
    # 4. The kernel of this machine must be the one that prevents others from writing.
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
    """Tell whether user ids are those of the machine: root is root, and the keeper is one certain user."""
    if sys.platform != "linux":
        return False  # we can tell on Linux only; elsewhere everything is hashed
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
        if inside and len(place) >= longest:  # of two mounted at one place, the later one is used
            found, longest = back.split(b" ", 1)[0].decode("ascii", "replace"), len(place)
    return found
