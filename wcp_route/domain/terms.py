"""The words of the protocol: the possible values of environments, labels, levels and so on, as on the wire."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

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
