"""Walk a tree by directory descriptors, in the final order of a manifest, following no link.

A directory sorts as its name plus `/`, so entries come out in byte order of their paths and nothing is sorted or
merged afterwards, except empty directories, whose lines sort without the `/`: they are gathered apart. Code points
sort as their UTF-8 bytes do, so texts are compared.

Other file systems mounted inside the tree are read like any directory: their content is hashed as everything else.
Set-id bits matter on files; on a directory the set-group-id bit only hands down a group and is let be.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.entries import MAX_DEPTH, Symlink, render_line, target_problem
from wcp_attest.errors import ConfigError, TreeUnsafe
from wcp_attest.manifest import MANIFEST_NAME, SIGNATURE_NAME
from wcp_attest.tree.hashing import FOLDER_FLAGS, FileProblem, native, open_folder, permission_problem
from wcp_attest.tree.names import bytecode_among, refuse_names, refuse_twins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.digest import HashAlgorithm
    from wcp_attest.tree.excludes import Excludes

MAX_ENTRIES = 2_000_000  # about what the largest manifest holds
MAX_LEFT_LISTED = 1000  # paths of bytecode left out that are named


class Folder(NamedTuple):
    """A directory as it was first seen: its path (empty or ending in `/`), its identity and all its names."""

    path: str
    identity: tuple[int, int]
    names: str


class Run(NamedTuple):
    """Regular files that follow one another in one directory."""

    folder: Folder
    names: list[str]


class Link(NamedTuple):
    """A symbolic link, its target text and its manifest line."""

    path: str
    target: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let be, left out and refused.

    Attributes:
        algorithm: of the manifest, for the lines of links.
        excludes: what the signer left out.
        keep_bytecode: whether bytecode counts as ordinary entries; else it is left out and named.
        refuse_twins: whether names that differ only by case or Unicode form are refused.
        owner: the user who may own entries when permissions are strict, else None.
    """

    algorithm: HashAlgorithm
    excludes: Excludes
    keep_bytecode: bool
    refuse_twins: bool = False
    owner: int | None = None


@dataclass(slots=True)
class _Listing:
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return [*self.files, *self.folders, *self.links, *self.others]

    def without(self, gone: set[str]) -> _Listing:
        if not gone:
            return self
        kinds = (self.files, self.folders, self.links, self.others)
        return _Listing(*([name for name in kind if name not in gone] for kind in kinds))


class _Frame(NamedTuple):
    descriptor: int
    folder: Folder
    steps: Iterator[list[str] | str]
    links: frozenset[str]
    hidden: frozenset[str]  # directories below that are left out and only searched for bytecode
    excludable: bool


def open_root(root: str) -> int:
    """Open the root of a tree.

    Args:
        root: path of a directory; not a symbolic link.

    Returns:
        A descriptor, to be closed by the caller.

    Raises:
        ConfigError: it is absent, a link, or not a directory.
    """
    plain = root.rstrip("/") or root
    try:
        return os.open(plain, FOLDER_FLAGS)
    except (OSError, ValueError) as problem:
        reason = "is a symbolic link; give the directory itself" if os.path.islink(plain) else _words(problem)
        raise ConfigError(f"cannot read the package {root!r}: {reason}") from None


