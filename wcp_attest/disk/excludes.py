"""Which entries a signer left out on purpose: gitignore patterns (gitignore(5)); the last one that matches decides.

Patterns come from strangers: from `.wcpignore` of a tree, from a manifest. So nothing here backtracks. A pattern is cut
at its slashes; a name is matched against one part by going through it once, and a path against all parts by a table of
parts and names. The time is at most the length of the pattern times the length of the path.

A directory that is left out is left out with everything in it; nothing below it can be taken back in, as in git.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_FOLDER = "/.git"  # at the root: a directory, or the file that a worktree or a submodule has in its place
MAX_PATTERNS = 1000
_SPECIAL = frozenset("*?[\\")
_ALPHA = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGIT = frozenset("0123456789")
_PRINT = frozenset(map(chr, range(0x20, 0x7F)))
_ANY = frozenset(map(chr, range(256))) - {"/"}
_CLASSES = {  # of bytes, in the C locale, as git has them
    "alnum": _ALPHA | _DIGIT,
    "alpha": _ALPHA,
    "blank": frozenset(" \t"),
    "cntrl": frozenset(map(chr, [*range(0x20), 0x7F])),
    "digit": _DIGIT,
    "graph": _PRINT - {" "},
    "lower": frozenset(character for character in _ALPHA if character.islower()),
    "print": _PRINT,
    "punct": _PRINT - {" "} - _ALPHA - _DIGIT,
    "space": frozenset(" \t\n\r"),
    "upper": frozenset(character for character in _ALPHA if character.isupper()),
    "xdigit": _DIGIT | frozenset("abcdefABCDEF"),
}

_Piece: TypeAlias = str | list[frozenset[str]]  # between two stars: literal, or for each byte those that fit


class _Part(NamedTuple):
    """What stands between two slashes of a pattern: pieces between stars, none of them for `**`."""

    pieces: list[_Piece]

    def matches(self, name: str) -> bool:
        """Tell whether a whole name fits: the ends where they must be, the middle pieces as early as they can."""
        first, last = self.pieces[0], self.pieces[-1]
        if len(self.pieces) == 1:
            return len(name) == len(first) and _fits(first, name, 0)
        at, end = len(first), len(name) - len(last)
        if at > end or not _fits(first, name, 0) or not _fits(last, name, end):
            return False
        for piece in self.pieces[1:-1]:
            if isinstance(piece, str):
                found = name.find(piece, at, end)
            else:
                places = range(at, end - len(piece) + 1)
                found = next((place for place in places if _fits(piece, name, place)), -1)
            if found < 0:
                return False
            at = found + len(piece)
        return True


@dataclass(slots=True)
class _Rule:
    """One pattern.

    Attributes:
        text: as it was given.
        leaves_out: whether it leaves entries out; else it takes them back in.
        folders_only: whether it matches directories only.
        anywhere: whether it is matched with the name of an entry; else with its path.
        prefix: the beginning of the path, up to the first special character, when it is matched with the path.
        parts: what must follow.
    """

    text: str
    leaves_out: bool
    folders_only: bool
    anywhere: bool
    prefix: str
    parts: list[_Part]

    def concerns(self, folder: str) -> bool:
        """Tell whether an entry of a directory, whose path is empty or ends in `/`, can fit."""
        if len(self.parts) == 1 and self.parts[0].pieces == [""] and not self.anywhere:
            return self.prefix.rpartition("/")[0] == folder[:-1]
        return folder.startswith(self.prefix) or self.prefix.startswith(folder)

    def matches(self, path: str, name: str) -> bool:
        """Tell whether an entry fits, given its path and its name, a character a byte."""
        if self.anywhere:
            return self.parts[0].matches(name)
        if not path.startswith(self.prefix):
            return False
        # Which parts the names so far can have used up: `**` takes any number of names, at the end at least one.
        count = len(self.parts)
        reached = {0}
        for part in path[len(self.prefix) :].split("/"):
            after: set[int] = set()
            for at in _with_skips(reached, self.parts):
                if at < count and not self.parts[at].pieces:
                    after |= {at, count} if at == count - 1 else {at}
                elif at < count and self.parts[at].matches(part):
                    after.add(at + 1)
            reached = after
        return count in reached


class Excludes:
    """Decides entries by patterns, and remembers which patterns took something out.

    Only those are worth recording: with them alone, every entry is decided as before. A pattern that takes back in is
    recorded when it took something back from one that is recorded.

    Args:
        patterns: gitignore patterns; empty ones and comments are skipped.

    Raises:
        ConfigError: a pattern can never match because it is malformed, or there are too many.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise ConfigError(f"more than {MAX_PATTERNS} exclude patterns")
        self._rules = [rule for rule in map(_rule, patterns) if rule is not None]
        self._matched: set[int] = set()
        self._took_out: set[int] = set()
        self._took_back: dict[int, set[int]] = {}  # from which earlier ones

    def concern(self, folder: str, *, files: bool) -> bool:
        """Tell whether any pattern can match an entry of a directory.

        Args:
            folder: its path, empty or ending in `/`.
            files: whether what is not a directory is meant; else directories.
        """
        path = _bytewise(folder)
        return any(rule.concerns(path) for rule in self._rules if not (files and rule.folders_only))

    @property
    def used(self) -> tuple[str, ...]:
        """The patterns to be recorded for the entries decided so far, in their order, each once."""
        useful = [index for index, earlier in self._took_back.items() if earlier & self._took_out]
        return tuple(dict.fromkeys(self._rules[index].text for index in sorted({*self._took_out, *useful})))

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The patterns that match none of the entries decided so far, in their order."""
        return tuple(rule.text for index, rule in enumerate(self._rules) if index not in self._matched)

    def leave_out(self, path: str, *, folder: bool) -> bool:
        """Decide one entry.

        Args:
            path: relative to the root, without a trailing `/`.
            folder: whether it is a directory.
        """
        path = _bytewise(path)
        name = path.rpartition("/")[2]
        back = -1
        for index in range(len(self._rules) - 1, -1, -1):
            rule = self._rules[index]
            if (rule.folders_only and not folder) or not rule.matches(path, name):
                continue
            self._matched.add(index)
            if back >= 0 and rule.leaves_out:
                self._took_back.setdefault(back, set()).add(index)
            elif back < 0 and rule.leaves_out:
                self._took_out.add(index)
                return True
            elif back < 0:
                back = index
        return False


def read_ignore_file(data: bytes, what: str) -> list[str]:
    """Return the patterns of a file like `.gitignore`, without comments and empty lines.

    As in git, a byte order mark is skipped, lines end in LF or CR LF, and spaces at the end of a line do not count
    unless a backslash stands before them.

    Args:
        data: what the file holds.
        what: the file in words, for messages.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not valid UTF-8; save it as UTF-8") from None
    patterns = [_without_spaces(line.removesuffix("\r")) for line in lines]
    return [pattern for pattern in patterns if pattern and not pattern.startswith("#")]


