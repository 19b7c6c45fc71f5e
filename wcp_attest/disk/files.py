"""Read one file, or replace one, safely.

Reading follows no link at the end of a path unless the caller says so, never waits for a FIFO or device, and reads at
most as much as the caller allows. Writing leaves the old file or the whole new one, also after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, Error, MachineError
from wcp_attest.disk.directory import CREATE_FLAGS, describe_os_error, is_machine_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAME = 255  # bytes; what file systems take
PIPE_DEADLINE = 60.0  # seconds; a person may have to type a passphrase for the program that writes
_BLOCK = 1 << 16  # bytes compared at once
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CREATE = CREATE_FLAGS | getattr(os, "O_BINARY", 0)
_OPEN_ALREADY = re.compile(r"/dev/stdin\Z|(/dev/fd|/proc/self/fd)/[0-9]+\Z")
_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{16}\.wcp-tmp\Z", re.DOTALL)


def blame(problem: BaseException | None, error: type[Error]) -> type[Error]:
    """Return the type of the error to raise for an error of the system.

    Args:
        problem: what the system reports.
        error: the type when this machine is not at fault.

    Returns:
        MachineError when this machine is at fault, else `error`.
    """
    return MachineError if isinstance(problem, OSError) and is_machine_fault(problem) else error


def is_there(path: str) -> bool:
    """Tell whether there is something at a path; a broken link is something.

    Args:
        path: any path.

    Raises:
        MachineError: this machine cannot tell; `os.path.lexists` would say no.
    """
    try:
        os.lstat(path)
    except (OSError, ValueError) as problem:
        if is_machine_fault(problem):
            raise MachineError(f"cannot look for {path!r}: {describe_os_error(problem)}; nothing was decided") from None
        return False
    return True


def absolute(path: str) -> str:
    """Return a path that leads to the same file from any working directory.

    It is not normalised: for the kernel, `..` after a link is above the target of the link, not above the link.

    Args:
        path: absolute or relative.
    """
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def read_bounded(
    path: str,
    *,
    limit: int,
    what: str,
    missing: type[Error] = ConfigError,
    follow: bool = False,
    pipe: bool = False,
) -> bytes:
    """Read a whole regular file.

    Args:
        path: where it is.
        limit: the most bytes it may have.
        what: what it is, for messages (`the policy`, `the manifest`).
        missing: the error type to raise.
        follow: whether the path may be a symbolic link. An operator's configuration often is; a file of a tree never.
        pipe: whether it may be a pipe that is already open, such as the process substitution of a shell, so that a key
            need not be on a disk. The writer has `PIPE_DEADLINE` seconds. A FIFO with a name of its own is refused.

    Returns:
        The whole content.

    Raises:
        Error: of type `missing`: the file is absent, unreadable, a link, not regular, or larger than `limit`;
            MachineError when this machine is at fault.
    """
    try:
        descriptor = os.open(path, _READ | (0 if follow else _NOFOLLOW))
    except (OSError, ValueError) as problem:
        raise blame(problem, missing)(f"cannot read {what} {path!r}: {_open_reason(path, problem)}") from None
    try:
        status = os.fstat(descriptor)
        if pipe and stat.S_ISFIFO(status.st_mode) and _OPEN_ALREADY.match(path):
            data: bytes | None = _read_pipe(descriptor, limit)
        elif not stat.S_ISREG(status.st_mode):
            raise missing(f"cannot read {what} {path!r}: not a regular file")
        else:
            data = _read_up_to(descriptor, min(status.st_size, limit), limit) if status.st_size <= limit else None
    except OSError as problem:
        raise blame(problem, missing)(f"cannot read {what} {path!r}: {describe_os_error(problem)}") from None
    finally:
        os.close(descriptor)
    if data is None or len(data) > limit:
        raise missing(f"{what} {path!r} is larger than {limit} bytes")
    return data


def write_atomic(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Replace or create a file: afterwards the old one or the whole new one is on the disk.

    Args:
        path: where it goes; an existing link, directory or special file is not replaced.
        data: its whole content.
        mode: permission bits of the file, reduced by the umask.

    Raises:
        ConfigError: it cannot be written; nothing was changed.
    """
    with pending_file(path, data, mode=mode) as written:
        written.put()


@dataclass(slots=True)
class PendingFile:
    """A file written beside its place, under a temporary name; made by `pending_file`.

    Attributes:
        path: the place.
    """

    path: str
    _temporary: str
    _descriptor: int
    _settled: bool = False

    def settle(self) -> None:
        """Bring the content to the disk. If the disk is full, this fails, and nothing was changed yet.

        Raises:
            ConfigError: it cannot be brought there.
        """
        if not self._settled:
            with _write_problems(self.path):
                os.fsync(self._descriptor)
            self._settled = True

    def put(self, *, new: bool = False) -> bool:
        """Give the file its place.

        Args:
            new: whether nothing was there. What another program has put there meanwhile is not replaced, except on a
                file system without hard links.

        Returns:
            False when there is something now that was not there; nothing was changed.

        Raises:
            ConfigError: that is not possible; nothing was changed.
        """
        self.settle()
        with _write_problems(self.path):
            if not new or (placed := _link_new(self._temporary, self.path)) is None:
                os.replace(self._temporary, self.path)
            elif not placed:
                return False
        sync_folder(os.path.dirname(self.path) or os.curdir)
        return True

    def take_back(self) -> None:
        """Remove the file from its place, if it is there."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path)):
                os.unlink(self.path)


def _link_new(temporary: str, path: str) -> bool | None:
    """Rename a file unless its new name is taken: True when it was renamed; None where there are no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        return None
    os.unlink(temporary)
    return True


