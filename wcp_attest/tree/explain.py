"""List every difference between a tree and its manifest, with the likely cause where it can be told."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from wcp_attest.differences import Change, Difference
from wcp_attest.entries import EmptyDirectory, File, Symlink, parse_line, render_line
from wcp_attest.errors import TreeMismatch, TreeUnsafe
from wcp_attest.tree.excludes import Excludes
from wcp_attest.tree.hashing import Task
from wcp_attest.tree.jobs import LINE_SEPARATOR, cut
from wcp_attest.tree.names import is_bytecode
from wcp_attest.tree.pool import hash_all
from wcp_attest.tree.read import strict_owner
from wcp_attest.tree.walk import Link, Rules, Walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.digest import HashAlgorithm
    from wcp_attest.entries import Entry
    from wcp_attest.manifest import Manifest
    from wcp_attest.tree.options import ReadOptions
    from wcp_attest.tree.walk import Run

MAX_LISTED = 1000  # differences that are named; all are counted
_UNREAD = b'":"","size":'  # in the line of a file that was not worth reading; no quoted path can hold it
_ZEROS = b'":"' + b"0" * 64 + b'","size":'


def raise_differences(root: int, manifest: Manifest, options: ReadOptions) -> NoReturn:
    """Find out how a tree that does not agree with its manifest differs, and raise that.

    Args:
        root: descriptor of the root.
        manifest: that the tree was found to differ from.
        options: how to read.

    Raises:
        TreeMismatch: always, but for the following.
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        ManifestMalformed: the manifest itself is at fault.
    """
    expected = manifest.entries()
    found = _found(root, manifest, expected, options)
    differences = sorted(
        (
            difference_of(path, expected.get(path), found.get(path))
            for path in expected.keys() | found.keys()
            if expected.get(path) != found.get(path)
        ),
        key=lambda difference: difference.path,
    )
    if not differences:
        raise TreeUnsafe("the tree changed while it was checked")
    counted = "1 entry differs" if len(differences) == 1 else f"{len(differences)} entries differ"
    first = differences[0]
    raise TreeMismatch(
        f"the tree is not what the manifest says: {counted}, first {first.path!r} ({first.change})",
        differences[:MAX_LISTED],
        len(differences),
    )


def _found(root: int, manifest: Manifest, expected: Mapping[str, Entry], options: ReadOptions) -> dict[str, Entry]:
    """Read the tree again, this time looking every line up by its path."""
    algorithm = manifest.hash_algorithm
    rules = Rules(algorithm, Excludes(manifest.excludes), keep_bytecode=True, owner=strict_owner(options))
    walk = Walk(root, rules)

    def expect(step: Run | Link) -> bytes:
        paths = [step.path] if isinstance(step, Link) else [step.folder.path + name for name in step.names]
        lines = [render_line(path, expected[path], algorithm) if path in expected else b"" for path in paths]
        return LINE_SEPARATOR.join(lines)

    found: dict[str, Entry] = {}
    with closing(hash_all(root, cut(walk, expect), Task(algorithm, owner=rules.owner), options, walk=walk)) as results:
        for done in results:
            found.update(_entry(line, algorithm) for line in done.lines.split(LINE_SEPARATOR))
    walk.look_again()
    found.update((path, EmptyDirectory()) for path in walk.empty)
    return found


def _entry(line: bytes, algorithm: HashAlgorithm) -> tuple[str, Entry]:
    path, entry = parse_line(line.replace(_UNREAD, _ZEROS), algorithm)
    return path, replace(entry, digest="") if isinstance(entry, File) and _UNREAD in line else entry


def difference_of(path: str, expected: Entry | None, found: Entry | None) -> Difference:
    """Describe how two entries of one path differ; None is no entry."""
    return Difference(
        path,
        _change(path, expected, found),
        expected.describe() if expected is not None else "",
        found.describe() if found is not None else "",
    )


def _change(path: str, expected: Entry | None, found: Entry | None) -> Change:
    if expected is None:
        return Change.BYTECODE if any(is_bytecode(name) for name in path.split("/")) else Change.ADDED
    if found is None:
        return Change.MISSING
    if type(expected) is not type(found):
        return Change.KIND
    if isinstance(expected, Symlink):
        return Change.LINK
    if _only_mode(expected, found):
        return Change.MODE
    return Change.MODIFIED


def _only_mode(expected: Entry, found: Entry) -> bool:
    """Tell whether nothing but the execute bit differs; a file of the right size and mode bits amiss was not read."""
    if not isinstance(expected, File) or not isinstance(found, File) or expected.size != found.size:
        return False
    return found.digest in ("", expected.digest)
