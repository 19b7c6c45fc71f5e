"""Version specifiers of worker bans: comparisons joined by commas, all of which must hold.

    ==1.4.2            exactly this version
    >=1.2,<1.4.3       from 1.2 up to, not including, 1.4.3
    !=2.0.0            every version but this one

A version that can be ordered is dotted numbers, an optional pre-release after `-` and optional build data after `+`
(`1.4.2-rc.1+b7`); a leading `v` or `V` is ignored, missing numbers are zero, and precedence is that of Semantic
Versioning 2.0.0, section 11. Workers may carry versions that cannot be ordered (`2026-spring`). `==` and `!=` compare
those as text (`==` without regard to case); for the other comparisons the answer is not known, so the ban hits: a
worker must not dodge a ban by an odd version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import version_problem

MAX_SPECIFIER = 500  # characters: far above any range a person writes
MAX_COMPARISONS = 20  # the cost of one lookup stays bounded

Operator: TypeAlias = Literal["==", "!=", "<=", ">=", "<", ">"]
_COMPARISON = re.compile(r"(==|!=|<=|>=|<|>) *([^ ]+)\Z")
_ORDERED = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.+_-]*)?\Z")

# A pre-release identifier: numbers below texts, hence the leading 0 or 1. No pre-release at all ranks highest.
_Identifier: TypeAlias = tuple[int, int, str]
_Rank: TypeAlias = tuple[tuple[int, ...], int, tuple[_Identifier, ...]]
_SIGNS: Final[dict[str, frozenset[int]]] = {
    "==": frozenset({0}),
    "!=": frozenset({-1, 1}),
    "<": frozenset({-1}),
    "<=": frozenset({-1, 0}),
    ">": frozenset({1}),
    ">=": frozenset({0, 1}),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, such as `>=1.2`."""

    operator: Operator
    version: str

    def contains(self, version: str) -> bool:
        """Tell whether a worker version is hit; a version that cannot be ordered is, except by `==`."""
        ours, theirs = version_rank(self.version), version_rank(version)
        if ours is not None and theirs is not None:
            sign = (theirs > ours) - (theirs < ours)
            return sign in _SIGNS[self.operator]
        if self.operator == "==":
            return version.lower() == self.version.lower()
        return self.operator != "!=" or version != self.version


@dataclass(frozen=True, slots=True)
class Specifier:
    """Comparisons that must all hold.

    Attributes:
        comparisons: at least one.
    """

    comparisons: tuple[Comparison, ...]

    @classmethod
    def parse(cls, text: str) -> Specifier:
        """Read a specifier such as `>=1.2,<1.4.3`; spaces around the parts are allowed.

        Raises:
            ConfigError: it is empty, too long, or not of that grammar; or a version that is to be ordered cannot be.
        """
        if len(text) > MAX_SPECIFIER or text.count(",") >= MAX_COMPARISONS:
            raise ConfigError(f"version specifier {text[:80]!r}… is too long; write several bans")
        return cls(tuple(_comparison(part.strip(" "), text) for part in text.split(",")))

    def matches(self, version: str) -> bool:
        """Tell whether a worker version is inside the range."""
        return all(comparison.contains(version) for comparison in self.comparisons)

    def __str__(self) -> str:
        return ",".join(comparison.operator + comparison.version for comparison in self.comparisons)


def _comparison(part: str, whole: str) -> Comparison:
    found = _COMPARISON.match(part)
    if found is None:
        raise ConfigError(f"version specifier {whole!r} is not of the form `>=1.2,<1.4.3` (==, !=, <, <=, >, >=)")
    operator, version = cast("Operator", found[1]), found[2]
    problem = version_problem(version)
    if problem is not None:
        raise ConfigError(f"version {version!r} of specifier {whole!r} {problem}")
    if operator not in ("==", "!=") and version_rank(version) is None:
        raise ConfigError(f"version {version!r} of specifier {whole!r} cannot be ordered; use == or dotted numbers")
    return Comparison(operator, version)


def version_rank(version: str) -> _Rank | None:
    """Return what a version is ordered by, or None when it cannot be ordered."""
    found = _ORDERED.match(version)
    if found is None:
        return None
    numbers = [int(number) for number in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    if found[2] is None:
        return tuple(numbers), 1, ()
    identifiers = found[2].split(".")
    return tuple(numbers), 0, tuple((0, int(text), "") if text.isdecimal() else (1, 0, text) for text in identifiers)
