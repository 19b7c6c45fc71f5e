"""`wcp-route serve`: the Hall over HTTP."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_route.cli.files import read_file
from wcp_route.cli.opening import hall_options, opened, read_rules_file

if TYPE_CHECKING:
    from wcp_attest import Policy
    from wcp_route.rules.rules import RuleSet


@click.command()
@hall_options
@click.option("--listen", metavar="ADDRESS:PORT", help="Where to listen, instead of [service] listen.")
@click.option("--pairs", metavar="DIR", help="Where the registry keeps pairs; by default beside the state file.")
def serve(
    config_path: str,
    rules_path: str,
    state: str,
    trust_path: str | None,
    receipt_key: str | None,
    cedar: str | None,
    events: str | None,
    head: str | None,
    listen: str | None,
    pairs: str | None,
) -> None:
    """Answer requests over HTTP until SIGTERM. SIGHUP, or a changed file, reads rules and policy again.

    \b
      wcp-route serve --config hall.toml                  hall.toml names everything, in [files] and [service]
      python -m wcp_route.service.demo DIR                makes a Hall with two workers in DIR to try it with
    """
    try:
        from wcp_route.service.server import Server, Sources
        from wcp_route.service.settings import read_service
    except ModuleNotFoundError as problem:
        raise ConfigError(f"{problem.name} is missing; the service needs `pip install wcp-attest[hall]`") from None
    from wcp_route.config_model import read_hall_file

    table = read_hall_file(config_path).service
    service = read_service({**table, **({} if listen is None else {"listen": listen})})

    def reload() -> tuple[RuleSet, Policy | None]:
        from wcp_attest import load_policy

        return read_rules_file(rules_path), None if trust_path is None else load_policy(trust_path)

    with opened(
        config_path, rules_path, state, trust_path, receipt_key=receipt_key, cedar=cedar, events=events, head=head
    ) as found:
        logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        server = Server(
            found.hall,
            found.state,
            state,
            service,
            trust=found.trust,
            sources=Sources(reload, tuple(path for path in (rules_path, trust_path) if path is not None)),
            pairs=pairs or os.path.join(os.path.dirname(os.path.abspath(config_path)), "pairs"),
            secret=None if receipt_key is None else _secret(receipt_key),
        )
        place = server.listen()
        where = service.listen if not server.port else f"http://{service.address[0]}:{server.port}"
        server.run(place, lambda: click.echo(f"listening on {where}", err=True))


def _secret(receipt_key: str) -> bytes:
    """Derive the secret that makes grants from the receipt key, which the Halls of one database share."""
    import hashlib

    from wcp_route.cli.opening import MAX_KEY_BYTES

    data = read_file(receipt_key, limit=MAX_KEY_BYTES, what="receipt key")
    return hashlib.sha256(b"wcp-route grants\0" + data).digest()
