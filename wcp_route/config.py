"""The settings of a Hall. The defaults refuse; what loosens is long to write, and prod and edge refuse the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_type_hints

from pydantic import ValidationError, create_model

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import sha256_of
from wcp_route.domain.terms import DataLabel, Egress, Env, Level  # noqa: TC001  # the model is made of annotations
from wcp_route.domain.values import GUARDED_ENVS, MAX_SCORE
from wcp_route.domain.wire_model import Model, fold_control, refused

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

Scope: TypeAlias = Literal["platform", "hall", "worker"]
Mode: TypeAlias = Literal["always", "sealed", "on-change"]

BLAST_CONTROL: Final = "ctrl.blast-radius-scoring"
PRIVILEGE_CONTROL: Final = "ctrl.privilege-envelopes-required"
# What this Hall does itself whenever a rule asks for it.
HALL_CONTROLS: Final = frozenset({BLAST_CONTROL, PRIVILEGE_CONTROL})
# Who must provide a control. One that is not listed must be provided by the selected worker, the strictest reading.
KNOWN_SCOPES: Final[Mapping[str, Scope]] = MappingProxyType(
    {BLAST_CONTROL: "hall", PRIVILEGE_CONTROL: "hall", "ctrl.obs.audit-log-append-only": "platform"}
)

MAX_CALLBACK_SECONDS: Final = 60.0
MAX_DECISION_SECONDS: Final = 300.0
DEFAULT_THRESHOLD: Final = 85  # the reference's, where a rule demands scoring and no threshold is set
MAX_APPROVAL_SECONDS: Final = 30 * 24 * 3600

_HIGH_SCORE: Final[Mapping[Env, int]] = MappingProxyType({"prod": DEFAULT_THRESHOLD, "edge": DEFAULT_THRESHOLD})
_WHOLE_CHAIN: Final[Mapping[Env, int]] = MappingProxyType({"prod": 25, "edge": 25})  # what one worker can declare


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a worker's privilege envelope may hold at most, for some environments and labels.

    Attributes:
        envs: where it applies.
        data_labels: to which data it applies.
        secrets_access: names; `*` allows any.
        network_egress: the widest kind.
        egress_allowlist: hosts, for `allowlisted`.
        filesystem_writes: absolute path prefixes.
        tools: names; `*` allows any.
    """

    envs: tuple[Env, ...]
    data_labels: tuple[DataLabel, ...]
    secrets_access: tuple[str, ...] = ()
    network_egress: Egress = "none"
    egress_allowlist: tuple[str, ...] = ()
    filesystem_writes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _own(self)


@dataclass(frozen=True, slots=True)
class HallConfig:
    """The settings of a Hall.

    Attributes:
        env: the one environment it dispatches into; a request for another is refused.
        policy_version: attached to decisions where no policy gate says another.
        require_signatory: refuse tenants that are not in `allowed_tenants`.
        allowed_tenants: exact tenant ids.
        tenant_credentials: by tenant, the SHA-256 of its credential as 64 lower-case hex digits; a tenant listed here
            must bring it.
        require_credential: refuse tenants that are not listed in `tenant_credentials`.
        enforce_correlation_id: refuse a blank correlation id whatever the rule says.
        enforce_required_controls: refuse missing controls whatever the rule says.
        enforce_blast_scoring_in_prod: score every request in prod and edge.
        enforce_privilege_envelopes: check the worker's envelope whatever the rule says.
        ask_policy_gate: ask the policy gate whatever the rule says.
        controls_present: controls that the platform or the Hall's surroundings provide, folded.
        control_scopes: who must provide a control, on top of `KNOWN_SCOPES`.
        blast_thresholds: situational score (0 to 100) from which a human must say, by environment; prod and edge
            need one.
        chain_thresholds: the most that the declared scores of a chain may add up to, by environment; prod and edge
            need one.
        ceilings: what envelopes may hold; the first that applies counts.
        attestation: how the package verifier is used.
        seal_directory: where sealed copies are kept, for `sealed`; only the Hall may write there.
        fall_through_to_next_attested_worker: when a worker is refused, try the next candidate instead of refusing.
        supervisor_level: who must say, where the policy gate does not name a level.
        approval_seconds: how long a hold waits.
        callback_seconds: how long a policy gate may take, and all availability checks of one decision together.
        decision_seconds: how long a decision may take in all, with locks, ban lists, callbacks and its receipt.
        requests_per_second: the most that one tenant may ask of this Hall in a second; None for no limit.
        unsafe_dispatch_workers_without_attestation: dispatch without knowing what is dispatched.
        unsafe_dispatch_without_signed_durable_receipts: let a Hall for prod or edge start that leaves no evidence, or
            evidence that anybody could have written.
    """

    env: Env
    policy_version: str = "policy.v0"
    require_signatory: bool = False
    allowed_tenants: frozenset[str] = frozenset()
    tenant_credentials: Mapping[str, str] = field(default_factory=dict)
    require_credential: bool = False
    enforce_correlation_id: bool = True
    enforce_required_controls: bool = True
    enforce_blast_scoring_in_prod: bool = True
    enforce_privilege_envelopes: bool = True
    ask_policy_gate: bool = False
    controls_present: frozenset[str] = frozenset()
    control_scopes: Mapping[str, Scope] = field(default_factory=dict)
    blast_thresholds: Mapping[Env, int] = field(default_factory=lambda: dict(_HIGH_SCORE))
    chain_thresholds: Mapping[Env, int] = field(default_factory=lambda: dict(_WHOLE_CHAIN))
    ceilings: tuple[Ceiling, ...] = ()
    attestation: Mode = "always"
    seal_directory: str = ""
    fall_through_to_next_attested_worker: bool = False
    supervisor_level: Level = "gatekeeper"
    approval_seconds: int = 3600
    callback_seconds: float = 1.0
    decision_seconds: float = 10.0
    requests_per_second: int | None = None
    unsafe_dispatch_workers_without_attestation: bool = False
    unsafe_dispatch_without_signed_durable_receipts: bool = False

    def __post_init__(self) -> None:
        _own(self)
        folded: dict[str, object] = {
            "controls_present": frozenset(fold_control_id(name) for name in self.controls_present),
            "control_scopes": MappingProxyType({fold_control_id(k): v for k, v in self.control_scopes.items()}),
        }
        for name, value in folded.items():
            object.__setattr__(self, name, value)
        problem = _problem(self)
        if problem is not None:
            raise ConfigError(problem)

    def digest(self) -> str:
        """Return `sha256:` and the hash of all settings."""
        return sha256_of(cast("JsonValue", _plain(self)))

    def scope_of(self, control: str) -> Scope:
        """Return who must provide a control."""
        return self.control_scopes.get(control) or KNOWN_SCOPES.get(control, "worker")


