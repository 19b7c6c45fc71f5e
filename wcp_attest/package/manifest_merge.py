"""Merge three manifests: what two branches made of a common ancestor, without looking at any file.

Two branches that were both built differ in `built_at_utc` and `package_hash`, so a merge line by line always ends in a
conflict. But the entries of a manifest are independent of one another. So each entry is taken from the side that
changed it, the package hash is computed again, and the time is the newer one. It is a conflict when both sides changed
the same entry or the same field in different ways.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_attest.package.entries import SEPARATOR, render_line
from wcp_attest.package.manifest import Manifest, hash_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.package.entries import Entry

MAX_NAMED: Final = 20  # conflicts that are named; all are counted
_FIELDS: Final = ("worker_id", "worker_species_id", "worker_version", "hash_algorithm", "excludes", "ai")
_NO_VALUE: Final = object()  # of a field, where the sides have no common ancestor; no value equals it


class MergeConflict(ConfigError):
    """Both sides changed the same thing in different ways.

    Args:
        conflicts: what was changed by both, one line each.
    """

    def __init__(self, conflicts: Sequence[str]) -> None:
        more = f", and {len(conflicts) - MAX_NAMED} more" if len(conflicts) > MAX_NAMED else ""
        super().__init__("; ".join(conflicts[:MAX_NAMED]) + more)
        self.conflicts = tuple(conflicts)


class Sides(NamedTuple):
    """The three manifests of a merge.

    Attributes:
        base: of the common ancestor; None when the branches have no manifest in common.
        ours: of the branch that is checked out.
        theirs: of the branch that is merged.
    """

    base: Manifest | None
    ours: Manifest
    theirs: Manifest


def merge_manifests(sides: Sides) -> Manifest:
    """Merge header and entries.

    Args:
        sides: the three manifests.

    Returns:
        The merged manifest, whose package hash is that of its entries.

    Raises:
        MergeConflict: both sides changed the same field or entry in different ways.
        ManifestMalformed: an entry line is malformed, or the merged entries cannot stand together.
    """
    base, ours, theirs = sides
    if base is not None and base.to_bytes() in (ours.to_bytes(), theirs.to_bytes()):
        return theirs if base.to_bytes() == ours.to_bytes() else ours
    header, conflicts = merge_header(sides)
    if len({one.hash_algorithm for one in sides if one is not None}) > 1:
        raise MergeConflict([*conflicts, "the sides use different hash algorithms"])
    before, mine, others = {} if base is None else base.entries(), ours.entries(), theirs.entries()
    entries: dict[str, Entry] = {}
    for path in sorted(mine.keys() | others.keys()):  # the order of code points is that of the UTF-8 bytes
        entry, other = mine.get(path), others.get(path)
        if entry == before.get(path):
            entry = other
        elif other not in (before.get(path), entry):
            conflicts.append(f"both sides changed {path!r}")
        if entry is not None:
            entries[path] = entry
    if conflicts:
        raise MergeConflict(conflicts)
    algorithm = header.hash_algorithm
    merged = replace(
        header,
        body=SEPARATOR.join(render_line(path, entry, algorithm) for path, entry in entries.items()),
        package_hash=hash_of(entries, algorithm),
    )
    return Manifest.from_bytes(merged.to_bytes())


def merge_header(sides: Sides) -> tuple[Manifest, list[str]]:
    """Merge all fields but the entries.

    Args:
        sides: the three manifests.

    Returns:
        Our manifest with the merged fields; and, in words, the fields that both sides changed in different ways, which
        keep our value. The time is the newer one. A source commit is kept only when both sides have it: a commit of
        one side does not describe the merged tree.
    """
    base, ours, theirs = sides
    merged: dict[str, Any] = {}
    conflicts = []
    for name in _FIELDS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        before = getattr(base, name, _NO_VALUE)
        if mine == before:
            mine = other
        elif other not in (before, mine):
            conflicts.append(f"`{name}` is {_shown(mine)} on our side and {_shown(other)} on the other")
        merged[name] = mine
    merged["built_at_utc"] = max(ours.built_at_utc, theirs.built_at_utc)
    merged["build_source"] = ours.build_source if ours.build_source == theirs.build_source else "local"
    source, other_source = ours.source, theirs.source
    if source != other_source:
        same = source is not None and other_source is not None and source.repository == other_source.repository
        source = replace(source, commit=None) if same and source and source.repository is not None else None
    merged["source"] = source
    return replace(ours, **merged), conflicts


def _shown(value: object) -> str:
    return (" ".join(value) or "empty" if isinstance(value, tuple) else str(value))[:80]
