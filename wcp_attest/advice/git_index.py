"""A package as the git index holds it: what the next commit will contain, whatever lies in the work tree.

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

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.git_command import Git, chunks, deadline, feeding, fields
from wcp_attest.base.digest import HashAlgorithm, new_hasher
from wcp_attest.base.errors import ConfigError
from wcp_attest.package.entries import MAX_TARGET_BYTES, Entry, File, Symlink

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

MAX_FILES: Final = 2_000_000  # as many as a manifest holds
EXECUTABLE, LINK, SUBMODULE = "100755", "120000", "160000"
MAX_POINTER_BYTES: Final = 1024  # the Git LFS specification's own limit

_ATTRIBUTES: Final = ("text", "eol", "filter", "ident", "working-tree-encoding")
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


class GitIndex:
    """The part of an index that lies under one directory.

    Attributes:
        prefix: the package's path from the top of the work tree, empty when the package is the whole repository.
        files: every path of it, relative to the package, in byte order; undecodable bytes as surrogate escapes.
        digests: of blobs, with their sizes, by object id and algorithm; what stands there is not hashed.
    """

    def __init__(self, git: Git, prefix: str, files: Mapping[str, Staged]) -> None:
        self.prefix = prefix
        self.files = files
        self.digests: dict[tuple[str, HashAlgorithm], tuple[str, int]] = {}
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: deadline | None = None
        self._lfs: frozenset[str] = frozenset()

    @classmethod
    def open(cls, package: str) -> Self:
        """List the index under a directory.

        Args:
            package: path of the package's directory, which need not exist in the work tree.

        Raises:
            ConfigError: git is missing or fails, this is no repository, the directory is outside of it, a merge is
                unfinished, or nothing is tracked there.
        """
        git, prefix = _locate(package)
        pathspec = [f":(top,literal){prefix}"] if prefix else [":(top)"]
        empty_tree = git.output("hash-object", "-t", "tree", "--stdin").decode().strip()
        # Not `ls-files --stage`: that one also shows paths which are only intended to be added.
        options = ("--cached", "--ita-invisible-in-index", "--ignore-submodules=none", "--no-renames", "--raw", "-z")
        listing = git.output("diff-index", *options, "--no-abbrev", empty_tree, "--", *pathspec)
        return cls(git, prefix, _parse(listing, prefix))

    def conversions(self) -> dict[str, str]:
        """Say which files a checkout converts, and how; those of Git LFS are understood and left out.

        Returns:
            For each such path the attribute that does it. `text` and `text=auto` are named only when no `eol=lf` pins
            them: they convert on some machines, everything else on every machine.

        Raises:
            ConfigError: git fails.
        """
        regular = [path for path, staged in self.files.items() if staged.mode not in (LINK, SUBMODULE)]
        full = [os.fsencode(self._full(path)) for path in regular]
        options = ("--cached", "-z", "--stdin", *_ATTRIBUTES)
        answers = fields(self._git.output("check-attr", *options, given=b"".join(path + b"\0" for path in full)))
        found: dict[str, dict[str, str]] = {path: {} for path in regular}
        for position in range(0, len(answers), 3):
            path, name, value = (os.fsdecode(answer) for answer in answers[position : position + 3])
            found[path[len(self.prefix) + 1 if self.prefix else 0 :]][name] = value
        self._lfs = frozenset(path for path, values in found.items() if values.get("filter") == "lfs")
        named = {path: _conversion(values) for path, values in found.items()}
        return {path: conversion for path, conversion in named.items() if conversion}

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
        size = self._open_blob(self.files[path].object_id, path)
        if size > limit:
            self._stop()  # what it is about to say is not wanted
            raise ConfigError(f"{self._full(path)!r} is {size} bytes in the index; at most {limit} are read")
        data = b"".join(chunks(self._cat_file(), size + 1))
        return data[:-1]  # git adds a line break

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
        digest, size = self._pointed_to(path, algorithm) if path in self._lfs else self._hash(path, algorithm)
        return File(digest, size, executable=staged.mode == EXECUTABLE)

    def hash_all(self, paths: Iterable[str], algorithm: HashAlgorithm) -> None:
        """Hash many files at once, so that `entry` need not ask git for one after the other.

        Args:
            paths: of them; what is no ordinary file is passed over.
            algorithm: of the digests.

        Raises:
            ConfigError: git fails. An object that is missing is left to `entry`.
        """
        wanted = dict.fromkeys(self.files[path].object_id for path in paths if self._is_hashed(path))
        object_ids = [object_id for object_id in wanted if (object_id, algorithm) not in self.digests]
        if not object_ids:
            return
        process = self._git.start("cat-file", "--batch", "--buffer")
        with process, deadline(process), feeding(process, "".join(f"{name}\n" for name in object_ids).encode()):
            for object_id in object_ids:
                size = _blob_size(process)
                if size is not None:
                    self.digests[object_id, algorithm] = _digest(process, size, algorithm)

    def _is_hashed(self, path: str) -> bool:
        return self.files[path].mode not in (LINK, SUBMODULE) and path not in self._lfs

    def _hash(self, path: str, algorithm: HashAlgorithm) -> tuple[str, int]:
        key = self.files[path].object_id, algorithm
        if key not in self.digests:
            size = self._open_blob(key[0], path)
            self.digests[key] = _digest(self._cat_file(), size, algorithm)
        return self.digests[key]

    def _pointed_to(self, path: str, algorithm: HashAlgorithm) -> tuple[str, int]:
        pointer = _POINTER.match(self.read(path, MAX_POINTER_BYTES))
        if pointer is None:
            raise ConfigError(f"{self._full(path)!r} has `filter=lfs` but is no Git LFS pointer; run `git lfs migrate`")
        if algorithm != "sha256":
            raise ConfigError(f"{self._full(path)!r} is in Git LFS, which states only its SHA-256; use `sha256`")
        return pointer["oid"].decode(), int(pointer["size"])

    def _full(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _cat_file(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = self._git.start("cat-file", "--batch")
            self._deadline = deadline(self._process)
            self._deadline.__enter__()
        return self._process

    def _open_blob(self, object_id: str, path: str) -> int:
        process = self._cat_file()
        assert process.stdin is not None  # noqa: S101 (started with pipes)
        try:
            process.stdin.write(f"{object_id}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            raise ConfigError("`git cat-file` ended too early") from None
        size = _blob_size(process)
        if size is None:
            raise ConfigError(f"the content of {self._full(path)!r} is not in the object store; run `git fsck`")
        return size

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the child process."""
        self._stop()

    def _stop(self) -> None:
        if self._process is not None and self._deadline is not None:
            self._deadline.__exit__(None)
            self._process.kill()
            self._process.communicate()
            self._process = None


