"""From options to a Hall: settings, rules, trust policy, state file, receipt key, policy gate."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_route.cli.files import read_file
from wcp_route.cli.say import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest import Policy
    from wcp_route.config import HallConfig
    from wcp_route.domain.events import EventSink
    from wcp_route.gates.cedar import CedarGate
    from wcp_route.hall import Hall
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.receipts import KeyFileSigner
    from wcp_route.storage.state import State

MAX_KEY_BYTES = 64 << 10
MAX_CEDAR_BYTES = 1 << 20

CREATE = "wcp_route.create_state"
DEMO = "wcp_route.demo"  # the settings of a Hall to try, which names all files itself
HALL = "wcp_route.hall"  # the address of a running Hall, which has its files itself
UNSIGNED = "what is written is not signed: no --receipt-key is given, so anybody who can write the state can forge it"
REPLACING = {DEMO: "--demo", HALL: "--hall"}


def _place(
    name: str, option: str, variable: str, what: str, *, needed: bool = False, expose: bool = True
) -> Callable[..., Any]:
    """Return an option for a file that the settings may name as well (`[files]` in hall.toml).

    Args:
        name: in the settings.
        option: on the command line.
        variable: in the environment.
        what: the file is, for the help.
        needed: whether the command can do without it.
        expose: whether the command takes it; else it is kept beside the command, by its name.
    """

    def find(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        found = _unless_replaced(ctx, parameter, value) or _files(ctx).get(name)
        if not found and needed and not ctx.resilient_parsing:
            raise click.UsageError(
                f"no {name.replace('_', ' ')}: give {option}, set {variable}, or name it in [files] of the settings",
                ctx,
            )
        if found and name == "state" and "://" not in found and not ctx.meta.get(CREATE) and not os.path.exists(found):
            raise ConfigError(f"there is no state file {found!r}; check its name, or make it with `wcp-route init`")
        if not expose:
            ctx.meta[f"wcp_route.{name}"] = found
        return found

    argument = {"rules": "rules_path", "policy": "trust_path"}.get(name, name)
    return click.option(
        option,
        argument,
        metavar="FILE",
        envvar=variable,
        show_envvar=True,
        callback=find,
        expose_value=expose,
        help=what,
    )


def _unless_replaced(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the value of an option, but none of the environment's with `--demo` or `--hall`, which need no file."""
    instead = next((option for name, option in REPLACING.items() if name in ctx.meta), None)
    if instead is None or value is None:
        return value
    if ctx.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{instead} needs no files of yours; leave out {parameter.opts[0]}", ctx)
    return None


def _files(ctx: click.Context) -> dict[str, str]:
    """Return the files that the settings name; nothing when no settings are given."""
    path = ctx.meta.get("wcp_route.config")
    if not path:
        return {}
    known: dict[str, str] | None = ctx.meta.get("wcp_route.files")
    if known is None:
        from wcp_route.config_model import MAX_CONFIG_BYTES, read_files

        data = read_file(path, limit=MAX_CONFIG_BYTES, what="Hall configuration")
        known = ctx.meta["wcp_route.files"] = read_files(data, os.path.dirname(os.path.abspath(path)))
    return known


def _config(*, needed: bool, told: bool = False) -> Callable[..., Any]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        value = _unless_replaced(ctx, parameter, value) or ctx.meta.get(DEMO)
        if needed and value is None and not ctx.resilient_parsing:
            raise click.UsageError("no settings: give --config FILE or set WCP_ROUTE_CONFIG", ctx)
        ctx.meta["wcp_route.config"] = value
        return value

    return click.option(
        "--config",
        "config_path",
        metavar="FILE",
        envvar="WCP_ROUTE_CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=needed or told,
        callback=keep,
        help="The settings (TOML); their table [files] may name all other files.",
    )


