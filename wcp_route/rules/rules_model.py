"""The rules document as it comes over the wire, compiled on the way in.

    {"rules": [{"rule_id": "prod-summaries",
                "match": {"capability_id": "cap.doc.summarize", "env": {"in": ["prod", "edge"]}},
                "decision": {"candidate_workers_ranked": [{"worker_species_id": "wrk.doc.summarizer"}],
                             "required_controls_suggested": ["ctrl.obs.audit-log-append-only"]}}]}

A condition is a value, `{"eq": value}`, `{"in": [values]}` or `{"any": true}`; a key that is left out matches all
values. The four closed axes accept only their own values, so a misspelt `"prodd"` is an error and not a rule that never
matches.
"""

from __future__ import annotations

import gc
import re
from functools import lru_cache, partial, reduce
from hashlib import sha256
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, WithJsonSchema

from wcp_route.domain.canonical import sha256_of
from wcp_route.domain.decision import Candidate, Escalation, Preconditions
from wcp_route.domain.values import DATA_LABELS, ENVS, QOS_CLASSES, TENANT_RISKS
from wcp_route.domain.wire_model import (
    ControlId,
    Model,
    SpeciesId,
    Text,
    Token,
    WireError,
    catalogue_pattern,
    is_catalogue_id,
    read,
    refused,
    unique,
)
from wcp_route.rules.match_space import mask_of
from wcp_route.rules.rules import MAX_RULES, Rule, RuleSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonObject, JsonValue

MAX_RULES_BYTES: Final = 64 << 20
MAX_CANDIDATES: Final = 64
MAX_IN: Final = 1024  # capabilities that one condition lists; more deserve another rule
_WHAT: Final = "rules document"
_TENANT_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}"  # an id as requests have it

# Rules say the same few things over and over.
_candidate = lru_cache(maxsize=4096)(Candidate)
_escalation = lru_cache(maxsize=4096)(Escalation)
_preconditions = lru_cache(maxsize=4096)(Preconditions)


