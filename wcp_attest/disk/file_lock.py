"""A lock file in a directory of ours, with a deadline, and a message that names the process that holds it.

The kernel releases the lock when the process ends, also when it is killed (`flock(2)`). The file stays; while the lock
is held, it holds the process id. In directories of the user, `disk.overwrite.only_writer` locks the directory itself,
which leaves no file there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import blame

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP: Final = 0.02  # seconds between two attempts
_MAX_CONTENT: Final = 32  # bytes of a lock file
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def exclusive(path: str, *, wait: float, error: type[Error] = ConfigError) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: of the lock file; its directory exists.
        wait: how many seconds to wait for another process that holds it.
        error: the error type to raise.

    Yields:
        Nothing; the lock is held.

    Raises:
        Error: of type `error`: another process held the lock all the time, or the file cannot be opened or is not a
            lock of ours; MachineError when this machine is at fault.
    """
    try:
        descriptor = os.open(path, _OPEN, 0o600)
    except OSError as problem:
        raise blame(problem, error)(f"the lock `{path}` cannot be opened: {describe_os_error(problem)}") from None
    deadline = time.monotonic() + wait
    try:
        while True:
            holder = _holder(descriptor, path, error)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass  # another process holds it
            except OSError as problem:
                raise blame(problem, error)(
                    f"the lock `{path}` cannot be taken: {describe_os_error(problem)}"
                ) from None
            if time.monotonic() > deadline:
                raise error(
                    f"the lock `{path}` was held by {holder} for more than {wait:g} s; wait until it has ended, then "
                    "try again"
                )
            time.sleep(_STEP)
        with contextlib.suppress(OSError):  # the id is only for messages of other processes
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(descriptor: int, path: str, error: type[Error]) -> str:
    """Return in words which process holds a lock file; refuse a file that is not one of ours."""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = os.pread(descriptor, _MAX_CONTENT + 1, 0) if regular else b"?"
    except OSError as problem:
        raise blame(problem, error)(f"the lock `{path}` cannot be read: {describe_os_error(problem)}") from None
    if content.strip(b"0123456789\n") or len(content) > _MAX_CONTENT:
        raise error(f"`{path}` is in the way: it is no lock of wcp-attest; move it away")
    return f"process {content.decode().strip()}" if content.strip() else "another process"
