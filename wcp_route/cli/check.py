"""`wcp-route check`: the compliance level of a record."""

from __future__ import annotations

import click

from wcp_attest.base import strictjson
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import read_file
from wcp_route.cli.say import format_option, say, say_json


@click.command(cls=StrictCommand)
@click.argument("record", metavar="RECORD")
@click.option(
    "--level", type=click.Choice(["basic", "standard", "full"]), default="basic", help="Exit 1 when it is not reached."
)
@format_option
def check(record: str, level: str, form: str) -> int:
    """Tell which compliance level a registry record reaches, and what is missing for the next."""
    from wcp_route.domain.compliance import LEVELS, check_compliance
    from wcp_route.domain.record_model import MAX_RECORD_BYTES

    data = read_file(record, limit=MAX_RECORD_BYTES, what="registry record")
    found = check_compliance(strictjson.loads_object(data, what="registry record", max_bytes=MAX_RECORD_BYTES))
    if form == "json":
        say_json(
            {"level": found.level, "missing": {name: [*lacking] for name, lacking in found.missing}}, "record-level"
        )
    else:
        say(f"level: {found.level}")
        for name, lacking in found.missing:
            for each in lacking:
                say(f"missing for {name}: {each}")
    return 0 if LEVELS.index(found.level) >= [*LEVELS].index(level) else 1  # type: ignore[arg-type]
