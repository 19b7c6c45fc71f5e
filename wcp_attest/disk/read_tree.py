"""Read a tree to build a manifest of it."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from wcp_attest.base.digest import new_hasher
from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.batches import cut
from wcp_attest.disk.directory import open_root
from wcp_attest.disk.excludes import GIT_FOLDER, Excludes
from wcp_attest.disk.files import is_leftover
from wcp_attest.disk.hashing import Task, too_large
from wcp_attest.disk.options import Reading, ReadOptions
from wcp_attest.disk.parallel import hash_all
from wcp_attest.disk.placement import pair_folder
from wcp_attest.disk.walk import Rules, Walk, strict_owner
from wcp_attest.package.entries import SEPARATOR, EmptyDirectory, parse_line, render_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.digest import HashAlgorithm

_DEFAULT = ReadOptions()


def read_tree(
    root: str,
    *,
    algorithm: HashAlgorithm = "sha256",
    excludes: Sequence[str] = (GIT_FOLDER,),
    options: ReadOptions = _DEFAULT,
) -> Reading:
    """Read a whole tree, every file once, and describe each entry.

    Args:
        root: path of a directory; not a symbolic link.
        algorithm: of the digests and of the package hash.
        excludes: gitignore patterns of what is left out. They never leave out bytecode.
        options: how to read.

    Returns:
        What the tree holds.

    Raises:
        TreeUnsafe: the tree holds what no manifest can describe or more than may be read, cannot be read, or changed
            meanwhile.
        MachineError: this machine cannot read it; nothing was decided.
        ConfigError: the root is absent, a link or no directory, the tree holds no file, or a pattern is malformed.
    """
    rules = Rules(
        algorithm=algorithm,
        excludes=Excludes(excludes),
        keep_bytecode=options.bytecode == "include",
        refuse_collisions=not options.allow_twins,
        owner=strict_owner(options),
        pair_folder=pair_folder(root, options.placement),
    )
    hasher = new_hasher(algorithm)
    blocks: list[bytes] = []
    size = holes = 0
    with ExitStack() as opened:
        tree = opened.enter_context(closing(open_root(root)))
        walk = Walk(tree, rules)
        task = Task(algorithm, owner=rules.owner, limits=(options.max_bytes, options.max_hole_bytes))
        jobs = cut(walk, lambda _: None)
        for done in opened.enter_context(closing(hash_all(tree, jobs, task, options, walk=walk))):
            blocks += done.blocks
            hasher.update(done.records)
            size += done.size
            holes += done.holes
            if size > options.max_bytes or holes > options.max_hole_bytes:
                raise TreeUnsafe(f"the tree {too_large(size, holes)}")
    if not walk.files:
        raise ConfigError(f"the package {root!r} holds no file")
    for folder in [folder for folder in walk.folders if folder.path in {"", rules.pair_folder}]:
        leftover = next(filter(is_leftover, folder.names.split("/")), None)
        if leftover is not None:
            raise TreeUnsafe(f"{folder.path + leftover!r} was left behind by an interrupted write; remove it")
    body = SEPARATOR.join(blocks)
    if walk.empty:
        lines = [*body.split(SEPARATOR), *(render_line(path, EmptyDirectory(), algorithm) for path in walk.empty)]
        lines.sort(key=lambda line: parse_line(line, algorithm)[0])
        body = SEPARATOR.join(lines)
    return Reading(
        body, hasher.hexdigest(), walk.files, size, rules.excludes.used, tuple(walk.bytecode), rules.excludes.unmatched
    )
