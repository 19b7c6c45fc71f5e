"""Text for people: safe to show on a terminal, and coloured when they want it."""

from __future__ import annotations

import os
from typing import IO, Final, Literal

ColorChoice = Literal["auto", "always", "never"]
_STYLES: Final = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}
Style = Literal["good", "bad", "warn", "dim", "bold"]


def printable(text: str) -> str:
    r"""Return `text` with everything that a terminal could act on or hide spelled out, as `\x1b`.

    Names and messages quote what others wrote; an escape sequence in a file name must not repaint a verdict. Line
    breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character == "\n" or character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    r"""Return `text` as `printable` does, line breaks spelled out too: a name must not make up a line of its own."""
    return printable(text).replace("\n", "\\n")


def use_color(choice: ColorChoice, stream: IO[str] | None) -> bool:
    """Decide whether to colour what goes to a stream: the option, then NO_COLOR, then FORCE_COLOR, then a terminal.

    Args:
        choice: of the option `--color`.
        stream: where the text goes; None is nowhere.
    """
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):  # https://no-color.org: present and not empty
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


# What `Painter` writes around text is told from what others wrote by a mark that nobody can guess.
_MARK: Final = f"\x00{os.urandom(8).hex()}:"


def render(text: str) -> str:
    """Return text as it may be shown: styles of a `Painter` applied, everything else `printable`."""
    if _MARK not in text:
        return printable(text)
    first, *rest = text.split(_MARK)
    return printable(first) + "".join(
        f"\x1b[{part.partition('m')[0]}m{printable(part.partition('m')[2])}" for part in rest
    )


class Painter:
    """Marks text for colouring, or leaves it alone; `render` turns the marks into colours.

    Args:
        on: whether to colour.
    """

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, style: Style, text: str) -> str:
        """Return `text` in a style."""
        return f"{_MARK}{_STYLES[style]}m{text}{_MARK}0m" if self._on else text


def human_size(size: int) -> str:
    """Return a number of bytes in words: `612 bytes`, `4.2 MiB`."""
    if size < 1024:
        return count(size, "byte")
    value, units = size / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.1f} {units[0]}"


def count(number: int, noun: str) -> str:
    """Return `1 file`, `12 files`, `3 entries`."""
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
