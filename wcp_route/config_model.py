"""The settings of a Hall as a TOML file.

env = "prod"
require_signatory = true
allowed_tenants = ["acme"]
[blast_thresholds]
prod = 85
[[ceiling]]
envs = ["prod"]
data_labels = ["PUBLIC", "INTERNAL"]
network_egress = "allowlisted"
egress_allowlist = ["api.acme.example"]
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from wcp_attest.base import toml_table as stricttoml
from wcp_attest.base.errors import ConfigError
from wcp_route.config import (
    MAX_APPROVAL_SECONDS,
    MAX_CALLBACK_SECONDS,
    MAX_DECISION_SECONDS,
    Ceiling,
    HallConfig,
    Mode,
    Scope,
)
from wcp_route.domain.values import DataLabel, Egress, Env, Level
from wcp_route.domain.wire_model import ControlId, Hosts, Model, Names, Paths, Text, Token, WireError, read, unique

MAX_CONFIG_BYTES: Final = 1 << 20
_WHAT: Final = "Hall configuration"

Tenants = Annotated[list[Token], AfterValidator(unique)]
Score = Annotated[int, Field(ge=0, le=100)]
Sum = Annotated[int, Field(ge=0, le=10_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CeilingModel(Model):
    """What privilege envelopes may hold at most."""

    envs: Annotated[list[Env], Field(min_length=1)]
    data_labels: Annotated[list[DataLabel], Field(min_length=1)]
    secrets_access: Names = Field(default_factory=list)
    network_egress: Egress = "none"
    egress_allowlist: Hosts = Field(default_factory=list)
    filesystem_writes: Paths = Field(default_factory=list)
    tools: Names = Field(default_factory=list)


class FilesModel(Model):
    """The files of a Hall, for programs that open one by its settings; relative names are beside the settings."""

    rules: Text = ""
    policy: Text = ""
    state: Text = ""
    receipt_key: Text = ""
    cedar: Text = ""
    cedar_payload: Text = ""
    events: Text = ""


class HallConfigModel(Model):
    """The wire form of `HallConfig`; what is left out has the value that refuses."""

    env: Env
    policy_version: Token = "policy.v0"  # a version, no secret
    require_signatory: bool = False
    allowed_tenants: Tenants = Field(default_factory=list)
    tenant_credentials: dict[str, Sha256] = Field(default_factory=dict)
    require_credential: bool = False
    enforce_correlation_id: bool = True
    enforce_required_controls: bool = True
    enforce_blast_scoring_in_prod: bool = True
    enforce_privilege_envelopes: bool = True
    ask_policy_gate: bool = False
    controls_present: list[ControlId] = Field(default_factory=list)
    control_scopes: dict[ControlId, Scope] = Field(default_factory=dict)
    blast_thresholds: dict[Env, Score] | None = None
    chain_thresholds: dict[Env, Sum] | None = None
    ceiling: list[CeilingModel] = Field(default_factory=list)
    attestation: Mode = "always"
    seal_directory: str = ""
    fall_through_to_next_attested_worker: bool = False
    supervisor_level: Level = "gatekeeper"
    approval_seconds: Annotated[int, Field(ge=1, le=MAX_APPROVAL_SECONDS)] = 3600
    callback_seconds: Annotated[float, Field(gt=0, le=MAX_CALLBACK_SECONDS)] = 1.0
    decision_seconds: Annotated[float, Field(gt=0, le=MAX_DECISION_SECONDS)] = 10.0
    requests_per_second: Annotated[int, Field(ge=1)] | None = None
    unsafe_dispatch_workers_without_attestation: bool = False
    unsafe_dispatch_without_signed_durable_receipts: bool = False
    files: FilesModel = FilesModel()
    service: dict[str, Any] = Field(default_factory=dict)  # read by the service alone

    def to_value(self) -> HallConfig:
        """Return the frozen value.

        Raises:
            ConfigError: settings contradict each other, or the environment refuses them.
        """
        given: dict[str, Any] = {
            name: getattr(self, name) for name in self.model_fields_set - {"ceiling", "files", "service"}
        }
        for name in ("allowed_tenants", "controls_present"):
            if name in given:
                given[name] = frozenset(given[name])
        ceilings = []
        for table in self.ceiling:
            members: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in table.__dict__.items()
            }
            ceilings.append(Ceiling(**members))
        return HallConfig(
            ceilings=tuple(ceilings), **{name: value for name, value in given.items() if value is not None}
        )


def read_config(data: bytes) -> HallConfig:
    """Read the settings from TOML.

    Raises:
        WireError: it is not TOML, or the shape is wrong.
        ConfigError: settings contradict each other, or the environment refuses them.
    """
    model = _read_model(data)
    try:
        return model.to_value()
    except ConfigError as problem:
        raise ConfigError(f"{_WHAT}: {problem}") from None


@dataclass(frozen=True, slots=True)
class HallFile:
    """What hall.toml says.

    Attributes:
        config: the settings.
        files: the files it names, by what they are (`rules`, `policy`, `state`, `receipt_key`, `cedar`, `events`).
        service: its table `[service]`, as it stands.
    """

    config: HallConfig
    files: dict[str, str]
    service: dict[str, Any]


def read_hall_file(path: str | os.PathLike[str]) -> HallFile:
    """Read hall.toml.

    Args:
        path: where it is; relative names in `[files]` are relative to its directory.

    Raises:
        WireError: it is not TOML, or the shape is wrong.
        ConfigError: it cannot be read, settings contradict each other, or the environment refuses them.
    """
    place = os.fspath(path)
    try:
        with open(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as problem:
        raise ConfigError(f"cannot read the {_WHAT} {place!r}: {(problem.strerror or '').lower()}") from None
    files = read_files(data, os.path.dirname(os.path.abspath(place)))
    return HallFile(read_config(data), files, _read_model(data).service)


def read_files(data: bytes, folder: str) -> dict[str, str]:
    """Return the files that the settings name, by what they are.

    Args:
        data: the settings (TOML).
        folder: where the settings are; relative names are relative to it.

    Raises:
        WireError: it is not TOML, or the shape is wrong.
    """
    named = _read_model(data).files
    return {
        name: path if "://" in path else os.path.join(folder, path) for name, path in named.model_dump().items() if path
    }


def _read_model(data: bytes) -> HallConfigModel:
    if len(data) > MAX_CONFIG_BYTES:
        raise WireError(f"{_WHAT} is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = stricttoml.loads(data, _WHAT)
    except ConfigError as problem:
        raise WireError(str(problem)) from None
    unknown = [name for name in document if name not in HallConfigModel.model_fields]
    if unknown:
        near = difflib.get_close_matches(unknown[0], HallConfigModel.model_fields, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise WireError(f"{_WHAT} at `/{unknown[0][:64]}`: there is no such setting{hint}", f"/{unknown[0][:64]}")
    return read(HallConfigModel, document, what=_WHAT, max_bytes=MAX_CONFIG_BYTES)
