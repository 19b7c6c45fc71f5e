"""Digests remembered from one look at a package to the next, in a file that only its owner can write.

For looking only: a cache is as reliable as the times of the file system and as the users who can write the cache.
`verify`, `sign` and `build` hash what is there; a test walks their imports and finds no way to this module.

    cache = DigestCache("/home/ann/.cache/wcp-attest", ("tree", "sha256", "/src/worker"), report=print, now=time.time())
    cache.get(key)                  Known("9f86…", 612) or None
    cache.put(key, "9f86…", 612)
    cache.save()

A cache never fails: one that cannot be trusted is reported once and not used, one that cannot be read counts as empty.
One file holds what is known of one subject, so that packages do not push each other out:

    <SHA-256 of the subject>.digests
        magic and version, 16 bytes; the SHA-256 of the subject, 32 bytes
        records of 88 bytes: key (padded to 40), size, time of hashing (seconds since the epoch), digest
        SHA-256 of all that, 32 bytes: a file cut short or damaged is no file
"""

from __future__ import annotations

import os
import re
import stat
import struct
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.disk.directory import CREATE_FLAGS, FILE_FLAGS, FOLDER_FLAGS, describe_os_error
from wcp_attest.disk.files import is_leftover, temporary_name, write_all

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_BYTES: Final = 40
MAX_RECORDS: Final = 250_000  # of one subject, 22 MB: beyond, reading the cache costs more than hashing small files
MAX_AGE: Final = 30 * 86400  # seconds until a digest is made anew, which bounds how long a mistake can stay
MAX_CACHES: Final = 64  # subjects that are remembered
MAX_CACHE_BYTES: Final = 256 * 1024 * 1024  # of all their files together

_MAGIC: Final = b"wcp-digests 001\n"
_RECORD: Final = struct.Struct("<40sQQ32s")
_DIGEST_BYTES: Final = 32
_HEAD_BYTES: Final = len(_MAGIC) + _DIGEST_BYTES
_MAX_BYTES: Final = _HEAD_BYTES + MAX_RECORDS * _RECORD.size + _DIGEST_BYTES
_NAME: Final = re.compile(r"[0-9a-f]{64}\.digests\Z")
_OTHERS_WRITE: Final = 0o022
_SLOWEST_RUN: Final = 3600  # seconds; after so long a half-written file has no writer, and other runs are at an end


class KnownDigest(NamedTuple):
    """What was found out about a content: its digest in hex and its size in bytes."""

    digest: str
    size: int


class _Untrusted(Exception):
    """Others may have written the cache; says what to do."""