class Walk:
    """One walk of a tree, and what it saw.

    Attributes:
        folders: every directory that was listed, except those left out.
        empty: paths of directories that hold nothing that counts.
        bytecode: paths of bytecode that was left out, capped.
        files: how many regular files were met.
        weigh: whether to add the sizes of the files that are met to `weight`.
        weight: bytes.
    """

    def __init__(self, root: int, rules: Rules) -> None:
        self.folders: list[Folder] = []
        self.empty: list[str] = []
        self.bytecode: list[str] = []
        self.files = 0
        self.weigh = False
        self.weight = 0
        self._entries = 0
        self._root = root
        self._rules = rules

    def __iter__(self) -> Iterator[Run | Link]:
        stack = [self._enter(os.open(".", FOLDER_FLAGS, dir_fd=self._root), "", hidden=False, excludable=True)]
        try:
            while stack:
                frame = stack[-1]
                step = next(frame.steps, None)
                if step is None:
                    os.close(stack.pop().descriptor)
                elif isinstance(step, list):
                    self.files += len(step)
                    if self.weigh:
                        self.weight += _weight(frame.descriptor, step)
                    yield Run(frame.folder, step)
                elif step in frame.links:
                    yield self._link(frame, step)
                else:
                    stack.append(self._descend(frame, step))
        finally:
            for frame in stack:
                os.close(frame.descriptor)

    def look_again(self) -> None:
        """See that every directory is still the same one and holds the same names.

        Raises:
            TreeUnsafe: one changed since it was listed.
        """
        for folder in self.folders:
            try:
                descriptor = open_folder(self._root, folder.path, folder.identity)
                try:
                    names = os.listdir(descriptor)
                finally:
                    os.close(descriptor)
            except (FileProblem, OSError):
                names = []
            if _fingerprint(names) != folder.names:
                raise TreeUnsafe(f"the directory {folder.path or '.'!r} changed while it was read")

    def _descend(self, above: _Frame, step: str) -> _Frame:
        path = above.folder.path + step
        name = step[:-1]
        if path.count("/") >= MAX_DEPTH:
            raise TreeUnsafe(f"the directory {path[:160]!r} is nested more than {MAX_DEPTH} levels deep")
        try:
            descriptor = os.open(native(name), FOLDER_FLAGS, dir_fd=above.descriptor)
        except OSError as problem:
            raise TreeUnsafe(f"the directory {path!r} cannot be read: {_words(problem)}") from None
        hidden = name in above.hidden
        return self._enter(descriptor, path, hidden=hidden, excludable=above.excludable and not bytecode_among([name]))

    def _enter(self, descriptor: int, path: str, *, hidden: bool, excludable: bool) -> _Frame:
        """List a directory and settle what of it counts; takes over the descriptor."""
        try:
            status = os.fstat(descriptor)
            listing = _scan(descriptor)
            folder = Folder(path, (status.st_dev, status.st_ino), _fingerprint(listing.names()))
            if not hidden:
                self.folders.append(folder)
            return self._settle(descriptor, folder, listing, status, hidden=hidden, excludable=excludable)
        except OSError as problem:
            os.close(descriptor)
            raise TreeUnsafe(f"the directory {path or '.'!r} cannot be read: {_words(problem)}") from None
        except BaseException:
            os.close(descriptor)
            raise

    def _settle(
        self,
        descriptor: int,
        folder: Folder,
        listing: _Listing,
        status: os.stat_result,
        *,
        hidden: bool,
        excludable: bool,
    ) -> _Frame:
        path = folder.path
        if not path:
            listing = listing.without(_reserved(listing))
        listing, below = self._leave_out(path, listing, hidden=hidden, excludable=excludable)
        names = listing.names()
        self._refuse(path, listing, names, status, hidden=hidden)
        self._entries += len(names)
        if self._entries > MAX_ENTRIES:
            raise TreeUnsafe(f"the tree holds more than {MAX_ENTRIES} entries")
        if not names and path and not hidden:
            self.empty.append(path[:-1])
        steps = _steps(listing, below)
        return _Frame(descriptor, folder, steps, frozenset(listing.links), frozenset(below), excludable)

    def _leave_out(self, path: str, listing: _Listing, *, hidden: bool, excludable: bool) -> tuple[_Listing, list[str]]:
        """Take bytecode and excludes out; also return the directories left out, which may hide bytecode."""
        if not excludable:
            return listing, []
        bytecode = bytecode_among(listing.names())
        if hidden:
            gone = set(listing.names()) - bytecode
        else:
            gone = set(self._excluded(path, listing.without(bytecode)))
        below = [name for name in listing.folders if name in gone]
        if bytecode and not self._rules.keep_bytecode:
            room = MAX_LEFT_LISTED - len(self.bytecode)
            self.bytecode.extend(path + name for name in sorted(bytecode)[:room])
            gone |= bytecode
        return listing.without(gone), below

    def _excluded(self, path: str, listing: _Listing) -> Iterator[str]:
        excludes = self._rules.excludes
        if excludes:
            yield from (name for name in listing.folders if excludes.leave_out(path + name, folder=True))
            others = (*listing.files, *listing.links, *listing.others)
            yield from (name for name in others if excludes.leave_out(path + name, folder=False))

    def _refuse(self, path: str, listing: _Listing, names: list[str], status: os.stat_result, *, hidden: bool) -> None:
        if listing.others:
            name = min(listing.others)
            raise TreeUnsafe(f"{path + name!r} is not a file, directory or symbolic link; remove it")
        refuse_names(path, names)
        if self._rules.refuse_twins:
            refuse_twins(path, names)
        if self._rules.owner is not None and not hidden:
            problem = permission_problem(status, self._rules.owner)
            if problem is not None:
                raise TreeUnsafe(f"the directory {path or '.'!r} {problem}")

    def _link(self, frame: _Frame, name: str) -> Link:
        path = frame.folder.path + name
        try:
            target = decoded(_read_link(frame.descriptor, name))
            status = os.stat(native(name), dir_fd=frame.descriptor, follow_symlinks=False)
        except OSError as failure:
            raise TreeUnsafe(f"the link {path!r} cannot be read: {_words(failure)}") from None
        problem = target_problem(path, target)
        if problem is None and self._rules.owner is not None and status.st_uid not in {0, self._rules.owner}:
            problem = f"belongs to the user {status.st_uid}"
        if problem is not None:
            raise TreeUnsafe(f"the link {path!r} {problem}")
        return Link(path, target, render_line(path, Symlink(target), self._rules.algorithm))