def _own(settings: HallConfig | Ceiling) -> None:
    """Give settings collections of their own, so that nobody changes them later, and check what Python does not.

    `"false"` would switch a setting on, and `"prod" in "prod-like"` is true.

    Raises:
        ConfigError: a value is not what its annotation says.
    """
    for column in fields(settings):
        make = _COLLECTIONS.get(str(column.type).partition("[")[0])
        value = getattr(settings, column.name)
        if make is not None and isinstance(value, Iterable) and not isinstance(value, str | bytes):
            try:
                object.__setattr__(settings, column.name, make(value))
            except (TypeError, ValueError):  # the model refuses it
                continue
    model = _model_of("Ceiling" if isinstance(settings, Ceiling) else "HallConfig")
    given = {name: getattr(settings, name) for name in model.model_fields}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in given.items()}
    try:
        model.model_validate(plain)
    except ValidationError as problem:
        raise ConfigError(str(refused(problem, model.__name__, model))) from None


_COLLECTIONS: Final[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
    {"frozenset": frozenset, "tuple": tuple, "Mapping": lambda given: MappingProxyType(dict(given))}
)


@lru_cache
def _model_of(name: str) -> type[Model]:
    """Return a strict model with the fields of one of the two classes."""
    hints = get_type_hints({"HallConfig": HallConfig, "Ceiling": Ceiling}[name])
    members: dict[str, Any] = {field_name: (hint, ...) for field_name, hint in hints.items()}
    return create_model(name, __base__=Model, **members)


def _problem(config: HallConfig) -> str | None:
    """Return the first setting that this Hall must not or cannot have, or None."""
    env, guarded = config.env, config.env in GUARDED_ENVS
    problems = (
        (
            guarded and config.unsafe_dispatch_workers_without_attestation,
            f"a Hall for {env} attests its workers; take unsafe_dispatch_workers_without_attestation out",
        ),
        (
            guarded and config.attestation == "on-change",
            f"attestation `on-change` misses changes that keep times and sizes; use always or sealed in {env}",
        ),
        (
            config.attestation == "sealed" and not config.seal_directory,
            "attestation `sealed` needs a seal_directory that only the Hall may write to",
        ),
        (
            config.require_signatory and not config.allowed_tenants,
            "require_signatory is on and allowed_tenants is empty: every request would be refused; list the tenants",
        ),
        (
            any(len(one) != 64 or one.strip("0123456789abcdef") for one in config.tenant_credentials.values()),
            "tenant_credentials holds what is no SHA-256: 64 lower-case hex digits of the credential's hash",
        ),
        (
            not 0 < config.callback_seconds <= MAX_CALLBACK_SECONDS,
            f"callback_seconds must be more than 0 and at most {MAX_CALLBACK_SECONDS:g}",
        ),
        (
            not 0 < config.decision_seconds <= MAX_DECISION_SECONDS,
            f"decision_seconds must be more than 0 and at most {MAX_DECISION_SECONDS:g}",
        ),
        (
            not 0 < config.approval_seconds <= MAX_APPROVAL_SECONDS,
            f"approval_seconds must be more than 0 and at most {MAX_APPROVAL_SECONDS}",
        ),
        (
            config.requests_per_second is not None and config.requests_per_second < 1,
            "requests_per_second must be at least 1; leave it out for no limit",
        ),
    )
    found = next((message for wrong, message in problems if wrong), None)
    if found is not None or not guarded:
        return found
    # A table that names other environments only would switch the gate off in this one without a word.
    for name, table in (("blast_thresholds", config.blast_thresholds), ("chain_thresholds", config.chain_thresholds)):
        if env not in table:
            return f"{name} names no threshold for {env}, which needs one; add {env} to it"
    if not 0 <= config.blast_thresholds[env] <= MAX_SCORE:
        return f"the blast threshold for {env} must be 0 to {MAX_SCORE}; no score is higher"
    return None


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Ceiling | HallConfig):
        return {column.name: _plain(getattr(value, column.name)) for column in fields(value)}
    return value


def fold_control_id(text: str) -> str:
    """Return a control id in its one spelling.

    Raises:
        ConfigError: it is no control id.
    """
    try:
        return fold_control(text)
    except ValueError as problem:
        raise ConfigError(f"control {text[:80]!r} {problem}") from None
