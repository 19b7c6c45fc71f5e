"""Data on standard output, talk on standard error; control characters never reach a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wcp_attest.cli.text import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.strictjson import JsonValue

format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to say it."
)


def printable(text: str) -> str:
    """Return text on one line, with everything that a terminal or a runner could act on spelled out."""
    return one_line(text)


def say(text: str) -> None:
    """Write one line of data."""
    sys.stdout.write(printable(text) + "\n")


def say_json(value: JsonValue) -> None:
    """Write one JSON value."""
    sys.stdout.write(json_text(value))


def note(text: str) -> None:
    """Say something to a person."""
    sys.stderr.write(printable(text) + "\n")


def table(rows: Iterable[tuple[str, ...]]) -> None:
    """Write lines with their columns aligned; the last one is left as it is."""
    lines = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        sys.stdout.write("  ".join([*padded, line[-1]]).rstrip() + "\n")