def _read_link(folder: int, name: str) -> str:
    return os.fsdecode(os.readlink(os.fsencode(native(name)), dir_fd=folder))


def decoded(name: str) -> str:
    """Return a name from the system as the UTF-8 text that its bytes are, undecodable ones as surrogates."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def _scan(descriptor: int) -> _Listing:
    listing = _Listing()
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                listing.files.append(decoded(entry.name))
            elif entry.is_dir(follow_symlinks=False):
                listing.folders.append(decoded(entry.name))
            elif entry.is_symlink():
                listing.links.append(decoded(entry.name))
            else:
                listing.others.append(decoded(entry.name))
    return listing


def _steps(listing: _Listing, below: list[str]) -> Iterator[list[str] | str]:
    """Yield runs of files, links, and directories (with `/`) in order."""
    links = set(listing.links)
    folders = [name + "/" for name in (*listing.folders, *below)]
    run: list[str] = []
    for name in sorted((*listing.files, *listing.links, *folders)):
        if name.endswith("/") or name in links:
            if run:
                yield run
                run = []
            yield name
        else:
            run.append(name)
    if run:
        yield run


def _weight(folder: int, names: list[str]) -> int:
    """Return about how many bytes the files have; those that are gone will be missed when they are read."""
    total = 0
    for name in names:
        with contextlib.suppress(OSError):
            total += os.stat(native(name), dir_fd=folder, follow_symlinks=False).st_size
    return total


def _reserved(listing: _Listing) -> set[str]:
    """Return the two names that the root keeps for the manifest and its signatures."""
    reserved = {MANIFEST_NAME, SIGNATURE_NAME}
    wrong = reserved.intersection((*listing.folders, *listing.links, *listing.others))
    if wrong:
        raise TreeUnsafe(f"{min(wrong)!r} at the root is not a regular file; remove it")
    return reserved.intersection(listing.files)


def _fingerprint(names: list[str]) -> str:
    return "/".join(sorted(map(decoded, names)))


def _words(problem: OSError | ValueError) -> str:
    text = problem.strerror if isinstance(problem, OSError) else None
    return (text or str(problem)).lower()


__all__ = ["Folder", "Link", "Rules", "Run", "Walk", "open_root"]
