"""A package as the git index holds it: what the next commit will contain, regardless of the work tree.

    with GitIndex.open("workers/summarizer") as index:
        index.files                               {"code/run.py": Staged("100755", "45b983…"), …}
        index.entry("code/run.py", "sha256")      File("9f86…", 612, executable=True)

Paths, modes and contents come from the index and the object store, never from the work tree: unstaged edits,
untracked files, `core.fileMode` and `core.autocrlf` change nothing. A path added with `git add --intent-to-add` is no
part of the next commit and hence not here.

Contents are those of the blobs, which is what a checkout without conversions gives. Where attributes convert on every
checkout the blob would be the wrong thing to sign: `conversions` says so, and the caller refuses. Git LFS is the
exception, because its pointer states digest and size of what a checkout will hold.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.git_command import Git, chunks, deadline, feeding, refuse_special_files
from wcp_attest.base.digest import ALGORITHMS, HashAlgorithm, new_hasher
from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import read_start
from wcp_attest.package.entries import MAX_TARGET_BYTES, Entry, File, Symlink

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

_PAIR: Final = ("manifest.json", "manifest.sig")
MAX_FILES: Final = 2_000_000  # as many as a manifest holds
EXECUTABLE, LINK, SUBMODULE = "100755", "120000", "160000"
MAX_POINTER_BYTES: Final = 1024  # the Git LFS specification's own limit

MAX_ATTRIBUTES_BYTES: Final = 1024 * 1024  # of `info/attributes` that are looked at
_CONVERTING: Final = ("text", "crlf", "eol", "filter", "ident", "working-tree-encoding")
_ATTRIBUTES: Final = (*_CONVERTING, "export-subst", "export-ignore")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>0|[1-9][0-9]{0,15})\n\Z"
)


@dataclass(frozen=True, slots=True)
class Staged:
    """One path of the index.

    Attributes:
        mode: `100644`, `100755`, `120000` (symbolic link) or `160000` (submodule).
        object_id: of its blob, 40 or 64 hex digits.
    """

    mode: str
    object_id: str


class GitIndex(ExitStack):
    """The part of an index that lies under one directory.

    Attributes:
        prefix: the package's path from the top of the work tree, empty when the package is the whole repository.
        files: every path of it, relative to the package, in byte order; undecodable bytes as surrogate escapes.
        unmerged: pairs (`manifest.json`, `manifest.sig`) in conflict: their versions by stage, 1 the common ancestor, 2
            ours, 3 theirs.
        digests: of blobs, with their sizes, by object id and algorithm; what stands there is not hashed.
        archived_otherwise: after `conversions`, the files that `git archive` changes or leaves out.
    """

    def __init__(self, git: Git, prefix: str, files: dict[str, Staged]) -> None:
        super().__init__()
        self.prefix = prefix
        self.files = files
        self.unmerged: dict[str, dict[int, Staged]] = {}
        self.digests: dict[tuple[str, HashAlgorithm], tuple[str, int]] = {}
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None
        self._lfs: frozenset[str] = frozenset()
        self._converted: dict[str, str] = {}
        self.archived_otherwise: tuple[str, ...] = ()
        self.pair_folder: str | None = None  # where the pair is staged, once somebody looked

    @classmethod
    def open(cls, package: str, *, resolve: bool = False) -> Self:
        """List the index under a directory.

        Args:
            package: path of the package's directory, which need not exist in the work tree.
            resolve: whether a manifest or signature file may be in conflict; it is in `unmerged` then.

        Raises:
            ConfigError: git is missing or fails, this is no repository, the directory is outside of it, a merge is
                unfinished, or nothing is tracked there.
        """
        git, prefix = _locate(package)
        pathspec = [f":(top,literal){prefix}"] if prefix else [":(top)"]
        empty_tree = git.output("hash-object", "-t", "tree", "--stdin").decode().strip()
        # Not `ls-files --stage`: that one also shows paths which are only intended to be added. `-r` looks into the
        # directories that a sparse index holds as one entry, as newer versions of git read it.
        options = ("--cached", "--ita-invisible-in-index", "--ignore-submodules=none", "--no-renames", "--raw", "-z")
        listing = git.output("diff-index", "-r", *options, "--no-abbrev", empty_tree, "--", *pathspec)
        files, conflicts = _parse(listing, prefix)
        index = cls(git, prefix, files)
        for path in conflicts:
            name = os.path.basename(path)
            if name not in _PAIR:
                raise ConfigError(f"{path!r} is not merged yet; resolve it and `git add` it")
            if not resolve:
                advice = (
                    "`git add` everything else, then `wcp-attest fix` resolves it"
                    if name == _PAIR[0]
                    else "signatures are not merged: remove it with `git rm`, and sign again before the release"
                )
                raise ConfigError(f"{path!r} is not merged yet; {advice}")
            versions = index.unmerged.setdefault(path[len(prefix) + 1 if prefix else 0 :], {})
            listed = git.output("ls-files", "--unmerged", "-z", "--full-name", "--", f":(top,literal){path}")
            for record in listed.split(b"\0")[:-1]:
                mode, object_id, stage = record.partition(b"\t")[0].decode("ascii").split(" ")
                versions[int(stage)] = Staged(mode, object_id)
        return index

    def conversions(self) -> dict[str, str]:
        """Say which files a checkout converts, and how; those of Git LFS are understood and left out.

        Returns:
            For each such path the attribute that does it. `text` and `text=auto` are named only when no `eol=lf` pins
            them: they convert on some machines, everything else on every machine.

        Raises:
            ConfigError: git fails.
        """
        # 1. A configured file of attributes that is a FIFO would make git wait without end.
        named = self._git.output("config", "--default", "", "--type=path", "--get", "core.attributesFile")
        place = os.fsdecode(named).strip()
        if place and os.path.exists(place) and not os.path.isfile(place):
            raise ConfigError(f"`core.attributesFile` names {place!r}, which is not a regular file; remove the setting")
        # 2. Directories are asked for, too: `git archive` leaves out what is below one with `export-ignore`.
        regular = [path for path, staged in self.files.items() if staged.mode not in (LINK, SUBMODULE)]
        folders = {folder + "/" for path in self.files for folder in folders_above(path)}
        asked = [*regular, *sorted(folders)]
        # 3. git reads these paths as relative to its current directory, and answers in the order of the questions.
        here = os.fsdecode(self._git.output("rev-parse", "--show-prefix").removesuffix(b"\n"))
        given = b"".join(os.fsencode(_relative(self._full(path), here)) + b"\0" for path in asked)
        answers = self._git.output("check-attr", "--cached", "-z", "--stdin", *_ATTRIBUTES, given=given).split(b"\0")
        if len(answers) - 1 != 3 * len(_ATTRIBUTES) * len(asked):
            raise ConfigError("`git check-attr` did not answer for every file; is git older than 2.40?")
        found: dict[str, dict[str, str]] = {path: {} for path in asked}
        for position in range(0, len(answers) - 1, 3):
            _, name, value = (os.fsdecode(answer) for answer in answers[position : position + 3])
            found[asked[position // (3 * len(_ATTRIBUTES))]][name] = value
        # 4. What the answers mean.
        left_out = {path for path in folders if found[path].get("export-ignore") == "set"}
        self.archived_otherwise = tuple(
            path
            for path in self.files
            if any(found.get(path, {}).get(name) == "set" for name in ("export-subst", "export-ignore"))
            or (left_out and any(folder + "/" in left_out for folder in folders_above(path)))
        )
        self._lfs = frozenset(path for path in regular if found[path].get("filter") == "lfs")
        conversions = {path: _conversion(found[path]) for path in regular}
        self._converted = {path: conversion for path, conversion in conversions.items() if conversion}
        return self._converted

    @cached_property
    def local_attributes(self) -> str:
        """The path of `info/attributes` when it says what git converts, else an empty text.

        Only this clone has that file, and it goes before every `.gitattributes`.
        """
        place = os.fsdecode(self._git.output("rev-parse", "--git-path", "info/attributes").removesuffix(b"\n"))
        place = os.path.realpath(os.path.join(self._git.directory or os.curdir, place))
        try:
            lines = read_start(place, MAX_ATTRIBUTES_BYTES).decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        words = {word.lstrip("-!").partition("=")[0] for line in lines for word in line.split()[1:] if line[:1] != "#"}
        return place if words & {*_ATTRIBUTES, "binary"} else ""

    def takes_attributes_of_another_tree(self) -> bool:
        """Tell whether checkouts on this machine convert by the attributes of another tree (`attr.tree`, git 2.43).

        `conversions` does not go by them: no other clone does.
        """
        return bool(self._git.output("config", "--default", "", "--get", "attr.tree").strip())

    def converts_line_endings_here(self) -> bool:
        """Tell whether checkouts on this machine turn LF into CRLF (`core.autocrlf`, `core.eol`)."""
        return any(
            self._git.output("config", "--default", "", "--get", name).strip().lower() == value
            for name, value in (("core.autocrlf", b"true"), ("core.eol", b"crlf"))
        )

    def read(self, path: str, limit: int) -> bytes:
        """Return the staged content of a file, or the target of a link.

        Raises:
            ConfigError: it is larger than `limit` bytes, or the object is missing.
        """
        return self.read_version(path, self.files[path], limit)

    def read_version(self, path: str, version: Staged, limit: int) -> bytes:
        """Return the content of one version of a file, such as one of `unmerged`.

        Raises:
            ConfigError: it is larger than `limit` bytes, or the object is missing.
        """
        size = self._open_blob(version.object_id, path)
        if size > limit:
            self.close()  # the content is not read
            raise _LargerThanRead(f"{self._full(path)!r} is {size} bytes in the index; at most {limit} are read")
        data = b"".join(chunks(self._cat_file(), size + 1))
        return data[:-1]  # git adds a line break

    def replace(self, path: str, data: bytes) -> None:
        """Take a file as if it were staged with another content; what is asked afterwards goes by that.

        Args:
            path: relative to the package.
            data: the content.
        """
        pretended = Staged(self.files[path].mode if path in self.files else "100644", f"pretended:{path}")
        self.files[path] = pretended
        self.unmerged.pop(path, None)
        for algorithm in ALGORITHMS:
            hasher = new_hasher(algorithm)
            hasher.update(data)
            self.digests[pretended.object_id, algorithm] = (hasher.hexdigest(), len(data))

    def stage(self, path: str, data: bytes) -> None:
        """Put a file into the real index, exactly these bytes, as `git add` does without running any filter.

        Args:
            path: relative to the package.
            data: the content.

        Raises:
            ConfigError: git cannot write the object or the index.
        """
        object_id = self._git.output("hash-object", "-w", "--stdin", "--no-filters", given=data).decode().strip()
        place = os.fsencode(self._full(path))
        record = f"100644 {object_id} 0\t".encode() + place + b"\0"
        self._git.output("update-index", "-z", "--index-info", given=record)

    def is_ignored(self, path: str) -> bool:
        """Tell whether `git add` would refuse a path because of a `.gitignore`."""
        here = os.fsdecode(self._git.output("rev-parse", "--show-prefix").removesuffix(b"\n"))
        given = os.fsencode(_relative(self._full(path), here)) + b"\0"
        try:
            return bool(self._git.output("check-ignore", "-z", "--stdin", given=given))
        except ConfigError:  # status 1: it is not ignored
            return False

    def edited(self, package: str, limit: int) -> list[str]:
        """Return staged files whose content in the work tree is another one; git is not asked, as it may run filters.

        A file counts as unchanged when git itself looks away from it (a sparse checkout, `--assume-unchanged`), when
        it differs only by line endings that git converts, and when it is what a Git LFS pointer states.

        Args:
            package: path of the package's directory.
            limit: the largest file, in bytes, that is looked at.
        """
        options = ("-v", "-z", "--full-name", "--", f":(top,literal){self.prefix}" if self.prefix else ":(top)")
        listed = [os.fsdecode(record) for record in self._git.output("ls-files", *options).split(b"\0")[:-1]]
        passed_over = {record[2:] for record in listed if record[0] == "S" or record[0].islower()}
        pair = {(self.pair_folder or "") + name for name in _PAIR}
        crlf_here = self.converts_line_endings_here()
        found = []
        for path, staged in self.files.items():
            if staged.mode in (LINK, SUBMODULE) or path in pair or self._full(path) in passed_over:
                continue
            if self._is_edited(path, os.path.join(package, path), limit, crlf=crlf_here or path in self._converted):
                found.append(path)
        return found

    def _is_edited(self, path: str, place: str, limit: int, *, crlf: bool) -> bool:
        """Tell whether a file has another content in the work tree than in the index; False when it cannot be read."""
        try:
            data = read_start(place, limit + 1)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        staged = self.files[path]
        if path in self._lfs and self.entry(path, "sha256") == File(
            hashlib.sha256(data).hexdigest(), len(data), executable=staged.mode == EXECUTABLE
        ):
            return False
        contents = {data, data.replace(b"\r\n", b"\n")} if crlf else {data}
        algorithm = "sha1" if len(staged.object_id) == 40 else "sha256"
        names = {
            hashlib.new(algorithm, b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
            for content in contents
        }
        return len(data) <= limit and staged.object_id not in names

    def entry(self, path: str, algorithm: HashAlgorithm) -> Entry:
        """Return what a manifest records for a path. Ask `conversions` first: it says which files are Git LFS.

        Args:
            path: relative to the package.
            algorithm: of a file's digest.

        Raises:
            ConfigError: the path is a submodule, a link's target is too long or not UTF-8, or an object is missing.
        """
        staged = self.files[path]
        if staged.mode == SUBMODULE:
            raise ConfigError(f"{self._full(path)!r} is a submodule; its files are not in this repository's index")
        if staged.mode == LINK:
            try:
                return Symlink(self.read(path, MAX_TARGET_BYTES).decode())
            except UnicodeDecodeError:
                raise ConfigError(f"the link {self._full(path)!r} has a target that is not UTF-8") from None
        data = b""
        if path in self._lfs:
            try:
                data = self.read(path, MAX_POINTER_BYTES)
            except _LargerThanRead:
                data = b"no pointer"
        if not data:  # Git LFS keeps an empty file as it is: an empty pointer stands for it
            key = staged.object_id, algorithm
            if key not in self.digests:
                self.digests[key] = _digest(self._cat_file(), self._open_blob(key[0], path), algorithm)
            return File(*self.digests[key], executable=staged.mode == EXECUTABLE)
        pointer = _POINTER.match(data)
        if pointer is None:
            raise ConfigError(f"{self._full(path)!r} has `filter=lfs` but is no Git LFS pointer; run `git lfs migrate`")
        if algorithm != "sha256":
            raise ConfigError(f"{self._full(path)!r} is in Git LFS, which states only its SHA-256; use `sha256`")
        return File(pointer["oid"].decode(), int(pointer["size"]), executable=staged.mode == EXECUTABLE)

    def hash_all(self, paths: Iterable[str], algorithm: HashAlgorithm) -> None:
        """Hash many files at once, so that `entry` need not ask git for one after the other.

        Args:
            paths: of them; what is no ordinary file is passed over.
            algorithm: of the digests.

        Raises:
            ConfigError: git fails. An object that is missing is left to `entry`.
        """
        wanted = dict.fromkeys(
            self.files[path].object_id
            for path in paths
            if self.files[path].mode not in (LINK, SUBMODULE) and path not in self._lfs
        )
        object_ids = [object_id for object_id in wanted if (object_id, algorithm) not in self.digests]
        if not object_ids:
            return
        process = self._git.start("cat-file", "--batch", "--buffer")
        with process, deadline(process), feeding(process, "".join(f"{name}\n" for name in object_ids).encode()):
            for object_id in object_ids:
                try:
                    size = _blob_size(process)
                except _EndedEarly:
                    process.kill()
                    break  # as git does when an object is missing in a partial clone; `entry` names the file
                if size is not None:
                    self.digests[object_id, algorithm] = _digest(process, size, algorithm)

    def _full(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _cat_file(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = self._git.start("cat-file", "--batch")
            # What `close` does, the last line first.
            self.callback(setattr, self, "_process", None)
            self.callback(self._process.communicate)
            self.callback(self._process.kill)
            self.enter_context(deadline(self._process))
        return self._process

    def _open_blob(self, object_id: str, path: str) -> int:
        process = self._cat_file()
        assert process.stdin is not None  # noqa: S101 (started with pipes)
        try:
            process.stdin.write(f"{object_id}\n".encode())
            process.stdin.flush()
            size = _blob_size(process)
        except (BrokenPipeError, _EndedEarly):
            raise ConfigError(self._missing(path)) from None
        if size is None:
            raise ConfigError(self._missing(path))
        return size

    def _missing(self, path: str) -> str:
        """Say that the content of a file is not in the repository, and how to get it."""
        settings = self._git.output("config", "--list", "--name-only").lower().split()
        partial = any(name == b"extensions.partialclone" or name.endswith(b".promisor") for name in settings)
        start = f"the content of {self._full(path)!r} is not in the object store"
        if partial:
            return f"{start}: this is a partial clone; get what is missing with `git fetch --refetch --no-filter`"
        return f"{start}; run `git fsck`"


def folders_above(path: str) -> Iterator[str]:
    """Yield the directories that a path lies in, without a slash at their end, the outermost first."""
    return (path[:at] for at, letter in enumerate(path) if letter == "/")


class _LargerThanRead(ConfigError):
    """The staged content of a file is larger than what is read of it."""


class _EndedEarly(ConfigError):
    """`git cat-file` ended before it had answered."""


def _blob_size(process: subprocess.Popen[bytes]) -> int | None:
    """Read what `git cat-file --batch` says before a content: `<id> blob <size>`; None when it is missing."""
    assert process.stdout is not None  # noqa: S101 (started with pipes)
    line = process.stdout.readline(256)
    words = line.split()
    if not line.endswith(b"\n"):
        raise _EndedEarly("`git cat-file` ended too early")
    return int(words[2]) if len(words) == 3 and words[1] == b"blob" else None


def _digest(process: subprocess.Popen[bytes], size: int, algorithm: HashAlgorithm) -> tuple[str, int]:
    hasher = new_hasher(algorithm)
    for part in chunks(process, size):
        hasher.update(part)
    for _ in chunks(process, 1):  # the line break that git adds
        pass
    return hasher.hexdigest(), size


def _locate(package: str) -> tuple[Git, str]:
    """Find the repository of a directory and the directory's path in it."""
    path = os.path.abspath(package)
    ancestor = path
    while not os.path.isdir(ancestor):
        ancestor = os.path.dirname(ancestor)
    git = Git(None if "GIT_DIR" in os.environ else ancestor)
    refuse_special_files(ancestor)
    top = os.fsdecode(git.output("rev-parse", "--show-toplevel").removesuffix(b"\n"))
    if os.path.isdir(path) and os.path.samefile(path, top):
        return git, ""
    parent, name = os.path.split(path)
    prefix = os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(top))
    if prefix.split(os.sep)[0] == os.pardir:
        raise ConfigError(f"{package!r} is not in the repository {top!r}")
    return git, prefix.replace(os.sep, "/")


