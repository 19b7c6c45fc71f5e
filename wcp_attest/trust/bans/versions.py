"""Version specifiers of worker bans: comparisons joined by commas, all of which must hold.

    ==1.4.2            exactly this version
    >=1.2,<1.4.3       from 1.2 up to, not including, 1.4.3
    !=2.0.0            every version but this one

A version that can be ordered is dotted numbers, an optional pre-release after `-` and optional build data after `+`
(`1.4.2-rc.1+b7`); a leading `v` or `V` is ignored, missing numbers are zero, and precedence is that of Semantic
Versioning 2.0.0, section 11. Workers may carry versions that cannot be ordered (`2026-spring`). `==` and `!=` compare
those as text (`==` without regard to case); for the other comparisons the answer is not known, so the ban hits: a
worker must not escape a ban by an unusual version.
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
    """One comparison, such as `>=1.2`.

    Attributes:
        operator: `==`, `!=`, `<=`, `>=`, `<` or `>`.
        version: what a worker's version is compared with.
    """

    operator: Operator
    version: str


@dataclass(frozen=True, slots=True)
class Specifier:
    """Comparisons that must all hold.

    Attributes:
        comparisons: at least one.
    """

    comparisons: tuple[Comparison, ...]

    @classmethod
    def parse(cls, text: str) -> Specifier:
        """Read a specifier.

        Args:
            text: such as `>=1.2,<1.4.3`: at most 500 characters and 20 comparisons, with spaces around them or not.

        Returns:
            The comparisons, in the order of the text.

        Raises:
            ConfigError: it is empty, too long, or not of that grammar; or a version that is to be ordered cannot be.
        """
        if len(text) > MAX_SPECIFIER or text.count(",") >= MAX_COMPARISONS:
            raise ConfigError(f"version specifier {text[:80]!r}… is too long; write several bans")
        comparisons: list[Comparison] = []
        for part in text.split(","):
            found = _COMPARISON.match(part.strip(" "))
            if found is None:
                raise ConfigError(
                    f"version specifier {text!r} is not of the form `>=1.2,<1.4.3` (==, !=, <, <=, >, >=)"
                )
            operator, version = cast("Operator", found[1]), found[2]
            problem = version_problem(version)
            if problem is not None:
                raise ConfigError(f"version {version!r} of specifier {text!r} {problem}")
            if operator not in ("==", "!=") and version_rank(version) is None:
                raise ConfigError(
                    f"version {version!r} of specifier {text!r} cannot be ordered; use == or dotted numbers"
                )
            comparisons.append(Comparison(operator, version))
        return cls(tuple(comparisons))

    def matches(self, version: str) -> bool:
        """Tell whether a worker version is hit by every comparison.

        One that cannot be ordered is hit by all but `==` and `!=`, which compare it as text.

        Args:
            version: as the manifest names it.
        """
        theirs = version_rank(version)
        for each in self.comparisons:
            ours = version_rank(each.version)
            if ours is not None and theirs is not None:
                hit = (theirs > ours) - (theirs < ours) in _SIGNS[each.operator]
            elif each.operator == "==":
                hit = version.lower() == each.version.lower()
            else:
                hit = each.operator != "!=" or version != each.version
            if not hit:
                return False
        return True

    def __str__(self) -> str:
        return ",".join(comparison.operator + comparison.version for comparison in self.comparisons)


def version_rank(version: str) -> _Rank | None:
    """Return what a version is ordered by (Semantic Versioning 2.0.0, section 11), or None when it cannot be ordered.

    Args:
        version: such as `1.4.2-rc.1+b7`.
    """
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
