"""`wcp-route schema`."""

from __future__ import annotations

import json

import click

from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.say import raw

NAMES = ("route-input", "route-decision", "registry-record", "rules", "hall-config", "receipt")


@click.command(cls=StrictCommand)
@click.argument("name", type=click.Choice(NAMES))
def schema(name: str) -> int:
    """Print the JSON Schema of what goes over the wire, or of a receipt."""
    if name == "receipt":
        from importlib import resources

        raw(resources.files("wcp_route").joinpath("schemas", "receipt.json").read_text("utf-8"))
        return 0
    from wcp_route.json_schemas import schema_of

    raw(json.dumps(schema_of(name), indent=2) + "\n")
    return 0
