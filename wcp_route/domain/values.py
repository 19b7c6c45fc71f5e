"""The inputs of a decision: a checked request, and the registry as a decision sees it.

`wcp_route.domain` makes these values from JSON and refuses all other input; this module does not check them again. All
are frozen. Words are plain text (`"prod"`, `"RESTRICTED"`), as on the wire, with `Literal` types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wcp_route.domain.terms import (
    DATA_LABELS,
    ENVS,
    GUARDED_ENVS,
    LEVELS,
    MAX_SCORE,
    QOS_CLASSES,
    TENANT_RISKS,
    DataLabel,
    Determinism,
    Egress,
    Env,
    HashMethod,
    Idempotency,
    Level,
    QosClass,
    RiskTier,
    TenantRisk,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.record import BlastRadius, WorkerRecord


__all__ = [
    "DATA_LABELS",
    "ENVS",
    "GUARDED_ENVS",
    "LEVELS",
    "MAX_SCORE",
    "QOS_CLASSES",
    "TENANT_RISKS",
    "DataLabel",
    "Determinism",
    "Egress",
    "Env",
    "HashMethod",
    "Idempotency",
    "Level",
    "QosClass",
    "Quarantine",
    "RegistrySnapshot",
    "RiskTier",
    "RouteInput",
    "TenantRisk",
]


@dataclass(frozen=True, slots=True)
class RouteInput:
    """One request for work, checked.

    Attributes:
        capability_id: what the worker must be able to do, `cap.doc.summarize`.
        tenant_id: the tenant that the work is for.
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
        policy_version: the policy that the caller expects to be in force; empty when the caller names none.
        reported: the corrections that were made to the input (only in dev).
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
class Quarantine:
    """Why a worker must not be used until an operator clears it.

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
