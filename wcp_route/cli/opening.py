"""From options to a Hall: settings, rules, trust policy, state file, receipt key, policy gate."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_route.cli.files import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest import Policy
    from wcp_route.config import HallConfig
    from wcp_route.gates.cedar import CedarGate
    from wcp_route.hall import Hall
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.receipts import KeyFileSigner
    from wcp_route.storage.state import State
    from wcp_route.telemetry.cloudevents import Telemetry

MAX_KEY_BYTES = 64 << 10
MAX_CEDAR_BYTES = 1 << 20

rules_option = click.option(
    "--rules", "rules_path", metavar="FILE", envvar="WCP_ROUTE_RULES", required=True, help="The rules document (JSON)."
)
config_option = click.option(
    "--config", "config_path", metavar="FILE", envvar="WCP_ROUTE_CONFIG", required=True, help="The settings (TOML)."
)
state_option = click.option(
    "--state", metavar="FILE", envvar="WCP_ROUTE_STATE", required=True, help="Registry, approvals and receipts."
)
trust_option = click.option(
    "--policy", "trust_path", metavar="FILE", envvar="WCP_ATTEST_POLICY", help="The trust policy (TOML)."
)
key_option = click.option(
    "--receipt-key", metavar="FILE", envvar="WCP_ROUTE_RECEIPT_KEY", help="The Ed25519 key that signs receipts."
)
cedar_option = click.option(
    "--cedar", metavar="FILE", envvar="WCP_ROUTE_CEDAR", help="Cedar policies to use as the policy gate."
)
events_option = click.option(
    "--events", metavar="FILE", envvar="WCP_ROUTE_EVENTS", help="Append CloudEvents, one JSON object a line."
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A Hall and the state file it works on."""

    hall: Hall
    state: State


def hall_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option that a Hall is opened with."""
    for option in (events_option, cedar_option, key_option, trust_option, state_option, rules_option, config_option):
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


@contextmanager
def opened(
    config_path: str,
    rules_path: str,
    state: str,
    trust_path: str | None,
    *,
    receipt_key: str | None = None,
    cedar: str | None = None,
    events: str | None = None,
) -> Iterator[Opened]:
    """Open a Hall, and close its state file at the end.

    Raises:
        ConfigError: a piece is missing or cannot be used.
    """
    from wcp_route.cli.logs import logs_in_lines
    from wcp_route.hall import Hall, Services
    from wcp_route.storage.state import open_state

    config, rules = read_config_file(config_path), read_rules_file(rules_path)
    trust = _trust(trust_path, config)
    gate = None if cedar is None else _cedar(cedar)
    with ExitStack() as stack:
        stack.enter_context(logs_in_lines())
        store = stack.enter_context(open_state(state, signer=read_receipt_key(receipt_key)))
        sink = None if events is None else stack.enter_context(_events(events, config))
        services = Services(policy_gate=gate, approvals=store.approvals, receipts=store.receipts, events=sink)
        yield Opened(Hall(rules, store.registry, trust, config, services=services), store)


def _trust(path: str | None, config: HallConfig) -> Policy | None:
    if path is not None:
        from wcp_attest import load_policy

        return load_policy(path)
    if config.unsafe_dispatch_workers_without_attestation:
        return None
    raise ConfigError("no trust policy: workers are attested by one; give --policy or set WCP_ATTEST_POLICY")


def _cedar(path: str) -> CedarGate:
    from wcp_route.gates.cedar import CedarGate

    return CedarGate(read_file(path, limit=MAX_CEDAR_BYTES, what="Cedar policies").decode("utf-8", "replace"))


def _events(path: str, config: HallConfig) -> Telemetry:
    from wcp_route.telemetry.cloudevents import Telemetry, to_file

    return Telemetry(f"urn:wcp:hall:{config.env}", to_file(path))
