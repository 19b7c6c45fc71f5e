"""List one directory, and put its entries in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.disk.directory import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a directory by what they are.

    Attributes:
        files: regular files.
        folders: directories.
        links: symbolic links.
        others: anything else: FIFOs, sockets and devices.
    """

    files: list[str]
    folders: list[str]
    links: list[str]
    others: list[str]

    def names(self) -> list[str]:
        """Return all names."""
        return [*self.files, *self.folders, *self.links, *self.others]

    def without(self, gone: set[str] | frozenset[str]) -> Listing:
        """Return the listing without some names.

        Args:
            gone: the names.
        """
        if not gone:
            return self
        kinds = (self.files, self.folders, self.links, self.others)
        return Listing(*([name for name in kind if name not in gone] for kind in kinds))


def scan(descriptor: int) -> tuple[Listing, str]:
    """List a directory.

    Args:
        descriptor: of the directory.

    Returns:
        The listing; and all names as `fingerprint` gives them.

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
    """Return a name from the system as UTF-8 text, whatever the locale is.

    Args:
        name: as the system gives it.

    Returns:
        The text that the bytes of the name are in UTF-8; bytes that are not UTF-8 become surrogates.
    """
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def steps(listing: Listing, below: list[str]) -> Iterator[list[str] | str]:
    """Put what a directory holds in order.

    Args:
        listing: the entries of the manifest.
        below: directories that are no entries but are searched.

    Yields:
        Lists of files that follow one another, links, and directories with a `/` after their names.
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
