"""`wcp-route migrate | backup | prune`."""

from __future__ import annotations

import sys

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.command_table import StrictCommand
from wcp_attest.cli.text import count as counted
from wcp_route.cli.files import create_file
from wcp_route.cli.opening import by_option, key_option, opened_state, state_option
from wcp_route.cli.say import answer, format_option, note

DAY_MS = 86_400_000


@click.command(cls=StrictCommand)
@state_option
@format_option
def migrate(state: str, form: str) -> int:
    """Bring a state to the tables of this version, and make those of an empty PostgreSQL database.

    A state file is made by `init` and `enroll`.
    """
    from wcp_route.storage.database import Database

    made = Database.bring_up(state)
    answer(form, "state-migrated", f"{counted(made, 'step')} made" if made else "nothing to do", steps=made)
    return 0


@click.command(cls=StrictCommand)
@click.argument("target", metavar="FILE|URL")
@state_option
@format_option
def backup(target: str, state: str, form: str) -> int:
    """Copy a state, as of one moment, to a file that does not exist or an empty PostgreSQL database."""
    import os
    import shlex

    from wcp_route.storage.retention import backup as copy

    if "://" not in target and os.path.lexists(target):
        raise ConfigError(f"{target!r} exists already; name a file that does not")
    count = copy(state, target)
    answer(form, "state-copied", f"{counted(count, 'receipt')} copied", receipts=count)
    place = "URL" if "://" in target else shlex.quote(target)  # a URL may hold a password
    note(f"check the copy: wcp-route receipts verify --state {place} --key PUBLIC_KEY --head KEPT_HEAD")
    return 0


@click.command(cls=StrictCommand)
@click.option("--keep-days", type=click.IntRange(0, 36500), required=True, help="Keep what is younger.")
@click.option("--export", "exported", metavar="FILE", help="Write what is dropped to this file first.")
@click.option("--drop", is_flag=True, help="Drop without an export.")
@by_option
@state_option
@key_option
def prune(keep_days: int, exported: str | None, drop: bool, by: str, state: str, receipt_key: str | None) -> int:
    """Drop old receipts. Workers, quarantine, holds and the chain stay.

    The export can be verified by `receipts verify --export`.
    """
    from contextlib import ExitStack

    from wcp_route.domain.clock import now_ms
    from wcp_route.storage.receipts import head
    from wcp_route.storage.retention import prune as drop_before

    if (exported is None) != drop:
        raise click.UsageError("give either --export FILE or --drop")
    with opened_state(state, receipt_key=receipt_key) as store, ExitStack() as export:
        write = None if exported is None else export.enter_context(create_file(exported)).write
        # The file is whole, closed and on the disk before anything is dropped, and no later failure removes it.
        count = drop_before(store.ledger, now_ms() - keep_days * DAY_MS, by=by, write=write, written=export.close)
    note(f"{counted(count, 'receipt')} dropped")
    if receipt_key is not None and count:
        note("keep this head instead of older ones:")
        sys.stdout.write(head(state).decode().rstrip("\n") + "\n")
    return 0
