"""The program itself: the table of commands, each imported only when it is called by name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final, NamedTuple, cast

import click

import wcp_attest
from wcp_attest.base.errors import ConfigError
from wcp_route.cli.groups import HintingGroup

PROGRAM: Final = "wcp-route"
COMPLETE_VARIABLE: Final = "_WCP_ROUTE_COMPLETE"


class Row(NamedTuple):
    """One command: where it lives (`module:attribute` below `wcp_route.cli`) and its line in the help."""

    place: str
    help: str


COMMANDS: Final[dict[str, Row]] = {
    "serve": Row("serve:serve", "Answer over HTTP."),
    "decide": Row("decide:decide", "Decide on one request, and keep the receipt."),
    "explain": Row("decide:explain", "Show what decide would say, and why; changes nothing."),
    "replay": Row("replay:replay", "Judge a past request once more, by what was in force then."),
    "rules": Row("rules:rules", "Check, cover and test a rule set."),
    "enroll": Row("registry:enroll", "Enroll a worker with its package."),
    "withdraw": Row("registry:withdraw", "Take a worker out of the registry."),
    "list": Row("registry:list_", "List enrolled workers and their standing."),
    "quarantine": Row("registry:quarantine", "Put a worker into quarantine, or clear it."),
    "approvals": Row("approvals:approvals", "List what waits for a human, and answer it."),
    "watch": Row("watch:watch", "Show what waits, quarantine and the last decisions; answer by keys."),
    "receipts": Row("receipts:receipts", "Verify, show and export evidence receipts."),
    "migrate": Row("maintenance:migrate", "Bring a state to this version's tables; make those of PostgreSQL."),
    "backup": Row("maintenance:backup", "Copy a state to another place."),
    "prune": Row("maintenance:prune", "Drop old receipts; the state and the chain stay."),
    "check": Row("check:check", "Tell which compliance level a record reaches."),
    "status": Row("status:status", "Show how a Hall is doing."),
    "init": Row("init:init", "Write a Hall to start with: settings, rules, record, state."),
    "completion": Row("completion:completion", "Print a completion script for a shell."),
    "schema": Row("schema:schema", "Print a JSON Schema of what goes over the wire."),
}


ALIASES: Final = {"enrol": "enroll"}  # for one release


class Root(HintingGroup):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None when there is none of that name."""
        del ctx
        row = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if row is None:
            return None
        module, _, attribute = row.place.partition(":")
        return cast("click.Command", getattr(importlib.import_module(f"wcp_route.cli.{module}"), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the table without importing a command, and the exit statuses below it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])
        with formatter.section("Exit status"):
            formatter.write_dl(
                [
                    ("0", "dispatch, or done"),
                    ("1", "denied; or checked and found wrong"),
                    ("2", "could not decide: wrong usage, input that is no request, a missing piece, a crash"),
                    ("3", "held for a human"),
                ]
            )


@click.group(cls=Root, name=PROGRAM, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(wcp_attest.__version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s")
def root() -> None:
    """Route requests to attested workers, and keep the evidence."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: without the program's name.

    Raises:
        Error: as the command does, or there is no standard output to answer on.
        ClickException: the arguments are wrong.
        OSError: the output cannot be written.
    """
    if sys.stdout is None:
        raise ConfigError("standard output is closed and the answer goes there; use `>/dev/null` to do without")
    if os.environ.get(COMPLETE_VARIABLE):
        root.main(arguments, PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False)
    try:
        with root.make_context(PROGRAM, arguments) as context:
            status: object = root.invoke(context)
    except click.exceptions.NoArgsIsHelpError as problem:
        raise click.UsageError("no command given", problem.ctx) from None
    except click.exceptions.Exit as done:  # --help and --version
        status = done.exit_code
    sys.stdout.flush()
    return status if isinstance(status, int) else 0
