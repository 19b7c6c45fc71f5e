"""List one directory, and settle which of its names count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import TreeUnsafe
from wcp_attest.disk.directory import fingerprint
from wcp_attest.disk.placement import PAIR_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.disk.excludes import Excludes

_RESERVED = frozenset(PAIR_NAMES)


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a directory by what they are; `others` are neither files nor directories nor links."""

    files: list[str]
    folders: list[str]
    links: list[str]
    others: list[str]

    def names(self) -> list[str]:
        """Return all names."""
        return [*self.files, *self.folders, *self.links, *self.others]

    def without(self, gone: set[str] | frozenset[str]) -> Listing:
        """Return the listing without some names."""
        if not gone:
            return self
        kinds = (self.files, self.folders, self.links, self.others)
        return Listing(*([name for name in kind if name not in gone] for kind in kinds))


def scan(descriptor: int) -> tuple[Listing, str]:
    """List a directory.

    Returns:
        The listing and all names as `fingerprint` gives them.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(descriptor) as entries:
        found = list(entries)
    names = [entry.name for entry in found]
    files = [entry.name for entry in found if entry.is_file(follow_symlinks=False)]
    text = fingerprint(names)
    if len(files) == len(names):
        listing = Listing(files, [], [], [])
    else:
        folders = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
        links = [entry.name for entry in found if entry.is_symlink()]
        known = {*files, *folders, *links}
        listing = Listing(files, folders, links, [name for name in names if name not in known])
    if not text.isascii():
        kinds = (listing.files, listing.folders, listing.links, listing.others)
        listing = Listing(*([decoded(name) for name in kind] for kind in kinds))
    return listing, text


def decoded(name: str) -> str:
    """Return a name from the system as the UTF-8 text that its bytes are, undecodable ones as surrogates."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def without_pair(path: str, listing: Listing) -> Listing:
    """Take out the two names that a directory keeps for the manifest and its signatures.

    Args:
        path: of the directory, empty or ending in `/`.
        listing: what it holds.

    Raises:
        TreeUnsafe: one of them is not a regular file, and might hide something.
    """
    wrong = _RESERVED.intersection((*listing.folders, *listing.links, *listing.others))
    if wrong:
        where = "" if path else " at the root"
        raise TreeUnsafe(f"{path + min(wrong)!r}{where} is not a regular file; remove it")
    return listing.without(_RESERVED.intersection(listing.files))


def left_out(path: str, listing: Listing, excludes: Excludes) -> set[str]:
    """Return the names that the signer left out; bytecode never is among them.

    Args:
        path: of the directory, empty or ending in `/`.
        listing: what it holds, without bytecode.
        excludes: what decides.
    """
    gone: set[str] = set()
    if excludes.concern(path, files=False):
        gone.update(name for name in listing.folders if excludes.leave_out(path + name, folder=True))
    if excludes.concern(path, files=True):
        others = (*listing.files, *listing.links)
        gone.update(name for name in others if excludes.leave_out(path + name, folder=False))
    return gone


def steps(listing: Listing, below: list[str]) -> Iterator[list[str] | str]:
    """Yield what a directory holds in order: runs of files, links, and directories with a `/` behind their names.

    Args:
        listing: what counts.
        below: directories that do not count themselves but are searched.
    """
    folders = [name + "/" for name in (*listing.folders, *below)]
    single = {*listing.links, *folders}
    run: list[str] = []
    for name in sorted((*listing.files, *listing.links, *folders)):
        if name not in single:
            run.append(name)
            continue
        if run:
            yield run
            run = []
        yield name
    if run:
        yield run
