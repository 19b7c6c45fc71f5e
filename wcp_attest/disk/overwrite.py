"""The one guard in front of every file that a command writes: nothing that is not ours is overwritten or deleted.

A kind of output says how a file of that kind is recognised. What stands at the place of an output is replaced when it
is recognised; otherwise the command refuses, or, when the user says `--force`, keeps the old file as `NAME.orig`.
Commands check their places before they read, sign or publish anything, and once more at the moment of writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import PendingFile, contains, pending_file, read_start, sync_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOCK_DEADLINE: Final = 30.0  # seconds to wait for another writer
MAX_ORIGINALS: Final = 99  # NAME.orig, NAME.orig.2, …
_held = threading.local()  # folders that this thread has locked
_PAUSE: Final = 0.05  # seconds between two attempts to lock
_NO_LOCKS: Final = {errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class OutputKind:
    """What a command writes, and how an earlier file of that kind is recognised.

    Attributes:
        noun: for messages: "a manifest of wcp-attest".
        recognizes: whether bytes are a file of this kind; given the whole file, or its first `limit` bytes.
        limit: how many bytes are read for that.
        advice: what to do about a file that is not of this kind, for messages.
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
        error: what to raise.

    Returns:
        Whether there is a file that must be set aside first.

    Raises:
        ConfigError: `error`: the path is a link, directory, special file, or a file that is not ours; or the folder
            is missing or cannot be written to.
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
    if status is None or (stat.S_ISREG(status.st_mode) and status.st_size == 0):
        return False
    if not stat.S_ISREG(status.st_mode):
        raise error(f"cannot write {path!r}: it is not a regular file; remove it or give its real place")
    try:
        ours = kind.recognizes(read_start(path, kind.limit))
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
    mode: int = 0o644,
    error: type[ConfigError] = ConfigError,
) -> None:
    """Write one file after `check_place`: afterwards the path holds the old file or the whole new one.

    Raises:
        ConfigError: `error`, as `check_place`; or it cannot be written, and the old file is unchanged.
    """
    if check_place(path, kind, force=force, error=error):
        set_aside(path)
    with pending_file(path, data, mode=mode) as written:
        written.put()


def write_files(files: Iterable[Planned], *, force: bool = False) -> tuple[str, ...]:
    """Write several files, all or none: what cannot be written is found out before the first one changes.

    Args:
        files: what to write.
        force: whether files that are not ours may be set aside.

    Returns:
        The paths under which old files were kept.

    Raises:
        ConfigError: as `check_place`; or one cannot be written, and all old files stand as they stood.
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
    """Put settled files in their places; when one fails, those already put are taken back.

    Raises:
        ConfigError: one cannot be put, and all old files stand as they stood.
    """
    waiting = tuple(files)
    with contextlib.ExitStack() as undo:
        for position, one in enumerate(waiting):
            if position < len(waiting) - 1:  # nothing can fail after the last one
                undo.callback(_restore, one.path, *_kept_in_memory(one.path))
            one.put()
        undo.pop_all()


def _kept_in_memory(path: str) -> tuple[bytes | None, int]:
    """Return the content and the mode of a file, None and 0 when there is none."""
    try:
        status = os.lstat(path)
        return read_start(path, status.st_size + 1), stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        return None, 0
    except OSError as problem:
        raise ConfigError(f"cannot write {path!r}: {describe_os_error(problem)}; nothing was changed") from None


def _restore(path: str, data: bytes | None, mode: int) -> None:
    if data is None:
        _remove(path)
    else:
        write_atomic(path, data, mode=mode)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def set_aside(path: str) -> str:
    """Keep the file at a path under a further name, `NAME.orig`; an `.orig` that exists is never overwritten.

    Returns:
        The further name.

    Raises:
        ConfigError: it cannot be kept; nothing was changed.
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
    """Give a file a second name; where the file system has no hard links, copy it.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be done.
    """
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
    """Keep other wcp-attest processes from writing into a folder while the block reads and replaces files of it.

    The lock is on the folder itself (`flock(2)`), so it leaves no file behind and ends with the process. On a file
    system without locks the block runs without one; writers compare what they replace with what they read
    (`unchanged`).

    Args:
        folder: the directory.
        deadline: seconds to wait for another writer.

    Raises:
        ConfigError: the directory cannot be opened, or another process still writes there at the deadline.
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
    if folder_id in held:  # by this very thread, further out
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


def unchanged(path: str, before: bytes | None) -> None:
    """Check that a file is still what was read of it, just before it is replaced.

    Args:
        path: of the file.
        before: its content when it was read; None when it did not exist.

    Raises:
        ConfigError: another program changed it; nothing was changed by us.
    """
    same = not os.path.lexists(path) if before is None else contains(path, before)
    if not same:
        raise ConfigError(f"{path!r} was changed by another program in the meantime; nothing was changed, try again")
