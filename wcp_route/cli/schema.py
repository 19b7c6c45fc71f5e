"""`wcp-route schema`."""

from __future__ import annotations

import click

from wcp_route.cli.say import say_json

NAMES = ("route-input", "route-decision", "registry-record", "rules", "hall-config", "receipt")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
def schema(name: str) -> int:
    """Print the JSON Schema of what goes over the wire, or of a receipt."""
    if name == "receipt":
        import json
        from importlib import resources

        say_json(json.loads(resources.files("wcp_route").joinpath("schemas", "receipt.json").read_bytes()))
        return 0
    from wcp_route.json_schemas import schema_of

    say_json(schema_of(name))
    return 0
