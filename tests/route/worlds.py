"""Small real worlds to decide in: signed packages on disk, registries, rules, Halls."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.route.stores import MemoryRegistry
from wcp_attest import KeySigner, Namespace, Policy, TrustedKey, build_manifest, sign
from wcp_attest.base.identity import namespace_of
from wcp_attest.signing.key import generate
from wcp_route.config import Ceiling, HallConfig
from wcp_route.domain.record_model import read_record
from wcp_route.domain.values import DATA_LABELS, ENVS
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.storage.registry import LedgerRegistry

WORKER = "org.acme.doc-summarizer"
SPECIES = "wrk.doc.summarizer"
CAPABILITY = "cap.doc.summarize"
AUDIT = "ctrl.obs.audit-log-append-only"
START_MS = 1_800_000_000_000

GENEROUS = (
    Ceiling(
        envs=ENVS,
        data_labels=DATA_LABELS,
        secrets_access=("*",),
        network_egress="unrestricted",
        filesystem_writes=("/",),
        tools=("*",),
    ),
)


def a_record(**changes: Any) -> JsonObject:
    """A complete registry record, as JSON."""
    record: JsonObject = {
        "worker_id": WORKER,
        "worker_species_id": SPECIES,
        "capabilities": [CAPABILITY],
        "risk_tier": "low",
        "idempotency": "full",
        "determinism": "deterministic",
        "required_controls": [],
        "currently_implements": [],
        "allowed_environments": ["dev", "stage", "prod", "edge"],
        "privilege_envelope": {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []},
        "blast_radius": {"data": 1, "network": 0, "financial": 0, "time": 1, "reversibility": 0},
        "owner": "org.acme",
    }
    return {**record, **changes}


def a_rule(rule_id: str = "rule-1", *, match: JsonObject | None = None, **decision: Any) -> JsonObject:
    """One rule, as JSON; it matches everything unless told otherwise."""
    return {
        "rule_id": rule_id,
        "match": {"capability_id": {"any": True}} if match is None else match,
        "decision": {"candidate_workers_ranked": [{"worker_species_id": SPECIES, "score_hint": 1.0}], **decision},
    }


def a_request(**changes: Any) -> JsonObject:
    """One request, as JSON."""
    request: JsonObject = {
        "capability_id": CAPABILITY,
        "tenant_id": "acme",
        "correlation_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "env": "dev",
        "data_label": "INTERNAL",
        "tenant_risk": "low",
        "qos_class": "P2",
        "request": {"text": "hello"},
    }
    return {**request, **changes}


def make_package(root: Path, signer: KeySigner, worker_id: str = WORKER, species_id: str = SPECIES) -> str:
    """Write and sign a package of five files."""
    (root / "code").mkdir(parents=True)
    (root / "code" / "worker_logic.py").write_text("def execute(request, context=None):\n    return request\n")
    (root / "code" / "bootstrap.py").write_text("print('hello')\n")
    (root / "requirements.lock").write_text("")
    (root / "config.schema.json").write_text("{}\n")
    (root / "model.bin").write_bytes(bytes(range(256)) * 32)
    manifest = build_manifest(
        str(root), worker_id=worker_id, worker_species_id=species_id, worker_version="1.0.0", build_source="local"
    )
    sign(str(root), [signer], manifest=manifest)
    return str(root)


def trust(*signers: KeySigner, namespaces: Iterable[str] = ("org.acme",)) -> Policy:
    """A trust policy that trusts these keys."""
    keys = tuple(TrustedKey.from_file_bytes(signer.public_pem()) for signer in signers)
    return Policy(tuple(Namespace(name, keys=keys) for name in sorted({*namespaces})))


class Ticking:
    """A clock that stands still until it is told."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Counting:
    """Ids that count, so that two runs give the same ones."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> str:
        self.number += 1
        return f"00000000-0000-4000-8000-{self.number:012x}"


@dataclass
class World:
    """One enrolled, signed worker and a Hall that decides about it."""

    directory: Path
    signer: KeySigner = field(default_factory=generate)
    registry: LedgerRegistry = field(default_factory=MemoryRegistry)
    clock: Ticking = field(default_factory=Ticking)

    def package(self, worker_id: str = WORKER, species_id: str = SPECIES) -> str:
        """Return the package of a worker, made when it is first asked for."""
        root = self.directory / worker_id
        return str(root) if root.exists() else make_package(root, self.signer, worker_id, species_id)

    def enroll(self, record: JsonObject | None = None, *, replace_: bool = False) -> WorkerRecord:
        """Enrol a worker together with its package."""
        worker = read_record(a_record() if record is None else record)
        worker = replace(worker, package_root=self.package(worker.worker_id, worker.worker_species_id))
        self.registry.enroll(worker, replace=replace_)
        return worker

    def hall(
        self, *rules: JsonObject, config: HallConfig | None = None, services: Services | None = None, **settings: Any
    ) -> Hall:
        """Return a Hall for these rules, one rule for everything by default."""
        config = config or HallConfig(**{"env": "dev", **settings})
        if services is None or services.receipts is None:  # most tests are not about receipts
            config = replace(config, unsafe_dispatch_without_signed_durable_receipts=True)
        services = services or Services(clock=self.clock, ids=Counting())
        spoken_for = {"org.acme", *(namespace_of(worker.worker_id) for worker in self.registry.workers())}
        policy = trust(self.signer, namespaces=spoken_for)
        return Hall({"rules": list(rules or (a_rule(),))}, self.registry, policy, config, services=services)


def tamper(root: str) -> None:
    """Change one byte of the worker's code."""
    path = os.path.join(root, "code", "worker_logic.py")
    with open(path, "r+b") as file:
        file.seek(4)
        file.write(b"E")
