"""List every difference between a tree and its manifest, with the likely cause where it can be told."""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NoReturn, Protocol

from wcp_attest.base.differences import Change, Difference
from wcp_attest.base.errors import TreeMismatch, TreeUnsafe
from wcp_attest.disk.batches import as_error, cut
from wcp_attest.disk.causes import cause_of_absence, cause_of_change, cause_of_presence
from wcp_attest.disk.directory import FILE_FLAGS, Descent, FileProblem, Identity, native
from wcp_attest.disk.excludes import Excludes
from wcp_attest.disk.hashing import Task, Worker
from wcp_attest.disk.parallel import hash_all
from wcp_attest.disk.placement import pair_folder
from wcp_attest.disk.walk import Link, Rules, Walk, strict_owner
from wcp_attest.package.entries import SEPARATOR, EmptyDirectory, File, Symlink, parse_line, render_line
from wcp_attest.package.names import folded, is_bytecode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.disk.directory import TreeRoot
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.walk import Run
    from wcp_attest.package.entries import Entry
    from wcp_attest.package.manifest import Manifest

MAX_LISTED = 1000  # differences that are named; all are counted
MAX_CANDIDATES = 4  # added files of one size that are read to see whether a missing one moved there
MAX_LOOK = 16 * 1024 * 1024  # bytes of a changed file that is searched for the cause
MAX_LOOKED_AT = 256 * 1024 * 1024  # bytes of all these files together, holes among them
_UNREAD = b'":"","size":'  # in the line of a file that was not worth reading; no quoted path can hold it
_DIGEST = re.compile(rb'":"([0-9a-f]{64})","size":')
_ZEROS = b'":"' + b"0" * 64 + b'","size":'


def raise_differences(root: TreeRoot, manifest: Manifest, options: ReadOptions) -> NoReturn:
    """Find out how a tree that does not agree with its manifest differs, and raise that.

    Args:
        root: of the tree.
        manifest: that the tree was found to differ from.
        options: how to read.

    Raises:
        TreeMismatch: always, but for the following.
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        ManifestMalformed: the manifest itself is at fault.
    """
    found = survey(root, manifest, options)
    if not found.differs:
        raise TreeUnsafe("the tree changed while it was checked")
    raise_mismatch(root, manifest, found)


def raise_mismatch(root: TreeRoot, manifest: Manifest, found: Survey) -> NoReturn:
    """Raise what a survey found.

    Args:
        root: of the tree.
        manifest: that the tree differs from.
        found: at least one difference.

    Raises:
        TreeMismatch: always, but for the following.
        TreeUnsafe: a file that is looked at again cannot be read safely, or changed meanwhile.
    """
    paths = sorted(found.missing.keys() | found.found.keys())
    with closing(_Explainer(root.descriptor, manifest.hash_algorithm, found)) as explainer:
        differences = [explainer.difference(path) for path in paths[:MAX_LISTED]]
    counted = "1 entry differs" if len(paths) == 1 else f"{len(paths)} entries differ"
    first = differences[0]
    raise TreeMismatch(
        f"the tree is not what the manifest says: {counted}, first {first.path!r} ({first.change})",
        differences,
        len(paths),
    )


def difference_of(path: str, expected: Entry | None, found: Entry | None, cause: str = "") -> Difference:
    """Describe how two entries of one path differ; None is no entry."""
    return Difference(path, _change(path, expected, found), _words(expected), _words(found), cause)


@dataclass(frozen=True, slots=True)
class Survey:
    """How a tree differs from a manifest.

    Attributes:
        missing: what is missing or changed, as the manifest has it.
        found: what is changed or added, as the tree has it.
        identities: device and inode of each directory.
    """

    missing: Mapping[str, Entry]
    found: Mapping[str, Entry]
    identities: Mapping[str, Identity]

    @property
    def differs(self) -> bool:
        """Whether anything is otherwise than the manifest says."""
        return bool(self.missing or self.found)


class Sieve(Protocol):
    """Holds back what need not be read; only `wcp_attest.advice.cached_diff`, which verifies nothing, has one."""

    @property
    def lines(self) -> list[bytes]:
        """The manifest lines of what was held back."""

    def sift(self, walk: Walk, line_of: Mapping[str, bytes], entries: Mapping[str, Entry]) -> Iterator[Run | Link]:
        """Pass on what must be read."""

    def learn(self, lines: Iterable[bytes]) -> None:
        """Take the lines of what was read, in the order in which it was passed on."""


def survey(root: TreeRoot, manifest: Manifest, options: ReadOptions, sieve: Sieve | None = None) -> Survey:
    """Read a tree, looking every line up by its path.

    Args:
        root: of the tree.
        manifest: what the tree should be.
        options: how to read.
        sieve: for those who only look.

    Raises:
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        ManifestMalformed: the manifest itself is at fault.
    """
    algorithm = manifest.hash_algorithm
    entries = manifest.entries()
    all_lines = manifest.lines
    line_of = dict(zip(entries, all_lines, strict=True))
    owner = strict_owner(options)
    skipped = pair_folder(root.path, options.placement)
    excludes = Excludes(manifest.excludes)
    walk = Walk(root, Rules(algorithm, excludes, keep_bytecode=True, owner=owner, pair_folder=skipped))

    def expect(step: Run | Link) -> bytes:
        paths = [step.path] if isinstance(step, Link) else [step.folder.path + name for name in step.names]
        return SEPARATOR.join([line_of.get(path, b"") for path in paths])

    missing = dict.fromkeys(all_lines)
    found: dict[str, Entry] = {}

    def settle(lines: Iterable[bytes]) -> None:
        for line in lines:
            if line in missing:
                del missing[line]
            else:
                path, entry = _entry(line, algorithm)
                found[path] = entry

    steps = walk if sieve is None else sieve.sift(walk, line_of, entries)
    with closing(hash_all(root, cut(steps, expect), Task(algorithm, owner=owner), options, walk=walk)) as results:
        for done in results:
            lines = [line for block in done.blocks for line in block.split(SEPARATOR)]
            settle(lines)
            if sieve is not None:
                sieve.learn(lines)
    if sieve is not None:
        settle(sieve.lines)
    settle(render_line(path, EmptyDirectory(), algorithm) for path in walk.empty)
    expected = dict(parse_line(line, algorithm) for line in missing)
    return Survey(expected, found, {folder.path: folder.identity for folder in walk.folders})


