"""Options in named groups, which keep a long `--help` readable, and options with aliases that other tools use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from wcp_attest.cli.command_table import StrictCommand

if TYPE_CHECKING:
    from collections.abc import Callable

UNGROUPED: Final = "Options"
READING: Final = "Reading"
OUTPUT: Final = "Output"


class GroupedCommand(StrictCommand):
    """A command whose help lists its options by group, in the order in which the groups first occur, output last."""

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
