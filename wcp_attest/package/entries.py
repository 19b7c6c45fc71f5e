r"""One entry of a package: a file, a symbolic link or an empty directory, and its line in the manifest.

    "bin/run": {"sha256":"9f86…","size":612,"executable":true}
    "model.bin": {"symlink":"weights/model-7.bin"}
    "cache": {"directory":true}

A path is relative, `/`-separated, valid UTF-8, without `.`, `..` or empty segments, backslashes or control characters,
so it means the same on every system and cannot name anything outside the package. In a line only `"` is escaped.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import repeat, starmap
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from wcp_attest.base.characters import name_character, refused_character
from wcp_attest.base.errors import ManifestMalformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wcp_attest.base.digest import HashAlgorithm

Value = TypeVar("Value")

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

    def describe(self) -> str:
        """Return the entry in words."""
        return f"{'executable ' if self.executable else ''}file, {self.size} bytes, {self.digest}"


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link, recorded as its target text and never followed."""

    target: str

    def describe(self) -> str:
        """Return the entry in words."""
        return f"symbolic link to {self.target!r}"


@dataclass(frozen=True, slots=True)
class EmptyDirectory:
    """A directory with nothing in it."""

    def describe(self) -> str:
        """Return the entry in words."""
        return "empty directory"


Entry: TypeAlias = File | Symlink | EmptyDirectory


def path_problem(path: str) -> str | None:
    """Say what is wrong with the path of an entry, or return None."""
    if not path:
        return "is empty"
    if not path.isascii() and _UNDECODABLE.search(path):
        return "is not valid UTF-8"
    if "\\" in path:
        return "holds a backslash"
    refused = refused_character(path)
    if refused is not None:
        return f"holds {name_character(refused)}, a control, invisible, text-reordering or unassigned character"
    if _DOTS.search(path):
        return "is absolute or holds an empty, `.` or `..` segment"
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep"
    if len(path) > MAX_NAME_BYTES // 4 and any(len(segment.encode()) > MAX_NAME_BYTES for segment in segments):
        return f"holds a name of more than {MAX_NAME_BYTES} bytes"
    return None


def target_problem(path: str, target: str) -> str | None:
    """Say what is wrong with the target of the link at `path`, or return None.

    `..` may only lead, and not above the root: then each link stays inside even when it leads through other links.
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
    """Return `text` as the JSON string of a line."""
    return '"' + text.replace('"', '\\"') + '"'


def render_line(path: str, entry: Entry, algorithm: HashAlgorithm) -> bytes:
    """Return the line of an entry, without separator."""
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

    Raises:
        ManifestMalformed: it is not in the one accepted spelling, or path, size or target are not allowed.
    """
    found = _LINE.match(line) if len(line) <= MAX_LINE_BYTES else None
    if found is None:
        raise ManifestMalformed(f"manifest.json: malformed entry {line[:120]!r}")
    try:
        path = found[1].decode().replace('\\"', '"')
        target = (found[6] or b"").decode().replace('\\"', '"')
    except UnicodeDecodeError:
        raise ManifestMalformed(f"manifest.json: entry {line[:120]!r} is not valid UTF-8") from None
    problem = path_problem(path)
    entry: Entry
    if found[7]:
        entry = EmptyDirectory()
    elif found[6]:
        entry = Symlink(target)
        problem = problem or target_problem(path, target)
    else:
        entry = File(found[3].decode(), int(found[4]), executable=found[5] is not None)
        if problem is None and found[2].decode() != algorithm:
            problem = f"has a {found[2].decode()} digest in a manifest of {algorithm}"
        elif problem is None and entry.size > MAX_FILE_SIZE:
            problem = "has a digest or size out of range"
    if problem is not None:
        raise ManifestMalformed(f"manifest.json: the entry {path[:160]!r} {problem}")
    return path, entry


def parse_lines(body: bytes, algorithm: HashAlgorithm) -> tuple[list[str], list[Entry]]:
    """Read the lines of many entries, as `parse_line` reads each.

    Nearly all lines of a large tree are plain: a file of `algorithm`, its path in printable ASCII without `"` and `\\`.
    They are taken apart all at once, column by column, and what stands between them goes to `parse_line`. So does
    everything, to be refused by name, when the path of a plain line is not allowed.

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
    parts = plain.split((body + SEPARATOR).decode("latin-1"))  # a character a byte, which any byte has
    gaps, paths, digests, sizes, modes = (parts[column::5] for column in range(5))
    odd = [place for place, gap in enumerate(gaps) if gap]
    whole = all(gaps[place].endswith(",\n") for place in odd)  # else a newline inside a line was taken for its end
    fenced = f"/{'/ /'.join(paths)}/"
    allowed = not any(wrong in fenced for wrong in ("//", "/./", "/../")) and max(map(len, paths)) <= MAX_NAME_BYTES
    all_hex = not "".join(digests).encode().translate(None, b"0123456789abcdef")  # a third of the time of a pattern
    if not (whole and allowed and all_hex):
        read = [parse_line(line, algorithm) for line in body.split(SEPARATOR)]
        return [path for path, _ in read], [entry for _, entry in read]
    files = _from_columns(File, digests, map(int, sizes), map(bool, modes))
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


def _from_columns(cls: type[Value], first: Sequence[object], *others: Iterable[object]) -> list[Value]:
    """Make many values whose fields are given column by column, as `map(cls, first, *others)` would.

    Args:
        cls: made by `dataclass`, without a `__post_init__`, which would not be called.
        first: what the first field of each value is.
        others: the same for every other field.

    Raises:
        TypeError: the class checks its values, or there are more or fewer columns than fields.
        ValueError: a column is shorter or longer than the first.
    """
    names: tuple[str, ...] = vars(cls)["__slots__"]
    if hasattr(cls, "__post_init__") or len(names) != 1 + len(others):
        raise TypeError(f"{cls.__name__} cannot be made from {1 + len(others)} columns")
    made = list(map(object.__new__, repeat(cls, len(first))))
    for name, column in zip(names, (first, *others), strict=True):
        deque(starmap(vars(cls)[name].__set__, zip(made, column, strict=True)), maxlen=0)
    return made
