"""The files through which a step speaks to the runner: `GITHUB_OUTPUT`, `_ENV`, `_PATH`, `_STEP_SUMMARY`, `_STATE`.

`FileCommandManager.cs` of the runner; where it merely ignores what may not be set, this raises.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUMMARY_LIMIT: Final = 1024 * 1024
_VARIABLES: Final = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")
_NOT_SETTABLE = re.compile(r"(GITHUB_|RUNNER_)|NODE_OPTIONS\Z", re.IGNORECASE)


class FileCommandError(Exception):
    """A file command is malformed or sets what may not be set; the step fails."""


@dataclass(frozen=True, slots=True)
class FileCommands:
    """The fresh files of one step."""

    paths: Mapping[str, Path]

    @classmethod
    def create(cls, directory: Path) -> FileCommands:
        """Make one empty file for each command under `directory`."""
        directory.mkdir(exist_ok=True)
        suffix = secrets.token_hex(8)
        paths = {name: directory / f"{name.removeprefix('GITHUB_').lower()}_{suffix}" for name in _VARIABLES}
        for path in paths.values():
            path.touch()
        return cls(paths)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name the files."""
        return {name: str(path) for name, path in self.paths.items()}

    def _text(self, name: str) -> str:
        return self.paths[name].read_bytes().decode("utf-8")

    def outputs(self) -> dict[str, str]:
        """Read what the step set as its outputs.

        Raises:
            FileCommandError: the file is malformed.
        """
        return parse_pairs(self._text("GITHUB_OUTPUT"))

    def variables(self) -> dict[str, str]:
        """Read what the step set for later steps.

        Raises:
            FileCommandError: the file is malformed, or sets a variable that belongs to the runner.
        """
        pairs = parse_pairs(self._text("GITHUB_ENV"))
        for name in pairs:
            if _NOT_SETTABLE.match(name):
                raise FileCommandError(f"can't store {name} using '$GITHUB_ENV' command")
        return pairs

    def path_entries(self) -> list[str]:
        """Read what the step put on `PATH` for later steps."""
        return [line for line in self._text("GITHUB_PATH").splitlines() if line]

    def summary(self) -> str | None:
        """Read the job summary of the step; `None` when it is over the limit and would be dropped."""
        path = self.paths["GITHUB_STEP_SUMMARY"]
        return path.read_text(encoding="utf-8") if path.stat().st_size <= SUMMARY_LIMIT else None


def parse_pairs(text: str) -> dict[str, str]:
    """Parse `name=value` lines and `name<<DELIMITER` blocks.

    Raises:
        FileCommandError: a line is neither, or a block is not closed.
    """
    pairs: dict[str, str] = {}
    lines = text.split("\n")
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if not line:
            continue
        equals, block = line.find("="), line.find("<<")
        if equals > 0 and (block < 0 or equals < block):
            pairs[line[:equals]] = line[equals + 1 :]
        elif block > 0 and line[block + 2 :] and (equals < 0 or block < equals):
            end = _end_of_block(lines, position, line[block + 2 :])
            pairs[line[:block]] = "\n".join(lines[position:end])
            position = end + 1
        else:
            raise FileCommandError(f"invalid format {line!r}")
    return pairs


def _end_of_block(lines: list[str], start: int, delimiter: str) -> int:
    try:
        return lines.index(delimiter, start)
    except ValueError:
        raise FileCommandError(f"matching delimiter not found {delimiter!r}") from None
