r"""One entry of a package: a file, a symbolic link or an empty directory, and its line in the manifest.

    "bin/run": {"sha256":"9f86…","size":612,"executable":true}
    "model.bin": {"symlink":"weights/model-7.bin"}
    "cache": {"directory":true}

A path is relative, `/`-separated and valid UTF-8. It holds no `.`, `..` or empty segment, no backslash, and no control
or hidden character. So it means the same on every system and names nothing outside the package. In a line, only `"`
is escaped.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, TypeAlias

from wcp_attest.base.characters import refused_character
from wcp_attest.base.errors import ManifestMalformed

if TYPE_CHECKING:
    from wcp_attest.base.digest import HashAlgorithm

SEPARATOR = b",\n"  # between lines; no line holds a newline
MAX_DEPTH = 200  # directories; the reader holds one descriptor a level, below the usual limit of 1024
MAX_NAME_BYTES = 255  # what file systems take
MAX_TARGET_BYTES = 4096  # PATH_MAX on Linux
MAX_FILE_SIZE = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
MAX_LINE_BYTES = 2 * (MAX_DEPTH * (MAX_NAME_BYTES + 1) + MAX_TARGET_BYTES) + 256  # each `"` is escaped

_UNDECODABLE = re.compile("[\ud800-\udfff]")
_DOTS = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")
_LINE = re.compile(
    rb'"((?:[^"\\]|\\")++)": \{(?:"(sha256|blake3)":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,15})(,"executable":true)?'
    rb'|"symlink":"((?:[^"\\]|\\")++)"|("directory":true))\}\Z'
)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file.

    Attributes:
        digest: of its bytes, 64 lower-case hex digits, in the manifest's algorithm.
        size: in bytes.
        executable: whether any execute bit is set.
    """

    digest: str
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link, which is never followed.

    Attributes:
        target: the text of the link, at most 4096 bytes of UTF-8.
    """

    target: str


@dataclass(frozen=True, slots=True)
class EmptyDirectory:
    """A directory with nothing in it."""


Entry: TypeAlias = File | Symlink | EmptyDirectory


def describe(entry: Entry) -> str:
    """Return an entry in words, for messages.

    Args:
        entry: of a manifest or a tree.

    Returns:
        Such as `executable file, 612 bytes, 9f86…`; without the digest where it is empty because the file was not read.
    """
    match entry:
        case File(digest, size, executable):
            words = f"{'executable ' if executable else ''}file, {size} bytes, {digest}"
            return words if digest else words.removesuffix(", ")
        case Symlink(target):
            return f"symbolic link to {target!r}"
    return "empty directory"


def path_problem(path: str) -> str | None:
    """Say what is wrong with the path of an entry.

    Args:
        path: relative to the root of the package; undecodable bytes as surrogates.

    Returns:
        What is wrong, to follow the path in a message; None when nothing is.
    """
    if not path:
        return "is empty"
    if not path.isascii() and _UNDECODABLE.search(path):
        return "is not valid UTF-8"
    if "\\" in path:
        return "holds a backslash"
    refused = refused_character(path)
    if refused is not None:
        return f"holds U+{ord(refused):04X}, a control, invisible, text-reordering or unassigned character"
    if _DOTS.search(path):
        return "is absolute or holds an empty, `.` or `..` segment"
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep"
    if len(path) > MAX_NAME_BYTES // 4 and any(len(segment.encode()) > MAX_NAME_BYTES for segment in segments):
        return f"holds a name of more than {MAX_NAME_BYTES} bytes"
    return None


def target_problem(path: str, target: str) -> str | None:
    """Say what is wrong with the target of a symbolic link.

    `..` may stand only at the start, and may not lead above the root. Then every link stays inside the package, also
    when it leads through other links.

    Args:
        path: of the link, without any problem of its own.
        target: its text.

    Returns:
        What is wrong, to follow the path in a message; None when nothing is.
    """
    if not target or "\\" in target or refused_character(target) or len(target.encode()) > MAX_TARGET_BYTES:
        return "has an empty, overlong or unprintable target"
    if target.startswith("/"):
        return "has an absolute target; make it relative, or leave it out"
    segments = target.removesuffix("/").split("/")
    up = 0
    while up < len(segments) and segments[up] == "..":
        up += 1
    if up > path.count("/"):
        return "has a target outside the package; put a copy in its place, or leave it out"
    if any(segment in {"", ".."} for segment in segments[up:]):
        return "has a target with an empty segment or with `..` behind a name"
    return None


def quote(text: str) -> str:
    """Return a text as the JSON string of a line.

    Args:
        text: a path or a target without problems, so that `"` is all that must be escaped.

    Returns:
        The text in quotes.
    """
    return '"' + text.replace('"', '\\"') + '"'


def render_line(path: str, entry: Entry, algorithm: HashAlgorithm) -> bytes:
    """Write the line of an entry.

    Args:
        path: without problems (`path_problem`).
        entry: what is there.
        algorithm: of the digest of a file.

    Returns:
        The line, without separator.
    """
    match entry:
        case File(digest, size, executable):
            mode = ',"executable":true' if executable else ""
            value = f'"{algorithm}":"{digest}","size":{size}{mode}'
        case Symlink(target):
            value = f'"symlink":{quote(target)}'
        case EmptyDirectory():
            value = '"directory":true'
    return f"{quote(path)}: {{{value}}}".encode()


def parse_line(line: bytes, algorithm: HashAlgorithm) -> tuple[str, Entry]:
    """Read the line of an entry.

    Args:
        line: without separator.
        algorithm: the algorithm that file digests must be of.

    Returns:
        The path and what is there.

    Raises:
        ManifestMalformed: it is not in the one accepted spelling, or path, size or target are not allowed.
    """
    found = _LINE.match(line) if len(line) <= MAX_LINE_BYTES else None
    if found is None:
        raise ManifestMalformed(f"manifest.json: malformed entry {line[:120]!r}")
    path_text, kind, digest, size, executable, target_text, directory = found.groups(b"")
    try:
        path = path_text.decode().replace('\\"', '"')
        target = target_text.decode().replace('\\"', '"')
    except UnicodeDecodeError:
        raise ManifestMalformed(f"manifest.json: entry {line[:120]!r} is not valid UTF-8") from None
    problem = path_problem(path)
    entry: Entry
    if directory:
        entry = EmptyDirectory()
    elif target:
        entry = Symlink(target)
        problem = problem or target_problem(path, target)
    else:
        entry = File(digest.decode(), int(size), executable=bool(executable))
        if problem is None and kind.decode() != algorithm:
            problem = f"has a {kind.decode()} digest in a manifest of {algorithm}"
        elif problem is None and entry.size > MAX_FILE_SIZE:
            problem = "has a digest or size out of range"
    if problem is not None:
        raise ManifestMalformed(f"manifest.json: the entry {path[:160]!r} {problem}")
    return path, entry


def parse_lines(body: bytes, algorithm: HashAlgorithm) -> tuple[list[str], list[Entry]]:
    """Read the lines of many entries, as `parse_line` reads each.

    Nearly all lines of a large tree are plain: a file of `algorithm`, its path in printable ASCII without `"` and `\\`.
    These are read all at once, column by column, which takes a third of the time (bar: `small`). The lines between them
    go to `parse_line` one by one. When a plain line holds something that is not allowed, all lines go there, because
    `parse_line` says which one it is.

    Args:
        body: the lines, joined by `SEPARATOR`.
        algorithm: the algorithm that file digests must be of.

    Returns:
        The paths, and what is at each.

    Raises:
        ManifestMalformed: as `parse_line`.
    """
    value = rf'{{"{algorithm}":"([^"]{{64}})","size":(0|[1-9][0-9]{{0,14}})(,"executable":true)?}}'
    plain = re.compile(rf'^"([ !#-\[\]-~]++)": {value},\n', re.MULTILINE)
    # 1. Split into columns. Every byte is one character of Latin-1, so this decodes any body.
    parts = plain.split((body + SEPARATOR).decode("latin-1"))
    gaps, paths, digests, sizes, modes = (parts[column::5] for column in range(5))
    odd = [place for place, gap in enumerate(gaps) if gap]
    whole = all(gaps[place].endswith(",\n") for place in odd)  # else a newline inside a line was taken for its end
    # 2. Check all paths and all digests together.
    fenced = f"/{'/ /'.join(paths)}/"
    allowed = not any(wrong in fenced for wrong in ("//", "/./", "/../")) and max(map(len, paths)) <= MAX_NAME_BYTES
    all_hex = not "".join(digests).encode().translate(None, b"0123456789abcdef")  # a third of the time of a pattern
    if not (whole and allowed and all_hex):
        read = [parse_line(line, algorithm) for line in body.split(SEPARATOR)]
        return [path for path, _ in read], [entry for _, entry in read]
    # 3. Make the files. A frozen dataclass sets each field by a call of its own; its slots are set faster in columns.
    files: list[Entry] = list(map(object.__new__, repeat(File, len(paths))))
    for name, column in (("digest", digests), ("size", map(int, sizes)), ("executable", map(bool, modes))):
        deque(map(vars(File)[name].__set__, files, column), maxlen=0)
    # 4. Put the other lines between them.
    every: list[str] = []
    entries: list[Entry] = []
    done = 0
    for place in odd:
        every += paths[done:place]
        entries += files[done:place]
        for line in gaps[place].encode("latin-1").removesuffix(SEPARATOR).split(SEPARATOR):
            path, entry = parse_line(line, algorithm)
            every.append(path)
            entries.append(entry)
        done = place
    return every + paths[done:], entries + files[done:]
