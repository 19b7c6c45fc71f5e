"""Files that the operator names: regular ones, bounded, or standard input."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY  # never hangs on a FIFO


def read_file(path: str, *, limit: int, what: str) -> bytes:
    """Read a whole file, or standard input for `-`.

    Args:
        path: where it is.
        limit: the most bytes it may have.
        what: what it is, for messages (`rules document`).

    Raises:
        ConfigError: it is absent, unreadable, not a regular file, or too large.
    """
    try:
        data = _read(path, limit)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConfigError(f"cannot read the {what} {path!r}: {reason.lower()}") from None
    if len(data) > limit:
        raise ConfigError(f"the {what} {path!r} is larger than {limit} bytes")
    return data


@contextmanager
def create_file(path: str) -> Iterator[BinaryIO]:
    """Create a file that only its owner can read, for writing in the block, after which it is on the disk.

    It is removed when the block fails.

    Raises:
        ConfigError: it is there already, or cannot be created.
        OSError: it cannot be written.
    """
    try:
        file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")  # noqa: SIM115  # below
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConfigError(f"cannot create {path!r}: {reason.lower()}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        sync_folder(os.path.dirname(path) or os.curdir)
    except BaseException:  # half of it must not pass for all of it
        with suppress(OSError):
            os.unlink(path)
        raise


def _read(path: str, limit: int) -> bytes:
    """Read one byte more than the limit at most, so that the caller can tell that there is more."""
    if path == "-":
        if sys.stdin is None:
            raise ValueError("standard input is closed")
        return sys.stdin.buffer.read(limit + 1)
    with open(os.open(path, _FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        return file.read(limit + 1)
