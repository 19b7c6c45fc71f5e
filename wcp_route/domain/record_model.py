"""A registry record as it comes over the wire (v0.2 table; records of v0.1 lack the last four fields)."""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from wcp_attest.base import strictjson
from wcp_route.domain.values import (
    BlastRadius,
    DeclaredAttestation,
    Determinism,
    Egress,
    Env,
    HashMethod,
    Idempotency,
    PrivilegeEnvelope,
    RiskTier,
    WorkerRecord,
)
from wcp_route.domain.wire_model import (
    CapabilityId,
    ControlId,
    Model,
    SpeciesId,
    Text,
    Token,
    WireError,
    WorkerId,
    read,
    unique,
)

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

MAX_RECORD_BYTES: Final = 256 << 10  # the largest catalogue record is a few kB
MAX_ITEMS: Final = 256
_WHAT: Final = "registry record"
_SHA256: Final = r"^sha256:[0-9a-f]{64}$"

# `reversibility` is a number in the protocol's table and a word in every record it shows.
_REVERSIBILITY: Final = {"reversible": 0, "partially-reversible": 3, "irreversible": 5}
# The catalogue spells two of the three determinism values differently.
_DETERMINISM: Final[dict[str, Determinism]] = {
    "deterministic": "deterministic",
    "captured": "captured",
    "captured-deterministic": "captured",
    "nondeterministic": "nondeterministic",
    "non-deterministic": "nondeterministic",
}

CatalogueVersion = Annotated[str, Field(pattern=r"^(?:wcp-catalog@)?[0-9]{1,6}(?:\.[0-9]{1,6}){2}$")]
Dimension = Annotated[int, Field(ge=0, le=5)]


def _check_path(text: str) -> str:
    if not text.startswith("/") or text.startswith("//") or posixpath.normpath(text) != text or not text.isprintable():
        raise ValueError("is not an absolute path in its normal form")
    return text


Names = Annotated[list[Token], Field(max_length=MAX_ITEMS), AfterValidator(unique)]
Paths = Annotated[
    list[Annotated[str, Field(max_length=4096), AfterValidator(_check_path)]],
    Field(max_length=MAX_ITEMS),
    AfterValidator(unique),
]
Hosts = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?$")]],
    Field(max_length=MAX_ITEMS),
    AfterValidator(unique),
]
Controls = Annotated[list[ControlId], Field(max_length=MAX_ITEMS), AfterValidator(unique)]


class BlastRadiusModel(Model):
    """Five dimensions, 0 to 5; reversibility also as a word."""

    data: Dimension
    network: Dimension
    financial: Dimension
    time: Dimension
    reversibility: Dimension | Literal["reversible", "partially-reversible", "irreversible"]

    def to_value(self) -> BlastRadius:
        """Return the frozen value."""
        last = self.reversibility
        number = _REVERSIBILITY[last] if isinstance(last, str) else last
        return BlastRadius(self.data, self.network, self.financial, self.time, number)


class EgressModel(Model):
    """Where an allow-listed worker may connect to."""

    allowlist: Hosts


class PrivilegeEnvelopeModel(Model):
    """What a worker needs at most; all four dimensions must be said."""

    secrets_access: Names
    network_egress: Egress
    filesystem_writes: Paths
    tools: Names
    egress: EgressModel | None = None

    @model_validator(mode="after")
    def _egress_agrees(self) -> PrivilegeEnvelopeModel:
        if (self.network_egress == "allowlisted") != (self.egress is not None and bool(self.egress.allowlist)):
            raise ValueError("`network_egress` is `allowlisted` exactly when `egress.allowlist` names hosts")
        return self

    def to_value(self) -> PrivilegeEnvelope:
        """Return the frozen value."""
        return PrivilegeEnvelope(
            secrets_access=tuple(sorted(self.secrets_access)),
            network_egress=self.network_egress,
            filesystem_writes=tuple(sorted(self.filesystem_writes)),
            tools=tuple(sorted(self.tools)),
            egress_allowlist=tuple(sorted(self.egress.allowlist)) if self.egress else (),
        )


class AttestationModel(Model):
    """What the record says about the worker's code."""

    code_hash: Annotated[str, Field(pattern=_SHA256)]
    hash_method: HashMethod
    attested_at: Text = ""
    attested_by: Text = ""


