"""List every difference between a tree and its manifest, with the likely cause where it is known."""

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
from wcp_attest.package.entries import SEPARATOR, EmptyDirectory, File, Symlink, describe, parse_line, render_line
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
MAX_CANDIDATES = 4  # added files of one size that are read to find one that was moved
MAX_LOOK = 16 * 1024 * 1024  # bytes of a changed file that is read to find the cause
MAX_LOOKED_AT = 256 * 1024 * 1024  # bytes of all files that are read for this, with their holes
_UNREAD = b'":"","size":'  # in the line of a file that was not read; no quoted path can hold it
_DIGEST = re.compile(rb'":"([0-9a-f]{64})","size":')
_ZEROS = b'":"' + b"0" * 64 + b'","size":'


def raise_differences(
    root: TreeRoot, manifest: Manifest, options: ReadOptions, found: Survey | None = None
) -> NoReturn:
    """Raise how a tree differs from its manifest.

    Args:
        root: of the tree.
        manifest: from which the tree differs.
        options: how to read.
        found: the differences, when the caller knows them; by default the tree is read for them.

    Raises:
        TreeMismatch: the tree differs; the error holds the differences.
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        MachineError: this machine cannot read it; nothing was decided.
        ManifestMalformed: an entry of the manifest is malformed.
    """
    found = found or survey(root, manifest, options)
    paths = sorted(found.missing.keys() | found.found.keys())
    if not paths:
        raise TreeUnsafe("the tree changed while it was checked")
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
    """Describe how an entry differs.

    Args:
        path: of the entry.
        expected: what the manifest says; None when it lists nothing there.
        found: what is there; None when nothing is. A file that was not read has an empty digest.
        cause: why, in words, where that is known.

    Returns:
        The difference.
    """
    if expected is None:
        change = Change.BYTECODE if any(map(is_bytecode, path.split("/"))) else Change.ADDED
    elif found is None:
        change = Change.MISSING
    elif type(expected) is not type(found):
        change = Change.KIND
    elif isinstance(expected, Symlink):
        change = Change.LINK
    elif not isinstance(expected, File) or not isinstance(found, File) or expected.size != found.size:
        change = Change.MODIFIED
    else:  # a file of the right size whose execute bit differs was not read
        change = Change.MODE if found.digest in ("", expected.digest) else Change.MODIFIED
    said, there = ("" if entry is None else describe(entry) for entry in (expected, found))
    return Difference(path, change, said, there, cause)


@dataclass(frozen=True, slots=True)
class Survey:
    """How a tree differs from a manifest.

    Attributes:
        missing: what is missing or changed, by path, as the manifest has it.
        found: what is changed or added, by path, as the tree has it.
        identities: of each directory, by its path (`directory.identity_of`).
    """

    missing: Mapping[str, Entry]
    found: Mapping[str, Entry]
    identities: Mapping[str, Identity]


class Sieve(Protocol):
    """Holds back files that need not be read. Only `wcp_attest.advice.cached_diff` has one, which verifies nothing.

    Attributes:
        lines: the manifest lines of what was held back.
    """

    lines: list[bytes]

    def sift(self, walk: Walk, line_of: Mapping[str, bytes], entries: Mapping[str, Entry]) -> Iterator[Run | Link]:
        """Yield the steps of a walk that must be read."""

    def learn(self, lines: Iterable[bytes]) -> None:
        """Take the lines of what was read, in the order of `sift`."""


def survey(root: TreeRoot, manifest: Manifest, options: ReadOptions, sieve: Sieve | None = None) -> Survey:
    """Read a tree, and find the line of every entry by its path.

    Args:
        root: of the tree.
        manifest: what the tree should be.
        options: how to read.
        sieve: holds back files that need not be read; None when everything must be.

    Returns:
        How the tree differs.

    Raises:
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        MachineError: this machine cannot read it; nothing was decided.
        ManifestMalformed: an entry of the manifest is malformed.
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
                continue
            path, entry = parse_line(line.replace(_UNREAD, _ZEROS), algorithm)
            found[path] = replace(entry, digest="") if isinstance(entry, File) and _UNREAD in line else entry

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
    """Return the digest in a manifest line.

    Args:
        line: of any entry, without separator.

    Returns:
        64 lower-case hex digits; empty when the line is not of a file, or the file was not read.
    """
    found = _DIGEST.search(line)
    return found[1].decode() if found is not None else ""


class _Explainer:
    """Finds the causes of differences: knows what is gone and what is new, and reads single files again."""

    def __init__(self, root: int, algorithm: HashAlgorithm, survey: Survey) -> None:
        self._algorithm = algorithm
        self._survey = survey
        self._descent = Descent(root)
        self._worker = Worker(root, Task(algorithm))
        self._budget = MAX_LOOKED_AT
        gone = {path: entry for path, entry in survey.missing.items() if path not in survey.found}
        new = {path: entry for path, entry in survey.found.items() if path not in survey.missing}
        # An added file of the size of a missing one may be that file. Some of each size are read.
        self._digests: dict[str, str] = {}
        room = {entry.size: MAX_CANDIDATES for entry in islice(gone.values(), MAX_LISTED) if isinstance(entry, File)}
        room.pop(0, None)
        for path, entry in new.items():
            if isinstance(entry, File) and room.get(entry.size, 0) > 0 and entry.size <= self._budget:
                room[entry.size] -= 1
                self._budget -= entry.size
                self._digests[path] = self._digest(path)
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

    def _digest(self, path: str) -> str:
        folder, slash, name = path.rpartition("/")
        try:
            lines = self._worker.hash(folder + slash, self._survey.identities.get(folder + slash), [name], None)[0]
        except FileProblem as problem:
            raise as_error(problem) from None
        entry = parse_line(lines, self._algorithm)[1]
        return entry.digest if isinstance(entry, File) else ""

    def _content(self, path: str, size: int) -> bytes | None:
        """Return the bytes of a file; None when it is too large or cannot be read."""
        if size > min(MAX_LOOK, self._budget):
            return None
        self._budget -= size
        folder, slash, name = path.rpartition("/")
        try:
            parent = self._descent.open(folder + slash, self._survey.identities.get(folder + slash))
            descriptor = os.open(native(name), FILE_FLAGS, dir_fd=parent)
            try:
                return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
            finally:
                os.close(descriptor)
        except (FileProblem, OSError):
            return None  # the package is denied anyway


def _index(entries: Mapping[str, Entry], digests: Mapping[str, str]) -> dict[str, str]:
    """Return paths by what shows that an entry was moved or renamed: the digest of a file, and the folded path."""
    index = {folded(path): path for path in entries}
    for path, entry in entries.items():
        digest = digests.get(path) or (entry.digest if isinstance(entry, File) and entry.size else "")
        if digest:
            index.setdefault(digest, path)
    return index
