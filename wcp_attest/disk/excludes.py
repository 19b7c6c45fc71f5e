"""Which entries a signer left out on purpose: gitignore patterns, the last that matches decides.

Only patterns that decided something are worth recording: with those alone, every entry is decided as before. A
directory that is left out is left out with everything in it; nothing below it can be taken back in, as in git.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_FOLDER = ".git/"  # understood without the pattern library, whose import a plain build need not pay for
MAX_PATTERNS = 1000
_MANY_STARS = re.compile(r"(^!?|/)\*{3,}(?=/|$)")  # a segment of its own; to git it is `**`, to pathspec it is `*`
MAX_STARS = 4  # in one segment of a pattern; each multiplies the steps that a hostile name can cost


class _Rule(NamedTuple):
    text: str
    folders_only: bool
    leaves_out: bool
    regex: re.Pattern[str]


class Excludes:
    """Decides entries by patterns and remembers which patterns decided.

    Args:
        patterns: gitignore patterns; empty ones and comments are skipped.

    Raises:
        ConfigError: a pattern is malformed, or there are too many.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise ConfigError(f"more than {MAX_PATTERNS} exclude patterns")
        self._rules = [rule for rule in map(_rule, patterns) if rule is not None]
        self._used: set[int] = set()

    @property
    def concern_files(self) -> bool:
        """Whether any pattern can match what is not a directory."""
        return any(not rule.folders_only for rule in self._rules)

    @property
    def used(self) -> tuple[str, ...]:
        """The patterns that decided something so far, in their order, each once."""
        return tuple(dict.fromkeys(self._rules[index].text for index in sorted(self._used)))

    def leave_out(self, path: str, *, folder: bool) -> bool:
        """Decide one entry.

        Args:
            path: relative to the root, without a trailing `/`.
            folder: whether it is a directory.
        """
        matches = (
            index
            for index in range(len(self._rules) - 1, -1, -1)
            if (folder or not self._rules[index].folders_only) and _matches(self._rules[index].regex, path)
        )
        deciding = next(matches, None)
        if deciding is None:
            return False
        if self._rules[deciding].leaves_out:
            self._used.add(deciding)
            return True
        if any(self._rules[index].leaves_out for index in matches):
            self._used.add(deciding)
        return False


def _matches(regex: re.Pattern[str], path: str) -> bool:
    """Tell whether the pattern names this very entry, and not only a directory above it."""
    found = regex.match(_bytewise(path))
    return found is not None and found.groupdict().get("ps_d") is None


def _rule(pattern: str) -> _Rule | None:
    text = pattern.strip("\r\n")
    if text == GIT_FOLDER:
        return _Rule(text, folders_only=True, leaves_out=True, regex=re.compile(r"(?:.*/)?\.git\Z", re.DOTALL))
    if any(segment.replace("**", "*").count("*") > MAX_STARS for segment in text.split("/")):
        raise ConfigError(f"the exclude pattern {pattern[:80]!r} holds more than {MAX_STARS} `*` in one segment")
    return _compile(text)


def _bytewise(text: str) -> str:
    """Return the UTF-8 bytes of a text, a character a byte: git matches bytes, so a `?` takes one of them."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _as_git_reads(pattern: str) -> str:
    """Return a pattern that means to pathspec what the given one means to git."""
    text = _MANY_STARS.sub(r"\1**", _bytewise(pattern))
    # The last byte of a letter may look like white space, which pathspec takes off the end.
    return f"{text[:-1]}[{text[-1]}]" if text[-1:].isspace() and not text.isascii() else text


def _compile(text: str) -> _Rule | None:
    from pathspec.patterns.gitignore.base import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    bare = text if text.endswith("\\ ") else text.rstrip()
    folders_only = len(bare) > 1 and bare.endswith("/")
    try:
        compiled = GitIgnoreSpecPattern(_as_git_reads(bare[:-1] if folders_only else bare))
    except GitIgnorePatternError:
        raise ConfigError(f"the exclude pattern {text[:80]!r} is not a gitignore pattern") from None
    if compiled.regex is None or compiled.include is None:
        return None
    # As pathspec translates them, `[!x]` and the like also match `/`; in git they do not.
    return _Rule(bare, folders_only, compiled.include, re.compile(compiled.regex.pattern.replace("[^", "[^/")))
