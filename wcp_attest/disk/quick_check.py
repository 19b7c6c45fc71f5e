"""Check a small tree in one pass; the answer is yes, or that `check_tree` must check it.

A small tree is read, the lines that its manifest should have are made, and the two texts are compared. A yes means the
same as in `wcp_attest.disk.check_tree`: every entry is there, nothing else is, each file was opened once without
following a link, read to its end and hashed, and neither it nor its directory changed meanwhile. Everything else is
left to `check_tree`, which says what differs: large trees, excludes (what they leave out must be searched, too), strict
permissions, BLAKE3, unusual names, and every tree that differs.

Without the walk, the batches and the workers, half as many modules are loaded (bar: `five`).
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, MachineError
from wcp_attest.disk.directory import (
    FILE_FLAGS,
    Descent,
    FileProblem,
    fingerprint,
    identity_of,
    open_root,
    unchanged,
)
from wcp_attest.disk.placement import PAIR_FOLDERS, PAIR_NAMES
from wcp_attest.package.entries import MAX_DEPTH, MAX_NAME_BYTES, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection

    from wcp_attest.disk.directory import Identity
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import Placement
    from wcp_attest.package.manifest import Manifest

MAX_ENTRIES = 512  # of the manifest; with more, the time to prepare a walk does not matter
MAX_NAMES = 1024  # in the tree, with directories
MAX_BYTES = 8 << 20  # of all files; each is read in one piece
_KIND_AND_SET_ID = 0o176000
_EXECUTE = 0o111
_ESCAPED = frozenset('"\\')


def is_exact(root: str, manifest: Manifest, placement: Placement, options: ReadOptions) -> bool:
    """Tell whether a small tree is exactly what its manifest says.

    Args:
        root: path of the directory.
        manifest: whose signature was verified.
        placement: where its pair is.
        options: how to read.

    Returns:
        True when it is. False decides nothing: `check_tree` must check the tree.
    """
    needs_walk = (
        manifest.excludes,
        manifest.hash_algorithm != "sha256",
        manifest.count > MAX_ENTRIES,
        options.strict_permissions,
        options.executor is not None,
        options.jobs not in {None, 1},
    )
    if any(needs_walk):
        return False
    try:
        with closing(open_root(root)) as opened, closing(Descent(opened.descriptor)) as descent:
            tree = _SmallTree(descent, PAIR_FOLDERS.get(placement))
            if not tree.read():
                return False
            # Every directory must still be the one that was read and hold the same names.
            if not all(unchanged(os.listdir(descent.open(path, was)), names) for path, was, names in tree.folders):
                return False
    except (OSError, ValueError, FileProblem, ConfigError, MachineError):
        return False
    lines = [line for _, line in sorted(tree.lines)]
    records = "".join([record for _, record in sorted(tree.records)])
    same = SEPARATOR.join(lines) == manifest.body and sha256(records.encode()).hexdigest() == manifest.package_hash
    if same and options.progress is not None:
        from wcp_attest.disk.options import Progress

        options.progress(Progress(len(tree.records), MAX_BYTES - tree.left, len(tree.records)))
    return same


class _SmallTree:
    """The lines and records of a tree, read from its root.

    Args:
        descent: opens its directories.
        pair_folder: the directory, empty or ending in `/`, that holds the pair, or None.
    """

    def __init__(self, descent: Descent, pair_folder: str | None) -> None:
        self.lines: list[tuple[str, bytes]] = []  # each with its path, to be sorted by
        self.records: list[tuple[str, str]] = []
        self.left = MAX_BYTES
        self._descent, self._pair_folder = descent, pair_folder
        self.folders: list[tuple[str, Identity, str]] = []
        self._waiting = [""]  # directories to be read

    def read(self) -> bool:
        """Read the whole tree.

        Returns:
            False when it is not small, holds no file, or holds something unusual.

        Raises:
            OSError: an entry cannot be read.
            FileProblem: an entry changed meanwhile.
        """
        met = 0
        while self._waiting:
            path = self._waiting.pop()
            folder = self._descent.open(path, None)
            identity = identity_of(os.fstat(folder))
            with os.scandir(folder) as found:
                entries = list(found)
            names = [entry.name for entry in entries]
            self.folders.append((path, identity, fingerprint(names)))
            met += len(names)
            text = "".join(names)
            plain = text.isascii() and text.isprintable() and _ESCAPED.isdisjoint(text)
            plain = plain and all(len(name) <= MAX_NAME_BYTES for name in names)
            if not plain or met > MAX_NAMES or path.count("/") >= MAX_DEPTH:
                return False
            pair = PAIR_NAMES if path == self._pair_folder else ()
            if not all(self._take(folder, path, entry, pair) for entry in entries):
                return False
            if not names and path not in {"", self._pair_folder}:
                self.lines.append((path[:-1], f'"{path[:-1]}": {{"directory":true}}'.encode()))
        return bool(self.records)

    def _take(self, folder: int, path: str, entry: os.DirEntry[str], pair: Collection[str]) -> bool:
        """Take one entry of a directory; read it when it is a file or a link."""
        name, whole = entry.name, path + entry.name
        if name in pair:
            return entry.is_file(follow_symlinks=False)
        if entry.is_symlink():
            from wcp_attest.package.entries import Symlink, render_line, target_problem

            target = os.readlink(name, dir_fd=folder)
            self.lines.append((whole, render_line(whole, Symlink(target), "sha256")))
            return target.isascii() and target_problem(whole, target) is None
        if entry.is_dir(follow_symlinks=False):
            self._waiting.append(f"{whole}/")
            return True
        if not entry.is_file(follow_symlinks=False):  # opening a device can have effects
            return False
        descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
        try:
            before = os.fstat(descriptor)
            size = before.st_size
            self.left -= size
            if before.st_mode & _KIND_AND_SET_ID != stat.S_IFREG or self.left < 0:
                return False
            content = os.read(descriptor, size + 1)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        digest = sha256(content).hexdigest()
        mode = ',"executable":true' if before.st_mode & _EXECUTE else ""
        self.lines.append((whole, f'"{whole}": {{"sha256":"{digest}","size":{size}{mode}}}'.encode()))
        self.records.append((whole, f"{whole}\n{size}\n{digest}\n"))
        return (
            len(content) == size
            and before[:7] == after[:7]  # mode, inode, device, links, owner, group, size
            and before.st_mtime_ns == after.st_mtime_ns
            and before.st_ctime_ns == after.st_ctime_ns
        )
