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

    Case does not count: on a file system that ignores case, Python would load it under the other spelling.
    """
    folded = name.casefold()
    return folded == BYTECODE_FOLDER or folded.endswith(_BYTECODE_SUFFIX)


def bytecode_among(names: Sequence[str]) -> set[str]:
    """Return those of the names that are bytecode."""
    text = "/".join(names).casefold()
    if BYTECODE_FOLDER not in text and _BYTECODE_SUFFIX not in text:
        return set()
    return {name for name in names if is_bytecode(name)}


def name_problems(prefix: str, names: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with names of one directory that could not be written into a manifest.

    A name is undecodable, or holds control or text-reordering characters, or a backslash, or is too long.

    Args:
        prefix: path of the directory, empty or ending in `/`.
        names: what it holds.
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
    """Yield what is wrong with names of one directory that some file systems cannot tell apart.

    They differ only by case or by Unicode normal form.

    Args:
        prefix: path of the directory, empty or ending in `/`.
        names: what it holds.
    """
    text = "/".join(names)
    lower = text.lower()
    if text.isascii() and (text == lower or len(set(lower.split("/"))) == len(names)):
        return
    first: dict[str, str] = {}
    for name in sorted(names):
        other = first.setdefault(folded(name), name)
        if other is not name:
            show = repr if other.lower() == name.lower() else ascii  # those that look the same are spelt out
            yield (
                f"{show(prefix + other)} and {show(prefix + name)} differ only by case or Unicode form; rename one of "
                "them, or allow twins (`--allow-twins`)"
            )


def folded(name: str) -> str:
    """Return what names have in common that differ only by case, Unicode normal form (3.13, D145) or hidden marks."""
    from unicodedata import normalize

    return normalize("NFD", normalize("NFD", without_refused(name)).casefold())
