"""Which names a tree may hold, and which of them mean bytecode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.base.characters import without_refused
from wcp_attest.package.entries import MAX_NAME_BYTES, path_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTECODE_FOLDER = "__pycache__"
_BYTECODE_SUFFIX = ".pyc"
_SHORT = MAX_NAME_BYTES // 4  # characters that fit whatever they are


def is_bytecode(name: str) -> bool:
    """Tell whether a file or directory of this name is Python bytecode: `__pycache__` and `*.pyc`.

    Upper and lower case count as the same: on a file system that ignores case, Python loads either spelling.

    Args:
        name: of one entry, without its directory.
    """
    folded = name.casefold()
    return folded == BYTECODE_FOLDER or folded.endswith(_BYTECODE_SUFFIX)


def bytecode_among(names: Sequence[str]) -> set[str]:
    """Return those of the names that are bytecode.

    Args:
        names: of one directory.
    """
    text = "/".join(names).casefold()
    if BYTECODE_FOLDER not in text and _BYTECODE_SUFFIX not in text:
        return set()
    return {name for name in names if is_bytecode(name)}


def name_problems(prefix: str, names: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the names in a directory that no manifest can list.

    Such a name is not valid UTF-8, holds a control, hidden or text-reordering character or a backslash, or is too long.

    Args:
        prefix: path of the directory, empty or ending in `/`.
        names: what it holds.

    Yields:
        One message for each such name, in the order of names.
    """
    text = "".join(names)
    if (
        text.isascii()
        and text.isprintable()
        and "\\" not in text
        and (len(text) < _SHORT or max(map(len, names)) <= MAX_NAME_BYTES)
    ):
        return
    for name in sorted(names):
        problem = path_problem(prefix + name)
        if problem is not None:
            yield f"the entry {(prefix + name)[:160]!r} {problem}; rename it"


def case_collisions(prefix: str, names: Sequence[str]) -> Iterator[str]:
    """Yield which names in a directory some file systems cannot tell apart.

    They differ only by case or by Unicode normal form.

    Args:
        prefix: path of the directory, empty or ending in `/`.
        names: what it holds.

    Yields:
        One message for each name that another one before it, in the order of names, looks like.
    """
    text = "/".join(names)
    lower = text.lower()
    if text.isascii() and (text == lower or len(set(lower.split("/"))) == len(names)):
        return
    first: dict[str, str] = {}
    for name in sorted(names):
        other = first.setdefault(folded(name), name)
        if other is not name:
            show = repr if other.lower() == name.lower() else ascii  # two that look the same are shown by code points
            yield (
                f"{show(prefix + other)} and {show(prefix + name)} differ only by case or Unicode form; rename one of "
                "them, or allow twins (`--allow-twins`)"
            )


def folded(name: str) -> str:
    """Return the form in which names are equal that differ only by case, Unicode normal form or hidden characters.

    Args:
        name: a name or a whole path.

    Returns:
        Its canonical caseless form (Unicode Standard 3.13, D145), without the characters that are refused.
    """
    from unicodedata import normalize

    return normalize("NFD", normalize("NFD", without_refused(name)).casefold())