rules_option = _place("rules", "--rules", "WCP_ROUTE_RULES", "The rules document (JSON).", needed=True)
config_option = _config(needed=True)
hall_state_option = _place("state", "--state", "WCP_ROUTE_STATE", "Registry, approvals and receipts.", needed=True)
trust_option = _place("policy", "--policy", "WCP_ATTEST_POLICY", "The trust policy (TOML).")
key_option = _place("receipt_key", "--receipt-key", "WCP_ROUTE_RECEIPT_KEY", "The Ed25519 key that signs receipts.")
_cedar_option = _place("cedar", "--cedar", "WCP_ROUTE_CEDAR", "Cedar policies to use as the policy gate.")
_payload_option = _place(
    "cedar_payload",
    "--cedar-payload",
    "WCP_ROUTE_CEDAR_PAYLOAD",
    "The payload's type, for Cedar policies that speak of it: `{ pages: Long }`.",
    expose=False,
)
events_option = _place("events", "--events", "WCP_ROUTE_EVENTS", "Append CloudEvents, one JSON object a line.")


_optional_state = _place("state", "--state", "WCP_ROUTE_STATE", "Registry, approvals and receipts.")
_optional_config = _config(needed=False, told=True)


def hall_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--hall`, the address of a running Hall in place of a state, and `--config` and `--state`."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            ctx.meta[HALL] = value
        return value

    command = _config(needed=False)(_optional_state(command))
    return click.option(
        "--hall", metavar="URL", is_eager=True, callback=keep, help="A running Hall; https, or http on loopback."
    )(command)


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--state`, and `--config`, which may name the state file."""
    command = hall_state_option(command)
    with_both: Callable[..., Any] = _config(needed=False)(command)
    return with_both


def cedar_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--cedar` and `--cedar-payload`."""
    with_both: Callable[..., Any] = _cedar_option(_payload_option(command))
    return with_both


