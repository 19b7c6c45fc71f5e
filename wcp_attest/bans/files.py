"""Opening the operator's files: regular ones only, without following links, without ever waiting."""

from __future__ import annotations

import os
import stat

from wcp_attest.errors import BansUnusable

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_regular(path: str, what: str, *, private: bool = False) -> int:
    """Open a file for reading.

    Args:
        path: of the file.
        what: the file in words, for messages.
        private: whether it is refused when another user could have written it.

    Returns:
        The descriptor; the caller closes it.

    Raises:
        BansUnusable: it is missing, unreadable, not a regular file or not private.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise BansUnusable(f"{what} cannot be opened: {why}") from None
    try:
        _check(os.fstat(descriptor), what, private=private)
    except BansUnusable:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, what: str, *, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BansUnusable(f"{what} is not a regular file")
    if private and status.st_uid not in (0, os.geteuid()):
        raise BansUnusable(f"{what} belongs to user {status.st_uid}; it must be yours or root's")
    if private and status.st_mode & 0o022:
        raise BansUnusable(f"{what} can be written by others; run chmod go-w on it")
