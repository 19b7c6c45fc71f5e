"""`wcp-route serve`: the Hall over HTTP."""

from __future__ import annotations

import hashlib
import os

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import read_file
from wcp_route.cli.logs import log_as_a_service
from wcp_route.cli.opening import DEMO, MAX_KEY_BYTES, hall_options, opened, read_rules_file


def _start_demo(ctx: click.Context, _: click.Parameter, directory: str | None) -> None:
    """Make a Hall to try, or find the one that was made before; its settings take the place of `--config`."""
    if directory is None or ctx.resilient_parsing:
        return
    settings = os.path.join(directory, "hall.toml")
    if os.path.isfile(settings):
        click.echo(f"{directory} is there already; its tokens were printed when it was made (a new DIR has new ones)")
    else:
        try:  # all that is needed is there, before anything is made
            import uvicorn  # noqa: F401

            import wcp_route.service.server
            import wcp_route.storage.database  # noqa: F401
            from wcp_route.service.demo import make
        except ModuleNotFoundError as problem:
            raise _missing(problem) from None
        tokens = make(directory)
        click.echo(f"made {directory}: two signed workers, rules, an empty state, and these tokens, kept nowhere else")
        click.echo(f"  platform  {tokens['platform']}  may ask")
        click.echo(f"  ada       {tokens['ada']}  may read, approve and operate; sign in with it at /")
    ctx.meta[DEMO] = settings


def _missing(problem: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"{problem.name} is missing; the service needs `pip install wcp-attest[hall]`")


@click.command(cls=StrictCommand)
@hall_options
@click.option(
    "--demo",
    metavar="DIR",
    is_eager=True,
    expose_value=False,
    callback=_start_demo,
    help="Make a Hall with two signed workers in DIR, print its tokens once, and serve it.",
)
@click.option("--listen", metavar="ADDRESS:PORT", help="Where to listen, instead of [service] listen.")
@click.option(
    "--pairs",
    metavar="DIR",
    help="Where the registry keeps pairs; by default beside the state file or, with a database, the settings.",
)
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
    """Answer requests over HTTP until SIGTERM. SIGHUP, or a changed file, reads rules, policy and settings again.

    \b
      wcp-route serve --demo DIR                          a Hall to try, in DIR; its tokens are printed once
      wcp-route serve --config hall.toml                  hall.toml names everything, in [files] and [service]
    """
    try:
        from wcp_route.service.server import Reloaded, Server, Sources
        from wcp_route.service.settings import read_service
    except ModuleNotFoundError as problem:
        raise _missing(problem) from None
    from wcp_route.config_model import read_hall_file

    settings, folder = read_hall_file(config_path), os.path.dirname(os.path.abspath(config_path))
    here = {} if listen is None else {"listen": listen}
    service = read_service({**settings.service, **here}, folder)

    # The secret that makes grants comes from the receipt key, which the Halls of one database share.
    secret = None
    if receipt_key is not None:
        data = read_file(receipt_key, limit=MAX_KEY_BYTES, what="receipt key")
        secret = hashlib.sha256(b"wcp-route grants\0" + data).digest()

    def reload() -> Reloaded:
        from wcp_attest import load_policy

        again = read_hall_file(config_path)
        if again.files != settings.files:
            raise ConfigError("[files] of the settings cannot change while the service runs; start it again")
        trust = None if trust_path is None else load_policy(trust_path)
        service = read_service({**again.service, **here}, folder)
        return Reloaded(read_rules_file(rules_path), trust, again.config, service)

    with opened(
        config_path,
        rules_path,
        state,
        trust_path,
        receipt_key=receipt_key,
        cedar=cedar,
        events=events,
        head=head,
        traced=True,
    ) as found:
        log_as_a_service()
        server = Server(
            found.hall,
            found.state,
            state,
            service,
            trust=found.trust,
            sources=Sources(reload, tuple(path for path in (config_path, rules_path, trust_path) if path is not None)),
            pairs=pairs or os.path.join(folder if "://" in state else os.path.dirname(os.path.abspath(state)), "pairs"),
            secret=secret,
        )
        place = server.listen()
        scheme = "http" if service.tls is None else "https"
        where = service.listen if not server.port else f"{scheme}://{service.host}:{server.port}"
        server.run(place, lambda: click.echo(f"listening on {where}", err=True))
