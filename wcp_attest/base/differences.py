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
        expected: what the manifest says, in words (`file, 612 bytes, 9f86…`); empty when it lists no such entry.
        found: what is there, in words; empty when nothing is there.
        cause: the likely cause and what to do about it (`line endings were converted to CRLF: …`); empty when it is not
            known.
    """

    path: str
    change: Change
    expected: str = ""
    found: str = ""
    cause: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """Return the difference as JSON values.

        Returns:
            The five fields by their names; an empty text is null.
        """
        return {
            "path": self.path,
            "change": self.change.value,
            "expected": self.expected or None,
            "found": self.found or None,
            "cause": self.cause or None,
        }
