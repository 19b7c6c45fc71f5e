"""What differs between a tree and its manifest, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Change(StrEnum):
    """What happened to one entry."""

    MODIFIED = "modified"
    MISSING = "missing"
    ADDED = "added"
    MODE = "mode"
    KIND = "kind"
    LINK = "link"
    BYTECODE = "bytecode"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that is not as the manifest says.

    Attributes:
        path: relative to the package root, `/`-separated.
        change: what happened to it.
        expected: what the manifest says, in words (`file, 612 bytes, sha256 9f86…`), empty when it says nothing.
        found: what is there, in words, empty when nothing is there.
        cause: the likely cause with what to do, where it can be told (`line endings converted`), else empty.
    """

    path: str
    change: Change
    expected: str = ""
    found: str = ""
    cause: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """Return the difference as JSON values; empty texts become null."""
        return {
            "path": self.path,
            "change": self.change.value,
            "expected": self.expected or None,
            "found": self.found or None,
            "cause": self.cause or None,
        }