def create_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--create-state`."""

    def keep(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[CREATE] = value

    return click.option(
        "--create-state",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=keep,
        help="Make the state file when it is not there.",
    )(command)


def os_user() -> str:
    """Return the name of the operating system's user, as the system has it, not as the environment says."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


by_option = click.option("--by", default=os_user, show_default="you", help="Who does it; goes into the receipt.")
head_option = click.option(
    "--head",
    metavar="FILE",
    envvar="WCP_ROUTE_HEAD",
    show_envvar=True,
    help="A head kept elsewhere; a state that is older is refused.",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A Hall and the state file it works on."""

    hall: Hall
    state: State
    trust: Policy | None = None


def hall_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option that a Hall is opened with."""
    for option in (
        events_option,
        cedar_option,
        head_option,
        key_option,
        trust_option,
        hall_state_option,
        rules_option,
        config_option,
        create_option,
    ):
        command = option(command)
    return command


def optional_hall_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a Hall that it may or may not open; its rules come from elsewhere."""
    for option in (cedar_option, key_option, trust_option, _optional_state, _optional_config):
        command = option(command)
    return command


def read_rules_file(path: str) -> RuleSet:
    """Read and compile a rules document.

    Raises:
        ConfigError: it cannot be read or used.
    """
    from wcp_route.rules.rules_model import MAX_RULES_BYTES, read_rules

    return read_rules(read_file(path, limit=MAX_RULES_BYTES, what="rules document"))


def read_config_file(path: str) -> HallConfig:
    """Read the settings.

    Raises:
        ConfigError: they cannot be read or used.
    """
    from wcp_route.config_model import MAX_CONFIG_BYTES, read_config

    return read_config(read_file(path, limit=MAX_CONFIG_BYTES, what="Hall configuration"))


def read_receipt_key(path: str | None) -> KeyFileSigner | None:
    """Read the key that signs receipts, when one is named.

    Raises:
        ConfigError: it cannot be read or used.
    """
    if path is None:
        return None
    from wcp_route.storage.receipts import KeyFileSigner

    return KeyFileSigner.from_file_bytes(read_file(path, limit=MAX_KEY_BYTES, what="receipt key"), what="receipt key")


def read_head(path: str | None) -> bytes | None:
    """Read a head that was kept elsewhere, when one is named.

    Raises:
        ConfigError: it cannot be read.
    """
    from wcp_route.storage.receipts.sign import MAX_HEAD_BYTES

    return None if path is None else read_file(path, limit=MAX_HEAD_BYTES, what="head")


@contextmanager
def opened_state(
    state: str, *, receipt_key: str | None = None, read_only: bool = False, on_a_screen: bool = False
) -> Iterator[State]:
    """Open a state, and close it at the end; what does not exist is only made with `--create-state`.

    It says when what is written is not signed, unless the command draws on a screen.

    Raises:
        ConfigError: it cannot be used.
    """
    from wcp_route.storage.state import open_state

    create = bool(click.get_current_context().meta.get(CREATE))
    signer = read_receipt_key(receipt_key)
    with open_state(state, signer=signer, create=create, read_only=read_only) as store:
        if signer is None and not read_only and not on_a_screen:
            note(UNSIGNED)
        yield store


@contextmanager
def opened(
    config_path: str | None,
    rules_path: str,
    state: str | None,
    trust_path: str | None,
    *,
    receipt_key: str | None = None,
    cedar: str | None = None,
    events: str | None = None,
    head: str | None = None,
    rehearsal: bool = False,
    traced: bool = False,
) -> Iterator[Opened]:
    """Open a Hall, and close its state file at the end.

    A rehearsal writes nothing. A traced Hall makes a span of each decision where this process has OpenTelemetry.

    Raises:
        ConfigError: a piece is missing or cannot be used.
    """
    from wcp_route.cli.logs import logs_in_lines
    from wcp_route.domain.events import EventSinks
    from wcp_route.domain.values import GUARDED_ENVS
    from wcp_route.hall import Hall, Services
    from wcp_route.storage.state import open_state

    if config_path is None or state is None:
        raise ConfigError("a Hall needs its settings and its state file; give --config and --state")
    config, rules = read_config_file(config_path), read_rules_file(rules_path)
    trust = None
    if trust_path is not None:
        from wcp_attest import load_policy

        trust = load_policy(trust_path)
    elif not config.unsafe_dispatch_workers_without_attestation:
        raise ConfigError("no trust policy: workers are attested by one; give --policy or set WCP_ATTEST_POLICY")
    gate = None if cedar is None else load_cedar(cedar)
    with ExitStack() as stack:
        stack.enter_context(logs_in_lines())
        signer, kept = read_receipt_key(receipt_key), read_head(head)
        guarded = config.env in GUARDED_ENVS and signer is not None
        create = bool(click.get_current_context().meta.get(CREATE))
        store = stack.enter_context(
            open_state(state, signer=signer, head=kept, create=create, guarded=guarded, read_only=rehearsal)
        )
        if signer is None and not rehearsal:
            note(UNSIGNED)
        sinks = _sinks(stack, config.env, events, traced=traced)
        services = Services(
            policy_gate=gate,
            approvals=store.approvals,
            receipts=store.receipts,
            events=EventSinks(*sinks) if sinks else None,
        )
        hall = stack.enter_context(Hall(rules, store.registry, trust, config, services=services))
        yield Opened(hall, store, trust)


def _sinks(stack: ExitStack, env: str, events: str | None, *, traced: bool) -> list[EventSink]:
    """Return who is told of decisions: a file of events, OpenTelemetry where it is set up."""
    sinks: list[EventSink] = []
    if events is not None:
        from wcp_route.telemetry.cloudevents import Telemetry, to_file

        sinks.append(stack.enter_context(Telemetry(f"urn:wcp:hall:{env}", to_file(events))))
    if traced:
        from wcp_route.telemetry.otel import OpenTelemetry, is_set_up

        sinks += [OpenTelemetry()] if is_set_up() else []
    return sinks


def load_cedar(path: str) -> CedarGate:
    """Read Cedar policies, and the type of the payload where `--cedar-payload` or the settings name one.

    Args:
        path: of the policies.

    Raises:
        ConfigError: they cannot be read or used.
    """
    from wcp_route.gates.cedar import CedarGate

    policies = read_file(path, limit=MAX_CEDAR_BYTES, what="Cedar policies").decode("utf-8", "replace")
    declared = click.get_current_context().meta.get("wcp_route.cedar_payload")
    if declared is None:
        return CedarGate(policies)
    payload = read_file(declared, limit=MAX_CEDAR_BYTES, what="type of the payload").decode("utf-8", "replace")
    if not payload.strip():
        raise ConfigError(
            f"the type of the payload {declared!r} is empty; write a Cedar record type like {{ pages: Long }}"
        )
    return CedarGate(policies, payload=payload.strip())
