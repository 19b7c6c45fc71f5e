"""Which entries a signer left out on purpose: gitignore patterns (gitignore(5)); the last one that matches decides.

Patterns come from strangers: from the `.wcpignore` of a tree or from a manifest. So nothing here backtracks, and the
work is bounded. A pattern is split at its slashes. One part is matched with a name in one pass. A path is matched with
all parts by keeping the set of parts that its names so far can have reached; for the directories above an entry, that
is done once and not for each entry. Many long patterns and many entries can still take long, so the steps are counted,
and more of them than a real package needs are refused.

A directory is left out with everything in it; as in git, no pattern can take back something below it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wcp_attest.base.errors import ConfigError, TreeUnsafe

if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_FOLDER = "/.git"  # at the root: a directory, or the file that a worktree or a submodule has in its place
MAX_PATTERNS = 1000
MAX_WORK = 5_000_000  # steps of matching, each of 0.1 to 1 µs
MAX_WORK_EACH = 4000  # further steps for each entry; a thousand patterns without slashes need a thousand
_TOO_LONG = "the exclude patterns take too long to match with this tree; use fewer and simpler patterns"
_SPECIAL = frozenset("*?[\\")
_RANGE_END = re.compile(r"-(?!\])\\?(.)", re.DOTALL)
_ALPHA = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGIT = frozenset("0123456789")
_PRINT = frozenset(map(chr, range(0x20, 0x7F)))
_ANY = frozenset(map(chr, range(256))) - {"/"}
_CLASSES = {  # of bytes, in the C locale, as in git
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

_OneByte: TypeAlias = str | frozenset[str]  # what matches it: one letter, or those of a set
_Piece: TypeAlias = str | list[frozenset[str]]  # between two stars: literal text, or for each byte those that match


class _Part(NamedTuple):
    """What stands between two slashes of a pattern: the pieces between stars. A `**` has no pieces."""

    pieces: list[_Piece]

    @classmethod
    def of(cls, pieces: list[list[_OneByte]]) -> _Part:
        """Return the part with these pieces, each byte by byte; one of letters only becomes a text."""
        joined: list[_Piece] = []
        for piece in pieces:
            letters = [matching for matching in piece if isinstance(matching, str)]
            joined.append("".join(letters) if len(letters) == len(piece) else list(map(frozenset, piece)))
        return cls(joined)

    def cost(self) -> tuple[int, int]:
        """Return the most steps that a match takes: of their own, and for each character of the name."""
        lengths = [0 if isinstance(piece, str) else len(piece) for piece in self.pieces]  # Python finds texts at once
        ends = sum(lengths) if len(lengths) < 3 else lengths[0] + lengths[-1]
        return 1 + ends, sum(lengths) - ends

    def matches(self, name: str) -> bool:
        """Tell whether a whole name matches: the ends where they must be, the other pieces as early as possible."""
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
        prefix: the beginning that the path must have, up to the first special character; empty with `anywhere`.
        parts: what must follow the prefix, or be the name.
        stars: which of the parts are `**`, one bit for each.
    """

    text: str
    leaves_out: bool
    folders_only: bool
    anywhere: bool
    prefix: str
    parts: list[_Part]
    stars: int

    def concerns(self, folder: str) -> bool:
        """Tell whether an entry of a directory, whose path is empty or ends in `/`, can match."""
        if len(self.parts) == 1 and self.parts[0].pieces == [""] and not self.anywhere:
            return self.prefix.rpartition("/")[0] == folder[:-1]
        return folder.startswith(self.prefix) or self.prefix.startswith(folder)

    def matches(self, reached: int, folder: str, name: str) -> bool:
        """Tell whether an entry of a directory matches.

        Args:
            reached: the parts at which a name in the directory can be matched, one bit for each.
            folder: the path of the directory, empty or ending in `/`.
            name: of the entry, with one character for each byte.
        """
        if self.anywhere:
            return self.parts[0].matches(name)
        return bool(self.after(reached, folder, name) >> len(self.parts))

    def after(self, reached: int, folder: str, name: str) -> int:
        """Return which parts are reached by one more name; the bit behind the last part says that the path matches.

        Args:
            reached: the parts at which a name in the directory can be matched, one bit for each.
            folder: the path of the directory, empty or ending in `/`.
            name: with one character for each byte.
        """
        lead = self.prefix[len(folder) :]
        if not reached or (lead and lead.startswith(f"{name}/")):
            return reached
        if not name.startswith(lead):
            return 0
        # 1. Before another part, `**` may match no name at all. There are never two `**` in a row.
        last = 1 << (len(self.parts) - 1)
        reached |= (reached & self.stars & ~last) << 1
        # 2. It may match this name and further ones; at the end of the pattern, one name is enough.
        after = reached & self.stars
        after |= (after & last) << 1
        # 3. Every other part must match this name.
        waiting = reached & ~self.stars & (2 * last - 1)
        while waiting:
            bit = waiting & -waiting
            waiting ^= bit
            if self.parts[bit.bit_length() - 1].matches(name[len(lead) :]):
                after |= bit << 1
        return after