def _with_skips(reached: set[int], parts: list[_Part]) -> set[int]:
    """Add what is reached when a `**` before another part takes no name at all."""
    every = set(reached)
    for at in sorted(reached):
        while at < len(parts) - 1 and not parts[at].pieces:
            at += 1  # noqa: PLW2901  # the parts behind it, one after the other
            every.add(at)
    return every


def _fits(piece: _Piece, name: str, at: int) -> bool:
    if isinstance(piece, str):
        return name.startswith(piece, at)
    return len(name) - at >= len(piece) and all(name[at + n] in fitting for n, fitting in enumerate(piece))


def _bytewise(text: str) -> str:
    """Return the UTF-8 bytes of a text, a character a byte: git matches bytes, so a `?` takes one of them."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _without_spaces(line: str) -> str:
    bare = line.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 and len(bare) < len(line) else bare


def _rule(pattern: str) -> _Rule | None:
    """Read a pattern as git does, or return None for an empty line or a comment.

    Raises:
        ConfigError: git would never match it.
    """
    text = _without_spaces(pattern.strip("\r\n"))
    if not text or text.startswith("#"):
        return None
    # 1. `!` takes back in; a `/` at the end asks for a directory; any other `/` ties the pattern to the root.
    rest = _bytewise(text.removeprefix("!"))
    folders_only = rest.endswith("/")
    rest = rest.removesuffix("/")
    anywhere = "/" not in rest
    if not anywhere:
        rest = rest.removeprefix("/")
    # 2. What comes before the first special character is compared as it is. Git takes it off before it matches, and
    #    so a `**` behind it stands at the beginning.
    length = 0 if anywhere else next((n for n, letter in enumerate(rest) if letter in _SPECIAL), len(rest))
    parts = _parts(rest[length:], anywhere=anywhere, pattern=text)
    return _Rule(text, not text.startswith("!"), folders_only, anywhere, rest[:length], parts)


def _parts(rest: str, *, anywhere: bool, pattern: str) -> list[_Part]:
    """Cut a pattern at its slashes, and each part at its stars."""
    parts = [_Part([""])]
    at = 0
    while at < len(rest):
        letter = rest[at]
        pieces = parts[-1].pieces
        if letter == "*":
            end = at
            while end < len(rest) and rest[end] == "*":
                end += 1
            alone = end - at > 1 and pieces == [""] and rest[end : end + 1] in {"", "/"}
            if alone and not anywhere:
                pieces.clear()
            else:
                pieces.append("")
            at = end
        elif letter == "/":
            # Several `**` after one another say no more than one; a name has room for only so many parts.
            if len(parts) > 1 and not pieces and not parts[-2].pieces:
                parts.pop()
            parts.append(_Part([""]))
            at += 1
        else:
            fitting, at = _one(rest, at, pattern)
            _extend(pieces, fitting)
    if len(parts) > 1 and not parts[-1].pieces and not parts[-2].pieces:
        parts.pop()
    return parts


def _extend(pieces: list[_Piece], fitting: str | frozenset[str]) -> None:
    """Put what fits one more byte at the end of the last piece."""
    piece = pieces[-1]
    if isinstance(piece, str) and isinstance(fitting, str):
        pieces[-1] = piece + fitting
        return
    sets = [frozenset(letter) for letter in piece] if isinstance(piece, str) else piece
    pieces[-1] = [*sets, frozenset(fitting)]


def _one(rest: str, at: int, pattern: str) -> tuple[str | frozenset[str], int]:
    """Read what stands for one byte; return what fits it, and where to go on."""
    letter = rest[at]
    if letter == "?":
        return _ANY, at + 1
    if letter == "\\":
        if rest[at + 1 : at + 2] in {"", "/"}:
            raise _never(pattern, "has a backslash at its end or before a slash")
        return rest[at + 1], at + 2
    return _bracket(rest, at + 1, pattern) if letter == "[" else (letter, at + 1)


def _bracket(rest: str, at: int, pattern: str) -> tuple[frozenset[str], int]:
    """Read a bracket expression behind its `[`, as git's `wildmatch` does."""
    negated = rest[at : at + 1] in {"!", "^"}
    start = at = at + negated
    fitting: set[str] = set()
    before = ""  # what a range can begin with
    while at == start or rest[at : at + 1] != "]":
        letter = rest[at : at + 1]
        close = rest.find("]", at + 2) if rest.startswith("[:", at) else -1
        if letter == "-" and before and rest[at + 1 : at + 2] not in {"", "]"}:
            at += 1 + (rest[at + 1] == "\\")
            fitting.update(map(chr, range(ord(before), ord(rest[at : at + 1] or "\0") + 1)))
            before = ""
        elif close >= 0 and rest[close - 1] == ":" and close > at + 2:
            named = _CLASSES.get(rest[at + 2 : close - 1])
            if named is None:
                raise _never(pattern, f"names the unknown class {rest[at : close + 1]}")
            fitting |= named
            before, at = "", close
        else:
            at += letter == "\\"
            before = rest[at : at + 1]
            fitting.add(before)
        at += 1
        if at >= len(rest):
            raise _never(pattern, "has a `[` without its `]`")
    return (_ANY - fitting if negated else frozenset(fitting - {"/"})), at + 1


def _never(pattern: str, why: str) -> ConfigError:
    return ConfigError(f"the exclude pattern {pattern[:80]!r} {why}; git would never match it, so correct it")
