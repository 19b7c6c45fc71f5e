"""`wcp-route status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.opening import (
    config_option,
    hall_state_option,
    key_option,
    opened_state,
    read_config_file,
    read_rules_file,
    rules_option,
)
from wcp_route.cli.say import format_option, say_json, table

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject


@click.command(cls=StrictCommand)
@config_option
@rules_option
@hall_state_option
@key_option
@format_option
def status(config_path: str, rules_path: str, state: str, receipt_key: str | None, form: str) -> int:
    """Show how a Hall is doing. Exit 1 when something needs an operator: quarantine, holds, unreachable rules."""
    from wcp_route.domain.clock import now_ms

    config, rules = read_config_file(config_path), read_rules_file(rules_path)
    with opened_state(state, read_only=True) as store:
        snapshot, waiting = store.registry.snapshot(), store.approvals.pending(now_ms())
    off = config.unsafe_dispatch_workers_without_attestation
    facts: JsonObject = {
        "env": config.env,
        "attestation": "OFF: anything may run" if off else config.attestation,
        "signatory": "listed tenants" if config.require_signatory else "any tenant",
        "receipts": "NOT signed: no receipt key is named" if receipt_key is None else "signed by the key that is named",
        "rules": len(rules.rules),
        "unreachable_rules": len(rules.shadows),
        "rules_digest": rules.digest,
        "config_digest": config.digest(),
        "registry_version": snapshot.version,
        "enrolled": len(snapshot.workers),
        "quarantined": len(snapshot.quarantined),
        "waiting_for_a_human": len(waiting),
    }
    if form == "json":
        say_json(facts, "hall-status")
    else:
        table((name.replace("_", " "), str(value)) for name, value in facts.items())
    return 1 if facts["quarantined"] or facts["waiting_for_a_human"] or facts["unreachable_rules"] else 0