class RecordModel(Model):
    """The wire form of `WorkerRecord`."""

    worker_id: WorkerId
    worker_species_id: SpeciesId
    capabilities: Annotated[list[CapabilityId], Field(min_length=1, max_length=MAX_ITEMS), AfterValidator(unique)]
    risk_tier: RiskTier
    idempotency: Idempotency
    determinism: Literal["deterministic", "captured", "captured-deterministic", "nondeterministic", "non-deterministic"]
    required_controls: Controls
    currently_implements: Controls
    allowed_environments: Annotated[list[Env], AfterValidator(unique)]
    privilege_envelope: PrivilegeEnvelopeModel
    blast_radius: BlastRadiusModel
    owner: Annotated[Text, Field(min_length=1)]
    contact: Text = ""
    notes: Text = ""
    artifact_hash: Annotated[str, Field(pattern=_SHA256)] | None = None
    catalog_version_min: Annotated[str, Field(pattern=r"^(?:wcp-catalog@)?[0-9]{1,6}(?:\.[0-9]{1,6}){2}$")] | None = (
        None
    )
    attestation: AttestationModel | None = None

    def to_value(self) -> WorkerRecord:
        """Return the frozen value."""
        attestation = self.attestation
        return WorkerRecord(
            worker_id=self.worker_id,
            worker_species_id=self.worker_species_id,
            capabilities=tuple(sorted(self.capabilities)),
            risk_tier=self.risk_tier,
            idempotency=self.idempotency,
            determinism=_DETERMINISM[self.determinism],
            required_controls=tuple(sorted(self.required_controls)),
            currently_implements=tuple(sorted(self.currently_implements)),
            allowed_environments=tuple(sorted(self.allowed_environments)),
            privilege_envelope=self.privilege_envelope.to_value(),
            blast_radius=self.blast_radius.to_value(),
            owner=self.owner,
            contact=self.contact,
            notes=self.notes,
            artifact_hash=self.artifact_hash or "",
            catalog_version_min=self.catalog_version_min or "",
            attestation=None if attestation is None else DeclaredAttestation(**attestation.model_dump()),
        )


def read_record(data: bytes | JsonObject) -> WorkerRecord:
    """Read a record from outside: its shape, and its `artifact_hash` when it has one.

    That hash is a checksum without a key: it finds a record edited by mistake and proves nothing about its author.

    Args:
        data: JSON text, or the parsed object.

    Raises:
        WireError: the shape is wrong (with a pointer), or the checksum does not hold.
    """
    if isinstance(data, bytes):
        data = strictjson.loads_object(data, what=_WHAT, max_bytes=MAX_RECORD_BYTES, error=WireError)
    record = parse_record(data)
    if record.artifact_hash and record.artifact_hash != artifact_hash(data):
        raise WireError(
            f"{_WHAT} at `/artifact_hash`: is not the hash of the other fields; "
            "the record was edited after it was hashed: check the edit, then leave the field out or renew it",
            "/artifact_hash",
        )
    return record


def parse_record(data: bytes | JsonObject) -> WorkerRecord:
    """Read a record that was read before and is kept by a registry; as `read_record`, without the checksum.

    Raises:
        WireError: the shape is wrong.
    """
    return read(RecordModel, data, what=_WHAT, max_bytes=MAX_RECORD_BYTES).to_value()


def artifact_hash(data: JsonObject) -> str:
    """Return the checksum of a record: over the record without that field, keys sorted, compact, ASCII-escaped."""
    rest = {name: value for name, value in data.items() if name != "artifact_hash"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + sha256(text.encode("ascii")).hexdigest()


def dump_record(record: WorkerRecord) -> bytes:
    """Return a record as JSON that `parse_record` reads back; `package_root` is not part of it."""
    value: JsonObject = {
        "worker_id": record.worker_id,
        "worker_species_id": record.worker_species_id,
        "capabilities": list(record.capabilities),
        "risk_tier": record.risk_tier,
        "idempotency": record.idempotency,
        "determinism": record.determinism,
        "required_controls": list(record.required_controls),
        "currently_implements": list(record.currently_implements),
        "allowed_environments": list(record.allowed_environments),
        "privilege_envelope": _dump_envelope(record.privilege_envelope),
        "blast_radius": asdict(record.blast_radius),
        "owner": record.owner,
        "contact": record.contact,
        "notes": record.notes,
    }
    return strictjson.dumps(value | _optional(record))


def _dump_envelope(envelope: PrivilegeEnvelope) -> JsonObject:
    value: JsonObject = {
        "secrets_access": list(envelope.secrets_access),
        "network_egress": envelope.network_egress,
        "filesystem_writes": list(envelope.filesystem_writes),
        "tools": list(envelope.tools),
    }
    if envelope.egress_allowlist:
        value["egress"] = {"allowlist": list(envelope.egress_allowlist)}
    return value


def _optional(record: WorkerRecord) -> JsonObject:
    value: JsonObject = {}
    if record.artifact_hash:
        value["artifact_hash"] = record.artifact_hash
    if record.catalog_version_min:
        value["catalog_version_min"] = record.catalog_version_min
    if record.attestation is not None:
        value["attestation"] = asdict(record.attestation)
    return value
