"""The rules document as it comes over the wire (wcp 4), compiled on the way in.

    {"rules": [{"rule_id": "prod-summaries",
                "match": {"capability_id": "cap.doc.summarize", "env": {"in": ["prod", "edge"]}},
                "decision": {"candidate_workers_ranked": [{"worker_species_id": "wrk.doc.summarizer"}],
                             "required_controls_suggested": ["ctrl.obs.audit-log-append-only"]}}]}

A condition is a value, `{"eq": value}`, `{"in": [values]}` or `{"any": true}`; a key that is left out is any. Values of
the four closed axes must be of their sets, so a misspelt `"prodd"` is an error and not a rule that never matches.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError

from wcp_route.canonical import sha256_of
from wcp_route.cells import mask_of
from wcp_route.decision import Candidate, Escalation, Preconditions
from wcp_route.rules import MAX_RULES, Rule, RuleSet
from wcp_route.values import DataLabel, Env, QosClass, TenantRisk
from wcp_route.wire.model import (
    CapabilityId,
    ControlId,
    Model,
    SpeciesId,
    Text,
    Token,
    WireError,
    read,
    refused,
    unique,
)

if TYPE_CHECKING:
    from wcp_attest.strictjson import JsonValue

MAX_RULES_BYTES: Final = 64 << 20
MAX_CANDIDATES: Final = 64
MAX_IN: Final = 1024  # capabilities that one condition lists; more deserve another rule
_WHAT: Final = "rules document"

_NO_ESCALATION: Final = Escalation()
_USUAL: Final = Preconditions()

V = TypeVar("V")


class AnyModel(Model):
    """`{"any": true}`: every value."""

    any: Literal[True]

    def values(self) -> None:
        """Return no list: there is no limit."""


ANY: Final = AnyModel(any=True)


class EqModel(Model, Generic[V]):
    """`{"eq": value}`: this value."""

    eq: V

    def values(self) -> tuple[V, ...]:
        """Return the one value."""
        return (self.eq,)


class InModel(Model, Generic[V]):
    """`{"in": [values]}`: one of these values."""

    in_: Annotated[list[V], Field(alias="in", min_length=1, max_length=MAX_IN), AfterValidator(unique)]

    def values(self) -> tuple[V, ...]:
        """Return the values, in the document's order."""
        return tuple(self.in_)


def _variant(value: object) -> str:
    """Name the variant of a condition; what is none of them is read as a value, and refused as one."""
    if isinstance(value, dict):
        for operator in ("any", "in", "eq"):
            if operator in value:
                return f"({operator})"
        return "(any)"  # its error says that `any` is missing, and names the unknown operator
    return "(value)"


Condition = Annotated[
    Annotated[V, Tag("(value)")]
    | Annotated[AnyModel, Tag("(any)")]
    | Annotated[EqModel[V], Tag("(eq)")]
    | Annotated[InModel[V], Tag("(in)")],
    Discriminator(_variant),
]


def _values(condition: Any) -> tuple[str, ...] | None:
    """Return the values a condition allows, or none for any."""
    return (condition,) if type(condition) is str else condition.values()


class CellsModel(Model):
    """Conditions on the four closed axes; one that is left out is any, `null` is none of them."""

    env: Condition[Env] = ANY
    data_label: Condition[DataLabel] = ANY
    tenant_risk: Condition[TenantRisk] = ANY
    qos_class: Condition[QosClass] = ANY

    def cells(self) -> int:
        """Return the cells in which all of them hold."""
        conditions = (
            ("env", self.env),
            ("data_label", self.data_label),
            ("tenant_risk", self.tenant_risk),
            ("qos_class", self.qos_class),
        )
        return mask_of((axis, values) for axis, condition in conditions if (values := _values(condition)) is not None)


class MatchModel(CellsModel):
    """Conditions of a rule."""

    capability_id: Condition[CapabilityId] = ANY


class CandidateModel(Model):
    """One candidate species; `score_hint` is for people, the order decides."""

    worker_species_id: SpeciesId
    score_hint: Annotated[float, Field(allow_inf_nan=False)] | None = None


_candidate = lru_cache(maxsize=4096)(Candidate)  # rules name the same few species over and over


