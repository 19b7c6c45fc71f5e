"""Options in named groups, which keep a long `--help` readable, and options with aliases that other tools use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Callable

UNGROUPED: Final = "Options"
READING: Final = "Reading"
OUTPUT: Final = "Output"


class GroupedCommand(click.Command):
    """A command that refuses empty values, and whose help lists options by group, output last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments of the command line.

        Raises:
            UsageError: they are wrong, or one is an empty text. A variable of a shell that is not set gives one, and a
                path, a condition or a limit that is empty would mean another one than you meant.
        """
        rest = super().parse_args(ctx, args)
        for parameter in () if ctx.resilient_parsing else self.params:
            values, name = ctx.params.get(parameter.name or ""), parameter.human_readable_name
            given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
            empty = "" in (values if isinstance(values, tuple) else [values])
            if given and empty and parameter.type is not click.UNPROCESSED:  # of a command that is run, as they are
                option = next((spelling for spelling in parameter.opts if spelling.startswith("--")), name)
                said = "is empty, as from a variable that is not set; give it a value or leave it out"
                raise click.UsageError(f"the value of {option} {said}", ctx)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each group below the group's name; `--help` stands in the last one."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        titles = dict.fromkeys(map(group_of, options))
        last = OUTPUT if OUTPUT in titles else UNGROUPED
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in titles if title != last}
        groups[last] = []
        for option in options:
            record = option.get_help_record(ctx)
            if record is not None:
                groups[group_of(option) if option in self.params else last].append(record)
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = GroupedCommand


class AliasedOption(click.Option):
    """An option that is also known by names that other tools have for it; the help shows our own alone.

    Args:
        declarations: our spelling first, then the others, then the name of the parameter.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of the help, with the first spelling only."""
        every = self.opts
        self.opts = every[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


def group_of(parameter: click.Parameter) -> str:
    """Return the title under which the help lists an option."""
    return str(vars(parameter).get("help_group", UNGROUPED))


def combine(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that gives a command all of these options, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def grouped(title: str, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that gives a command all of these options, in this order, in a group of the help.

    Args:
        title: of the group; an option that already is in a group stays in it.
        options: decorators, as `click.option` makes them.
    """

    def decorate(command: Any) -> Any:
        before = len(getattr(command, "__click_params__", ()))
        command = combine(*options)(command)
        for parameter in command.__click_params__[before:]:
            vars(parameter).setdefault("help_group", title)
        return command

    return decorate
