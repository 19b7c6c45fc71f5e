"""A registry record (v0.2 table; records of v0.1 lack the last four fields): the one table of its fields.

Each field names its type on the wire and how it is read and written. The models that check JSON, the JSON Schema and
the wire form are made from the table (`model_of`, `value_of`, `wire_of`); no other code names the fields.
"""

# ruff: noqa: RUF009  # a column is metadata of its field, no value that instances share

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, create_model, model_validator

from wcp_route.domain.terms import Determinism, Egress, Env, HashMethod, Idempotency, RiskTier
from wcp_route.domain.wire_model import (
    MAX_ITEMS,
    CapabilityId,
    Controls,
    Hosts,
    Model,
    Names,
    Paths,
    SpeciesId,
    Text,
    WorkerId,
    unique,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonObject, JsonValue

T = TypeVar("T")

# `reversibility` is a number in the protocol's table and a word in every record it shows.
_REVERSIBILITY: Final[dict[object, int]] = {"reversible": 0, "partially-reversible": 3, "irreversible": 5}
# The catalogue spells two of the three determinism values differently.
_DETERMINISM: Final[dict[str, Determinism]] = {
    "deterministic": "deterministic",
    "captured": "captured",
    "captured-deterministic": "captured",
    "nondeterministic": "nondeterministic",
    "non-deterministic": "nondeterministic",
}


class Column(NamedTuple):
    """How a field stands in JSON.

    Attributes:
        wire: its type there, for pydantic.
        name: its name there; empty for the same.
        default: its value there when it is left out; `...` when it is required.
        read: makes the value of the dataclass from a checked one.
        write: makes the JSON value; a field whose value is None is left out.
    """

    wire: Any
    name: str
    default: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], JsonValue]


def _same(value: Any) -> Any:
    return value


def _column(  # each is named by its caller
    wire: Any,
    *,
    name: str = "",
    wire_default: Any = ...,
    read: Callable[[Any], Any] = _same,
    write: Callable[[Any], Any] = _same,
    **more: Any,
) -> Any:
    return field(metadata={"column": Column(wire, name, wire_default, read, write)}, **more)


def _sorted(values: list[str]) -> tuple[str, ...]:
    return tuple(sorted(values))


def _optional(wire: Any, **more: Any) -> Any:
    """Return a text that may be left out; empty in the dataclass, absent on the wire."""
    return _column(
        wire | None,
        wire_default=None,
        read=lambda text: text or "",
        write=lambda text: text or None,
        default="",
        **more,
    )


def _columns(of: type) -> list[tuple[str, Column]]:
    return [(each.name, each.metadata["column"]) for each in fields(of) if "column" in each.metadata]


def model_of(of: type, name: str, **validators: Any) -> Any:
    """Return the model that checks the wire form of a table.

    Args:
        of: the dataclass.
        name: of the model.
        validators: pydantic validators, by name.
    """
    members: dict[str, Any] = {column.name or own: (column.wire, column.default) for own, column in _columns(of)}
    return create_model(
        name, __base__=Model, __module__=__name__, __doc__=(of.__doc__ or "").partition("\n")[0],
        __validators__=validators, **members,
    )  # fmt: skip


def value_of(of: type[T], model: Any) -> T:
    """Return the dataclass of a checked model."""
    return of(**{own: column.read(getattr(model, column.name or own)) for own, column in _columns(of)})


def wire_of(value: Any) -> JsonObject:
    """Return the wire form of such a dataclass; its model can read it back."""
    written = {column.name or own: column.write(getattr(value, own)) for own, column in _columns(type(value))}
    return {name: one for name, one in written.items() if one is not None}


class EgressModel(Model):
    """Where an allow-listed worker may connect to."""

    allowlist: Hosts


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

    secrets_access: tuple[str, ...] = _column(Names, read=_sorted, write=list, default=())
    network_egress: Egress = _column(Egress, default="none")
    filesystem_writes: tuple[str, ...] = _column(Paths, read=_sorted, write=list, default=())
    tools: tuple[str, ...] = _column(Names, read=_sorted, write=list, default=())
    egress_allowlist: tuple[str, ...] = _column(
        EgressModel | None,
        name="egress",
        wire_default=None,
        read=lambda egress: _sorted(egress.allowlist) if egress else (),
        write=lambda hosts: {"allowlist": list(hosts)} if hosts else None,
        default=(),
    )


def _egress_agrees(model: Any) -> Any:
    if (model.network_egress == "allowlisted") != (model.egress is not None and bool(model.egress.allowlist)):
        raise ValueError("`network_egress` is `allowlisted` exactly when `egress.allowlist` names hosts")
    return model