def _blob_size(process: subprocess.Popen[bytes]) -> int | None:
    """Read what `git cat-file --batch` says before a content: `<id> blob <size>`; None when it is missing."""
    assert process.stdout is not None  # noqa: S101 (started with pipes)
    line = process.stdout.readline(256)
    words = line.split()
    if not line.endswith(b"\n"):
        raise ConfigError("`git cat-file` ended too early")
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
    top = os.fsdecode(git.output("rev-parse", "--show-toplevel").removesuffix(b"\n"))
    if os.path.isdir(path) and os.path.samefile(path, top):
        return git, ""
    parent, name = os.path.split(path)
    prefix = os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(top))
    if prefix.split(os.sep)[0] == os.pardir:
        raise ConfigError(f"{package!r} is not in the repository {top!r}")
    return git, prefix.replace(os.sep, "/")


def _parse(listing: bytes, prefix: str) -> dict[str, Staged]:
    """Read records `:000000 <mode> <zeros> <id> A NUL <path> NUL`; the index has them in byte order already."""
    records = fields(listing)
    if len(records) > 2 * MAX_FILES:
        raise ConfigError(f"more than {MAX_FILES} files are tracked under {prefix!r}")
    files: dict[str, Staged] = {}
    for position in range(0, len(records), 2):
        _, mode, _, object_id, status = records[position].decode("ascii").split(" ")
        path = os.fsdecode(records[position + 1])
        if status != "A":
            raise ConfigError(f"{path!r} is not merged yet; resolve it and `git add` it")
        if path == prefix:
            raise ConfigError(f"{prefix!r} is a tracked file, link or submodule, not a directory of tracked files")
        files[path[len(prefix) + 1 if prefix else 0 :]] = Staged(mode, object_id)
    if not files:
        raise ConfigError(f"git tracks nothing under {prefix or '.'!r}; `git add` the package first")
    return files


def _conversion(values: Mapping[str, str]) -> str:
    """Name the attribute that changes bytes on checkout (gitattributes(5), "Checking-out and checking-in")."""
    for name in ("filter", "working-tree-encoding", "ident"):
        value = values.get(name, "unspecified")
        if value not in ("unspecified", "unset", "lfs"):
            return name if value == "set" else f"{name}={value}"
    if values.get("text") == "unset":
        return ""
    if values.get("eol") == "crlf":
        return "eol=crlf"
    if values.get("text") in ("set", "auto") and values.get("eol") != "lf":
        return "text" if values["text"] == "set" else "text=auto"
    return ""
