"""Text that is safe to show: on a terminal, in the log of a CI job, and coloured when people want it.

Names and messages quote what others wrote. An escape sequence in a file name must not repaint a verdict, and the
program that runs a CI job must not take a name for a command. GitHub's runner obeys lines that begin with `::` and, by
its older rule, `##[` anywhere in a line (actions/runner, ActionCommand.cs). Azure Pipelines obeys `##vso[` anywhere in
a line (microsoft/azure-pipelines-agent, Command.cs), TeamCity `##teamcity[`. Every output of every command goes through
`render` or `json_text`.
"""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

ColorChoice = Literal["auto", "always", "never"]
_STYLES: Final = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}
Style = Literal["good", "bad", "warn", "dim", "bold"]


_MARKED: Final = re.compile(r"##(?=[A-Za-z]*\[)")  # of `##[`, `##vso[`, `##teamcity[`
_COMMAND: Final = re.compile(rf"{_MARKED.pattern}|^( *+):(?=:)", re.MULTILINE)


def visible(text: str) -> str:
    r"""Return `text` with every character that a terminal could act on or hide spelled out, as `\x1b`.

    Line breaks stay.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        character if character == "\n" or character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def printable(text: str) -> str:
    r"""Return `text` as `visible` does, and without commands to a runner: `\x3a:` for `::` and `\x23#[` for `##[`."""
    text = visible(text)
    if "##" not in text and "::" not in text:
        return text
    return _COMMAND.sub(lambda found: r"\x23#" if found[0] == "##" else rf"{found[1]}\x3a", text)


def json_text(value: JsonValue, *, indent: int | None = 2) -> str:
    """Return JSON in ASCII, ending in a line break, in which a runner finds no command.

    Args:
        value: anything that JSON can say.
        indent: spaces of one level; None writes one line.
    """
    import json

    # `##[` can only stand inside a string, where `\\u0023` means the same character.
    return _MARKED.sub(r"\\u0023#", json.dumps(value, indent=indent)) + "\n"


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


# `Painter` marks text with a random value, so that text from elsewhere cannot imitate the mark.
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
