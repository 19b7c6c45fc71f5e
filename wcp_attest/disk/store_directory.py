"""The directory of a store: an entry appears in it whole or not at all, and goes the same way.

An entry is written in a private directory with a temporary name, closed to writing, brought to the disk and then
renamed. The writer holds a lock on the temporary directory, so that others see that it was not killed. Whoever uses an
entry holds a shared lock on it. No lock protects the content: `wcp_attest.disk.kept` and hashing do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Final, Self

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import CREATE_FLAGS, FOLDER_FLAGS, describe_os_error
from wcp_attest.disk.files import is_leftover, temporary_name, write_all, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_NAME = re.compile(r"[0-9a-f]{64}\Z")
SPOILT_NAME = re.compile(r"[0-9a-f]{64}\.spoilt-[0-9a-f]{16}\Z")
_ALL_READ, _GROUP_READS = 0o555, 0o550  # an entry is never writable, not even for its owner
_TRIES = 20  # another command may remove a directory in the moment before it is locked


class NewEntry:
    """An entry that is being written; a context manager that removes it unless `put` gave it its place.

    Args:
        store: path of the store.
        name: of the entry.
        group: the id of the only group that may read it; None for everyone.
        durable: whether it is brought to the disk before it appears.

    Attributes:
        path: of the temporary directory.
        rights: of the files in it: the mode of a plain file, that of an executable one, and the group id or None.

    Raises:
        ConfigError: it cannot be made there.
    """

    def __init__(self, store: str, name: str, *, group: int | None = None, durable: bool = True) -> None:
        self.path = ""
        self._store = store
        self._name = name
        mask = _ALL_READ if group is None else _GROUP_READS
        self.rights = (0o444 & mask, 0o555 & mask, group)
        self._durable = durable
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            if any(self._made() for _ in range(_TRIES)):
                return self
        except OSError as problem:
            self.__exit__()
            raise self._failed(problem) from None
        raise ConfigError(
            f"cannot write into the store {self._store!r}: other commands remove its new entries; try again"
        )

    def _made(self) -> bool:
        """Make and lock the directory; False when another command took it for a leftover and removed it."""
        self.path = os.path.join(self._store, temporary_name(self._name))
        os.mkdir(self.path, 0o700)
        with contextlib.suppress(FileNotFoundError):
            self._lock = os.open(self.path, FOLDER_FLAGS)
            locked = lock(self._lock, exclusive=False)  # shared: it stays when the entry is in its place
            if locked and os.path.samestat(os.fstat(self._lock), os.lstat(self.path)):
                return True
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return False

    def __exit__(self, *_: object) -> None:
        if self._lock >= 0:
            remove_tree(self.path)
            os.close(self._lock)
            self._lock = -1

    def write(self, name: str, data: bytes) -> None:
        """Add a file.

        Args:
            name: of the file.
            data: its whole content.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            descriptor = os.open(os.path.join(self.path, name), CREATE_FLAGS, 0o600)
            with open(descriptor, "wb", buffering=0):
                write_all(descriptor, data)
                if self.rights[2] is not None:
                    os.fchown(descriptor, -1, self.rights[2])
                os.fchmod(descriptor, self.rights[0])
        except OSError as problem:
            raise self._failed(problem) from None

    def put(self) -> bool:
        """Close the entry to writing, bring it to the disk, and give it its name.

        Returns:
            False when another writer was faster; then this entry is not needed.

        Raises:
            ConfigError: that is not possible; nothing was added.
        """
        try:
            # Files were made without the right to write; directories lose it now. The upper ones are last: only the
            # owner may enter the top one until then, so readers see nothing that is not finished.
            for _, _, _, folder in os.fwalk(self.path, topdown=False, onerror=_raise):
                if self.rights[2] is not None:
                    os.fchown(folder, -1, self.rights[2])
                os.fchmod(folder, self.rights[1])
            if self._durable:
                _bring_to_disk(self._lock)  # before the rename: after a crash an entry is not there, or it is whole
            try:
                os.rename(self.path, os.path.join(self._store, self._name))
            except OSError as problem:
                if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    return False
                raise
            with opened_folder(self._store) as store:
                os.fsync(store)
        except OSError as problem:
            raise self._failed(problem) from None
        os.close(self._lock)
        self._lock = -1
        return True

    def _failed(self, problem: OSError) -> ConfigError:
        return ConfigError(
            f"cannot write into the store {self._store!r}: {describe_os_error(problem)}; nothing was added"
        )


