"""Open directories below a root by descriptors, component by component, following no link.

Worker processes import this module, so it imports little at its top (`wcp_attest.disk.workers`).
"""

from __future__ import annotations

import errno
import os
import sys

FOLDER_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
FILE_FLAGS = (  # to read a file: no link is followed, and no FIFO or device is waited for
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
)
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
UTF8 = sys.getfilesystemencoding() == "utf-8"
# Errors that are the fault of this machine and not of the tree; each with what to do, where we know something.
_MACHINE = {
    errno.EMFILE: "; raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "; the whole system has too many files open",
    errno.ENOMEM: "",
    errno.ENOBUFS: "",
    errno.EIO: "; look at the disk",
    errno.EBADMSG: "; look at the disk",
    errno.EROFS: "; it is mounted read-only",
    errno.ENOLCK: "; the file system has no locks left",
    errno.ESTALE: "; look at the network file system",
    errno.ENOSPC: "; make room",
    errno.EDQUOT: "; make room",
    errno.EFBIG: "; raise the limit of file sizes (`ulimit -f`)",
    errno.ETIMEDOUT: "; look at the network file system",
    errno.ENOTCONN: "; look at the network file system",
}
Identity = tuple[int, int, int, int]  # device, inode, time of change of the names and of the inode, in nanoseconds


class FileProblem(Exception):
    """An entry cannot be read safely. It never leaves this toolkit: `batches.as_error` makes an error of it.

    Attributes:
        path: of the entry, relative to the root.
        reason: what is wrong, to follow the quoted path.
        fault: what is at fault: the `tree`, the verified `copy`, or the `machine`.
    """

    def __init__(self, path: str, reason: str, fault: str = "tree") -> None:
        super().__init__(path, reason, fault)
        self.path = path
        self.reason = reason
        self.fault = fault

    @classmethod
    def of(cls, path: str, before: str, problem: OSError | ValueError, after: str = "") -> FileProblem:
        """Return the problem of an entry on which the system reports an error.

        Args:
            path: of the entry, relative to the root.
            before: words before those of the system.
            problem: what the system reports.
            after: words after those of the system.

        Returns:
            The problem; the machine is at fault where the error says so, else the tree.
        """
        if is_machine_fault(problem):
            return cls(path, f"cannot be read: {describe_os_error(problem)}; nothing was decided", "machine")
        return cls(path, f"{before}{describe_os_error(problem)}{after}")


def native(name: str) -> str | bytes:
    """Return a name in the form for system calls: as its UTF-8 bytes, whatever the locale is.

    Args:
        name: of one entry; undecodable bytes as surrogates.
    """
    return name if UTF8 else name.encode("utf-8", "surrogateescape")


class TreeRoot:
    """The root of a tree: where it is, and an open descriptor of it.

    Args:
        path: absolute.
        descriptor: of the directory; `close` closes it.
    """

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def open_root(root: str) -> TreeRoot:
    """Open the root of a tree.

    Args:
        root: path of a directory; not a symbolic link.

    Returns:
        The root. The caller closes it.

    Raises:
        ConfigError: it is absent, a link, or not a directory.
        MachineError: this machine cannot open it.
    """
    plain = root
    while plain.endswith(("/", "/.")) and plain.strip("/."):  # `link/.` would be followed
        plain = plain.removesuffix(".").rstrip("/")
    try:
        return TreeRoot(os.path.abspath(plain), os.open(plain, FOLDER_FLAGS))
    except (OSError, ValueError) as problem:
        from wcp_attest.base.errors import ConfigError, MachineError  # no worker opens a root

        reason = describe_os_error(problem)
        if is_machine_fault(problem):
            raise MachineError(f"cannot read the package {root!r}: {reason}; nothing was decided") from None
        if os.path.islink(plain):
            reason = "is a symbolic link; give the directory itself"
        raise ConfigError(f"cannot read the package {root!r}: {reason}") from None


class Descent:
    """Opens directories below a root, component by component, following no link.

    The directories on the way to the last one stay open, so that the next one nearby takes one step and not all.

    Args:
        root: descriptor of the root.

    Raises:
        OSError: the root cannot be opened once more.
    """

    def __init__(self, root: int) -> None:
        self._names: list[str] = []
        self._open = [os.open(".", FOLDER_FLAGS, dir_fd=root)]

    def open(self, path: str, identity: Identity | None) -> int:
        """Open a directory.

        Args:
            path: empty for the root itself, else `a/b/`.
            identity: what it must be, as `identity_of` gives it; None accepts any.

        Returns:
            A descriptor, which stays open until the next call.

        Raises:
            FileProblem: it is gone, no longer a directory, another one, or has changed.
        """
        names = path.split("/")[:-1]
        shared = 0
        for old, new in zip(self._names, names, strict=False):
            if old != new:
                break
            shared += 1
        while len(self._open) > shared + 1:
            os.close(self._open.pop())
        del self._names[shared:]
        try:
            for name in names[shared:]:
                self._open.append(os.open(native(name), FOLDER_FLAGS, dir_fd=self._open[-1]))
                self._names.append(name)
            status = os.fstat(self._open[-1])
        except OSError as problem:
            raise FileProblem.of(path, "changed while it was read (", problem, ")") from None
        if identity is not None and identity != identity_of(status):
            same = identity[:2] == (status.st_dev, status.st_ino)
            raise FileProblem(path, f"{'changed' if same else 'was replaced by another directory'} while it was read")
        return self._open[-1]

    def close(self) -> None:
        """Close every descriptor."""
        while self._open:
            os.close(self._open.pop())


def identity_of(status: os.stat_result) -> Identity:
    """Return what stays equal as long as a directory is the same one and no name in it was added, removed or changed.

    Args:
        status: of the directory.
    """
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def fingerprint(names: list[str]) -> str:
    """Return the names in a directory as one text, to be compared later.

    Args:
        names: as the system gave them, in its order.
    """
    return "/".join(names)


def unchanged(names: list[str], before: str) -> bool:
    """Tell whether a directory holds the same names as before, in any order.

    Args:
        names: as the system gives them now.
        before: the earlier ones, as `fingerprint` gave them.
    """
    return fingerprint(names) == before or sorted(names) == sorted(before.split("/") if before else [])


def describe_os_error(problem: OSError | ValueError) -> str:
    """Return what an error of the system says.

    Args:
        problem: the error.

    Returns:
        Words for the end of a message, in lower case; where this machine is at fault, with what to do about it.
    """
    text: str = (getattr(problem, "strerror", None) or str(problem)).lower()
    return text + _MACHINE.get(getattr(problem, "errno", None) or 0, "")


def is_machine_fault(problem: OSError | ValueError) -> bool:
    """Tell whether this machine is at fault. Then the error says nothing about what could not be read.

    Args:
        problem: an error of the system.
    """
    return getattr(problem, "errno", None) in _MACHINE
