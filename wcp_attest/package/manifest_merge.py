"""Merge three manifests: what two branches made of a common ancestor, without looking at any file.

Every merge of two branches changes `built_at_utc` and `package_hash`, so a merge by lines always stops. The entries of
a manifest are independent of one another, and both fields follow from them, so the merge is exact: each entry is taken
from the side that changed it, the package hash is computed anew, and the time is the newer one. Where both sides
changed the same entry or the same field in different ways, it is a conflict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_attest.package.entries import SEPARATOR, render_line
from wcp_attest.package.manifest import Manifest, hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_attest.package.entries import Entry

MAX_NAMED: Final = 20  # conflicts that are named; all are counted
_FIELDS: Final = ("worker_id", "worker_species_id", "worker_version", "hash_algorithm", "excludes", "ai")


class MergeConflict(ConfigError):
    """Both sides changed the same thing in different ways.

    Args:
        conflicts: what, one line each.
    """

    def __init__(self, conflicts: Sequence[str]) -> None:
        more = f", and {len(conflicts) - MAX_NAMED} more" if len(conflicts) > MAX_NAMED else ""
        super().__init__("; ".join(conflicts[:MAX_NAMED]) + more)
        self.conflicts = tuple(conflicts)


class Sides(NamedTuple):
    """The three manifests of a merge; `base` is None when the branches have none in common."""

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
    entries, more = _merge_entries({} if base is None else base.entries(), ours.entries(), theirs.entries())
    if conflicts or more:
        raise MergeConflict([*conflicts, *more])
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
        Our manifest with the merged fields, and the fields that both sides changed in different ways, in words; for
        those ours stands. The time is the newer one. A source commit that the sides do not share is dropped: neither
        describes the merged tree.
    """
    base, ours, theirs = sides
    merged: dict[str, Any] = {}
    conflicts = []
    for name in _FIELDS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        before = None if base is None else getattr(base, name)
        if mine != other and base is not None and mine == before:
            mine = other
        elif mine != other and (base is None or other != before):
            conflicts.append(f"`{name}` is {_shown(mine)} on our side and {_shown(other)} on the other")
        merged[name] = mine
    merged["built_at_utc"] = max(ours.built_at_utc, theirs.built_at_utc)
    merged["build_source"] = ours.build_source if ours.build_source == theirs.build_source else "local"
    source, other_source = ours.source, theirs.source
    if source != other_source:  # a commit that the sides do not share describes neither of them
        same = source is not None and other_source is not None and source.repository == other_source.repository
        source = replace(source, commit=None) if same and source and source.repository is not None else None
    merged["source"] = source
    return replace(ours, **merged), conflicts


def _shown(value: object) -> str:
    return (" ".join(value) or "empty" if isinstance(value, tuple) else str(value))[:80]


def _merge_entries(
    base: Mapping[str, Entry], ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
) -> tuple[dict[str, Entry], list[str]]:
    entries: dict[str, Entry] = {}
    conflicts = []
    for path in sorted(ours.keys() | theirs.keys()):  # the order of code points is that of the UTF-8 bytes
        before, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if mine == before:
            mine = other
        elif other not in (before, mine):
            conflicts.append(f"both sides changed {path!r}")
        if mine is not None:
            entries[path] = mine
    return entries, conflicts