@contextlib.contextmanager
def opened_folder(path: str) -> Iterator[int]:
    """Open a directory, following no link.

    Args:
        path: of the directory.

    Yields:
        A descriptor, which is closed when the block ends.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, FOLDER_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_store(path: str, *, private: bool) -> None:
    """Create the directory of a store unless it is there.

    Args:
        path: absolute; missing directories above it are made, too.
        private: whether no other user may read it.

    Raises:
        ConfigError: it cannot be made, or is not a directory.
    """
    try:
        os.makedirs(path, mode=0o700 if private else 0o755, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make the store {path!r}: {describe_os_error(problem)}; name another one") from None


def entry_names(store: str) -> list[str]:
    """Return the names of all entries, sorted.

    Args:
        store: path of the store.

    Raises:
        ConfigError: the store cannot be listed.
    """
    return [name for name in _listing(store) if ENTRY_NAME.match(name)]


def collect(store: str, *, spoilt: bool = False) -> int:
    """Remove what killed writers left behind, as far as that is possible; nothing that a running one writes.

    Args:
        store: path of the store.
        spoilt: whether to remove also the entries that were set aside.

    Returns:
        How many were removed.

    Raises:
        ConfigError: the store cannot be listed.
    """
    removed = 0
    for name in _listing(store):
        if not (is_leftover(name) or (spoilt and SPOILT_NAME.match(name))):
            continue
        path = os.path.join(store, name)
        with contextlib.suppress(OSError), opened_folder(path) as opened:
            if lock(opened, exclusive=True):
                remove_tree(path)
                removed += not os.path.lexists(path)
    return removed


def take_out(store: str, name: str, *, aside: bool = False) -> bool:
    """Remove an entry, or set it aside under a name that is not the name of an entry.

    It is renamed first, so that nobody finds an entry of which half is removed.

    Args:
        store: path of the store.
        name: of the entry.
        aside: whether it is kept under another name.

    Returns:
        False when it is being used; then nothing was changed.

    Raises:
        ConfigError: that is not possible.
    """
    path = os.path.join(store, name)
    target = os.path.join(store, f"{name}.spoilt-{os.urandom(8).hex()}" if aside else temporary_name(name))
    try:
        with opened_folder(path) as opened:
            # Who starts a command from an entry holds its lock until the command runs; then its environment shows it.
            if not aside and (not lock(opened, exclusive=True) or runs_from(path)):
                return False
            os.rename(path, target)
            if not aside:
                remove_tree(target)
    except OSError as problem:
        raise ConfigError(f"cannot remove {name} from the store {store!r}: {describe_os_error(problem)}") from None
    return True


def replace_member(store: str, name: str, member: str, data: bytes) -> None:
    """Replace a file of an entry that is not part of the package, as a whole or not at all.

    Args:
        store: path of the store.
        name: of the entry.
        member: name of the file.
        data: its whole new content; owner, group and mode stay.

    Raises:
        ConfigError: it cannot be written.
    """
    entry = os.path.join(store, name)
    try:
        with opened_folder(entry) as opened:
            status, group = os.fstat(opened), os.stat(member, dir_fd=opened, follow_symlinks=False)
            os.fchmod(opened, status.st_mode | stat.S_IWUSR)
            try:
                write_atomic(os.path.join(entry, member), data, mode=stat.S_IMODE(group.st_mode))
                os.chown(member, -1, group.st_gid, dir_fd=opened)
                os.chmod(member, stat.S_IMODE(group.st_mode), dir_fd=opened)
            finally:
                os.fchmod(opened, status.st_mode)
    except OSError as problem:
        raise ConfigError(f"cannot write into the store {store!r}: {describe_os_error(problem)}") from None


def runs_from(entry: str) -> list[int]:
    """Return which processes use an entry: their program or working directory is in it, or it is named to them.

    It is named to a process in the environment, by `run`, or in the command, by a platform that runs a sealed copy.

    Args:
        entry: path of the entry; links lead to the same one.

    Returns:
        The ids of those that this user may see.
    """
    paths = {os.fsencode(path) for path in (entry, os.path.realpath(entry))}
    inside = tuple(path + b"/" for path in paths)
    marks = {b"WCP_PACKAGE_ROOT=" + path + b"package" for path in inside}
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            used = any((os.readlink(f"/proc/{name}/{what}".encode()) + b"/").startswith(inside) for what in _PLACES)
            command = b"" if used else _command(name)
            if used or any(path in command for path in inside) or marks & {*_environment(name).split(b"\0")}:
                found.append(int(name))
    return found


_PLACES: Final = ("cwd", "exe")


def _command(process: str) -> bytes:
    """Return the command of a process; raise OSError when it has ended. Our own names the entry that it removes."""
    if process == str(os.getpid()):
        return b""
    with open(f"/proc/{process}/cmdline", "rb", buffering=0) as stream:
        return stream.read()


def _environment(process: str) -> bytes:
    """Return the environment of a process; raise OSError when it has ended, or this user may not see it.

    While a process becomes another program (`execve`), it has no environment for a moment; wait for that.
    """
    for _ in range(20):
        with open(f"/proc/{process}/environ", "rb") as stream:
            data = stream.read(4 << 20)
        if data or not os.path.exists(f"/proc/{process}/exe"):
            break
        time.sleep(0.001)
    return data


def is_still(descriptor: int, path: str) -> bool:
    """Tell whether a path still leads to the directory of a descriptor.

    Args:
        descriptor: of the directory, opened earlier.
        path: by which it was opened.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock a directory without waiting.

    Args:
        descriptor: of the directory.
        exclusive: whether nobody else may hold a lock; else others may hold a shared one.

    Returns:
        False when another process holds a lock against it. True also where the file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def remove_tree(path: str) -> None:
    """Remove a directory of ours that is closed to writing, as far as that is possible.

    Args:
        path: of the directory.
    """
    for _, _, _, descriptor in os.fwalk(path):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o700)
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _raise(problem: OSError) -> None:
    raise problem


def _bring_to_disk(descriptor: int) -> None:
    """Bring a whole file system to the disk at once: a hundred thousand `fsync`s would take minutes.

    This must be done: an entry kept by root is used without being hashed. If a crash left its name but lost the bytes
    of its files, files full of zeros would run as verified. Raise OSError when it fails.
    """
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _listing(store: str) -> Iterator[str]:
    try:
        return iter(sorted(os.listdir(store)))
    except OSError as problem:
        raise ConfigError(f"cannot read the store {store!r}: {describe_os_error(problem)}") from None
