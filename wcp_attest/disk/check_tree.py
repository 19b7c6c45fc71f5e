"""Check a tree against its manifest: every entry, none missing, none extra."""

from __future__ import annotations

import re
from contextlib import closing, nullcontext
from io import BytesIO
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from wcp_attest.base.digest import new_hasher
from wcp_attest.base.errors import ManifestMalformed
from wcp_attest.disk.batches import cut
from wcp_attest.disk.directory import open_root
from wcp_attest.disk.excludes import Excludes
from wcp_attest.disk.hashing import Task
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.parallel import WORTH_FILES, hash_all
from wcp_attest.disk.placement import pair_folder
from wcp_attest.disk.read_tree import path_of
from wcp_attest.disk.verified_copy import Stage
from wcp_attest.disk.walk import Link, Rules, Walk, strict_owner
from wcp_attest.package.entries import SEPARATOR, EmptyDirectory, render_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.disk.directory import TreeRoot
    from wcp_attest.disk.walk import Run
    from wcp_attest.package.manifest import Manifest

_DEFAULT = ReadOptions()
_LINE_BYTES = 400  # that a line seldom exceeds
_DIRECTORY_END = b': {"directory":true}'  # cannot end the line of a file, nor that of a link, whose text is quoted


def check_tree(
    root: str,
    manifest: Manifest,
    *,
    options: ReadOptions = _DEFAULT,
    stage: str | None = None,
    extra: Mapping[str, bytes] | None = None,
    rights: tuple[int, int, int | None] | None = None,
) -> None:
    """Check a whole tree against its manifest, and return only when they agree.

    Lines are compared, not parsed: an entry that agrees was written in the accepted spelling.

    Args:
        root: path of a directory; not a symbolic link.
        manifest: whose signature was verified.
        options: how to read.
        stage: a new directory that takes a copy of the bytes that were hashed; it appears only when the tree agrees.
        extra: further files of the staged copy, by path, already verified by the caller.
        rights: of the files of that copy: the mode of one, that of an executable one, and the group or None; without
            them files are made as any program of yours makes them.

    Raises:
        TreeMismatch: the tree differs; the error holds every difference.
        TreeUnsafe: the tree holds what cannot be read safely, or changed meanwhile.
        ManifestMalformed: the package hash does not fit the entries.
        ConfigError: the root is absent, a link or no directory, or the staged copy cannot be written.
    """
    staging = nullcontext() if stage is None else Stage(stage, root, rights)
    with closing(open_root(root)) as opened, staging as copy:
        if not _agrees(opened, manifest, options, copy):
            from wcp_attest.disk.explain_differences import raise_differences  # most trees agree

            raise_differences(opened, manifest, options)
        if copy is not None:
            copy.finish(extra or {})


def _agrees(root: TreeRoot, manifest: Manifest, options: ReadOptions, copy: Stage | None) -> bool:
    """Tell whether tree and manifest are the same; raise when the tree is unsafe."""
    rules = Rules(
        algorithm=manifest.hash_algorithm,
        excludes=Excludes(manifest.excludes),
        keep_bytecode=True,
        owner=strict_owner(options),
        pair_folder=pair_folder(root.path, options.placement),
    )
    walk = Walk(root, rules)
    others = _Cursor(manifest)
    directories = others.directories
    hasher = new_hasher(manifest.hash_algorithm)
    jobs = cut(walk if copy is None else copy.prepared(walk), others.take)
    task = Task(manifest.hash_algorithm, owner=rules.owner)
    if copy is not None:
        task.stage, task.rights = copy.descriptor, copy.rights
    totals = None
    if options.progress is not None:  # a quote in a name has a backslash before it
        size = sum(map(int, re.findall(rb',"size":([0-9]+)', manifest.body)))
        totals = (manifest.count - len(directories), size)
    many = manifest.body.count(b"\n", 0, WORTH_FILES * _LINE_BYTES) >= WORTH_FILES
    with closing(hash_all(root, jobs, task, options, walk=walk, many=many, totals=totals)) as results:
        for done in results:
            if not done.as_expected:
                return False
            hasher.update(done.records)
    found = sorted(render_line(path, EmptyDirectory(), rules.algorithm) for path in walk.empty)
    if not others.at_end or found != sorted(directories) or not walk.files or not _in_place(manifest, directories):
        return False
    if hasher.hexdigest() != manifest.package_hash:
        raise ManifestMalformed("manifest.json: package_hash is not the hash of the files listed; build it again")
    if copy is not None:
        copy.make_folders(walk.empty)
    return True


def _in_place(manifest: Manifest, directories: list[bytes]) -> bool:
    """Tell whether the lines of empty directories, which the walk gives apart, stand in order among the others."""
    algorithm = manifest.hash_algorithm
    return not directories or all(
        path_of(line, algorithm) < path_of(after, algorithm)
        for line, after in pairwise(manifest.lines)
        if line.endswith(_DIRECTORY_END) or after.endswith(_DIRECTORY_END)
    )


class _Cursor:
    """Hands out joined lines in order, empty ones when they have run out.

    Args:
        manifest: whose lines; those of empty directories are not handed out.

    Attributes:
        directories: the lines of empty directories.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.directories: list[bytes] = []
        body: bytes | None = manifest.body
        if _DIRECTORY_END in manifest.body:
            lines = manifest.lines
            self.directories = [line for line in lines if line.endswith(_DIRECTORY_END)]
            others = [line for line in lines if not line.endswith(_DIRECTORY_END)]
            body = SEPARATOR.join(others) if others else None
        self._rows = BytesIO(body or b"")  # finds ends of lines five times as fast as `find` in a loop
        self._left = len(body or b"")
        self._promised = body is not None  # a separator says that one more line comes

    @property
    def at_end(self) -> bool:
        return not self._left and not self._promised

    def take(self, step: Run | Link) -> bytes:
        """Return the joined lines that the next step should have."""
        wanted = 1 if isinstance(step, Link) else len(step.names)
        rows = list(islice(self._rows, wanted))
        text = b"".join(rows)
        self._left -= len(text)
        self._promised = len(rows) == wanted and text.endswith(SEPARATOR)
        return text.removesuffix(SEPARATOR) + SEPARATOR * (wanted - max(len(rows), 1))
