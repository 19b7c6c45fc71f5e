"""`wcp-attest ban`: make, sign, check and search ban lists. Each command lives in a module of its own kind."""

from __future__ import annotations

import click

from wcp_attest.cli.ban_check_command import check, impact
from wcp_attest.cli.ban_edit_commands import add, new, remove, sign
from wcp_attest.cli.ban_show_commands import compile_, diff, show
from wcp_attest.cli.option_groups import CommandGroup


@click.group(cls=CommandGroup, no_args_is_help=False)
def ban() -> None:
    """Make, sign, check and search ban lists.

    \b
      wcp-attest ban new bans.json --name acme-soc --expires 7d
      wcp-attest ban add bans.json --package sha256:9f86... --reason "exfiltrates tokens"
      wcp-attest ban sign bans.json --key soc.key
      wcp-attest ban impact bans.json manifests/
    """


for command in (new, add, remove, sign, check, show, diff, compile_, impact):
    ban.add_command(command)