class Excludes:
    """Decides entries by patterns, and remembers which patterns a manifest must record.

    A pattern that left something out is recorded. A pattern that takes back in (`!`) is recorded when it took something
    back from a recorded one. With these alone, every entry is decided as with all of them.

    Args:
        patterns: gitignore patterns; empty ones and comments are skipped.

    Raises:
        ConfigError: a pattern is malformed, so that it can never match, or there are too many.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise ConfigError(f"more than {MAX_PATTERNS} exclude patterns")
        self._rules = [rule for rule in map(_rule, patterns) if rule is not None]
        costs = [part.cost() for rule in self._rules for part in rule.parts]
        self._cost, self._cost_of_character = sum(own for own, _ in costs), sum(each for _, each in costs)
        self._left = MAX_WORK
        # What each rule reaches in the last directory and in those above it, with their paths.
        self._above: list[tuple[str, list[int]]] = [("", [1] * len(self._rules))]
        self._matched: set[int] = set()
        self._took_out: set[int] = set()
        self._took_back: dict[int, set[int]] = {}  # from which earlier ones

    def concern(self, folder: str, *, files: bool) -> bool:
        """Tell whether any pattern can match an entry of a directory, so that its entries must be decided one by one.

        Args:
            folder: the path of the directory, empty or ending in `/`.
            files: whether files and links are meant; else directories.
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

        Returns:
            Whether the entry is left out.

        Raises:
            TreeUnsafe: the patterns take more steps than `MAX_WORK` and `MAX_WORK_EACH` allow.
        """
        path = _bytewise(path)
        name = path.rpartition("/")[2]
        above = path[: len(path) - len(name)]
        if above != self._above[-1][0]:
            self._enter(above)
        reached = self._above[-1][1]
        self._left += MAX_WORK_EACH - self._cost - self._cost_of_character * len(name)
        if self._left < 0:
            raise TreeUnsafe(_TOO_LONG)
        back = -1
        for index in range(len(self._rules) - 1, -1, -1):
            rule = self._rules[index]
            if rule.folders_only and not folder:
                continue
            if not rule.matches(reached[index], above, name):
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

    def _enter(self, folder: str) -> None:
        """Find out what each rule reaches in a directory, whose path is empty or ends in `/`; refuse too many steps."""
        while not folder.startswith(self._above[-1][0]):
            self._above.pop()
        above, reached = self._above[-1]
        for name in folder[len(above) :].split("/")[:-1]:
            self._left -= self._cost + self._cost_of_character * len(name)
            if self._left < 0:
                raise TreeUnsafe(_TOO_LONG)
            states = zip(self._rules, reached, strict=True)
            reached = [0 if rule.anywhere else rule.after(state, above, name) for rule, state in states]
            above = f"{above}{name}/"
            self._above.append((above, reached))


def read_ignore_file(data: bytes, what: str) -> list[str]:
    """Read a file like `.gitignore`.

    As in git, a byte order mark is skipped, lines end in LF or CR LF, and spaces at the end of a line do not count
    unless a backslash stands before them.

    Args:
        data: the bytes of the file.
        what: the file in words, for messages.

    Returns:
        Its patterns, without comments and empty lines.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not valid UTF-8; save it as UTF-8") from None
    patterns = [_without_spaces(line.removesuffix("\r")) for line in lines]
    return [pattern for pattern in patterns if pattern and not pattern.startswith("#")]


def _fits(piece: _Piece, name: str, at: int) -> bool:
    if isinstance(piece, str):
        return name.startswith(piece, at)
    return len(name) - at >= len(piece) and all(name[at + n] in fitting for n, fitting in enumerate(piece))


