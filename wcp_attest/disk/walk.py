"""Walk a tree by directory descriptors, in the final order of a manifest, following no link.

A directory is sorted as its name plus `/`, so entries come in byte order of their paths and need not be sorted again.
Only empty directories do: their lines are sorted without the `/`, so they are collected apart. Code points have the
order of their UTF-8 bytes, so texts are compared.

Other file systems that are mounted inside the tree are read like any directory. Set-id bits are refused on files; on a
directory, the set-group-id bit only passes on a group and is allowed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import MachineError, TreeUnsafe
from wcp_attest.disk.directory import (
    FOLDER_FLAGS,
    FileProblem,
    Identity,
    describe_os_error,
    identity_of,
    is_machine_fault,
    native,
)
from wcp_attest.disk.hashing import SMALL, check_file, permission_problem
from wcp_attest.disk.listing import Listing, decoded, scan, steps
from wcp_attest.disk.placement import PAIR_NAMES
from wcp_attest.package.entries import MAX_DEPTH, Symlink, path_problem, render_line, target_problem
from wcp_attest.package.names import bytecode_among, case_collisions, is_bytecode, name_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.disk.directory import TreeRoot
    from wcp_attest.disk.excludes import Excludes
    from wcp_attest.disk.options import ReadOptions

MAX_ENTRIES = 2_000_000  # about what the largest manifest holds
MAX_LEFT_LISTED = 1000  # paths of bytecode left out that are named


class Folder(NamedTuple):
    """A directory as it was first seen.

    Attributes:
        path: empty or ending in `/`.
        identity: what stays equal while it does not change (`directory.identity_of`).
        names: all its names (`directory.fingerprint`).
    """

    path: str
    identity: Identity
    names: str


class Run(NamedTuple):
    """Regular files that follow one another in one directory.

    Attributes:
        folder: the directory.
        names: of the files, in order.
        sizes: of the files, in bytes; None where they were not looked up.
    """

    folder: Folder
    names: list[str]
    sizes: list[int] | None = None


class Link(NamedTuple):
    """A symbolic link.

    Attributes:
        path: of the link.
        target: its text.
        line: its manifest line.
    """

    path: str
    target: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What is left out and what is refused.

    Attributes:
        algorithm: of the manifest, for the lines of links.
        excludes: what the signer left out.
        keep_bytecode: whether bytecode is read as ordinary entries; else it is left out and its paths are collected.
        refuse_collisions: whether names that differ only by case or Unicode form are refused.
        owner: the id of the user who may own entries when permissions are strict, else None.
        pair_folder: the directory, empty or ending in `/`, whose `manifest.json` and `manifest.sig` are the pair and so
            no entries; None: the pair is outside of the tree.
    """

    algorithm: HashAlgorithm
    excludes: Excludes
    keep_bytecode: bool
    refuse_collisions: bool = False
    owner: int | None = None
    pair_folder: str | None = ""

    def pair_in(self, path: str) -> tuple[str, ...]:
        """Return the names of the pair, or of its folder, where a directory of the tree holds it.

        Args:
            path: of the directory, empty or ending in `/`.
        """
        if path == self.pair_folder:
            return PAIR_NAMES
        return (self.pair_folder[:-1],) if self.pair_folder and not path else ()


class _State(Enum):
    """What is done with the entries of a directory."""

    COUNTED = auto()  # they are entries of the manifest, unless an exclude leaves them out
    SEARCHED = auto()  # they are left out, but searched for bytecode, set-id bits and special files
    BYTECODE = auto()  # they are entries of the manifest: no exclude leaves out bytecode


class _Frame(NamedTuple):
    descriptor: int
    folder: Folder
    steps: Iterator[list[str] | str]
    links: frozenset[str]
    below: frozenset[str]  # directories in it that are left out and only searched
    state: _State


def strict_owner(options: ReadOptions) -> int | None:
    """Return the id of the user who may own entries when permissions are strict, else None.

    Args:
        options: how the tree is read.
    """
    return os.geteuid() if options.strict_permissions else None