def _relative(path: str, prefix: str) -> str:
    """Return a path from the top of the work tree as one from a directory of it, given as `a/b/` or empty."""
    return path[len(prefix) :] if path.startswith(prefix) else "../" * prefix.count("/") + path


def _parse(listing: bytes, prefix: str) -> tuple[dict[str, Staged], list[str]]:
    """Read records `:000000 <mode> <zeros> <id> A NUL <path> NUL`; the index has them in byte order already."""
    records = listing.split(b"\0")[:-1]
    if len(records) > 2 * MAX_FILES:
        raise ConfigError(f"more than {MAX_FILES} files are tracked under {prefix!r}")
    files: dict[str, Staged] = {}
    conflicts = []
    for position in range(0, len(records), 2):
        _, mode, _, object_id, status = records[position].decode("ascii").split(" ")
        path = os.fsdecode(records[position + 1])
        if status != "A":
            conflicts.append(path)
            continue
        if path == prefix:
            raise ConfigError(f"{prefix!r} is a tracked file, link or submodule, not a directory of tracked files")
        files[path[len(prefix) + 1 if prefix else 0 :]] = Staged(mode, object_id)
    if not files and not conflicts:
        raise ConfigError(f"git tracks nothing under {prefix or '.'!r}; `git add` the package first")
    return files, conflicts


def _conversion(values: Mapping[str, str]) -> str:
    """Name the attribute that changes bytes on checkout (gitattributes(5), "Checking-out and checking-in")."""
    for name in ("filter", "working-tree-encoding", "ident"):
        value = values.get(name, "unspecified")
        if value not in ("unspecified", "unset", "lfs"):
            return name if value == "set" else f"{name}={value}"
    # Where `text` says nothing that git knows, its older name `crlf` counts; `input` means LF here and everywhere.
    said = [values.get(name) for name in ("text", "crlf")]
    text = next((value for value in said if value in ("set", "unset", "auto", "input")), "unspecified")
    if text == "unset":
        return ""
    if values.get("eol") == "crlf":
        return "eol=crlf"
    if text in ("set", "auto") and values.get("eol") != "lf":
        return "text" if text == "set" else "text=auto"
    return ""
