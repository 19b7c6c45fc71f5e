"""Describe a package as the git index holds it, by the same rules as `read_tree` describes a directory.

Three things differ, because a checkout of the index is what will be verified: there are no empty directories but
those whose files are all left out; a file that every checkout converts is refused, since its blob is not what will be
there; and a package that is the whole repository leaves out `.git`, which every checkout has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.git_index import LINK, SUBMODULE, folders_above
from wcp_attest.base.digest import package_hash
from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.excludes import Excludes
from wcp_attest.disk.files import is_leftover
from wcp_attest.disk.options import Reading
from wcp_attest.disk.placement import PAIR_FOLDERS
from wcp_attest.package.entries import (
    SEPARATOR,
    EmptyDirectory,
    File,
    Symlink,
    path_problem,
    render_line,
    target_problem,
)
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME
from wcp_attest.package.names import bytecode_among, case_collisions
from wcp_attest.package.ours import is_manifest, is_signature_file
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wcp_attest.advice.git_index import GitIndex
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.disk.options import Bytecode
    from wcp_attest.package.entries import Entry

MAX_PROBLEMS: Final = 1000  # that are named; the rest is not looked for
_ELSEWHERE: Final = ("text", "text=auto")  # attributes that convert on some machines only


class Unsignable(TreeUnsafe):
    """The index holds what no manifest can describe.

    Args:
        problems: each with the path and what to do, sorted by path, at most `MAX_PROBLEMS`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        more = f", and {len(problems) - 1} further problems" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class StagedReading:
    """What an index holds of a package.

    Attributes:
        reading: as of a tree.
        converted: how many files get other line endings on some machines, by their attributes.
    """

    reading: Reading
    converted: int


def read_staged(
    index: GitIndex,
    *,
    algorithm: HashAlgorithm,
    excludes: Sequence[str],
    bytecode: Bytecode = "leave",
    allow_twins: bool = False,
) -> StagedReading:
    """Describe every staged path of a package.

    Args:
        index: where they are staged.
        algorithm: of the digests and of the package hash.
        excludes: gitignore patterns of what is left out; bytecode never is by these.
        bytecode: refuse bytecode that is staged, or include it as ordinary files.
        allow_twins: allow names that differ only by case or Unicode normal form.

    Raises:
        Unsignable: something staged cannot be signed; the error names all of it.
        ConfigError: nothing is left to describe, a pattern is malformed, or git fails.
    """
    rules = Excludes(excludes)
    if not index.prefix:
        rules.leave_out(".git", folder=True)  # every checkout has it
    pair = [pair_folder_in(index) + name for name in (MANIFEST_NAME, SIGNATURE_NAME)]
    chosen, emptied = _chosen(index, rules, pair)
    conversions = index.conversions()
    index.hash_all(chosen, algorithm)
    entries: dict[str, Entry] = {path: EmptyDirectory() for path in emptied}
    problems = [] if allow_twins else list(_twins([*chosen, *pair]))
    for path in chosen:
        problem = _name_problem(index, path, conversions, bytecode)
        if problem is None:
            try:
                entry = entries[path] = index.entry(path, algorithm)
                problem = target_problem(path, entry.target) if isinstance(entry, Symlink) else None
            except ConfigError as unknown:
                problem = f"cannot be described: {unknown}"
        if problem is not None and len(problems) < MAX_PROBLEMS:
            problems.append(f"{path!r} {problem}")
    if problems:
        raise Unsignable(sorted(problems))
    entries = dict(sorted(entries.items(), key=lambda item: os.fsencode(item[0])))
    files = [(path, entry.size, entry.digest) for path, entry in entries.items() if isinstance(entry, File)]
    reading = Reading(
        body=SEPARATOR.join(render_line(path, entry, algorithm) for path, entry in entries.items()),
        package_hash=package_hash(files, algorithm),
        files=len(files),
        size=sum(size for _, size, _ in files),
        excluded=rules.used,
    )
    return StagedReading(reading, sum(path in entries for path in conversions))


