"""A Hall to try: two signed workers, rules, and two tokens. `wcp-route serve --demo DIR` makes it and serves it."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import replace
from hashlib import sha256

from wcp_attest import KeySigner, build_manifest, sign
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.record_model import read_record
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

WORKERS = (("summarizer", "cap.doc.summarize", "PUBLIC"), ("payer", "cap.pay.transfer", "INTERNAL"))


def make(directory: str) -> dict[str, str]:
    """Write a Hall into a new directory.

    Args:
        directory: where; it must not exist.

    Returns:
        The tokens by name; they stand nowhere else.

    Raises:
        ConfigError: the directory exists, or cannot be written.
    """
    try:
        os.makedirs(directory)
    except FileExistsError:
        raise ConfigError(
            f"{directory!r} is there already and is no demo (it has no hall.toml); name a directory that does not exist"
        ) from None
    except OSError as problem:
        raise ConfigError(f"cannot make {directory!r}: {(problem.strerror or str(problem)).lower()}") from None
    root = os.path.abspath(directory)
    signer, worker_key = _new_key()
    receipts, receipt_key = _new_key()
    del worker_key  # the workers are signed once; their key is not kept
    _write(root, "worker.pub", signer.public_pem())
    _write(root, "receipts.key", receipt_key, mode=0o600)
    _write(root, "receipts.key.pub", receipts.public_pem())
    _write(
        root, "trust.toml", b'version = 1\n[[namespace]]\nname = "org.demo"\n[[namespace.signer]]\nkey = "worker.pub"\n'
    )
    rules, records = [], []
    for name, capability, _ in WORKERS:
        package = os.path.join(root, name)
        os.makedirs(os.path.join(package, "code"))
        _write(package, "code/worker_logic.py", b"def execute(request, context=None):\n    return request\n")
        worker, species = f"org.demo.{name}", f"wrk.demo.{name}"
        sign(package, [signer], manifest=build_manifest(
            package, worker_id=worker, worker_species_id=species, worker_version="1.0.0"
        ))  # fmt: skip
        human = {"escalation": {"human_required_default": True, "rationale": "money moves"}} if name == "payer" else {}
        chosen = {"candidate_workers_ranked": [{"worker_species_id": species}], **human}
        rules.append({"rule_id": name, "match": {"capability_id": capability}, "decision": chosen})
        record = {
            "worker_id": worker, "worker_species_id": species, "capabilities": [capability], "risk_tier": "low",
            "idempotency": "full", "determinism": "deterministic", "required_controls": [],
            "currently_implements": [], "allowed_environments": ["dev", "stage", "prod"], "owner": "org.demo",
            "privilege_envelope": {
                "secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []
            },
            "blast_radius": {"data": 0, "network": 0, "financial": 0, "time": 0, "reversibility": 0},
        }  # fmt: skip
        records.append(replace(read_record(json.dumps(record).encode()), package_root=package))
    _write(root, "rules.json", json.dumps({"rules": rules}, indent=2).encode())
    key = KeyFileSigner.from_file_bytes(receipt_key, what="receipt key")
    with open_state(os.path.join(root, "hall.db"), signer=key) as state:
        for one in records:
            state.registry.enroll(one, by="demo")
    tokens = {name: secrets.token_urlsafe(24) for name in ("platform", "ada")}
    lines = [
        'env = "stage"\n[files]\nrules = "rules.json"\npolicy = "trust.toml"\nstate = "hall.db"\n',
        'receipt_key = "receipts.key"\n[service]\nlisten = "127.0.0.1:7777"\n',
    ]
    roles = {"platform": '["router"]', "ada": '["reader", "approver", "operator"]\nlevel = "gatekeeper"'}
    for name, token in tokens.items():
        digest = sha256(token.encode()).hexdigest()
        lines.append(f'[[service.token]]\nname = "{name}"\nsha256 = ["{digest}"]\nroles = {roles[name]}\n')
    _write(root, "hall.toml", "".join(lines).encode(), mode=0o600)
    return tokens


def _new_key() -> tuple[KeySigner, bytes]:
    """Return a new Ed25519 key, and its file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    data = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeySigner.from_file_bytes(data, None), data


def _write(root: str, name: str, data: bytes, *, mode: int = 0o644) -> None:
    with open(os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
