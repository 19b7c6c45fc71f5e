"""`wcp-route init`: a Hall to start with, in an empty directory."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import create_file
from wcp_route.cli.opening import os_user
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
_POLICY: Final = """\
version = 1

[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  key = "worker.pub"             # made by `wcp-route init`; sign with your own key, and name that here
"""
_LOGIC: Final = """\
def execute(request, context=None):
    return {"summary": request["text"][:100]}
"""
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


@click.command(cls=StrictCommand)
@click.argument("directory", metavar="[DIR]", default=".")
@click.option("--with-worker", is_flag=True, help="Also a signed worker that is enrolled, its key, and trust.toml.")
def init(directory: str, with_worker: bool) -> int:
    """Write hall.toml, rules.json, record.json, request.json and hall.db; nothing that exists is overwritten.

    With --with-worker, `wcp-route decide request.json --config hall.toml` dispatches at once.
    """
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
    made = (*files, "hall.db", *(("worker", "worker.key", "worker.pub", "trust.toml") if with_worker else ()))
    there = [name for name in made if os.path.lexists(os.path.join(directory, name))]
    if there:
        raise ConfigError(f"{directory!r} has {there[0]} already; name another directory")
    open_state(os.path.join(directory, "hall.db")).close()  # first: without its libraries nothing is left
    for name, text in files.items():
        with create_file(os.path.join(directory, name)) as file:
            file.write(text.encode())
        say(os.path.join(directory, name))
    say(os.path.join(directory, "hall.db"))
    if with_worker:
        _make_worker(directory)
        note("next: wcp-route decide request.json --config hall.toml")
        return 0
    note("next: write trust.toml (`wcp-attest policy init`), change record.json to your worker, then")
    note("      wcp-route enroll record.json --package DIR --config hall.toml")
    note("      wcp-route decide request.json --config hall.toml")
    return 0


def _make_worker(directory: str) -> None:
    """Write a worker, sign it with a new key, trust that key, and enroll the worker."""
    from dataclasses import replace

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from wcp_attest import KeySigner, build_manifest, sign
    from wcp_route.domain.record_model import read_record
    from wcp_route.storage.state import open_state

    secret = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key, worker = KeySigner.from_file_bytes(secret, None), read_record(_RECORD)
    root = os.path.abspath(os.path.join(directory, "worker"))
    os.makedirs(os.path.join(root, "code"))
    for name, data in (
        ("worker.key", secret),
        ("worker.pub", key.public_pem()),
        ("trust.toml", _POLICY.encode()),
        ("worker/code/worker_logic.py", _LOGIC.encode()),
    ):
        with create_file(os.path.join(directory, name)) as file:
            file.write(data)
        say(os.path.join(directory, name))
    species = worker.worker_species_id
    manifest = build_manifest(root, worker_id=worker.worker_id, worker_species_id=species, worker_version="1.0.0")
    sign(root, [key], manifest=manifest)
    with open_state(os.path.join(directory, "hall.db")) as state:
        state.registry.enroll(replace(worker, package_root=root), by=os_user(), via=f"os-user:{os_user()}")
