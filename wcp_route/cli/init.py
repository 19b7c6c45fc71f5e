"""`wcp-route init`: a Hall to start with, in an empty directory."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import click

from wcp_attest.base.errors import ConfigError
from wcp_route.cli.files import create_file
from wcp_route.cli.say import note, say

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

_SETTINGS: Final = """\
env = "dev"
require_signatory = false        # true, with allowed_tenants, before anybody else may ask

[files]                          # beside this file; options and WCP_ROUTE_* variables go before these
rules = "rules.json"
policy = "trust.toml"            # whom to trust: `wcp-attest policy init` writes it
state = "hall.db"                # who is enrolled, what waits for a human, receipts
# receipt_key = "receipts.key"   # signs receipts: `wcp-attest keygen receipts.key`; prod and edge need it
"""
_RULES: Final[JsonObject] = {
    "rules": [
        {
            "rule_id": "first",
            "match": {"capability_id": "cap.doc.summarize"},
            "decision": {"candidate_workers_ranked": [{"worker_species_id": "wrk.doc.summarizer"}]},
        }
    ]
}
_RECORD: Final[JsonObject] = {
    "worker_id": "org.acme.doc-summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "capabilities": ["cap.doc.summarize"],
    "risk_tier": "low",
    "idempotency": "full",
    "determinism": "deterministic",
    "required_controls": [],
    "currently_implements": [],
    "allowed_environments": ["dev"],
    "privilege_envelope": {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []},
    "blast_radius": {"data": 0, "network": 0, "financial": 0, "time": 0, "reversibility": "reversible"},
    "owner": "org.acme",
}
_REQUEST: Final[JsonObject] = {
    "capability_id": "cap.doc.summarize",
    "tenant_id": "acme",
    "correlation_id": "first-request",
    "env": "dev",
    "data_label": "INTERNAL",
    "tenant_risk": "low",
    "qos_class": "P2",
    "request": {"text": "hello"},
}


@click.command()
@click.argument("directory", metavar="[DIR]", default=".")
def init(directory: str) -> int:
    """Write hall.toml, rules.json, record.json, request.json and hall.db; nothing that exists is overwritten."""
    from wcp_route.storage.state import open_state

    files = {
        "hall.toml": _SETTINGS,
        "rules.json": json.dumps(_RULES, indent=2) + "\n",
        "record.json": json.dumps(_RECORD, indent=2) + "\n",
        "request.json": json.dumps(_REQUEST, indent=2) + "\n",
    }
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make {directory!r}: {problem.strerror}") from None
    there = [name for name in (*files, "hall.db") if os.path.lexists(os.path.join(directory, name))]
    if there:
        raise ConfigError(f"{directory!r} has {there[0]} already; name another directory")
    open_state(os.path.join(directory, "hall.db")).close()  # first: without its libraries nothing is left
    for name, text in files.items():
        with create_file(os.path.join(directory, name)) as file:
            file.write(text.encode())
        say(os.path.join(directory, name))
    say(os.path.join(directory, "hall.db"))
    note("next: write trust.toml (`wcp-attest policy init`), change record.json to your worker, then")
    note("      wcp-route enroll record.json --package DIR --config hall.toml")
    note("      wcp-route decide request.json --config hall.toml")
    return 0
