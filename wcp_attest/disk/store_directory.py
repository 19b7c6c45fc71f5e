"""The directory of a store: an entry appears in it whole or not at all, and goes the same way.

An entry grows in a private directory with a temporary name, is closed to writing, brought to disk and then renamed. A
lock on the temporary directory tells a writer that works from one that was killed. A shared lock on an entry tells
that somebody is using it. None of the locks protects content: that is what `wcp_attest.disk.kept` and hashing are for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Self

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import FOLDER_FLAGS, describe_os_error
from wcp_attest.disk.files import is_leftover, read_bounded, temporary_name, write_all, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_NAME = re.compile(r"[0-9a-f]{64}\Z")
SPOILT_NAME = re.compile(r"[0-9a-f]{64}\.spoilt-[0-9a-f]{16}\Z")
_ALL_READ, _GROUP_READS = 0o555, 0o550  # an entry is never writable, not even for its owner
_TRIES = 20  # another command may clear a directory away in the moment before it is locked
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NewEntry:
    """An entry in the making; a context manager that removes it unless it was put in its place.

    Args:
        store: path of the store.
        name: of the entry.
        group: the only group that may read it, by id; None for everyone.
        durable: whether it is brought to disk before it appears.

    Attributes:
        path: of the temporary directory.
        rights: that files in it are made with: mode of one, mode of an executable one, and the group or None.

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
        raise ConfigError(f"cannot write into the store {self._store!r}: others clear it all the time; try again")

    def _made(self) -> bool:
        """Make and lock the directory; False when another command took it for a leftover in between."""
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

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            descriptor = os.open(os.path.join(self.path, name), _CREATE, 0o600)
            with open(descriptor, "wb", buffering=0):
                write_all(descriptor, data)
                if self.rights[2] is not None:
                    os.fchown(descriptor, -1, self.rights[2])
                os.fchmod(descriptor, self.rights[0])
        except OSError as problem:
            raise self._failed(problem) from None

    def put(self) -> bool:
        """Close the entry to writing, bring it to disk, and give it its name.

        Returns:
            False when another writer was faster; then this one is not needed.

        Raises:
            ConfigError: it cannot be done.
        """
        try:
            # Files were made without the right to write. Directories lose it now that they are full, upper ones last,
            # so that this one, which only its owner may enter so far, opens to readers at the end.
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
    """Open a directory; not through a link.

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
        path: absolute; what lies above it may be made, too.
        private: whether nobody else may look into it.

    Raises:
        ConfigError: it cannot be made, or is no directory.
    """
    try:
        os.makedirs(path, mode=0o700 if private else 0o755, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make the store {path!r}: {describe_os_error(problem)}; name another one") from None


def entry_names(store: str) -> list[str]:
    """Return the names of all entries, sorted.

    Raises:
        ConfigError: the store cannot be listed.
    """
    return [name for name in _listing(store) if ENTRY_NAME.match(name)]


def collect(store: str, *, spoilt: bool = False) -> int:
    """Remove what killed writers left behind; best effort, and nothing that a living one works on.

    Args:
        store: path of the store.
        spoilt: whether entries that were set aside go, too.

    Returns:
        How many were removed.
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
    """Remove an entry, or set it aside under a name that nobody takes for an entry.

    It is renamed first, so that it is never found half-removed.

    Returns:
        False when somebody uses it; then nothing was done.

    Raises:
        ConfigError: it cannot be done.
    """
    path = os.path.join(store, name)
    target = os.path.join(store, f"{name}.spoilt-{os.urandom(8).hex()}" if aside else temporary_name(name))
    try:
        with opened_folder(path) as opened:
            # Whoever starts from an entry holds its lock until the command runs, and then its environment shows it.
            if not aside and (not lock(opened, exclusive=True) or runs_from(path)):
                return False
            os.rename(path, target)
            if not aside:
                remove_tree(target)
    except OSError as problem:
        raise ConfigError(f"cannot remove {name} from the store {store!r}: {describe_os_error(problem)}") from None
    return True


def read_member(store: str, name: str, member: str, limit: int) -> bytes:
    """Read a file of an entry that is not part of the package.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_bounded(os.path.join(store, name, member), limit=limit, what=member)


def replace_member(store: str, name: str, member: str, data: bytes) -> None:
    """Replace a file of an entry that is not part of the package, as a whole or not at all.

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
    """Return the ids of processes that were started from an entry or work in it, of those that this user may see."""
    mark = b"WCP_PACKAGE_ROOT=" + os.fsencode(os.path.join(entry, "package"))
    inside = os.fsencode(entry) + b"/"
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (os.readlink(f"/proc/{name}/cwd".encode()) + b"/").startswith(inside):
                found.append(int(name))
                continue
            if mark in _environment(name).split(b"\0"):
                found.append(int(name))
    return found


def _environment(process: str) -> bytes:
    """Return the environment of a process; of one that is just becoming a program, when it has one.

    Raises:
        OSError: it is gone, or not ours to see.
    """
    for _ in range(20):
        with open(f"/proc/{process}/environ", "rb") as stream:
            data = stream.read(4 << 20)
        if data or not os.path.exists(f"/proc/{process}/exe"):
            break
        time.sleep(0.001)
    return data


def is_still(descriptor: int, path: str) -> bool:
    """Tell whether a path still leads to the directory that a descriptor was opened for."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock a directory without waiting; True, too, where the file system knows no locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def remove_tree(path: str) -> None:
    """Remove a directory of ours that is closed to writing, as far as it goes."""
    for folder, _, _, descriptor in os.fwalk(path, onerror=None):
        del folder
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o700)
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _raise(problem: OSError) -> None:
    raise problem


def _bring_to_disk(descriptor: int) -> None:
    """Write back the whole file system once: a hundred thousand `fsync`s would take minutes.

    It must be done: an entry kept by root is used without being hashed, so a name that outlived a crash while the bytes
    behind it did not would let files full of zeros run as verified.

    Raises:
        OSError: it failed.
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