def pair_folder_in(index: GitIndex) -> str:
    """Return the folder of the staged pair: the root (empty), or `.wcp/`, chosen as `sign` chooses it in a tree.

    It is `.wcp/` when one of the two files is staged there, or when a file of that name in the root is another
    program's.
    """
    if index.pair_folder is None:
        folder = PAIR_FOLDERS["folder"]
        known = {*index.files, *index.unmerged}
        taken = {folder + MANIFEST_NAME, folder + SIGNATURE_NAME} & known or _is_foreign(index)
        index.pair_folder = folder if taken else ""
    return index.pair_folder


def _is_foreign(index: GitIndex) -> bool:
    """Tell whether another program's file has the name of one of the pair in the root."""
    for name, recognizes, limit in (
        (MANIFEST_NAME, is_manifest, MAX_MANIFEST_BYTES),
        (SIGNATURE_NAME, is_signature_file, MAX_SIGNATURE_FILE_BYTES),
    ):
        staged = index.files.get(name)
        if staged is None or staged.mode == LINK or name in index.unmerged:
            continue
        data = index.read(name, limit)
        if data and not recognizes(data):
            return True
    return False


def _chosen(index: GitIndex, rules: Excludes, pair: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths that a manifest must account for, in byte order, and the directories that excludes empty.

    A checkout has such a directory, and a manifest of the checkout lists it as empty.

    Raises:
        ConfigError: no path is left.
    """
    folders: dict[str, bool] = {"": False}

    def is_left_out(folder: str) -> bool:
        if folder not in folders:
            parent = folder.rpartition("/")[0]
            folders[folder] = is_left_out(parent) or rules.leave_out(folder, folder=True)
        return folders[folder]

    chosen = []
    emptied: set[str] = set()
    for path, staged in index.files.items():
        if path in pair:
            continue
        folder = path.rpartition("/")[0]
        left_out = is_left_out(folder) or rules.leave_out(path, folder=staged.mode == SUBMODULE)
        if not left_out or bytecode_among(path.split("/")):
            chosen.append(path)
            continue
        while is_left_out(folder):
            folder = folder.rpartition("/")[0]
        emptied.add(folder)
    if not chosen:
        package = index.prefix or "."
        if not index.files.keys() - pair:
            raise ConfigError(f"nothing but the manifest is left of {package!r}; remove it as well, with `git rm`")
        raise ConfigError(f"every file under {package!r} is excluded; nothing is left to sign")
    # A directory that another one or a file lies in is not empty.
    emptied -= {folder for path in (*chosen, *emptied) for folder in folders_above(path)}
    return sorted(chosen, key=os.fsencode), sorted(emptied - {""})


def _name_problem(index: GitIndex, path: str, conversions: Mapping[str, str], bytecode: Bytecode) -> str | None:
    problem = path_problem(path)
    if problem is not None:
        return f"{problem}; rename it"
    if index.files[path].mode == SUBMODULE:
        return "is a submodule, whose files are not in this index; exclude it, or copy the files in"
    if bytecode == "leave" and bytecode_among(path.split("/")):
        return 'is bytecode; `git rm --cached` it and add it to .gitignore, or set `bytecode = "include"`'
    if is_leftover(path):
        return "was left behind by an interrupted write; remove it"
    conversion = conversions.get(path)
    if conversion is not None and conversion not in _ELSEWHERE:
        name = "text" if conversion.startswith("eol") else conversion.partition("=")[0]
        where = index.local_attributes or ".gitattributes"
        return f"is converted on every checkout by the attribute `{conversion}`; set `-{name}` for it in {where}"
    return None


def _twins(paths: Sequence[str]) -> Iterator[str]:
    names: dict[str, dict[str, None]] = {}
    for path in paths:
        prefix = ""
        for segment in path.split("/"):
            names.setdefault(prefix, {})[segment] = None
            prefix += f"{segment}/"
    for prefix, siblings in names.items():
        for problem in case_collisions(prefix, list(siblings)):
            yield problem.replace("(`--allow-twins`)", "(`allow_twins = true` in wcp-attest.toml)")
