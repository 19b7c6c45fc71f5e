"""A group of commands that says which one may be meant."""

from __future__ import annotations

import difflib

import click

from wcp_attest.cli.command_table import StrictCommand


class HintingGroup(click.Group):
    """A group whose unknown commands are answered with the nearest known one; its own refuse empty values."""

    command_class = StrictCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may be meant."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"there is no command {args[0][:80]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)
