"""Data on standard output, talk on standard error; control characters never reach a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.cli.text import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.strictjson import JsonValue

printable = one_line  # text on one line, with everything that a terminal or a runner could act on spelled out
SCHEMA_VERSION = 1  # of the JSON objects that commands print
Command = Callable[..., Any]


def format_option(command: Command) -> Command:
    """Give a command `--format`, `--output` and `--quiet`."""
    options = (
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_keep("quiet"), help="Only the data."),
        click.option(
            "-o",
            "--output",
            metavar="FILE",
            expose_value=False,
            callback=_keep("output"),
            help="Write the data to a new file.",
        ),
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format."),
    )
    for option in options:
        command = option(command)
    return command


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        ctx.meta[f"wcp_route.{name}"] = value
        if name == "output" and value is not None:
            lines: list[str] = []
            ctx.meta["wcp_route.lines"] = lines
            ctx.call_on_close(lambda: _write_file(value, "".join(lines)))

    return keep


def _write_file(path: str, text: str) -> None:
    from wcp_route.cli.files import create_file

    with create_file(path) as file:
        file.write(text.encode())


def raw(text: str) -> None:
    """Write text of our own as it stands, to standard output or to the file that `--output` names.

    Args:
        text: with its line breaks; nothing in it is escaped.
    """
    context = click.get_current_context(silent=True)
    lines = None if context is None else context.meta.get("wcp_route.lines")
    if lines is None:
        sys.stdout.write(text)
    else:
        lines.append(text)


def say(text: str) -> None:
    """Write one line of data."""
    raw(printable(text) + "\n")


def say_json(value: JsonValue, kind: str) -> None:
    """Write one JSON object that names its kind and the version of its schema; what is no object is its `items`."""
    members = value if isinstance(value, dict) else {"items": value}
    raw(json_text({"schema_version": SCHEMA_VERSION, "kind": kind, **members}))


def answer(form: str, kind: str, text: str, **members: JsonValue) -> None:
    """Say what was done, in a line or as a JSON object."""
    if form == "json":
        say_json(members, kind)
    else:
        say(text)


def note(text: str) -> None:
    """Say something to a person, unless `--quiet` is given."""
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get("wcp_route.quiet"):
        return
    sys.stderr.write(printable(text) + "\n")


def table(rows: Iterable[tuple[str, ...]]) -> None:
    """Write lines with their columns aligned; the last one is left as it is."""
    lines = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        raw("  ".join([*padded, line[-1]]).rstrip() + "\n")
