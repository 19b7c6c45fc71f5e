"""Which directories the input `path` means.

A pattern never follows a link that it matches: the author of a pull request could lead it out of the workspace, or
around in circles.
"""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TYPE_CHECKING, Final

from action.inputs import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PACKAGES: Final = 1000
MAX_LOOKED_AT: Final = 100_000  # directories that patterns look into, all together
_WILD: Final = re.compile(r"[*?[]")


def find_packages(lines: tuple[str, ...], workspace: str) -> list[str]:
    """Return the directories that the lines name or match, each once, as seen from the workspace.

    Args:
        lines: directories or patterns.
        workspace: what relative ones are relative to.

    Raises:
        InputError: there is no line, a line matches nothing or what is no directory, or there are too many.
    """
    found: dict[str, None] = {}
    look = _Look(workspace)
    for line in lines:
        matches = [line] if os.path.lexists(os.path.join(workspace, line)) else look.matches(line)
        if not matches:
            raise InputError(f"input `path`: {line!r} is no directory of the workspace and matches none")
        found.update(dict.fromkeys(_directory(match, workspace) for match in matches))
    if not found:
        raise InputError("input `path` is empty")
    if len(found) > MAX_PACKAGES:
        raise InputError(f"input `path` means more than {MAX_PACKAGES} directories")
    return list(found)


def refuse_inside(name: str, file: str, packages: list[str], workspace: str) -> None:
    """Refuse to take trust from what is being verified.

    Args:
        name: of the input, for the message.
        file: that it names.
        packages: directories that are verified.
        workspace: what relative paths are relative to.

    Raises:
        InputError: the file lies inside a package.
    """
    real = os.path.realpath(os.path.join(workspace, file))
    for package in packages:
        root = os.path.realpath(os.path.join(workspace, package))
        if _is_below(real, root):
            raise InputError(
                f"input `{name}`: {file!r} lies in the package {package!r}; "
                "take it from where the package's author cannot write, such as the default branch of another checkout"
            )


def _is_below(path: str, root: str) -> bool:
    try:
        return os.path.commonpath([path, root]) == root
    except ValueError:  # on different drives
        return False


class _Look:
    """Finds the directories that patterns match, all patterns within one budget."""

    def __init__(self, workspace: str) -> None:
        self._workspace, self._left = workspace, MAX_LOOKED_AT

    def matches(self, pattern: str) -> list[str]:
        """Return the directories that a pattern matches, sorted, as seen from the workspace.

        Names that begin with a dot are matched by patterns that do (POSIX.1-2017, XCU 2.13.3).
        """
        segments = [segment for segment in pattern.split("/") if segment]
        first = next((number for number, segment in enumerate(segments) if _WILD.search(segment)), len(segments))
        places = {("/" if pattern.startswith("/") else "") + "/".join(segments[:first]): None}
        for number in range(first, len(segments)):
            segment = segments[number]
            if segment == "**":
                if segments[number : number + 2] != ["**", "**"]:  # two in a row mean what one does
                    places = dict.fromkeys(below for place in places for below in self._all_below(place))
            else:
                places = dict.fromkeys(inside for place in places for inside in self._inside(place, segment))
        return sorted(place for place in places if place) if first < len(segments) else []

    def _inside(self, place: str, segment: str) -> list[str]:
        """Return the directories in a directory whose name a segment matches; links are none."""
        self._left -= 1
        if self._left < 0:
            raise InputError(f"input `path`: a pattern looks into more than {MAX_LOOKED_AT} directories; narrow it")
        if segment in {".", ".."}:
            return [os.path.join(place, segment)]
        try:
            with os.scandir(os.path.join(self._workspace, place)) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        if not segment.startswith("."):
            names = [name for name in names if not name.startswith(".")]
        return [os.path.join(place, name) for name in fnmatch.filter(names, segment)]

    def _all_below(self, place: str) -> Iterator[str]:
        """Yield a directory and all directories below it."""
        waiting = [place]
        while waiting:
            here = waiting.pop()
            yield here
            waiting += self._inside(here, "*")


def _directory(path: str, workspace: str) -> str:
    full = os.path.join(workspace, path)
    if os.path.islink(full.rstrip("/")) or not os.path.isdir(full):
        raise InputError(f"input `path`: {path!r} is a link or no directory; name the package directory itself")
    return os.path.normpath(path)
