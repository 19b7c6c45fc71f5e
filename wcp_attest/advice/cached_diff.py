"""Compare a tree with its manifest again and again, hashing only what may have changed.

A file counts as unchanged while its device, inode, size and times of last change are those from before and after it was
hashed. Its mtime can be set back; its ctime changes with content, mode, links and name, and only by the clock. A change
that leaves all of these as they were is not seen, so `verify` never uses this module. Such changes are:

- a write into a mapped page that was written to before: Linux notes the first only, until the page is on the disk;
- changes on file systems of the network, or of programs, that do not keep a ctime;
- what root does to the device or the clock.

Against the first, and against changes within one tick of the file system's clock, nothing is remembered of a file that
changed within the last minute: git's rule for racy entries, made wider. Every digest is made anew after a month.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.advice.digest_cache import DigestCache
from wcp_attest.disk.batches import as_error
from wcp_attest.disk.directory import Descent, FileProblem, native, open_root
from wcp_attest.disk.explain_differences import digest_in, raise_differences, survey
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.walk import Link, Run
from wcp_attest.package.entries import File, render_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wcp_attest.disk.walk import Folder, Walk
    from wcp_attest.package.entries import Entry
    from wcp_attest.package.manifest import Manifest

SETTLED_AFTER: Final = 60.0  # seconds; Linux brings mapped pages to the disk within 35, and FAT counts in steps of 2
_IDENTITY: Final = struct.Struct("<QQQqq")
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_EXECUTE: Final = 0o111


def compare_tree(
    root: str,
    manifest: Manifest,
    *,
    cache: str,
    report: Callable[[str], None],
    now: float | None = None,
    options: ReadOptions | None = None,
) -> None:
    """Compare a whole tree with its manifest, and return only when they seem to agree. This verifies nothing.

    Args:
        root: path of a directory; not a symbolic link.
        manifest: what it is compared with.
        cache: absolute path of the directory of caches (`wcp_attest.advice.digest_cache`).
        report: told in one line when the cache cannot be used; everything is hashed then.
        now: seconds since the epoch; the clock by default.
        options: how to read the tree.

    Raises:
        TreeMismatch: the tree differs; the error holds every difference.
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        ManifestMalformed: an entry is malformed, or the package hash does not fit the entries.
        ConfigError: the root is absent, a link or no directory.
    """
    moment = time.time() if now is None else now
    options = options or ReadOptions()
    with closing(open_root(root)) as opened:
        subject = ("tree", manifest.hash_algorithm, os.path.realpath(root))
        digests = DigestCache(cache, subject, report=report, now=moment)
        with closing(_CacheSieve(opened.descriptor, manifest, digests, moment)) as sieve:
            found = survey(opened, manifest, options, sieve)
        digests.save()
        if found.missing or found.found:
            raise_differences(opened, manifest, options, found)


class _Passed(NamedTuple):
    """A file that is read: where it is, and what it was before, None when that is too fresh to be remembered."""

    folder: Folder
    name: str
    identity: bytes | None


class _CacheSieve:
    """Holds back from a walk the files whose content is known, and learns from what becomes of the others.

    Attributes:
        lines: the manifest lines of the files that were held back.

    Args:
        root: descriptor of the root of the tree.
        manifest: what the tree is compared with.
        digests: what is known.
        now: seconds since the epoch, before the walk begins.
    """

    def __init__(self, root: int, manifest: Manifest, digests: DigestCache, now: float) -> None:
        self._algorithm = manifest.hash_algorithm
        self._digests = digests
        self._settled = int((now - SETTLED_AFTER) * 1e9)
        self._before, self._after = Descent(root), Descent(root)
        self._passed: deque[_Passed | None] = deque()
        self.lines: list[bytes] = []

    def close(self) -> None:
        """Close the ways to the last directories."""
        self._before.close()
        self._after.close()

    def sift(self, walk: Walk, line_of: Mapping[str, bytes], entries: Mapping[str, Entry]) -> Iterator[Run | Link]:
        """Pass on what is no file or has to be read.

        Args:
            walk: of the tree; weighed here, without what is held back, because sizes are looked up here anyway.
            line_of: the manifest's lines by their paths.
            entries: the manifest's entries by their paths.

        Raises:
            TreeUnsafe: a directory changed meanwhile.
        """
        walk.stat_first = 0
        for step in walk:
            if isinstance(step, Link):
                self._passed.append(None)
                yield step
                continue
            left = self._left(step, line_of, entries)
            walk.files -= len(step.names) - len(left.names)
            walk.size += sum(left.sizes or ())
            if left.names:
                yield left

    def learn(self, lines: Iterable[bytes]) -> None:
        """Take what was read, in the order in which it was passed on; remember what is settled and stayed the same."""
        for line in lines:
            passed = self._passed.popleft()
            digest = digest_in(line)
            if passed is None or passed.identity is None or not digest:
                continue
            try:
                status = _status(self._after.open(passed.folder.path, passed.folder.identity), passed.name)
            except FileProblem:
                continue  # nothing is remembered of it; the second look at every directory says what happened
            if status is not None and identity_of(status) == passed.identity:
                self._digests.put(passed.identity, digest, status.st_size)

    def _left(self, run: Run, line_of: Mapping[str, bytes], entries: Mapping[str, Entry]) -> Run:
        """Hold back what is known of a run and return the rest."""
        folder = run.folder
        try:
            descriptor = self._before.open(folder.path, folder.identity)
        except FileProblem as problem:
            raise as_error(problem) from None
        names: list[str] = []
        sizes: list[int] = []
        for name in run.names:
            path = folder.path + name
            status = _status(descriptor, name)
            line = None if status is None else self._line(path, status, line_of, entries.get(path))
            if line is not None:
                self.lines.append(line)
                continue
            names.append(name)
            sizes.append(0 if status is None else status.st_size)
            settled = status is not None and max(status.st_mtime_ns, status.st_ctime_ns) < self._settled
            self._passed.append(_Passed(folder, name, identity_of(status) if status is not None and settled else None))
        return Run(folder, names, sizes)

    def _line(
        self, path: str, status: os.stat_result, line_of: Mapping[str, bytes], entry: Entry | None
    ) -> bytes | None:
        """Return the line of a file whose content is known; a file that cannot be what is expected is not asked for."""
        mode, size = status.st_mode, status.st_size
        if not isinstance(entry, File) or entry.size != size or bool(mode & _EXECUTE) is not entry.executable:
            return None
        identity = identity_of(status)
        if identity is None or not stat.S_ISREG(mode) or mode & _SET_ID:
            return None
        known = self._digests.get(identity)
        if known is None or known.size != size:
            return None
        if known.digest == entry.digest:
            return line_of[path]
        return render_line(path, File(known.digest, size, entry.executable), self._algorithm)


def identity_of(status: os.stat_result) -> bytes | None:
    """Return what identifies a file with its content; None when a time does not fit into 64 bits."""
    try:
        return _IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except struct.error:
        return None


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(native(name), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None  # the reader says why
