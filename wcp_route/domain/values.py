"""What comes in, once it has been checked: a request, and the record of a worker.

`wcp_route.domain` makes these from JSON and refuses everything else; nothing here checks again. All are frozen. Text
stays text (`"prod"`, `"RESTRICTED"`) as on the wire, typed by `Literal`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonObject

Env: TypeAlias = Literal["dev", "stage", "prod", "edge"]
DataLabel: TypeAlias = Literal["PUBLIC", "INTERNAL", "RESTRICTED"]
TenantRisk: TypeAlias = Literal["low", "medium", "high"]
QosClass: TypeAlias = Literal["P0", "P1", "P2", "P3"]
RiskTier: TypeAlias = Literal["low", "medium", "high", "critical"]
Idempotency: TypeAlias = Literal["full", "partial", "none"]
Determinism: TypeAlias = Literal["deterministic", "captured", "nondeterministic"]
Egress: TypeAlias = Literal["none", "allowlisted", "unrestricted"]
HashMethod: TypeAlias = Literal["file", "module", "container", "manifest"]
Level: TypeAlias = Literal["advisory", "gatekeeper", "executor", "incident_commander"]

ENVS: Final[tuple[Env, ...]] = get_args(Env)
DATA_LABELS: Final[tuple[DataLabel, ...]] = get_args(DataLabel)
TENANT_RISKS: Final[tuple[TenantRisk, ...]] = get_args(TenantRisk)
QOS_CLASSES: Final[tuple[QosClass, ...]] = get_args(QosClass)
LEVELS: Final[tuple[Level, ...]] = get_args(Level)  # in the order of escalation
MAX_SCORE: Final = 100  # of a request, situational (`wcp_route.gates.blast`)
GUARDED_ENVS: Final[frozenset[Env]] = frozenset({"prod", "edge"})  # where nothing may be switched off


@dataclass(frozen=True, slots=True)
class RouteInput:
    """One request for work, checked.

    Attributes:
        capability_id: what must be possible, `cap.doc.summarize`.
        tenant_id: on whose behalf.
        correlation_id: the caller's own id of the request.
        env: the environment it wants to run in; must be the Hall's.
        data_label: how sensitive the data is.
        tenant_risk: how risky the tenant is.
        qos_class: `P0` is the most critical.
        request: the payload for the worker, as parsed; treat as read-only.
        blast_radius: the caller's own estimate by dimension; may raise the worker's declaration, never lower it.
        blast_score: the caller's score, 0 to 100; may raise the computed one, never lower it.
        chain_id: requests of one chain of workers share it; their declared blast adds up. Empty for none.
        privilege_context: what the caller says it needs (`egress_destination`, …); checked against the envelope.
        dry_run: decide fully, dispatch nothing, hold nothing, use up no grant.
        tenant_credential: a secret; never hashed, stored or echoed.
        policy_version: the policy the caller believes in force; empty when it does not say.
        reported: what had to be put right on input (only in dev), for the record.
    """

    capability_id: str
    tenant_id: str
    correlation_id: str
    env: Env
    data_label: DataLabel
    tenant_risk: TenantRisk
    qos_class: QosClass
    request: JsonObject = field(default_factory=dict)
    blast_radius: BlastRadius | None = None
    blast_score: int | None = None
    chain_id: str = ""
    privilege_context: JsonObject | None = None
    dry_run: bool = False
    tenant_credential: str | None = field(default=None, repr=False)
    policy_version: str = ""
    reported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrivilegeEnvelope:
    """What a worker says it needs at most.

    Attributes:
        secrets_access: names of secrets.
        network_egress: none, only `egress_allowlist`, or anywhere.
        filesystem_writes: absolute path prefixes.
        tools: names of tools.
        egress_allowlist: host names, with `allowlisted`.
    """

    secrets_access: tuple[str, ...] = ()
    network_egress: Egress = "none"
    filesystem_writes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    egress_allowlist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What a worker can break at worst, each dimension 0 (nothing) to 5.

    `reversibility` is 0 reversible, 3 partially-reversible, 5 irreversible when it was given as a word.
    """

    data: int
    network: int
    financial: int
    time: int
    reversibility: int

    @property
    def total(self) -> int:
        """The sum over the five dimensions, 0 to 25."""
        return self.data + self.network + self.financial + self.time + self.reversibility


@dataclass(frozen=True, slots=True)
class DeclaredAttestation:
    """What a record says about the worker's code; informative, because a record vouches for nothing.

    Attributes:
        code_hash: `sha256:` and 64 lower-case hex digits.
        hash_method: what was hashed.
        attested_at: RFC 3339.
        attested_by: who says so.
    """

    code_hash: str
    hash_method: HashMethod
    attested_at: str = ""
    attested_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """An enrolled worker (registry record, v0.2 table), checked.

    Attributes:
        worker_id: `org.acme.doc-summarizer`; attestation, bans, quarantine and receipts go by it.
        worker_species_id: `wrk.doc.summarizer`; rules name species; confers no authority.
        capabilities: what it declares to do, sorted, unique, not empty.
        required_controls: controls it must be surrounded by, folded (`ctrl.obs.audit-log-append-only`), sorted.
        currently_implements: controls it provides, folded, sorted.
        allowed_environments: where it may run; empty means nowhere.
        privilege_envelope: what it needs at most.
        blast_radius: what it can break at worst.
        artifact_hash: `sha256:` checksum of the record as given, empty when not given.
        catalog_version_min: empty when not given.
        attestation: what the record says about the code, when it does.
        package_root: absolute path of the package tree that is verified and dispatched; set by the operator at
            enrolment, never read from the record. Empty when there is none, which no attesting Hall accepts.
    """

    worker_id: str
    worker_species_id: str
    capabilities: tuple[str, ...]
    risk_tier: RiskTier
    idempotency: Idempotency
    determinism: Determinism
    required_controls: tuple[str, ...]
    currently_implements: tuple[str, ...]
    allowed_environments: tuple[Env, ...]
    privilege_envelope: PrivilegeEnvelope
    blast_radius: BlastRadius
    owner: str
    contact: str = ""
    artifact_hash: str = ""
    catalog_version_min: str = ""
    attestation: DeclaredAttestation | None = None
    notes: str = ""
    package_root: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a worker is not to be used until an operator clears it.

    Attributes:
        worker_id: which worker.
        reason: a deny code with a sentence; no hashes.
        by: the operator, or `hall` when the router did it.
        at_ms: since when, milliseconds since 1970.
    """

    worker_id: str
    reason: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The registry at one moment; a decision sees exactly one.

    Attributes:
        version: grows with every change that a decision could see; never reused.
        species: enrolled workers by species, each tuple sorted by worker id. Quarantined ones are included.
        workers: the same by worker id.
        quarantined: by worker id; may name workers that are not enrolled.
        implemented: union of `currently_implements` over enrolled workers that are not quarantined.
    """

    version: int
    species: Mapping[str, tuple[WorkerRecord, ...]]
    workers: Mapping[str, WorkerRecord]
    quarantined: Mapping[str, Quarantine]
    implemented: frozenset[str]