@contextlib.contextmanager
def pending_file(path: str, data: bytes, *, mode: int = 0o644) -> Iterator[PendingFile]:
    """Write a file beside its place; `put` then gives it its place.

    Args:
        path: where it goes; an existing link, directory or special file is not replaced.
        data: its whole content.
        mode: permission bits of the file, reduced by the umask.

    Yields:
        The pending file. If it was not put when the block ends, it is removed.

    Raises:
        ConfigError: it cannot be written; nothing was changed.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    descriptor = -1
    try:
        with _write_problems(path):
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                raise ConfigError(f"cannot write {path!r}: it is not a regular file; remove it or give its real place")
            descriptor = os.open(temporary, _CREATE, mode)
            write_all(descriptor, data)
            # On Linux this makes the system begin to write the file to the disk, so that `fsync` has less to wait for.
            with contextlib.suppress(OSError, AttributeError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield PendingFile(path, temporary, descriptor)
    finally:
        with contextlib.suppress(OSError):  # after `put` there is no such name any more
            os.unlink(temporary)
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def _write_problems(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot write {path!r}: {describe_os_error(problem)}; nothing was changed") from problem


@contextlib.contextmanager
def private_directory(parent: str) -> Iterator[str]:
    """Make a directory that nobody else can enter. When the block ends, it is removed with everything in it.

    Args:
        parent: the directory to make it in.

    Yields:
        Its path.

    Raises:
        ConfigError: `parent` cannot be written to.
    """
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix=".wcp-", dir=parent)
    except OSError as problem:
        raise ConfigError(f"cannot write in {parent!r}: {describe_os_error(problem)}") from None
    try:
        yield folder
    finally:
        remove_directory(folder)


def remove_directory(path: str) -> None:
    """Remove a directory of ours with everything in it, as far as that is possible; also when a signal interrupts it.

    Args:
        path: of the directory; it may be gone already.
    """
    import shutil

    try:
        shutil.rmtree(path, ignore_errors=True)
    except BaseException:  # Ctrl-C, or what a supervisor sent; a second one ends the program
        shutil.rmtree(path, ignore_errors=True)
        raise


def read_start(path: str, limit: int) -> bytes:
    """Read the first bytes of a regular file, following no link.

    Args:
        path: of the file.
        limit: the most bytes that are read.

    Returns:
        The first `limit` bytes, or all of them if there are fewer.

    Raises:
        OSError: it cannot be opened or read, or is not a regular file.
    """
    descriptor = os.open(path, _READ | _NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return _read_up_to(descriptor, min(status.st_size, limit), limit - 1)
    finally:
        os.close(descriptor)


def contains(path: str, data: bytes) -> bool:
    """Tell whether a path is a regular file, not a link, with exactly this content.

    Args:
        path: of the file.
        data: the content.

    Returns:
        False also when it cannot be read.
    """
    try:
        descriptor = os.open(path, _READ | _NOFOLLOW)
        try:
            same, at = stat.S_ISREG(os.fstat(descriptor).st_mode), 0
            # Block by block: to read a second copy of the whole into new memory takes far longer (bar: `small`).
            while same and (block := os.read(descriptor, _BLOCK)):
                same = data.startswith(block, at)
                at += len(block)
        finally:
            os.close(descriptor)
        return same and at == len(data)
    except (OSError, ValueError):
        return False


def is_leftover(name: str) -> bool:
    """Tell whether a name is one of `temporary_name`, of a file or directory that a killed process left behind.

    Args:
        name: without its directory.
    """
    return _LEFTOVER.match(name) is not None


def _read_pipe(descriptor: int, limit: int) -> bytes:
    """Read a pipe to its end, or one byte past `limit`; raise OSError when it takes too long."""
    import select
    import time

    parts: list[bytes] = []
    left, until = limit + 1, time.monotonic() + PIPE_DEADLINE
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while left > 0:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        part = os.read(descriptor, min(left, 1 << 16))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_up_to(descriptor: int, expected: int, limit: int) -> bytes:
    """Read to the end, or one byte past `limit`."""
    parts: list[bytes] = []
    wanted = expected + 1
    left = limit + 1
    while left > 0:
        part = os.read(descriptor, min(wanted, left))  # nearly always the whole file, so that nothing must be joined
        if not part:
            break
        parts.append(part)
        left -= len(part)
        wanted = max(1 << 16, wanted - len(part))
    return b"".join(parts)


def temporary_name(name: str) -> str:
    """Return a random name for something that will be renamed; `is_leftover` recognises it.

    Args:
        name: the later name. As much of it is kept as fits into `MAX_NAME` bytes.
    """
    room = MAX_NAME - len(os.fsencode(f"..{'0' * 16}.wcp-tmp"))
    return f".{os.fsdecode(os.fsencode(name)[:room])}.{os.urandom(8).hex()}.wcp-tmp"


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything, in as many calls as it takes.

    Args:
        descriptor: open for writing.
        data: the bytes.

    Raises:
        OSError: not everything could be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: str) -> None:
    """Bring the names in a directory to the disk, where the system can do that; errors are ignored.

    Args:
        folder: path of the directory.
    """
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse to sync a directory
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_reason(path: str, problem: OSError | ValueError) -> str:
    """Say why a file could not be opened; the reason may be that it is a link."""
    target = None
    if not isinstance(problem, FileNotFoundError):
        with contextlib.suppress(OSError, ValueError):  # no link
            target = os.readlink(path)
    if target is None:
        return describe_os_error(problem)
    if target.startswith("..data/"):  # as Kubernetes mounts a ConfigMap or a Secret
        return (
            "a symbolic link of a mounted volume; give the directory that holds the real files: "
            f"`readlink -f {os.path.dirname(path) or '.'}/..data`"
        )
    return "a symbolic link; give the file itself"
