"""Files of the operator: read without waiting or following links, replaced as a whole, closed to other users."""

from __future__ import annotations

import errno
import os
import stat

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import blame, write_atomic

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def open_regular(path: str, what: str, *, private: bool = False, follow: bool = False) -> int:
    """Open a file for reading.

    Args:
        path: of the file.
        what: the file in words, for messages.
        private: whether to refuse a file that another user could have written.
        follow: whether it may be a symbolic link, as mounted configuration is; only for files whose signature is
            checked.

    Returns:
        The descriptor; the caller closes it.

    Raises:
        BansUnusable: it is missing, unreadable, not a regular file or not private.
        MachineError: this machine is at fault.
    """
    try:
        descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except (OSError, ValueError) as problem:
        raise blame(problem, BansUnusable)(f"{what} cannot be opened: {_why(problem)}") from None
    try:
        _check(os.fstat(descriptor), what, private=private)
    except (BansUnusable, OSError) as problem:
        os.close(descriptor)
        if isinstance(problem, OSError):
            raise blame(problem, BansUnusable)(f"{what} cannot be read: {_why(problem)}") from None
        raise
    return descriptor


def read_all(descriptor: int, limit: int, what: str) -> bytes:
    """Read an open file to its end and close it.

    Args:
        descriptor: of the file.
        limit: the largest size in bytes.
        what: the file in words, for messages.

    Returns:
        What it holds.

    Raises:
        BansUnusable: it is larger, or cannot be read.
        MachineError: this machine is at fault.
    """
    try:
        with open(descriptor, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as problem:
        raise blame(problem, BansUnusable)(f"{what} cannot be read: {_why(problem)}") from None
    if len(data) > limit:
        raise BansUnusable(f"{what} is larger than {limit} bytes; compile larger lists")
    return data


def read_file(path: str, limit: int, what: str, *, private: bool = False, follow: bool = False) -> bytes:
    """Read a whole file.

    Args:
        path: of the file.
        limit: the largest size in bytes.
        what: the file in words, for messages.
        private: as for `open_regular`.
        follow: as for `open_regular`.

    Returns:
        What it holds.

    Raises:
        BansUnusable: as `open_regular` and `read_all`.
        MachineError: this machine is at fault.
    """
    return read_all(open_regular(path, what, private=private, follow=follow), limit, what)


def replace(path: str, data: bytes) -> None:
    """Write a file that only its owner can read, as a whole or not at all.

    Args:
        path: of the file; its directory exists.
        data: the whole content.

    Raises:
        BansUnusable: it cannot be written.
        MachineError: this machine is at fault.
    """
    try:
        write_atomic(path, data, mode=0o600)
    except ConfigError as problem:
        raise blame(problem.__cause__, BansUnusable)(str(problem)) from None


def check_private_directory(path: str) -> None:
    """Create a directory that only its owner can use, or check that no other user can write to an existing one.

    Args:
        path: of the directory.

    Raises:
        BansUnusable: it cannot be made, is not a directory, belongs to another user or can be written by others.
        MachineError: this machine is at fault.
    """
    what = f"the state directory `{path}`"
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as problem:
        raise blame(problem, BansUnusable)(
            f"{what} cannot be made: {_why(problem)}; name a writable one as `state` in [bans], or in "
            "WCP_ATTEST_STATE_DIR"
        ) from None
    _check(status, what, folder=True)


def _check(status: os.stat_result, what: str, *, folder: bool = False, private: bool = True) -> None:
    """Refuse what is neither a regular file nor, with `folder`, a directory; and what another user could write."""
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        raise BansUnusable(f"{what} is not a {'directory' if folder else 'regular file'}")
    if not private:
        return
    if status.st_uid not in (0, os.geteuid()):
        raise BansUnusable(f"{what} belongs to user {status.st_uid}; it must be yours or root's")
    if status.st_mode & 0o022:
        raise BansUnusable(f"{what} can be written by others; run chmod go-w on it")


def _why(problem: OSError | ValueError) -> str:
    if getattr(problem, "errno", None) == errno.ELOOP:  # what O_NOFOLLOW makes of a link
        return "a symbolic link; name the file itself"
    return describe_os_error(problem)
