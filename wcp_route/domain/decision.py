"""The Hall's results: a decision, its checks, the evidence for its receipt, and a hold that waits for a human.

The caller gets a `RouteDecision`. The stored receipt is made from `Evidence`: the decision, every check with its
result, and the digests, which are never part of a reply (conformance row 18).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from wcp_route.domain.clock import format_ms
from wcp_route.domain.values import (
    DATA_LABELS,
    ENVS,
    LEVELS,
    QOS_CLASSES,
    TENANT_RISKS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.codes import Code
    from wcp_route.domain.values import (
        DataLabel,
        Env,
        Level,
        QosClass,
        TenantRisk,
    )

Outcome: TypeAlias = Literal["DISPATCH", "DENY", "STEWARD_HOLD"]
CheckOutcome: TypeAlias = Literal["pass", "deny", "hold", "warn", "off", "skipped"]

NO_MATCH = "NO_MATCH"  # matched_rule_id when the rules were asked and none matched
PRE_ROUTING = "PRE_ROUTING"  # matched_rule_id when the rules were not asked


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one gate.

    Attributes:
        name: the gate, `attestation`.
        outcome: `pass`, `deny`, `hold` (a human must decide), `warn` (passed, but report it), `off` (switched off, or
            neither the rule nor the Hall asks for it), `skipped` (not reached, because an earlier gate refused).
        detail: one line for people; no hashes, no secrets.
        digests: names and values of the digests that were compared; for the stored receipt only.
    """

    name: str
    outcome: CheckOutcome
    detail: str = ""
    digests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DenyReason:
    """Why a request is denied: a code, one line for people, and the further members that the code promises.

    Attributes:
        code: the reason.
        message: one line, no hashes.
        extras: further members of the wire object, sorted by name (`missing`, `reason`, `policy_version`, …).
    """

    code: Code
    message: str
    extras: tuple[tuple[str, JsonValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of the rule, in rank order, and why it was skipped (empty when it was not skipped)."""

    worker_species_id: str
    score_hint: float | None = None
    skip_reason: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """What the matched rule says about people and policy."""

    policy_gate: bool = False
    msavx_step_up: bool = False
    human_required_default: bool = False
    human_required_if: tuple[Mapping[str, JsonValue], ...] = ()
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What the matched rule requires before the worker runs; the defaults are the protocol's."""

    must_have_correlation_id: bool = True
    must_attach_policy_version: bool = True
    must_record_artifact_hash_if_executes: bool = True
    deny_if_missing_required_controls: bool = True
    deny_if_unsigned_artifact_in_prod: bool = False
    deny_if_no_attestation_in_prod: bool = False


class Form(NamedTuple):
    """How a field of a decision is written as JSON.

    Attributes:
        write: makes the JSON value.
        schema: its JSON Schema.
        when_denied: what is written instead when the request is denied; None for no difference.
    """

    write: Callable[[Any], JsonValue]
    schema: JsonObject
    when_denied: Callable[[], JsonValue] | None = None


def member(default: Any, *, wire: Mapping[str, Form] | None = None, receipt: Mapping[str, Form] | None = None) -> Any:
    """Return a field of the table with its members of the wire object and of the receipt."""
    return field(default=default, metadata={"wire": wire or {}, "receipt": receipt or {}})


def _same(value: Any) -> Any:
    return value


def _or_null(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, {"type": "null"}], "default": None}


def one_of(values: tuple[str, ...]) -> Form:
    """Return the form of a field that has one of `values`, or None."""
    return Form(_same, _or_null({"enum": [*values], "type": "string"}))


def _object(properties: dict[str, JsonValue], *required: str) -> JsonObject:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _write_candidate(candidate: Candidate) -> JsonObject:
    found: JsonObject = {"worker_species_id": candidate.worker_species_id}
    if candidate.score_hint is not None:
        found["score_hint"] = candidate.score_hint
    if candidate.skip_reason:
        found["skip_reason"] = candidate.skip_reason
    return found


def _write_escalation(said: Escalation) -> JsonObject:
    conditions: list[JsonValue] = [dict(condition) for condition in said.human_required_if]
    return {
        "policy_gate": said.policy_gate,
        "msavx_step_up": said.msavx_step_up,
        "human_required_default": said.human_required_default,
        "human_required_if": conditions,
        "rationale": said.rationale or None,
    }


_STRING: Final[JsonObject] = {"type": "string"}
_BOOLEAN: Final[JsonObject] = {"type": "boolean"}
_INSTANT: Final[JsonObject] = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}
TEXT: Final = Form(_same, _STRING)
TEXT_OR_NULL: Final = Form(lambda text: text or None, _or_null(_STRING))
IF_DISPATCHED: Final = TEXT_OR_NULL._replace(write=_same, when_denied=lambda: None)
HASH: Final = TEXT_OR_NULL._replace(schema=_or_null({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}))
FLAG: Final = Form(_same, _BOOLEAN)
FLAG_OR_NULL: Final = Form(_same, _or_null(_BOOLEAN))
TIME: Final = Form(format_ms, _INSTANT)
TIME_OR_NULL: Final = Form(lambda at_ms: None if at_ms is None else format_ms(at_ms), _or_null(_INSTANT))
OUTCOME: Final = Form(_same, {"type": "string", "enum": [*get_args(Outcome)]})
SCORE: Final = Form(_same, _or_null({"type": "integer", "minimum": 0, "maximum": 100}))
COUNT: Final = Form(_same, _or_null({"type": "integer", "minimum": 0}))
LIST: Final = Form(list, {"type": "array"})
TEXTS: Final = Form(list, {"type": "array", "items": _STRING})
TEXTS_IF_DISPATCHED: Final = TEXTS._replace(when_denied=list)
DENY_CODE: Final = Form(lambda reason: None if reason is None else reason.code.value, _or_null(_STRING))
DENY_MESSAGE: Final = Form(lambda reason: None if reason is None else reason.message, _or_null(_STRING))
DENY_EXTRAS: Final = Form(lambda reason: {} if reason is None else dict(reason.extras), {"type": "object"})
REASON: Final = Form(
    lambda reason: (
        None if reason is None else {"code": reason.code.value, "message": reason.message, **dict(reason.extras)}
    ),
    _or_null({"type": "object", "properties": {"code": _STRING, "message": _STRING}, "required": ["code", "message"]}),
)
EVALUATED: Final = Form(
    lambda said: said or "NOT_EVALUATED",  # an earlier check refused, or no gate was wanted
    {"type": "string", "enum": ["ALLOW", "DENY", "REQUIRE_HUMAN", "NOT_EVALUATED"]},
)
CANDIDATES: Final = Form(
    lambda candidates: [_write_candidate(each) for each in candidates],
    {
        "type": "array",
        "items": _object(
            {"worker_species_id": _STRING, "score_hint": {"type": "number"}, "skip_reason": _STRING},
            "worker_species_id",
        ),
    },
)
SKIPPED_CANDIDATES: Final = Form(  # hints have no effect, hence no place in evidence
    lambda candidates: [
        {"skip_reason": each.skip_reason, "worker_species_id": each.worker_species_id} for each in candidates
    ],
    {
        "type": "array",
        "items": _object({"skip_reason": _STRING, "worker_species_id": _STRING}, "skip_reason", "worker_species_id"),
    },
)
ESCALATION: Final = Form(
    _write_escalation,
    _object(
        {
            "policy_gate": _BOOLEAN,
            "msavx_step_up": _BOOLEAN,
            "human_required_default": _BOOLEAN,
            "human_required_if": {"type": "array", "items": {"type": "object"}},
            "rationale": _or_null(_STRING),
        },
        "policy_gate",
        "msavx_step_up",
        "human_required_default",
        "human_required_if",
    ),
)
NO_ESCALATION: Final = Escalation()
NO_PRECONDITIONS: Final = Preconditions()
PRECONDITIONS: Final = Form(
    asdict, _object(dict.fromkeys(asdict(NO_PRECONDITIONS), _BOOLEAN), *asdict(NO_PRECONDITIONS))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDecision:
    """The answer to one request: the SDKs' fields and the published schema's, as one value.

    This is the one table of decision fields. Each field names its default, its members of the wire object and its
    members of the receipt; `wcp_route.domain.decision_wire` makes the wire object, its JSON Schema and the receipt's
    body from this table.

    Attributes:
        decision_id: UUID.
        decided_at_ms: milliseconds since 1970.
        outcome: dispatch, deny, or hold for a human (a hold is also denied).
        denied: True when the caller must not run the worker. An advisory note to a human leaves it False.
        reason: why the request is denied; None when dispatched.
        matched_rule_id: the rule, `NO_MATCH` or `PRE_ROUTING`.
        worker_id: the chosen enrolled worker, also when the denial is about it; empty when none was chosen.
        worker_species_id: its species.
        package_path: where to run the worker from, set only on a dispatch: the sealed copy or the package root. Only
            the operator's programs see it, never a tenant.
        request_hash: `sha256:` of the canonical payload, set on dispatch and denial alike.
        input_hash: `sha256:` of the canonical request without the credential; an approval is bound to it.
        blast_score: situational, 0 to 100.
        blast_declared: declared by the worker, 0 to 25, summed along the chain; None when no worker was chosen.
        blast_gate_passed: None when the gate did not run; the same holds for `privilege_envelope_ok`,
            `policy_decision` and `worker_attestation_valid`.
        policy_decision: `ALLOW`, `DENY` or `REQUIRE_HUMAN`, the answer of the policy gate.
        quarantined: whether this decision put the worker into quarantine.
        task_id: the caller's name for the task, for telemetry.
    """

    decision_id: str = member("", wire={"decision_id": TEXT}, receipt={"decision_id": TEXT})
    decided_at_ms: int = member(0, wire={"timestamp": TIME, "decided_at": TIME}, receipt={"dispatched_at": TIME})
    outcome: Outcome = member("DENY", wire={"outcome": OUTCOME}, receipt={"outcome": OUTCOME})
    denied: bool = member(True, wire={"denied": FLAG}, receipt={"denied": FLAG})
    reason: DenyReason | None = member(
        None,
        wire={"deny_code": DENY_CODE, "deny_reason_if_denied": REASON},
        receipt={"deny_code": DENY_CODE, "deny_extras": DENY_EXTRAS, "deny_message": DENY_MESSAGE},
    )
    matched_rule_id: str = member(PRE_ROUTING, wire={"matched_rule_id": TEXT}, receipt={"matched_rule_id": TEXT})
    correlation_id: str = member("", wire={"correlation_id": TEXT}, receipt={"correlation_id": TEXT})
    tenant_id: str = member("", wire={"tenant_id": TEXT}, receipt={"tenant_id": TEXT})
    capability_id: str = member("", wire={"capability_id": TEXT}, receipt={"capability_id": TEXT})
    env: Env | None = member(None, wire={"env": one_of(ENVS)}, receipt={"env": one_of(ENVS)})
    data_label: DataLabel | None = member(
        None, wire={"data_label": one_of(DATA_LABELS)}, receipt={"data_label": one_of(DATA_LABELS)}
    )
    tenant_risk: TenantRisk | None = member(
        None, wire={"tenant_risk": one_of(TENANT_RISKS)}, receipt={"tenant_risk": one_of(TENANT_RISKS)}
    )
    qos_class: QosClass | None = member(
        None, wire={"qos_class": one_of(QOS_CLASSES)}, receipt={"qos_class": one_of(QOS_CLASSES)}
    )
    dry_run: bool = member(False, wire={"dry_run": FLAG}, receipt={"dry_run": FLAG})
    worker_id: str = member("", wire={"worker_id": TEXT_OR_NULL}, receipt={"worker_id": TEXT})
    worker_species_id: str = member(
        "", wire={"selected_worker_species_id": IF_DISPATCHED}, receipt={"worker_species_id": TEXT}
    )
    package_path: str = member("")
    candidates: tuple[Candidate, ...] = member(
        (), wire={"candidate_workers_ranked": CANDIDATES}, receipt={"candidates": SKIPPED_CANDIDATES}
    )
    required_controls: tuple[str, ...] = member(
        (),
        wire={"required_controls_effective": TEXTS, "controls_applied": TEXTS_IF_DISPATCHED},
        receipt={"controls_required": TEXTS},
    )
    recommended_profiles: tuple[JsonValue, ...] = member((), wire={"recommended_profiles_effective": LIST})
    escalation: Escalation = member(NO_ESCALATION, wire={"escalation_effective": ESCALATION})
    preconditions: Preconditions = member(NO_PRECONDITIONS, wire={"preconditions_checked": PRECONDITIONS})
    request_hash: str = member("", wire={"artifact_hash": HASH, "request_hash": HASH}, receipt={"artifact_hash": TEXT})
    input_hash: str = member("", wire={"input_hash": HASH}, receipt={"input_hash": TEXT})
    blast_score: int | None = member(None, wire={"blast_score": SCORE}, receipt={"blast_score": SCORE})
    blast_declared: int | None = member(None, wire={"blast_declared": COUNT}, receipt={"blast_declared": COUNT})
    blast_gate_passed: bool | None = member(
        None, wire={"blast_gate_passed": FLAG_OR_NULL}, receipt={"blast_gate_passed": FLAG_OR_NULL}
    )
    privilege_envelope_ok: bool | None = member(
        None, wire={"privilege_envelope_ok": FLAG_OR_NULL}, receipt={"privilege_envelope_ok": FLAG_OR_NULL}
    )
    policy_decision: str | None = member(None, receipt={"policy_decision": EVALUATED})
    policy_version: str = member("", wire={"policy_version": TEXT})
    policy_reason: str = member("", receipt={"policy_reason": TEXT})
    worker_attestation_checked: bool = member(
        False,
        wire={"worker_attestation_checked": FLAG},
        receipt={"worker_attestation_checked": FLAG},
    )
    worker_attestation_valid: bool | None = member(
        None, wire={"worker_attestation_valid": FLAG_OR_NULL}, receipt={"worker_attestation_valid": FLAG_OR_NULL}
    )
    supervisor_required: bool = member(False, wire={"supervisor_required": FLAG})
    supervisor_level: Level | None = member(
        None, wire={"supervisor_level": one_of(LEVELS)}, receipt={"supervisor_level": one_of(LEVELS)}
    )
    pending_approval_id: str = member(
        "", wire={"pending_approval_id": TEXT_OR_NULL}, receipt={"pending_approval_id": TEXT}
    )
    approval_expires_at_ms: int | None = member(
        None, wire={"approval_expires_at": TIME_OR_NULL}, receipt={"approval_expires_at": TIME_OR_NULL}
    )
    quarantined: bool = member(False, receipt={"quarantined": FLAG})
    task_id: str = member("", receipt={"task_id": TEXT})

    @property
    def code(self) -> Code | None:
        """The reason's code; None when dispatched."""
        return None if self.reason is None else self.reason.code


@dataclass(frozen=True, slots=True)
class Versions:
    """What a decision was made from. With these versions and the input, `replay` makes it again, bit for bit.

    Attributes:
        rules: `sha256:` of the rules document.
        policy: the version that the policy gate named in its answer, else the Hall's own.
        trust_policy: digest of the trust policy; empty when attestation is off.
        bans: versions of the ban lists that were asked; empty when there are none.
        registry: the registry snapshot's version.
        config: `sha256:` of the Hall's settings.
    """

    rules: str
    policy: str
    trust_policy: str
    bans: str
    registry: int
    config: str


MAX_PRINCIPAL: Final = 256  # characters of an authenticated name that evidence repeats


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a stored receipt says about one decision.

    Attributes:
        stream: the chain that the receipt joins; one printable token of at most 128 characters.
        decision: what the caller is told.
        checks: every gate in order, each with its result and the digests it compared.
        versions: what the decision was made from.
        package_hash: of the attested package, lower-case hex; empty when none was attested.
        signers: who signed the attested package.
        controls_verified: controls that were required and found, sorted (spec 5.7).
        grant_id: the approval grant that was used; empty when none was.
        hold: the hold to store in the receipt's transaction; None when there is none.
        redemption: the grant to use up in the receipt's transaction; None when there is none.
        principal: the tenant that the transport authenticated; None when it authenticated none. At most
            `MAX_PRINCIPAL` characters.
    """

    stream: str
    decision: RouteDecision
    checks: tuple[Check, ...]
    versions: Versions
    package_hash: str = ""
    signers: tuple[str, ...] = ()
    controls_verified: tuple[str, ...] = ()
    grant_id: str = ""
    hold: Hold | None = None
    redemption: Redemption | None = None
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A request that waits for a human (spec 5.8). The Hall makes it, the approval store keeps it.

    Attributes:
        pending_id: UUID.
        input_hash: the request it is for; a grant is valid for this request only.
        worker_id: the worker it is for; a grant is valid for this worker only.
        rule_id: the rule that matched.
        level: the level that must answer.
        code: why it was held.
        reason: one line for the human.
        created_at_ms: milliseconds since 1970.
        expires_at_ms: milliseconds since 1970; from this moment on the request is denied.
        tenant_id: context for the human, as are the next six.
        manifest_sha256: of the attested package; a grant is valid for this package only. Empty when none was attested.
        rules_digest: of the rules in force; a grant is valid under these rules only.
        record_digest: of the worker's record; the ledger sets it.
        requester: the principal that the transport authenticated, else the tenant; the requester cannot approve.
    """

    pending_id: str
    input_hash: str
    worker_id: str
    rule_id: str
    level: Level
    code: Code
    reason: str
    created_at_ms: int
    expires_at_ms: int
    tenant_id: str
    correlation_id: str
    capability_id: str
    blast_score: int | None
    tenant_risk: TenantRisk
    data_label: DataLabel
    policy_version: str
    manifest_sha256: str = ""
    rules_digest: str = ""
    record_digest: str = ""
    requester: str = ""


@dataclass(frozen=True, slots=True)
class Redemption:
    """A grant and the request that wants to use it; every part must equal what was approved.

    Attributes:
        grant_id: the grant that the caller sent.
        input_hash: of the request.
        worker_id: the worker that the request would go to.
        level: the level that must answer now; None when no human must. A grant of a lower level is not accepted.
        rule_id: the rule that matched.
        rules_digest: of the rules in force; empty when it is not known.
        manifest_sha256: of the worker's attested package; empty when none was attested.
        at_ms: the time of the use, milliseconds since 1970.
    """

    grant_id: str
    input_hash: str
    worker_id: str
    level: Level | None
    rule_id: str
    rules_digest: str
    manifest_sha256: str
    at_ms: int
