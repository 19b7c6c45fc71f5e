"""The one guard for every file that a command writes: nothing that is not ours is overwritten or deleted.

Each kind of output says how a file of that kind is recognised. A file that is recognised is replaced. For any other
file the command refuses, or, when the user gives `--force`, keeps it as `NAME.orig`. Commands check the places of their
output before they read, sign or publish anything, and once more when they write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import PendingFile, contains, pending_file, read_start, sync_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOCK_DEADLINE: Final = 30.0  # seconds to wait for another writer
MAX_ORIGINALS: Final = 99  # NAME.orig, NAME.orig.2, …
_held = threading.local()  # directories that this thread has locked
_TRIES: Final = 10  # to write a file at a place where others make and remove one at the same time
_PAUSE: Final = 0.05  # seconds between two attempts to lock
_NO_LOCKS: Final = {errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class OutputKind:
    """What a command writes, and how an earlier file of that kind is recognised.

    Attributes:
        noun: such as "a manifest of wcp-attest", for messages.
        recognizes: tells whether bytes are a file of this kind; it gets the whole file, or its first `limit` bytes.
        limit: how many bytes are read for that.
        advice: what the user can do about a file that is not of this kind, for messages.
    """

    noun: str
    recognizes: Callable[[bytes], bool]
    limit: int = 64 * 1024 * 1024
    advice: str = "name another file, or move it away"


@dataclass(frozen=True, slots=True)
class Planned:
    """One file that is about to be written.

    Attributes:
        path: where.
        data: its whole content.
        kind: what it may replace.
        mode: permission bits, reduced by the umask.
    """

    path: str
    data: bytes
    kind: OutputKind
    mode: int = 0o644


def check_place(path: str, kind: OutputKind, *, force: bool = False, error: type[ConfigError] = ConfigError) -> bool:
    """Check that a file may be written, before any work is done for it. Nothing is changed.

    Args:
        path: where it goes.
        kind: what it is.
        force: whether a regular file that is not ours may be set aside as `NAME.orig`.
        error: the error type to raise.

    Returns:
        Whether there is a file that must be set aside first.

    Raises:
        ConfigError: of type `error`: the path is a link, a directory, a special file, or a file that is not ours; or
            its directory is missing or cannot be written to.
    """
    folder = os.path.dirname(path) or os.curdir
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        status = None
    except (OSError, ValueError) as problem:
        raise error(f"cannot write {path!r}: {describe_os_error(problem)}; nothing was changed") from None
    if not os.path.isdir(folder):
        raise error(f"cannot write {path!r}: {folder!r} is not a directory that exists; nothing was changed")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"cannot write {path!r}: permission denied in {folder!r}; nothing was changed")
    if status is None:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise error(f"cannot write {path!r}: it is not a regular file; remove it or give its real place")
    try:
        ours = status.st_size == 0 or kind.recognizes(read_start(path, kind.limit))
    except OSError as problem:
        raise error(f"cannot tell what {path!r} is: {describe_os_error(problem)}; nothing was changed") from None
    if ours or force:
        return not ours
    raise error(f"{path!r} is not {kind.noun}, so it is not overwritten; {kind.advice}")


def write_file(
    path: str,
    data: bytes,
    kind: OutputKind,
    *,
    force: bool = False,
    error: type[ConfigError] = ConfigError,
) -> str | None:
    """Check the place of a file (`check_place`) and write it: afterwards the old file or the whole new one is there.

    Args:
        path: where it goes.
        data: its whole content.
        kind: what it is.
        force: whether a regular file that is not ours may be set aside as `NAME.orig`.
        error: the error type to raise for the place.

    Returns:
        The path under which an old file was kept, or None.

    Raises:
        ConfigError: as `check_place`; or the file cannot be written, and nothing was changed.
    """
    check_place(path, kind, force=force, error=error)
    with pending_file(path, data) as written:
        for _ in range(_TRIES):
            absent = not os.path.lexists(path)
            kept = set_aside(path) if check_place(path, kind, force=force, error=error) else None
            try:
                placed = written.put(new=absent)
            except ConfigError:  # the old file is in its place, and needs no second name
                _remove(kept)
                raise
            if placed:
                return kept
    raise _made_meanwhile(path)


def write_files(files: Iterable[Planned], *, force: bool = False) -> tuple[str, ...]:
    """Write several files, all or none. Nearly everything that can fail does so before the first file is changed.

    Args:
        files: what to write.
        force: whether files that are not ours may be set aside as `NAME.orig`.

    Returns:
        The paths under which old files were kept.

    Raises:
        ConfigError: as `check_place`; or a file cannot be written, and all old files are as before.
    """
    planned = tuple(files)
    foreign = [one.path for one in planned if check_place(one.path, one.kind, force=force)]
    with contextlib.ExitStack() as drafts, contextlib.ExitStack() as undo:
        written = [drafts.enter_context(pending_file(one.path, one.data, mode=one.mode)) for one in planned]
        for one in written:
            one.settle()
        kept = []
        for path in foreign:
            kept.append(set_aside(path))
            undo.callback(_remove, kept[-1])
        put_all(written)
        undo.pop_all()
    return tuple(kept)


def put_all(files: Iterable[PendingFile]) -> None:
    """Give several files their places; when one fails, the earlier ones are restored.

    Args:
        files: written and brought to the disk (`PendingFile.settle`).

    Raises:
        ConfigError: a file cannot get its place, and all old files are as before.
    """
    waiting = tuple(files)
    with contextlib.ExitStack() as undo:
        for one in waiting:
            absent, restore = _way_back(one)
            undo.callback(restore)
            if not one.put(new=absent):
                raise _made_meanwhile(one.path)
        undo.pop_all()


def _way_back(one: PendingFile) -> tuple[bool, Callable[[], None]]:
    """Return whether nothing is at the place of a file, and what makes it as it is now."""
    try:
        mode = stat.S_IMODE(os.lstat(one.path).st_mode)
        old = read_start(one.path, sys.maxsize - 1)
    except FileNotFoundError:
        return True, one.take_back
    except OSError as problem:
        raise ConfigError(f"cannot write {one.path!r}: {describe_os_error(problem)}; nothing was changed") from None
    return False, partial(write_atomic, one.path, old, mode=mode)


def _made_meanwhile(path: str) -> ConfigError:
    return ConfigError(f"{path!r} was made by another program in the meantime; nothing was changed, try again")


def _remove(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


def set_aside(path: str) -> str:
    """Keep the file at a path under a further name, `NAME.orig`; an `.orig` that exists is never overwritten.

    Args:
        path: of the file.

    Returns:
        The further name.

    Raises:
        ConfigError: the file cannot be kept; nothing was changed.
    """
    for number in range(1, MAX_ORIGINALS + 1):
        name = f"{path}.orig" if number == 1 else f"{path}.orig.{number}"
        if os.path.lexists(name):
            continue
        try:
            _copy_name(path, name)
        except FileExistsError:
            continue
        except OSError as problem:
            raise ConfigError(
                f"cannot keep {path!r} as {name!r}: {describe_os_error(problem)}; nothing was changed"
            ) from None
        sync_folder(os.path.dirname(path) or os.curdir)
        return name
    raise ConfigError(f"{path!r} already has {MAX_ORIGINALS} files `.orig` beside it; remove some")


def _copy_name(path: str, name: str) -> None:
    """Give a file a second name; where the file system has no hard links, copy it."""
    try:
        os.link(path, name, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        import shutil

        with open(path, "rb") as source, open(name, "xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        shutil.copystat(path, name, follow_symlinks=False)


@contextlib.contextmanager
def only_writer(folder: str, *, deadline: float = LOCK_DEADLINE) -> Iterator[None]:
    """Keep other wcp-attest processes from writing into a directory while the block reads and replaces its files.

    The lock is on the directory itself (`flock(2)`), so it leaves no file behind and ends with the process. On a file
    system without locks the block runs without one; a writer also compares what it replaces with what it read
    (`check_unchanged`).

    Args:
        folder: path of the directory; empty for the working directory.
        deadline: how many seconds to wait for another writer.

    Yields:
        Nothing; the lock is held.

    Raises:
        ConfigError: the directory cannot be opened or locked, or another process still writes there at the deadline.
    """
    if os.name == "nt":
        yield
        return
    try:
        descriptor = os.open(folder or os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise ConfigError(f"cannot open the directory {folder!r}: {describe_os_error(problem)}") from None
    status = os.fstat(descriptor)
    held: set[tuple[int, int]] = _held.__dict__.setdefault("folders", set())
    folder_id = (status.st_dev, status.st_ino)
    if folder_id in held:  # this thread holds the lock already, in an outer block
        os.close(descriptor)
        yield
        return
    until = time.monotonic() + deadline
    try:
        while not _locked(descriptor, folder):
            if time.monotonic() >= until:
                raise ConfigError(
                    f"another wcp-attest process has been writing in {folder or os.curdir!r} for {deadline:.0f} s;"
                    " nothing was changed, try again when it has ended"
                )
            time.sleep(_PAUSE)
        held.add(folder_id)
        yield
    finally:
        held.discard(folder_id)
        os.close(descriptor)


def _locked(descriptor: int, folder: str) -> bool:
    """Lock a directory, or return False while another process holds the lock."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise ConfigError(f"cannot lock the directory {folder!r}: {describe_os_error(problem)}") from None
    return True


def check_unchanged(path: str, before: bytes | None) -> None:
    """Check that a file still holds what was read of it, just before it is replaced.

    Args:
        path: of the file.
        before: its content when it was read; None when it did not exist.

    Raises:
        ConfigError: another program changed it meanwhile; we changed nothing.
    """
    same = not os.path.lexists(path) if before is None else contains(path, before)
    if not same:
        raise ConfigError(f"{path!r} was changed by another program in the meantime; nothing was changed, try again")