def _condition(is_value: Callable[[str], object], expected: str) -> PlainValidator:
    """Return a reader of conditions over one axis."""

    def read_condition(given: object) -> tuple[str, ...] | None:
        match given:
            case {"any": bool(anything), **rest} if not rest and anything:
                return None
            case str(value):
                values: tuple[str, ...] = (value,)
            case {"eq": str(value), **rest} if not rest:
                values = (value,)
            case {"in": [*many], **rest} if not rest and 0 < len({v for v in many if isinstance(v, str)}) == len(many):
                values = tuple(many)  # all of them text, and no two alike
            case _:
                raise ValueError(
                    f'is not a value, {{"eq": value}}, {{"in": [1 to {MAX_IN} different values]}} or {{"any": true}}'
                )
        if len(values) > MAX_IN:
            raise ValueError(f"lists {len(values)} values; at most {MAX_IN} are accepted")
        wrong = next((value for value in values if not is_value(value)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r:.80} is not {expected}")
        return values

    return PlainValidator(read_condition)


def _schema(value: JsonObject) -> WithJsonSchema:
    one = {"type": "object", "additionalProperties": False}
    return WithJsonSchema(
        {
            "anyOf": [
                value,
                one | {"properties": {"eq": value}, "required": ["eq"]},
                one
                | {
                    "properties": {
                        "in": {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_IN, "uniqueItems": True}
                    },
                    "required": ["in"],
                },
                one | {"properties": {"any": {"const": True}}, "required": ["any"]},
            ]
        }
    )


def _closed(values: tuple[str, ...]) -> PlainValidator:
    return _condition(frozenset(values).__contains__, f"one of {', '.join(values)}")


Values = tuple[str, ...] | None  # none is any
Envs = Annotated[Values, _closed(ENVS), _schema({"enum": [*ENVS]})]
Labels = Annotated[Values, _closed(DATA_LABELS), _schema({"enum": [*DATA_LABELS]})]
Risks = Annotated[Values, _closed(TENANT_RISKS), _schema({"enum": [*TENANT_RISKS]})]
Classes = Annotated[Values, _closed(QOS_CLASSES), _schema({"enum": [*QOS_CLASSES]})]
Tenants = Annotated[
    Values,
    _condition(re.compile(_TENANT_PATTERN).fullmatch, "a tenant id"),
    _schema({"type": "string", "pattern": f"^{_TENANT_PATTERN}$"}),
]
Capabilities = Annotated[
    Values,
    _condition(partial(is_catalogue_id, "cap"), "a capability id such as cap.doc.summarize"),
    _schema({"type": "string", "pattern": catalogue_pattern("cap")}),
]


class CellsModel(Model):
    """Conditions on the four closed axes; one that is left out is any, `null` is none of them."""

    env: Envs = None
    data_label: Labels = None
    tenant_risk: Risks = None
    qos_class: Classes = None

    def named(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the axes that are not any, with their values."""
        conditions = (
            ("env", self.env),
            ("data_label", self.data_label),
            ("tenant_risk", self.tenant_risk),
            ("qos_class", self.qos_class),
        )
        return [(axis, values) for axis, values in conditions if values is not None]


class MatchModel(CellsModel):
    """Conditions of a rule."""

    capability_id: Capabilities = None
    tenant_id: Tenants = None


class CandidateModel(Model):
    """One candidate species; `score_hint` is for people, the order decides."""

    worker_species_id: SpeciesId
    score_hint: Annotated[float, Field(allow_inf_nan=False)] | None = None


class EscalationModel(Model):
    """What the rule says about people and policy."""

    policy_gate: bool = False
    msavx_step_up: bool = False
    human_required_default: bool = False
    human_required_if: Annotated[list[CellsModel], Field(max_length=MAX_CANDIDATES)] = Field(default_factory=list)
    rationale: Text = ""

    def to_value(self) -> Escalation:
        """Return the frozen value; most rules share one."""
        said = self.policy_gate, self.msavx_step_up, self.human_required_default
        if not self.human_required_if:
            return _escalation(*said, (), self.rationale)
        conditions: list[JsonObject] = [
            {axis: {"in": [*values]} for axis, values in each.named()} for each in self.human_required_if
        ]
        return Escalation(*said, tuple(conditions), self.rationale)


class PreconditionsModel(Model):
    """What must be before anything runs; the defaults are the protocol's."""

    must_have_correlation_id: bool = True
    must_attach_policy_version: bool = True
    must_record_artifact_hash_if_executes: bool = True
    deny_if_missing_required_controls: bool = True
    deny_if_unsigned_artifact_in_prod: bool = False
    deny_if_no_attestation_in_prod: bool = False


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
        names, tenants = self.match.capability_id, self.match.tenant_id
        decision = self.decision
        species = [candidate.worker_species_id for candidate in decision.candidate_workers_ranked]
        if len(set(species)) != len(species):
            where = f"/rules/{place}/decision/candidate_workers_ranked"
            raise WireError(f"{_WHAT} at `{where}`: names a species twice", where)
        return Rule(
            rule_id=self.rule_id,
            capabilities=None if names is None else frozenset(names),
            cells=mask_of(self.match.named()),
            candidates=tuple(_candidate(c.worker_species_id, c.score_hint) for c in decision.candidate_workers_ranked),
            required_controls=tuple(sorted(decision.required_controls_suggested)),
            recommended_profiles=tuple(
                p if isinstance(p, str) else p.model_dump() for p in decision.recommended_profiles
            ),
            escalation=decision.escalation.to_value(),
            human_cells=reduce(or_, [mask_of(each.named()) for each in decision.escalation.human_required_if], 0),
            preconditions=_preconditions(*decision.preconditions.__dict__.values()),
            tenants=None if tenants is None else frozenset(tenants),
            demands_artifact_hash="must_record_artifact_hash_if_executes" in decision.preconditions.model_fields_set
            and decision.preconditions.must_record_artifact_hash_if_executes,
        )


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
    # Hundreds of thousands of objects are made, none in a cycle; looking for cycles among them again and again would
    # take a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        outline = read(_Outline, data, what=_WHAT, max_bytes=MAX_RULES_BYTES)
        rules: list[Rule] = []
        for place, rule in enumerate(outline.rules):
            try:
                rules.append(RuleModel.model_validate(rule).to_value(place))
            except ValidationError as problem:
                raise refused(problem, _WHAT, RuleModel, ("rules", place)) from None
        return RuleSet(rules, digest)
    finally:
        if collecting:
            gc.enable()