class DigestCache:
    """What is remembered of one subject.

    Args:
        directory: absolute path of the directory of all caches; made when it is not there.
        subject: what the keys are about, and the hash algorithm: equal texts share one file.
        report: told in one line when the cache cannot be used.
        now: seconds since the epoch.
    """

    def __init__(self, directory: str, subject: tuple[str, ...], *, report: Callable[[str], None], now: float) -> None:
        self._directory = directory
        self._subject = sha256("\0".join(subject).encode("utf-8", "surrogateescape")).digest()
        self._name = f"{self._subject.hex()}.digests"
        self._report = report
        self._now = int(now)
        self._refused = False
        self._records = self._load() or {}
        self._used: dict[bytes, bytes] = {}
        self._learnt = False

    def get(self, key: bytes) -> KnownDigest | None:
        """Return what is known under a key, unless that is too long ago."""
        key = _padded(key)
        record = self._records.get(key)
        if record is None:
            return None
        _, size, hashed_at, digest = _RECORD.unpack(record)
        if not self._now - MAX_AGE <= hashed_at <= self._now:
            return None
        self._used[key] = record
        return KnownDigest(digest.hex(), size)

    def put(self, key: bytes, digest: str, size: int) -> None:
        """Remember what was hashed just now.

        Args:
            key: at most 40 bytes, all of one length for one subject.
            digest: 64 hex digits.
            size: in bytes.
        """
        key = _padded(key)
        self._used[key] = _RECORD.pack(key, size, self._now, bytes.fromhex(digest))
        self._learnt = True

    def save(self) -> None:
        """Write what was used and learnt, beside what another run wrote meanwhile, as far as there is room.

        Of what was not used in this run as much is kept as was used: contents of another branch come back.
        """
        present = self._load() if self._learnt else None
        if present is None:
            return
        others = {key: record for key, record in present.items() if key not in self._used}
        records = [*self._used.values(), *islice(others.values(), len(self._used))][:MAX_RECORDS]
        data = _MAGIC + self._subject + b"".join(records)
        try:
            folder = self._open_directory()
            try:
                _replace(folder, self._name, data + sha256(data).digest(), self._now)
                _tidy(folder, self._now)
            finally:
                os.close(folder)
        except (OSError, _Untrusted) as problem:
            self._refuse(problem, "cannot be written: ")

    def _load(self) -> dict[bytes, bytes] | None:
        """Return the records in the file, or None when it must not be used."""
        if self._refused:
            return None
        try:
            folder = self._open_directory()
            try:
                data = self._read(folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return {}
        except (OSError, _Untrusted) as problem:
            self._refuse(problem)
            return None
        # Nothing is known when the file is not wholly what was once written about this subject.
        view, digest = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        whole = (
            len(data) <= _MAX_BYTES
            and (len(view) - _HEAD_BYTES) % _RECORD.size == 0
            and view[:_HEAD_BYTES] == _MAGIC + self._subject
            and sha256(view).digest() == digest
        )
        body = bytes(view[_HEAD_BYTES:]) if whole else b""
        starts = range(0, len(body), _RECORD.size)
        return {body[start : start + KEY_BYTES]: body[start : start + _RECORD.size] for start in starts}

    def _open_directory(self) -> int:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        if os.path.islink(self._directory):  # said better than by the flags of the next line, which refuse it, too
            raise _Untrusted("it is a symbolic link; name the directory itself")
        descriptor = os.open(self._directory, FOLDER_FLAGS)
        try:
            _check_owner(os.fstat(descriptor), "it")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _read(self, folder: int) -> bytes:
        descriptor = os.open(self._name, FILE_FLAGS, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _Untrusted(f"{self._name} in it is not a regular file; remove it")
            _check_owner(status, f"{self._name} in it")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(_MAX_BYTES + 1)
        finally:
            os.close(descriptor)

    def _refuse(self, problem: OSError | _Untrusted, step: str = "") -> None:
        """Have nothing more to do with the file."""
        self._refused = True
        reason = describe_os_error(problem) if isinstance(problem, OSError) else str(problem)
        self._report(f"the cache {self._directory!r} is not used: {step}{reason}")


def _padded(key: bytes) -> bytes:
    if not 0 < len(key) <= KEY_BYTES:
        raise ValueError(f"a key has 1 to {KEY_BYTES} bytes")
    return key.ljust(KEY_BYTES, b"\0")


def _check_owner(status: os.stat_result, what: str) -> None:
    """Refuse what another user may have written.

    Raises:
        _Untrusted: it belongs to another user, or others may write it.
    """
    if status.st_uid != os.geteuid():
        raise _Untrusted(f"{what} belongs to the user {status.st_uid}; name one of your own")
    if status.st_mode & _OTHERS_WRITE:
        raise _Untrusted(f"{what} can be written by others; run chmod go-w on it, or remove it")


def _replace(folder: int, name: str, data: bytes, now: int) -> None:
    temporary = temporary_name(name)
    descriptor = os.open(temporary, CREATE_FLAGS, 0o600, dir_fd=folder)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # regardless of the umask
            write_all(descriptor, data)
            os.utime(descriptor, (now, now))  # so that all times here are of one clock
        finally:
            os.close(descriptor)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _tidy(folder: int, now: int) -> None:
    """Remove the caches that were not written for longest, and what killed runs left half-written."""
    found: list[tuple[str, os.stat_result]] = []
    for name in os.listdir(folder):
        if _NAME.match(name) or is_leftover(name):
            with suppress(OSError):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    count = size = 0
    for name, status in sorted(found, key=lambda item: item[1].st_mtime_ns, reverse=True):  # the newest first
        stays = now - _SLOWEST_RUN <= status.st_mtime
        if _NAME.match(name):
            recent = now - MAX_AGE <= status.st_mtime <= now + _SLOWEST_RUN
            count, size = count + recent, size + recent * status.st_size
            stays = recent and count <= MAX_CACHES and size <= MAX_CACHE_BYTES
        if not stays:
            with suppress(OSError):  # another run has removed it
                os.unlink(name, dir_fd=folder)
