"""Reach a directory below a root by descriptors, component by component, following no link."""

from __future__ import annotations

import os
import sys

FOLDER_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
UTF8 = sys.getfilesystemencoding() == "utf-8"


class FileProblem(Exception):
    """An entry cannot be read safely; never leaves the package.

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


def native(name: str) -> str | bytes:
    """Return a name as the system calls take it: its UTF-8 bytes, whatever the locale says."""
    return name if UTF8 else name.encode("utf-8", "surrogateescape")


class Descent:
    """Opens directories below a root, component by component, following no link.

    The way to the last one is kept open, so that its neighbours cost one step and not all of them.

    Args:
        root: descriptor of the root.
    """

    def __init__(self, root: int) -> None:
        self._names: list[str] = []
        self._open = [os.open(".", FOLDER_FLAGS, dir_fd=root)]

    def open(self, path: str, identity: tuple[int, int] | None) -> int:
        """Return a descriptor of a directory, good until the next one is opened.

        Args:
            path: empty for the root itself, else `a/b/`.
            identity: the device and inode it must have, or None.

        Raises:
            FileProblem: it is gone, no longer a directory, or another one.
        """
        names = path.split("/")[:-1]
        shared = 0
        for old, new in zip(self._names, names, strict=False):
            if old != new:
                break
            shared += 1
        self._keep(shared)
        try:
            for name in names[shared:]:
                self._open.append(os.open(native(name), FOLDER_FLAGS, dir_fd=self._open[-1]))
                self._names.append(name)
            status = os.fstat(self._open[-1])
        except OSError as problem:
            raise FileProblem(path, f"changed while it was read ({words(problem)})") from None
        if identity is not None and identity != (status.st_dev, status.st_ino):
            raise FileProblem(path, "was replaced by another directory while it was read")
        return self._open[-1]

    def close(self) -> None:
        """Close everything."""
        self._keep(-1)

    def _keep(self, levels: int) -> None:
        while len(self._open) > levels + 1:
            os.close(self._open.pop())
        del self._names[max(levels, 0) :]


def fingerprint(names: list[str]) -> str:
    """Return names, as the system gave them and in its order, as one text to be compared."""
    return "/".join(names)


def unchanged(names: list[str], before: str) -> bool:
    """Tell whether a directory that held `before` now holds the same names, in whatever order."""
    return fingerprint(names) == before or sorted(names) == sorted(before.split("/") if before else [])


def words(problem: OSError | ValueError) -> str:
    """Return what the system says is wrong, for the end of a message."""
    return (getattr(problem, "strerror", None) or str(problem)).lower()
