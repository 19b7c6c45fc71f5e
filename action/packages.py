"""Which directories the input `path` means."""

from __future__ import annotations

import glob
import os

from action.inputs import InputError

MAX_PACKAGES = 1000


def find_packages(lines: tuple[str, ...], workspace: str) -> list[str]:
    """Return the directories that the lines name or match, each once, as seen from the workspace.

    Args:
        lines: directories or patterns.
        workspace: what relative ones are relative to.

    Raises:
        InputError: there is no line, a line matches nothing or what is no directory, or there are too many.
    """
    found: dict[str, None] = {}
    for line in lines:
        matches = [line] if os.path.lexists(os.path.join(workspace, line)) else _matches(line, workspace)
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


def _matches(pattern: str, workspace: str) -> list[str]:
    matches = glob.glob(pattern, root_dir=workspace, recursive=True)
    return sorted(match for match in matches if os.path.isdir(os.path.join(workspace, match)))


def _directory(path: str, workspace: str) -> str:
    full = os.path.join(workspace, path)
    if os.path.islink(full.rstrip("/")) or not os.path.isdir(full):
        raise InputError(f"input `path`: {path!r} is a link or no directory; name the package directory itself")
    return os.path.normpath(path)