def _bytewise(text: str) -> str:
    """Return a text with one character for each of its UTF-8 bytes: git matches bytes, so a `?` matches one of them."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _without_spaces(line: str) -> str:
    bare = line.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 and len(bare) < len(line) else bare


def _rule(pattern: str) -> _Rule | None:
    """Read a pattern as git does; None for an empty line or a comment. Refuse one that git would never match."""
    text = _without_spaces(pattern.strip("\r\n"))
    if not text or text.startswith("#"):
        return None
    # 1. `!` takes back in; a `/` at the end matches directories only; with any other `/`, the whole path is matched.
    rest = _bytewise(text.removeprefix("!"))
    folders_only = rest.endswith("/")
    rest = rest.removesuffix("/")
    anywhere = "/" not in rest
    if not anywhere:
        rest = rest.removeprefix("/")
    # 2. What stands before the first special character is compared as it is. Git removes it before it matches, so a
    #    `**` after it counts as one at the beginning.
    length = 0 if anywhere else next((n for n, letter in enumerate(rest) if letter in _SPECIAL), len(rest))
    parts = _parts(rest[length:], anywhere=anywhere, pattern=text)
    stars = sum(1 << at for at, part in enumerate(parts) if not part.pieces)
    return _Rule(text, not text.startswith("!"), folders_only, anywhere, rest[:length], parts, stars)


def _parts(rest: str, *, anywhere: bool, pattern: str) -> list[_Part]:
    """Split a pattern at its slashes, and each part at its stars."""
    parts: list[list[list[_OneByte]]] = [[[]]]
    at = 0
    while at < len(rest):
        pieces = parts[-1]
        if rest[at] == "*":
            end = next((n for n in range(at, len(rest)) if rest[n] != "*"), len(rest))
            alone = end - at > 1 and pieces == [[]] and rest[end : end + 1] in {"", "/"}
            if alone and not anywhere:
                pieces.clear()
            else:
                pieces.append([])
            at = end
        elif rest[at] == "/":
            parts.append([[]])
            at += 1
        else:
            matching, at = _read_one(rest, at, pattern)
            pieces[-1].append(matching)
    # Several `**` in a row mean the same as one.
    kept = [pieces for before, pieces in zip([[[]], *parts], parts, strict=False) if before or pieces]
    return [_Part.of(pieces) for pieces in kept]


def _read_one(rest: str, at: int, pattern: str) -> tuple[_OneByte, int]:
    """Read what matches one byte; return it, and where to go on."""
    letter = rest[at]
    if letter == "?":
        return _ANY, at + 1
    if letter == "[":
        return _bracket(rest, at + 1, pattern)
    if letter == "\\":
        at += 1
        if rest[at : at + 1] in {"", "/"}:
            raise _never(pattern, "has a backslash at its end or before a slash")
    return rest[at], at + 1


def _bracket(rest: str, at: int, pattern: str) -> tuple[frozenset[str], int]:
    """Read a bracket expression after its `[`, as git's `wildmatch` does; return what matches, and where it ends."""
    negated = rest[at : at + 1] in {"!", "^"}
    start = at = at + negated
    fitting: set[str] = set()
    before = ""  # what a range can begin with
    while at == start or rest[at : at + 1] != "]":
        close = rest.find("]", at + 2)
        if before and (end := _RANGE_END.match(rest, at)):
            fitting.update(map(chr, range(ord(before), ord(end[1]) + 1)))
            before, at = "", end.end() - 1
        elif rest.startswith("[:", at) and close > at + 2 and rest[close - 1] == ":":
            named = _CLASSES.get(rest[at + 2 : close - 1])
            if named is None:
                raise _never(pattern, f"names the unknown class {rest[at : close + 1]}")
            fitting |= named
            before, at = "", close
        else:
            at += rest[at : at + 1] == "\\"
            before = rest[at : at + 1]
            fitting.add(before)
        at += 1
        if at >= len(rest):
            raise _never(pattern, "has a `[` without its `]`")
    return (_ANY - fitting if negated else frozenset(fitting - {"/"})), at + 1


def _never(pattern: str, why: str) -> ConfigError:
    return ConfigError(f"the exclude pattern {pattern[:80]!r} {why}; git would never match it, so correct it")
