"""The likely cause of a difference, and what to do about it.

None of this decides anything: the package was denied before. The caller bounds how much of the files is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.base.digest import new_hasher
from wcp_attest.disk.files import is_leftover
from wcp_attest.package.entries import EmptyDirectory, File, Symlink
from wcp_attest.package.names import folded, is_bytecode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.package.entries import Entry

_BOM = b"\xef\xbb\xbf"
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_JUNK = {".DS_Store": "macOS", "Thumbs.db": "Windows", "desktop.ini": "Windows"}
_EDITED = ("~", ".swp", ".swo", ".orig", ".rej", ".bak")


def cause_of_change(expected: Entry, found: Entry, content: bytes | None, algorithm: HashAlgorithm) -> str:
    """Say why an entry may have changed.

    Args:
        expected: what the manifest says.
        found: what is there; a file that was not read has an empty digest.
        content: the bytes of the file; None when it is none, or too large to be read for this.
        algorithm: of the digests in the manifest.

    Returns:
        The cause and what to do about it; empty when it is not known.
    """
    if isinstance(expected, Symlink) and isinstance(found, File):
        if content == expected.target.encode():
            return (
                "unpacked or checked out without symbolic links: unpack the archive with `unzip` or `tar`; in git,"
                " `git config core.symlinks true`, then check out again"
            )
        return "a copy stands where a symbolic link was: copy with links preserved"
    if isinstance(expected, File) and isinstance(found, File):
        return _cause_in_file(expected, found, content, algorithm)
    return ""


def cause_of_absence(path: str, expected: Entry, new_paths: Mapping[str, str]) -> str:
    """Say why an entry may be missing.

    Args:
        path: of the entry.
        expected: what the manifest says.
        new_paths: the paths of added entries, by the digest of the file and by the folded path.

    Returns:
        The cause and what to do about it; empty when it is not known.
    """
    respelt = new_paths.get(folded(path))
    if respelt is not None:
        return f"{_spelling(path, respelt)} as {respelt!r}"
    moved = new_paths.get(expected.digest) if isinstance(expected, File) else None
    if moved is not None:
        return f"moved or renamed to {moved!r}"
    if isinstance(expected, EmptyDirectory):
        return "git and many archivers do not keep empty directories: create it"
    return ""


def cause_of_presence(path: str, digest: str, old_paths: Mapping[str, str]) -> str:
    """Say why an entry may have been added.

    Args:
        path: of the entry.
        digest: of the file; empty when it was not read.
        old_paths: the paths of missing entries, by the digest of the file and by the folded path.

    Returns:
        The cause and what to do about it; empty when it is not known.
    """
    name = path.rpartition("/")[2]
    if any(map(is_bytecode, path.split("/"))):
        return "Python wrote it when the package was imported: remove it with `wcp-attest clean`"
    respelt = old_paths.get(folded(path))
    if respelt is not None:
        return f"{_spelling(path, respelt)} from {respelt!r}"
    if digest in old_paths:
        return f"moved or renamed from {old_paths[digest]!r}"
    if is_leftover(name):
        return "left behind by an interrupted wcp-attest: delete it"
    if ".git" in path.split("/"):
        return "part of a git repository that was not there when it was signed: verify an export or a copy without it"
    if name in _JUNK or name.startswith("._"):
        return f"written by the file browser of {_JUNK.get(name, 'macOS')}: delete it"
    return "left behind by an editor or a merge: delete it" if name.endswith(_EDITED) else ""


def _spelling(one: str, other: str) -> str:
    return "spelt in other case" if one.lower() == other.lower() else "spelt in another Unicode form or case"


def _cause_in_file(expected: File, found: File, content: bytes | None, algorithm: HashAlgorithm) -> str:
    if found.size == expected.size and found.digest in ("", expected.digest):
        if expected.executable:
            return "the execute bit was lost, as by an archive or file system that keeps no modes: `chmod +x` it"
        return "an execute bit was set: `chmod -x` it"
    if not found.size:
        return "the file is empty: a copy or download was interrupted"
    cause = "" if content is None else _cause_of_content(content, expected, algorithm)
    if not cause and found.size < expected.size:
        short = expected.size - found.size
        return f"shorter than signed by {short} byte{'' if short == 1 else 's'}: cut off, or another version"
    return cause


def _cause_of_content(content: bytes, expected: File, algorithm: HashAlgorithm) -> str:
    if content.startswith(_POINTER):
        return "a Git LFS pointer stands in place of the file: `git lfs pull`"
    for cause, undo in _CONVERSIONS:
        before = undo(content)
        if before is not None and len(before) == expected.size:
            hasher = new_hasher(algorithm)
            hasher.update(before)
            if hasher.hexdigest() == expected.digest:
                return cause
    return ""


_AUTOCRLF = "`git config core.autocrlf false`, then check out again"
_CONVERSIONS: tuple[tuple[str, Callable[[bytes], bytes | None]], ...] = (
    (
        f"line endings were converted to CRLF: {_AUTOCRLF}",
        lambda content: content.replace(b"\r\n", b"\n") if b"\r\n" in content else None,
    ),
    (
        f"line endings were converted to LF: {_AUTOCRLF}",
        lambda content: content.replace(b"\n", b"\r\n") if b"\n" in content and b"\r\n" not in content else None,
    ),
    ("a byte order mark was added by an editor", lambda content: content.removeprefix(_BOM)),
    ("a byte order mark was removed by an editor", lambda content: _BOM + content),
    ("a newline was added at the end by an editor", lambda content: content.removesuffix(b"\n")),
    ("the newline at the end was removed by an editor", lambda content: content + b"\n"),
)
