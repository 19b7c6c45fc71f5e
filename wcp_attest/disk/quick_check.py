"""Tell quickly whether a small tree is to the letter what its manifest says; for packages checked again and again.

The answer is yes or "look properly": a yes takes every entry in its place, none beside them, and each file opened once
without following a link, regular, of the recorded size and execute bit, read to its end, hashed, and not changed
meanwhile. `wcp_attest.disk.check_tree` finds out and words everything else; it also takes the trees that are left alone
here: large ones, ones with excludes (what they leave out is still searched for bytecode), and other hashes.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.disk.directory import FOLDER_FLAGS, identity_of
from wcp_attest.disk.hashing import FILE_FLAGS
from wcp_attest.package.entries import File, Symlink
from wcp_attest.package.placement import PAIR_FOLDERS, PAIR_NAMES

if TYPE_CHECKING:
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.placement import Placement

MAX_ENTRIES = 512  # beyond, the set-up of a proper look no longer counts
MAX_BYTES = 8 << 20  # in all; a file is read in one piece
_KIND_AND_SET_ID = 0o176000
_REGULAR = 0o100000
_EXECUTE = 0o111


class _Leaf(NamedTuple):
    name: str
    size: int
    executable: bool
    digest: str


class Folder(NamedTuple):
    """What a directory must hold.

    Attributes:
        names: every name in it.
        files: regular files.
        links: symbolic links and their targets.
        folders: directories and what they must hold.
    """

    names: set[str]
    files: list[_Leaf]
    links: list[tuple[str, str]]
    folders: list[tuple[str, Folder]]


def shape_of(manifest: Manifest, placement: Placement = "beside") -> Folder | None:
    """Return what the root of a package must hold, or None for a tree that needs a proper look every time.

    Args:
        manifest: one that the tree was found to agree with.
        placement: where its pair lies.

    Raises:
        ManifestMalformed: an entry cannot be read.
    """
    if manifest.excludes or manifest.hash_algorithm != "sha256" or manifest.count > MAX_ENTRIES:
        return None
    entries = manifest.entries()
    plain = all(path.isascii() for path in entries)  # the system's spelling of other names is left to a proper look
    if not plain or sum(entry.size for entry in entries.values() if isinstance(entry, File)) > MAX_BYTES:
        return None
    # Each entry goes to its directory once, and each directory to the one above it once.
    root = Folder(set(), [], [], [])
    folders = {"": root}

    def folder_at(path: str) -> Folder:
        missing = []
        while path not in folders:
            missing.append(path)
            path = path.rpartition("/")[0]
        for below in reversed(missing):
            above, _, name = below.rpartition("/")
            folders[below] = Folder(set(), [], [], [])
            folders[above].names.add(name)
            folders[above].folders.append((name, folders[below]))
        return folders[missing[0] if missing else path]

    for path, entry in entries.items():
        above, _, name = path.rpartition("/")
        folder = folder_at(above)
        folder.names.add(name)
        if isinstance(entry, File):
            folder.files.append(_Leaf(name, entry.size, entry.executable, entry.digest))
        elif isinstance(entry, Symlink):
            folder.links.append((name, entry.target))
        else:
            folder_at(path)
    pair_folder = PAIR_FOLDERS.get(placement)
    if pair_folder is not None:
        folder_at(pair_folder.rstrip("/")).names.update(PAIR_NAMES)
    return root


def is_same(root: str, shape: Folder) -> bool:
    """Tell whether a tree has exactly this shape; False says nothing but that it needs a proper look.

    Args:
        root: path of the directory.
        shape: what it must hold.
    """
    try:
        descriptor = os.open(root, FOLDER_FLAGS)
        try:
            return _holds(descriptor, shape) and _stayed(os.stat(root, follow_symlinks=False), descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False


def _holds(descriptor: int, folder: Folder) -> bool:
    """Tell whether an open directory has this shape, and stayed as it was meanwhile."""
    before = identity_of(os.fstat(descriptor))
    if set(os.listdir(descriptor)) != folder.names:
        return False
    if not all(_is_file(descriptor, leaf) for leaf in folder.files):
        return False
    if any(os.readlink(name, dir_fd=descriptor) != target for name, target in folder.links):
        return False
    for name, inner in folder.folders:
        below = os.open(name, FOLDER_FLAGS, dir_fd=descriptor)
        try:
            if not _holds(below, inner) or not _stayed(os.stat(name, dir_fd=descriptor, follow_symlinks=False), below):
                return False
        finally:
            os.close(below)
    return identity_of(os.fstat(descriptor)) == before and set(os.listdir(descriptor)) == folder.names


def _stayed(status: os.stat_result, descriptor: int) -> bool:
    """Tell whether what stands in a place now is still what was opened there."""
    return os.path.samestat(status, os.fstat(descriptor))


def _is_file(folder: int, leaf: _Leaf) -> bool:
    descriptor = os.open(leaf.name, FILE_FLAGS, dir_fd=folder)
    try:
        before = os.fstat(descriptor)
        mode = before.st_mode
        if mode & _KIND_AND_SET_ID != _REGULAR or before.st_size != leaf.size:
            return False
        if bool(mode & _EXECUTE) is not leaf.executable:
            return False
        content = os.read(descriptor, leaf.size + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    unchanged = (
        before[:7] == after[:7]  # mode, inode, device, links, owner, group, size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
    )
    return unchanged and len(content) == leaf.size and sha256(content).hexdigest() == leaf.digest