class Walk:
    """One walk of a tree, and what it has seen.

    Args:
        root: of the tree.
        rules: what is left out and what is refused.

    Attributes:
        rules: what is left out and what is refused.
        folders: every directory that was listed, except those left out.
        empty: paths of directories that hold no entry.
        bytecode: paths of bytecode that was left out, at most `MAX_LEFT_LISTED`.
        files: how many regular files were found.
        stat_first: look up the sizes of this many files; go on only if they are large on average.
        size: the sum of the sizes that were looked up, in bytes.

    Raises:
        TreeUnsafe: while it is walked: an entry cannot be part of a package, or cannot be read.
        MachineError: likewise: this machine cannot read it; nothing was decided.
    """

    def __init__(self, root: TreeRoot, rules: Rules) -> None:
        self.folders: list[Folder] = []
        self.empty: list[str] = []
        self.bytecode: list[str] = []
        self.files = 0
        self.stat_first = 0
        self.size = 0
        self._entries = 0
        self._root = root.descriptor
        self.rules = rules

    def __iter__(self) -> Iterator[Run | Link]:
        try:
            stack = [self._enter(os.open(".", FOLDER_FLAGS, dir_fd=self._root), "", _State.COUNTED)]
        except OSError as problem:
            raise unreadable("the directory '.'", problem) from None
        try:
            while stack:
                frame = stack[-1]
                step = next(frame.steps, None)
                if step is None:
                    os.close(stack.pop().descriptor)
                elif isinstance(step, list):
                    self.files += len(step)
                    yield Run(frame.folder, step, self._sizes(frame.descriptor, step) if self.stat_first else None)
                elif step in frame.links:
                    yield self._link(frame, step)
                else:
                    stack.append(self._descend(frame, step))
        finally:
            for frame in stack:
                os.close(frame.descriptor)

    def _sizes(self, folder: int, names: list[str]) -> list[int]:
        """Return the sizes of files; 0 for one that is gone, which is noticed when it is read."""
        sizes = [0] * len(names)
        for index, name in enumerate(names):
            with suppress(OSError):
                sizes[index] = os.stat(native(name), dir_fd=folder, follow_symlinks=False).st_size
        self.size += sum(sizes)
        if self.files >= self.stat_first and self.size <= self.files * SMALL:
            self.stat_first = 0
        return sizes

    def refuse(self, problem: str) -> None:
        """Refuse an entry that cannot be part of a package; `disk.unsafe` goes on instead.

        Args:
            problem: the message about it.

        Raises:
            TreeUnsafe: always.
        """
        raise TreeUnsafe(problem)

    def _descend(self, above: _Frame, step: str) -> _Frame:
        path = above.folder.path + step
        name = step[:-1]
        if path.count("/") >= MAX_DEPTH:
            raise TreeUnsafe(f"the directory {path[:160]!r} is nested more than {MAX_DEPTH} levels deep")
        try:
            descriptor = os.open(native(name), FOLDER_FLAGS, dir_fd=above.descriptor)
        except OSError as problem:
            raise unreadable(f"the directory {path!r}", problem) from None
        state = above.state
        if is_bytecode(name):
            state = _State.BYTECODE
        elif name in above.below and state is _State.COUNTED:
            state = _State.SEARCHED
        return self._enter(descriptor, path, state)

    def _enter(self, descriptor: int, path: str, state: _State) -> _Frame:
        """List a directory and decide about its names; it owns the descriptor from now on."""
        try:
            status = os.fstat(descriptor)
            listing, names = scan(descriptor)
            folder = Folder(path, identity_of(status), names)
            if state is not _State.SEARCHED:
                self.folders.append(folder)
                wrong = None if self.rules.owner is None else permission_problem(status, self.rules.owner)
                if wrong is not None:
                    self.refuse(f"the directory {path or '.'!r} {wrong}")
            return self._settle(descriptor, folder, listing, state)
        except OSError as problem:
            os.close(descriptor)
            raise unreadable(f"the directory {path or '.'!r}", problem) from None
        except BaseException:
            os.close(descriptor)
            raise

    def _settle(self, descriptor: int, folder: Folder, listing: Listing, state: _State) -> _Frame:
        """Decide about the names of a directory."""
        path = folder.path
        if path == self.rules.pair_folder:
            hiding = set(PAIR_NAMES).intersection((*listing.folders, *listing.links, *listing.others))
            if hiding:  # it would be no entry, so it could hide something
                where = "" if path else " at the root"
                raise TreeUnsafe(f"{path + min(hiding)!r}{where} is not a regular file; remove it")
            listing = listing.without(set(PAIR_NAMES).intersection(listing.files))
        for name in sorted(listing.others):
            self.refuse(f"{path + name!r} is not a file, directory or symbolic link; remove it")
        listing, below = self._leave_out(descriptor, path, listing, state)
        names = listing.names()
        for problem in name_problems(path, names):
            self.refuse(problem)
        if self.rules.refuse_collisions:
            # The two files of the pair and their folder, which may not be there yet, can have no twins either.
            for problem in case_collisions(path, list(dict.fromkeys([*names, *self.rules.pair_in(path)]))):
                self.refuse(problem)
        self._entries += len(names)
        if self._entries > MAX_ENTRIES:
            raise TreeUnsafe(f"the tree holds more than {MAX_ENTRIES} entries")
        if not names and path not in {"", self.rules.pair_folder} and state is not _State.SEARCHED:
            self.empty.append(path[:-1])
        return _Frame(descriptor, folder, steps(listing, below), frozenset(listing.links), frozenset(below), state)

    def _leave_out(self, descriptor: int, path: str, listing: Listing, state: _State) -> tuple[Listing, list[str]]:
        """Take out bytecode and excludes; also return the directories left out, which must be searched."""
        if state is _State.BYTECODE:
            return listing, []
        bytecode = bytecode_among(listing.names())
        source = listing.without(bytecode)
        gone = set(source.names()) if state is _State.SEARCHED else set()
        excludes = self.rules.excludes
        for names, folders in ((source.folders, True), ((*source.files, *source.links), False)):
            if state is _State.COUNTED and excludes.concern(path, files=not folders):
                gone.update(name for name in names if excludes.leave_out(path + name, folder=folders))
        below = [name for name in source.folders if name in gone]
        for name in sorted(gone.intersection(source.files)):  # they must be regular, without a set-id bit
            try:
                check_file(path + name, os.stat(native(name), dir_fd=descriptor, follow_symlinks=False), None)
            except FileNotFoundError:
                pass  # it is left out anyway
            except FileProblem as problem:
                self.refuse(f"{problem.path!r} {problem.reason}")
        if bytecode and not self.rules.keep_bytecode:
            room = MAX_LEFT_LISTED - len(self.bytecode)
            self.bytecode.extend(path + name for name in sorted(bytecode)[:room])
            return source.without(gone), below
        return listing.without(gone), below

    def _link(self, frame: _Frame, name: str) -> Link:
        path = frame.folder.path + name
        try:
            target = decoded(os.fsdecode(os.readlink(os.fsencode(native(name)), dir_fd=frame.descriptor)))
            status = os.stat(native(name), dir_fd=frame.descriptor, follow_symlinks=False)
        except OSError as failure:
            raise unreadable(f"the link {path!r}", failure) from None
        problem = target_problem(path, target)
        if problem is None and self.rules.owner is not None and status.st_uid not in {0, self.rules.owner}:
            problem = f"belongs to the user {status.st_uid}"
        if problem is not None:
            self.refuse(f"the link {path!r} {problem}")
        elif path_problem(path) is None:  # else its name was refused before; only a walk that goes on comes here
            return Link(path, target, render_line(path, Symlink(target), self.rules.algorithm))
        return Link(path, target, b"")


def unreadable(what: str, problem: OSError) -> TreeUnsafe | MachineError:
    """Return the error for what cannot be read: a refusal, unless this machine is at fault.

    Args:
        what: what cannot be read, in words.
        problem: what the system reports.

    Returns:
        The error, to be raised.
    """
    text = f"{what} cannot be read: {describe_os_error(problem)}"
    return MachineError(f"{text}; nothing was decided") if is_machine_fault(problem) else TreeUnsafe(text)
