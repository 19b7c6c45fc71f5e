"""`wcp-route receipts verify | list | show | export | head`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.text import count as counted
from wcp_attest.cli.text import json_text
from wcp_route.cli.files import create_file, read_file
from wcp_route.cli.groups import HintingGroup
from wcp_route.cli.opening import MAX_KEY_BYTES, state_option
from wcp_route.cli.say import format_option, note, raw, say, say_json, table

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

state_path = click.option("--state", metavar="FILE", envvar="WCP_ROUTE_STATE", show_envvar=True, help="The state file.")


class _Moment(click.ParamType[int]):
    """A day or a time of RFC 3339, as milliseconds since 1970; without an offset it is UTC."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds, or say what is wrong."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time like 2026-01-31 or 2026-01-31T08:00:00Z", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


_MOMENT = _Moment()


@click.group(cls=HintingGroup)
def receipts() -> None:
    """Verify, show and export evidence receipts."""


@receipts.command()
@state_path
@click.option("--export", "exported", metavar="FILE", help="Verify what `receipts export` wrote, not the state file.")
@click.option("--key", "keys", metavar="FILE", multiple=True, help="A public key whose signatures count.")
@click.option("--head", metavar="FILE", help="A head kept elsewhere, to find receipts cut off at the end.")
@click.option("--allow-unsigned", is_flag=True, help="Accept unsigned receipts; their order is still checked.")
@format_option
def verify(
    state: str | None, exported: str | None, keys: tuple[str, ...], head: str | None, allow_unsigned: bool, form: str
) -> int:
    """Find any edit, deletion, reordering or fork, and name the first bad receipt. Exit 1 when there is one."""
    named = click.get_current_context().get_parameter_source("state") is ParameterSource.COMMANDLINE
    if (exported is not None and named) or (exported is None and state is None):
        raise click.UsageError("give either --state or --export")
    from wcp_route.storage.receipts import ReceiptKey, verify_export
    from wcp_route.storage.receipts import verify as check
    from wcp_route.storage.receipts.sign import MAX_HEAD_BYTES

    kept = None if head is None else read_file(head, limit=MAX_HEAD_BYTES, what="head")
    trusted = [
        ReceiptKey.from_file_bytes(read_file(path, limit=MAX_KEY_BYTES, what="receipt key"), what="receipt key")
        for path in keys
    ]
    if exported is None:
        found = check(state or "", keys=trusted, head=kept, unsigned=allow_unsigned)
    else:
        try:
            with open(exported, "rb") as file:
                found = verify_export(file, keys=trusted, head=kept, unsigned=allow_unsigned)
        except OSError as problem:
            raise ConfigError(f"cannot read the export {exported!r}: {problem.strerror}") from None
    if form == "json":
        say_json(
            {
                "receipts": found.receipts,
                "batches": found.batches,
                "streams": found.streams,
                "signed": found.signed,
                "anchored": found.anchored,
                "last_hash": found.last_hash,
            },
            "receipts-check",
        )
    else:
        signed = "all signed by a given key" if found.signed else "NOT all signed by a given key"
        say(f"{counted(found.receipts, 'receipt')} in {counted(found.streams, 'stream')} hold, {signed}")
    if head is None:
        note("without --head you cannot tell whether receipts were cut off at the end")
    return 0


@receipts.command("list")
@click.option("--worker", metavar="ID", help="Only those about this worker.")
@click.option("--tenant", metavar="ID", help="Only those of this tenant.")
@click.option(
    "--outcome", type=click.Choice(["DISPATCH", "DENY", "STEWARD_HOLD"]), help="Only decisions with this outcome."
)
@click.option("--code", metavar="CODE", help="Only those with this deny code.")
@click.option("--kind", metavar="KIND", help="Only `decision`, or one kind of event (worker.enrolled, …).")
@click.option(
    "--since", type=_MOMENT, metavar="TIME", help="Not before this time (2026-01-31 or 2026-01-31T08:00:00Z)."
)
@click.option("--until", type=_MOMENT, metavar="TIME", help="Before this time.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@state_option
@format_option
def list_(
    worker: str | None,
    tenant: str | None,
    outcome: str | None,
    code: str | None,
    kind: str | None,
    since: int | None,
    until: int | None,
    limit: int,
    state: str,
    form: str,
) -> int:
    """List receipts, newest first. It verifies nothing."""
    from wcp_route.storage.receipts import last

    found = last(
        state,
        limit,
        worker=worker,
        tenant=tenant,
        outcome=outcome,
        code=code,
        kind=kind,
        since_ms=since,
        until_ms=until,
    )
    if form == "json":
        say_json([receipt.to_dict() for receipt in found], "receipt-list")
    elif found:
        table([_HEADINGS, *(_line(receipt.to_dict()) for receipt in found)])
    else:
        note("there is no such receipt")
    return 0


_HEADINGS = ("TIME", "KIND", "OUTCOME", "CODE", "TENANT", "WORKER", "ID")


def _line(fields: JsonObject) -> tuple[str, ...]:
    """Return one receipt as a row of the table."""
    hold = fields.get("hold")
    both = {**(hold if isinstance(hold, dict) else {}), **fields}
    names = ("outcome", "deny_code", "tenant_id", "worker_id")
    when, kind = both.get("dispatched_at") or both.get("at"), both.get("kind") or "decision"
    name = both.get("decision_id") or both.get("pending_id") or both.get("receipt_id")
    return (str(when), str(kind), *(str(both.get(one) or "-") for one in names), str(name))


@receipts.command()
@click.argument("name", required=False)
@click.option("--last", "count", type=click.IntRange(1, 1000), default=1, help="How many, when no name is given.")
@state_option
@format_option
def show(name: str | None, count: int, state: str, form: str) -> int:
    """Show receipts by decision, receipt or correlation id, hash, or stream/number; by default the last.

    As text, each is printed as it was hashed, laid out. As JSON, all are the items of one object.
    """
    from wcp_route.storage.receipts import find, last

    found = last(state, count) if name is None else find(state, name)
    if form == "json":
        say_json([receipt.to_dict() for receipt in found], "receipt-list")
    for receipt in found if form == "text" else ():
        raw(json_text(receipt.to_dict()))
    if not found:
        note("there is no such receipt")
        return 1
    note("this verifies nothing; use `wcp-route receipts verify`")
    return 0


@receipts.command()
@state_option
@click.option("-o", "--output", metavar="FILE", help="Write to this new file, not to standard output.")
def export(state: str, output: str | None) -> int:
    """Write all receipts as JSON Lines that `receipts verify --export` can check."""
    from wcp_route.storage.receipts import export

    if output is None:
        count = export(state, sys.stdout.buffer.write)
    else:
        with create_file(output) as file:
            count = export(state, file.write)
    note(f"{counted(count, 'receipt')} written")
    return 0


@receipts.command()
@state_option
def head(state: str) -> int:
    """Print the signed head. Keep it where the owner of the state file cannot reach it."""
    from wcp_route.storage.receipts import head

    sys.stdout.write(head(state).decode().rstrip("\n") + "\n")
    return 0