_DIMENSION: Final = Annotated[int, Field(ge=0, le=5)]


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What a worker can break at worst, each dimension 0 (nothing) to 5.

    `reversibility` is 0 reversible, 3 partially-reversible, 5 irreversible when it was given as a word.
    """

    data: int = _column(_DIMENSION)
    network: int = _column(_DIMENSION)
    financial: int = _column(_DIMENSION)
    time: int = _column(_DIMENSION)
    reversibility: int = _column(
        _DIMENSION | Literal["reversible", "partially-reversible", "irreversible"],
        read=lambda given: _REVERSIBILITY.get(given, given),
    )

    @property
    def total(self) -> int:
        """The sum over the five dimensions, 0 to 25."""
        return self.data + self.network + self.financial + self.time + self.reversibility


_SHA256: Final = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class DeclaredAttestation:
    """What a record says about the worker's code; a record vouches for nothing, and the gate compares it.

    Attributes:
        code_hash: `sha256:` and 64 lower-case hex digits.
        hash_method: what was hashed.
        attested_at: RFC 3339.
        attested_by: who says so.
    """

    code_hash: str = _column(_SHA256)
    hash_method: HashMethod = _column(HashMethod)
    attested_at: str = _column(Text, wire_default="", default="")
    attested_by: str = _column(Text, wire_default="", default="")


PrivilegeEnvelopeModel: Any = model_of(
    PrivilegeEnvelope, "PrivilegeEnvelopeModel", egress_agrees=model_validator(mode="after")(_egress_agrees)
)
BlastRadiusModel: Any = model_of(BlastRadius, "BlastRadiusModel")
AttestationModel: Any = model_of(DeclaredAttestation, "AttestationModel")


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """An enrolled worker (registry record, v0.2 table), checked.

    Attributes:
        worker_id: `org.acme.doc-summarizer`; attestation, bans, quarantine and receipts use this id.
        worker_species_id: `wrk.doc.summarizer`; rules name species. A species gives no authority.
        capabilities: what it declares that it can do, sorted, unique, not empty.
        required_controls: controls that must surround it, folded (`ctrl.obs.audit-log-append-only`), sorted.
        currently_implements: controls it provides, folded, sorted.
        allowed_environments: where it may run; empty means nowhere.
        privilege_envelope: what it needs at most.
        blast_radius: what it can break at worst.
        artifact_hash: `sha256:` checksum of the record as given, empty when not given.
        catalog_version_min: empty when not given.
        attestation: what the record says about the code; None when it says nothing.
        package_root: absolute path of the package tree that is verified and dispatched. The operator sets it at
            enrolment; it is never read from the record. Empty when there is none; a Hall that attests refuses that.
    """

    worker_id: str = _column(WorkerId)
    worker_species_id: str = _column(SpeciesId)
    capabilities: tuple[str, ...] = _column(
        Annotated[list[CapabilityId], Field(min_length=1, max_length=MAX_ITEMS), AfterValidator(unique)],
        read=_sorted,
        write=list,
    )
    risk_tier: RiskTier = _column(RiskTier)
    idempotency: Idempotency = _column(Idempotency)
    determinism: Determinism = _column(
        Literal["deterministic", "captured", "captured-deterministic", "nondeterministic", "non-deterministic"],
        read=lambda word: _DETERMINISM[word],
    )
    required_controls: tuple[str, ...] = _column(Controls, read=_sorted, write=list)
    currently_implements: tuple[str, ...] = _column(Controls, read=_sorted, write=list)
    allowed_environments: tuple[Env, ...] = _column(
        Annotated[list[Env], AfterValidator(unique)], read=_sorted, write=list
    )
    privilege_envelope: PrivilegeEnvelope = _column(
        PrivilegeEnvelopeModel, read=lambda model: value_of(PrivilegeEnvelope, model), write=wire_of
    )
    blast_radius: BlastRadius = _column(
        BlastRadiusModel, read=lambda model: value_of(BlastRadius, model), write=wire_of
    )
    owner: str = _column(Annotated[Text, Field(min_length=1)])
    contact: str = _column(Text, wire_default="", default="")
    artifact_hash: str = _optional(_SHA256)
    catalog_version_min: str = _optional(
        Annotated[str, Field(pattern=r"^(?:wcp-catalog@)?[0-9]{1,6}(?:\.[0-9]{1,6}){2}$")]
    )
    attestation: DeclaredAttestation | None = _column(
        AttestationModel | None,
        wire_default=None,
        read=lambda model: None if model is None else value_of(DeclaredAttestation, model),
        write=lambda said: None if said is None else wire_of(said),
        default=None,
    )
    notes: str = _column(Text, wire_default="", default="")
    package_root: str = ""
