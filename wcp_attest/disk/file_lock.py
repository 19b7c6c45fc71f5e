"""A lock file in a directory that is ours, with a deadline and a message that names who holds it.

The kernel releases the lock when its process ends, however it ends (`flock(2)`), so none is ever left in force. The
file stays; it holds the process id while the lock is held. Files in folders of the user are written under
`disk.overwrite.only_writer`, which leaves no file behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, Error, MachineError
from wcp_attest.disk.directory import describe_os_error, is_machine_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP: Final = 0.02  # seconds between two attempts
_MAX_CONTENT: Final = 32  # bytes of a lock file
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def exclusive(path: str, *, wait: float, error: type[Error] = ConfigError) -> Iterator[None]:
    """Hold a lock file.

    Args:
        path: of the lock file; its folder exists.
        wait: seconds after which waiting for another holder is given up.
        error: the error type to raise.

    Raises:
        Error: of type `error`: another process held the lock all the time, or the file cannot be opened or is no lock;
            MachineError when this machine is at fault.
    """
    try:
        descriptor = os.open(path, _OPEN, 0o600)
    except OSError as problem:
        raise _failure(problem, error)(f"the lock `{path}` cannot be opened: {describe_os_error(problem)}") from None
    deadline = time.monotonic() + wait
    try:
        while not _is_taken(descriptor, path, error):
            if time.monotonic() > deadline:
                raise error(
                    f"the lock `{path}` was held by {_holder(descriptor, path, error)} for more than {wait:g} s; wait "
                    "until it has ended, then try again"
                )
            time.sleep(_STEP)
        with contextlib.suppress(OSError):  # it is only for the messages of others
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int, path: str, error: type[Error]) -> bool:
    """Take the lock, or return False while another process holds it."""
    _holder(descriptor, path, error)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        raise _failure(problem, error)(f"the lock `{path}` cannot be taken: {describe_os_error(problem)}") from None
    return True


def _holder(descriptor: int, path: str, error: type[Error]) -> str:
    """Return who holds a lock file, in words; refuse a file that is not a lock."""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = os.pread(descriptor, _MAX_CONTENT + 1, 0) if regular else b"?"
    except OSError as problem:
        raise _failure(problem, error)(f"the lock `{path}` cannot be read: {describe_os_error(problem)}") from None
    if content.strip(b"0123456789\n") or len(content) > _MAX_CONTENT:
        raise error(f"`{path}` is in the way: it is no lock of wcp-attest; move it away")
    return f"process {content.decode().strip()}" if content.strip() else "another process"


def _failure(problem: OSError, error: type[Error]) -> type[Error]:
    return MachineError if is_machine_fault(problem) else error
