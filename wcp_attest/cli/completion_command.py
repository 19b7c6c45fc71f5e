"""`wcp-attest completion`: the script that teaches a shell to complete the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete


@click.command(cls=GroupedCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@reporting("text")
def completion(out: Output, /, shell: str) -> None:
    """Print a completion script for a shell.

    \b
      bash   wcp-attest completion bash > ~/.local/share/bash-completion/completions/wcp-attest
      zsh    wcp-attest completion zsh > "${fpath[1]}/_wcp-attest"
      fish   wcp-attest completion fish > ~/.config/fish/completions/wcp-attest.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from wcp_attest.cli.command_table import COMPLETE_VARIABLE, PROGRAM, root

    kind = cast("type[ShellComplete]", get_completion_class(shell))
    # The base class's `source` renders the script; bash's own would first start a shell to ask for its version.
    out.deliver_commands(ShellComplete.source(kind(root, {}, PROGRAM, COMPLETE_VARIABLE)) + "\n")
