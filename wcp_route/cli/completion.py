"""`wcp-route completion`: the script that teaches a shell to complete the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.say import raw

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete


@click.command(cls=StrictCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a completion script for a shell."""
    from click.shell_completion import ShellComplete, get_completion_class

    from wcp_route.cli.root import COMPLETE_VARIABLE, PROGRAM, root

    kind = cast("type[ShellComplete]", get_completion_class(shell))
    raw(ShellComplete.source(kind(root, {}, PROGRAM, COMPLETE_VARIABLE)) + "\n")
    return 0