class EscalationModel(Model):
    """What the rule says about people and policy."""

    policy_gate: bool = False
    msavx_step_up: bool = False
    human_required_default: bool = False
    human_required_if: Annotated[list[CellsModel], Field(max_length=MAX_CANDIDATES)] = Field(default_factory=list)
    rationale: Text = ""

    def cells(self) -> int:
        """Return the cells in which a human is required."""
        cells = 0
        for condition in self.human_required_if:
            cells |= condition.cells()
        return cells

    def to_value(self) -> Escalation:
        """Return the frozen value; most rules share the one that says nothing."""
        if not self.model_fields_set:
            return _NO_ESCALATION
        return Escalation(
            policy_gate=self.policy_gate,
            msavx_step_up=self.msavx_step_up,
            human_required_default=self.human_required_default,
            human_required_if=tuple(c.model_dump(by_alias=True, exclude_unset=True) for c in self.human_required_if),
            rationale=self.rationale,
        )


class PreconditionsModel(Model):
    """What must be before anything runs; the defaults are the protocol's."""

    must_have_correlation_id: bool = True
    must_attach_policy_version: bool = True
    must_record_artifact_hash_if_executes: bool = True
    deny_if_missing_required_controls: bool = True
    deny_if_unsigned_artifact_in_prod: bool = False
    deny_if_no_attestation_in_prod: bool = False

    def to_value(self) -> Preconditions:
        """Return the frozen value; most rules share the default one."""
        return Preconditions(**self.__dict__) if self.model_fields_set else _USUAL


class ProfileModel(Model):
    """A recommended profile in the form of an object."""

    profile_id: Token


class RuleDecisionModel(Model):
    """What follows when a rule matches."""

    candidate_workers_ranked: Annotated[list[CandidateModel], Field(max_length=MAX_CANDIDATES)]
    required_controls_suggested: Annotated[
        list[ControlId], Field(max_length=MAX_CANDIDATES), AfterValidator(unique)
    ] = Field(default_factory=list)
    recommended_profiles: Annotated[list[Token | ProfileModel], Field(max_length=MAX_CANDIDATES)] = Field(
        default_factory=list
    )
    escalation: EscalationModel = EscalationModel()
    preconditions: PreconditionsModel = PreconditionsModel()


class RuleModel(Model):
    """One rule."""

    rule_id: Token
    match: MatchModel
    decision: RuleDecisionModel

    def to_value(self, place: int) -> Rule:
        """Return the frozen value.

        Args:
            place: the rule's place in the document, for error messages.
        """
        names = _values(self.match.capability_id)
        decision = self.decision
        _check_candidates(decision.candidate_workers_ranked, place)
        return Rule(
            rule_id=self.rule_id,
            capabilities=None if names is None else frozenset(names),
            cells=self.match.cells(),
            candidates=tuple(_candidate(c.worker_species_id, c.score_hint) for c in decision.candidate_workers_ranked),
            required_controls=tuple(sorted(decision.required_controls_suggested)),
            recommended_profiles=tuple(
                p if isinstance(p, str) else p.model_dump() for p in decision.recommended_profiles
            ),
            escalation=decision.escalation.to_value(),
            human_cells=decision.escalation.cells(),
            preconditions=decision.preconditions.to_value(),
        )


def _check_candidates(candidates: list[CandidateModel], place: int) -> None:
    species = [candidate.worker_species_id for candidate in candidates]
    if len(set(species)) != len(species):
        where = f"/rules/{place}/decision/candidate_workers_ranked"
        raise WireError(f"{_WHAT} at `{where}`: names a species twice", where)


class RulesModel(Model):
    """The whole document; for its JSON Schema. `read_rules` reads rule by rule, so that few objects live at a time."""

    rules: Annotated[list[RuleModel], Field(min_length=1, max_length=MAX_RULES)]


class _Outline(Model):
    rules: Annotated[list[Any], Field(min_length=1, max_length=MAX_RULES)]


def read_rules(data: bytes | JsonValue) -> RuleSet:
    """Read and compile a rules document.

    Shadowed rules do not fail here: they are in `shadows` of what is returned, and a Hall for prod or edge refuses it.

    Args:
        data: JSON text, or the parsed object.

    Raises:
        WireError: the shape is wrong; the pointer says where.
        ConfigError: two rules have the same id.
    """
    digest = "sha256:" + sha256(data).hexdigest() if isinstance(data, bytes) else sha256_of(data)
    outline = read(_Outline, data, what=_WHAT, max_bytes=MAX_RULES_BYTES)
    return RuleSet([_read_rule(rule, place) for place, rule in enumerate(outline.rules)], digest)


def _read_rule(data: Any, place: int) -> Rule:
    try:
        return RuleModel.model_validate(data).to_value(place)
    except ValidationError as problem:
        raise refused(problem, _WHAT, ("rules", place)) from None
