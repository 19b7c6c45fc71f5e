"""The program itself: the table of commands, each imported only when it is called by name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final, NamedTuple, cast

import click

from wcp_attest import __version__

PROGRAM: Final = "wcp-attest"
COMPLETE_VARIABLE: Final = "_WCP_ATTEST_COMPLETE"  # what completion scripts set, by click's convention


class CommandRow(NamedTuple):
    """One command: where it lives (`module:attribute` below `wcp_attest.cli`) and its line in the help."""

    place: str
    help: str


SECTIONS: Final[dict[str, dict[str, CommandRow]]] = {
    "Make": {
        "init": CommandRow("init_command:init", "Lay out a new worker package."),
        "build": CommandRow("build_command:build", "Write the manifest of a package."),
        "sign": CommandRow("sign_command:sign", "Sign a package, building its manifest first when there is none."),
        "pack": CommandRow("pack_command:pack", "Write a signed package as one archive."),
        "unpack": CommandRow("pack_command:unpack", "Unpack an archive, once the package in it is verified."),
        "keygen": CommandRow("keygen_command:keygen", "Make a signing key and its public key."),
    },
    "Decide": {
        "verify": CommandRow("verify_command:verify", "Check a package against a trust policy."),
        "run": CommandRow("run_command:run", "Verify a package, then become a command that runs from it."),
        "store": CommandRow("store_command:store", "Keep verified packages, and hand them out by worker id."),
        "gate": CommandRow("gate_command:gate", "Answer a host that asks before it installs or loads a package."),
        "policy": CommandRow("policy_command:policy", "Start, check and show trust policies."),
        "ban": CommandRow("ban_command:ban", "Make, sign and search ban lists."),
        "registry": CommandRow("registry_command:registry", "Ask a worker registry, and report to it."),
    },
    "Look (verifies nothing)": {
        "diff": CommandRow("diff_command:diff", "Compare a tree with its manifest."),
        "show": CommandRow("show_command:show", "Print what a manifest and its signatures say."),
        "export": CommandRow("export_command:export", "Describe a signed package as another protocol does."),
        "hash": CommandRow("hash_command:hash_", "Print the package hash of a tree."),
        "explain": CommandRow("explain_command:explain", "Tell what a deny code means and what to do."),
    },
    "Tend": {
        "lock": CommandRow("lock_command:lock", "Pin the packages that a project loads, and check them."),
        "check": CommandRow("check_command:check", "Check that committed manifests are up to date."),
        "fix": CommandRow("fix_command:fix", "Bring committed manifests up to date."),
        "merge-driver": CommandRow("merge_driver_command:merge_driver", "Merge committed manifests for git."),
        "clean": CommandRow("clean_command:clean", "Remove bytecode and left-over temporary files."),
        "completion": CommandRow("completion_command:completion", "Print a completion script for a shell."),
    },
}
COMMANDS: Final[dict[str, CommandRow]] = {name: row for section in SECTIONS.values() for name, row in section.items()}


class StrictCommand(click.Command):
    """A command that refuses empty values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments of the command line.

        Raises:
            UsageError: they are wrong, or one is an empty text. A variable of a shell that is not set gives one, and a
                path, a condition or a limit that is empty would mean another one than you meant.
        """
        given = {} if ctx.resilient_parsing else self.make_parser(ctx).parse_args([*args])[0]  # before defaults come in
        for parameter in self.params:
            values, name = given.get(parameter.name or ""), parameter.human_readable_name
            empty = "" in (values if isinstance(values, list | tuple) else [values])
            if empty and parameter.type is not click.UNPROCESSED:  # the words of a command that is run, as they are
                option = next((spelling for spelling in parameter.opts if spelling.startswith("--")), name)
                said = "is empty, as from a variable that is not set; give it a value or leave it out"
                raise click.UsageError(f"the value of {option} {said}", ctx)
        return super().parse_args(ctx, args)


class RootGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None when there is none of that name."""
        del ctx
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, attribute = row.place.partition(":")
        command = cast("click.Command", getattr(importlib.import_module(f"wcp_attest.cli.{module}"), attribute))
        command.short_help = row.help
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name.

        Raises:
            UsageError: there is none; the message names the nearest.
        """
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            raise click.UsageError(f"no such command {name!r}" + (f"; did you mean `{near[0]}`?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the table, without importing a command."""
        del ctx
        for title, rows in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), row.help) for name, row in rows.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit statuses below the commands."""
        del ctx
        with formatter.section("Exit status"):
            formatter.write_dl(
                [
                    ("0         ", "verified, or done"),
                    ("1         ", "checked and refused"),
                    ("2         ", "could not decide: usage, input, network, a crash"),
                    ("130       ", "interrupted"),
                ]
            )


@click.group(
    cls=RootGroup,
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def root(context: click.Context) -> None:
    """Sign a worker package, and verify it fail closed against a trust policy and ban lists."""
    if context.invoked_subcommand is None:
        raise click.UsageError("no command given", context)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: without the program's name.

    Raises:
        Error: as the command does.
        ClickException: the arguments are wrong.
        OSError: the output cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name that the terminal cannot show must not end the program
            reconfigure(errors="backslashreplace")
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        status: int = shell_complete(root, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
    else:
        status = _invoke(arguments)
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _invoke(arguments: list[str]) -> int:
    """Run a command. click's own `main` would exit with 1, here a refusal, when a pipe breaks."""
    try:
        with root.make_context(PROGRAM, arguments) as context:
            status: object = root.invoke(context)
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code
    return status if isinstance(status, int) else 0