def digest_in(line: bytes) -> str:
    """Return the digest in the line of a file that was read, else an empty text."""
    found = _DIGEST.search(line)
    return found[1].decode() if found is not None else ""


def _entry(line: bytes, algorithm: HashAlgorithm) -> tuple[str, Entry]:
    path, entry = parse_line(line.replace(_UNREAD, _ZEROS), algorithm)
    return path, replace(entry, digest="") if isinstance(entry, File) and _UNREAD in line else entry


class _Explainer:
    """Knows what is gone and what is new, and looks at single files again."""

    def __init__(self, root: int, algorithm: HashAlgorithm, survey: Survey) -> None:
        self._algorithm = algorithm
        self._survey = survey
        self._descent = Descent(root)
        self._worker = Worker(root, Task(algorithm))
        self._budget = MAX_LOOKED_AT
        gone = {path: entry for path, entry in survey.missing.items() if path not in survey.found}
        new = {path: entry for path, entry in survey.found.items() if path not in survey.missing}
        self._digests = self._read_candidates(gone, new)
        self._old_paths = _index(gone, {})
        self._new_paths = _index(new, self._digests)

    def close(self) -> None:
        """Close what was opened."""
        self._descent.close()
        self._worker.close()

    def difference(self, path: str) -> Difference:
        """Describe one difference."""
        expected, found = self._survey.missing.get(path), self._survey.found.get(path)
        if isinstance(found, File) and not found.digest:
            found = replace(found, digest=self._digests.get(path, ""))
        if expected is None:
            digest = found.digest if isinstance(found, File) else ""
            return difference_of(path, None, found, cause_of_presence(path, digest, self._old_paths))
        if found is None:
            return difference_of(path, expected, None, cause_of_absence(path, expected, self._new_paths))
        if isinstance(expected, File) and isinstance(found, File) and expected.size == found.size and not found.digest:
            found = replace(found, digest=self._digest(path))
        content = self._content(path, found.size) if isinstance(found, File) else None
        return difference_of(path, expected, found, cause_of_change(expected, found, content, self._algorithm))

    def _read_candidates(self, gone: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, str]:
        """Read added files that have the size of a missing one, some for each size, and return their digests."""
        room: dict[int, int] = {}
        for entry in islice(gone.values(), MAX_LISTED):
            if isinstance(entry, File) and entry.size:
                room[entry.size] = MAX_CANDIDATES
        digests = {}
        for path, entry in new.items():
            if isinstance(entry, File) and room.get(entry.size, 0) > 0 and entry.size <= self._budget:
                room[entry.size] -= 1
                self._budget -= entry.size
                digests[path] = self._digest(path)
        return digests

    def _digest(self, path: str) -> str:
        folder, name = _split(path)
        try:
            lines = self._worker.hash(folder, self._survey.identities.get(folder), [name], None)[0]
        except FileProblem as problem:
            raise as_error(problem) from None
        entry = parse_line(lines, self._algorithm)[1]
        return entry.digest if isinstance(entry, File) else ""

    def _content(self, path: str, size: int) -> bytes | None:
        """Return what a file holds, unless that is too much."""
        if size > min(MAX_LOOK, self._budget):
            return None
        self._budget -= size
        folder, name = _split(path)
        try:
            parent = self._descent.open(folder, self._survey.identities.get(folder))
            descriptor = os.open(native(name), FILE_FLAGS, dir_fd=parent)
            try:
                return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
            finally:
                os.close(descriptor)
        except (FileProblem, OSError):
            return None  # the package is denied anyway


def _index(entries: Mapping[str, Entry], digests: Mapping[str, str]) -> dict[str, str]:
    """Return paths by what would tell that an entry moved there: the digest of a file, and the folded path."""
    index = {folded(path): path for path in entries}
    for path, entry in entries.items():
        digest = digests.get(path) or (entry.digest if isinstance(entry, File) and entry.size else "")
        if digest:
            index.setdefault(digest, path)
    return index


def _split(path: str) -> tuple[str, str]:
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


def _words(entry: Entry | None) -> str:
    return "" if entry is None else entry.describe().removesuffix(", ")


def _change(path: str, expected: Entry | None, found: Entry | None) -> Change:
    if expected is None:
        return Change.BYTECODE if any(is_bytecode(name) for name in path.split("/")) else Change.ADDED
    if found is None:
        return Change.MISSING
    if type(expected) is not type(found):
        return Change.KIND
    if isinstance(expected, Symlink):
        return Change.LINK
    # Nothing but the execute bit differs; a file of the right size whose mode bits differ was not read.
    if not isinstance(expected, File) or not isinstance(found, File) or expected.size != found.size:
        return Change.MODIFIED
    return Change.MODE if found.digest in ("", expected.digest) else Change.MODIFIED
