"""The gates in their one order: cheap ones first, and attestation before a policy or a human decides.

    input ▶ tenant ▶ hall_env ▶ rule_set ▶ rule ▶ preconditions ▶ controls ▶ worker ▶ { worker_controls ▶ quarantine ▶
    bans ▶ attestation } ▶ privilege ▶ blast ▶ chain ▶ policy_gate ▶ human

(`input` is `wcp_route.domain.request_model`.) Each gate is a function of the case that returns its finding, or raises a
`Refusal`. The first refusal decides. Gates that only look are still asked, so that a receipt names every fault and not
only the first one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wcp_route.config import BLAST_CONTROL, DEFAULT_THRESHOLD, PRIVILEGE_CONTROL
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import NO_MATCH, Check
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.gates import blast as scoring
from wcp_route.gates.human import human
from wcp_route.gates.policy_gate import PolicyContext, ask
from wcp_route.gates.privilege import announced_excess, asks_nothing, ceiling_for, excess
from wcp_route.gates.refusal import Concern, Refusal
from wcp_route.gates.selection import choose_worker, find_workers, may_provide
from wcp_route.rules.match_space import cell_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.gates.deciding import Deciding

Needs: TypeAlias = Literal["request", "rule", "worker"]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate.

    Attributes:
        name: its name in checks, explanations and documentation.
        run: looks at the case; returns its finding, or raises a `Refusal`.
        needs: what earlier gates must have found before it can look.
        looks_only: it makes no calls and changes nothing, so it is asked even when another gate refused.
    """

    name: str
    run: Callable[[Deciding], Check]
    needs: Needs
    looks_only: bool


_TENANT: Final = Check("tenant", "pass")
_TENANT_OFF: Final = Check("tenant", "pass", "any tenant: require_signatory is off")
_ENV: Final = Check("hall_env", "pass")
_RULE_SET: Final = Check("rule_set", "pass")
_PRECONDITIONS: Final = Check("preconditions", "pass")
_NO_CONTROLS: Final = Check("controls", "pass", "the rule requires none")
_CONTROLS_OFF: Final = Check("controls", "off", "neither the rule nor the Hall enforces controls")
_PRIVILEGE: Final = Check("privilege", "pass")
_PRIVILEGE_EMPTY: Final = Check("privilege", "pass", "the worker asks for nothing")
_PRIVILEGE_OFF: Final = Check("privilege", "off", "neither the rule nor the Hall enforces envelopes")
_PRIVILEGE_OPEN: Final = Check("privilege", "warn", "no ceiling is configured for this environment and label")
_BLAST_OFF: Final = Check("blast", "off", "no threshold applies")
_NO_CHAIN: Final = Check("chain", "pass", "the request belongs to no chain")
_GATE_OFF: Final = Check("policy_gate", "off", "neither the rule nor the Hall wants it")
_HIGH_BLAST: Final = ("reason", "REQUIRE_HUMAN_HIGH_BLAST")


# Many decisions, few answers.
_rule_passed = lru_cache(maxsize=4096)(lambda rule_id: Check("rule", "pass", rule_id))
_controls_passed = lru_cache(maxsize=4096)(lambda names: Check("controls", "pass", ", ".join(names)))
_blast_passed = lru_cache(maxsize=4096)(
    lambda score, threshold: Check("blast", "pass", f"{score} of 100, below {threshold}")
)


def tenant(case: Deciding) -> Check:
    """On whose behalf, and may they."""
    check_tenant(case.config, case.request.tenant_id, case.principal, case.request.tenant_credential)
    if not case.rehearsal and not case.rates.admits(case.request.tenant_id):
        raise Refusal(Code.TENANT_LIMIT, "the tenant asks more often than it may; ask again in a second")
    return _TENANT if case.config.require_signatory else _TENANT_OFF


def check_tenant(
    config: HallConfig, name: str, principal: str | None, credential: str | None, *, credential_known: bool = True
) -> None:
    """Refuse a tenant that this Hall does not serve, or that did not authenticate as it should.

    Args:
        config: the settings.
        name: the tenant id of the request.
        principal: the tenant that the transport authenticated; None when it authenticated none.
        credential: the tenant credential of the request; None when there is none.
        credential_known: whether the credential has been read from the request already.

    Raises:
        Refusal: it is refused.
    """
    if not name:
        raise Refusal(Code.MISSING_TENANT_ID, "the tenant id is blank")
    if principal is not None and principal != name:
        raise Refusal(Code.UNKNOWN_TENANT, "the tenant is not the one that authenticated", {"tenant_id": name})
    if config.require_signatory and name not in config.allowed_tenants:
        raise Refusal(Code.UNKNOWN_TENANT, "the tenant is not a signatory of this Hall", {"tenant_id": name})
    expected = config.tenant_credentials.get(name)
    if expected is None and config.require_credential:
        raise Refusal(Code.UNKNOWN_TENANT, "no credential is known for the tenant", {"tenant_id": name})
    if expected is None or not credential_known:
        return
    given = "" if credential is None else sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()
    if not hmac.compare_digest(given, expected):
        raise Refusal(Code.UNKNOWN_TENANT, "the tenant's credential does not hold", {"tenant_id": name})


def hall_env(case: Deciding) -> Check:
    """The caller does not choose the environment (conformance row 17)."""
    if case.request.env != case.config.env:
        raise Refusal(
            Code.ENV_NOT_ALLOWED, f"this Hall dispatches into {case.config.env} only", {"hall_env": case.config.env}
        )
    return _ENV


def rule_set(case: Deciding) -> Check:
    """A Hall that was started with unreachable rules decides nothing in prod and edge (conformance row 8)."""
    shadows = case.world.rules.shadows
    if not shadows:
        return _RULE_SET
    if case.config.env not in GUARDED_ENVS:
        return Check("rule_set", "warn", f"{len(shadows)} rules can never match; first: {shadows[0]}")
    case.rule_id = NO_MATCH
    raise Refusal(
        Code.SHADOW_RULES_DETECTED,
        f"{len(shadows)} rules can never match; first: {shadows[0]}",
        {"shadow_count": len(shadows), "shadowed_rule_ids": [shadow.rule_id for shadow in shadows[:100]]},
    )


def rule(case: Deciding) -> Check:
    """The first rule that matches decides."""
    found = case.world.rules.match(case.request)
    if found is None:
        case.rule_id = NO_MATCH
        raise Refusal(Code.NO_MATCHING_RULE, "no rule matches the request")
    case.rule = case.matched = found
    case.rule_id, case.candidates = found.rule_id, found.candidates
    return _rule_passed(found.rule_id)


def preconditions(case: Deciding) -> Check:
    """What the rule asks for before anything runs."""
    asked, config = case.matched.preconditions, case.config
    if not case.request.correlation_id and (asked.must_have_correlation_id or config.enforce_correlation_id):
        raise Refusal(Code.MISSING_CORRELATION_ID, "the correlation id is blank")
    if asked.must_attach_policy_version and not config.policy_version:
        raise Refusal(Code.MISSING_POLICY_VERSION, "this Hall has no policy version to attach")
    if case.request.env not in GUARDED_ENVS:
        return _PRECONDITIONS
    wants_proof = asked.deny_if_unsigned_artifact_in_prod or asked.deny_if_no_attestation_in_prod
    if wants_proof and case.world.attestor is None:
        raise Refusal(Code.ATTESTATION_UNCONFIGURED, "the rule wants attested workers and this Hall attests none")
    if case.matched.demands_artifact_hash and not case.world.keeps_receipts:
        raise Refusal(
            Code.RECEIPT_UNAVAILABLE, "the rule wants the artifact hash recorded and this Hall keeps no receipts"
        )
    return _PRECONDITIONS


def controls(case: Deciding) -> Check:
    """Controls that the platform or the Hall must provide; those of the worker are looked at once it is chosen."""
    required = case.matched.required_controls
    if not required:
        return _NO_CONTROLS
    if not case.matched.preconditions.deny_if_missing_required_controls and not case.config.enforce_required_controls:
        return _CONTROLS_OFF
    missing = case.world.controls.missing_around(required, case.snapshot, lambda worker: may_provide(case, worker))
    if missing:
        raise Refusal(Code.MISSING_REQUIRED_CONTROLS, f"nobody provides {', '.join(missing)}", {"missing": [*missing]})
    case.controls_verified = required
    return _controls_passed(required)


def privilege(case: Deciding) -> Check:
    """The worker's envelope stays under the operator's ceiling in every dimension (conformance row 11)."""
    config, request, envelope = case.config, case.request, case.selected.privilege_envelope
    announced = announced_excess(request.privilege_context, envelope)
    if announced is not None:
        case.privilege_ok = False
        raise Refusal(
            Code.PRIVILEGE_ENVELOPE_VIOLATED,
            f"the request announces more than its worker may do: {announced}",
            {"reason": announced, "worker_id": case.selected.worker_id},
        )
    demanded = PRIVILEGE_CONTROL in case.matched.required_controls
    if not demanded and not config.enforce_privilege_envelopes:
        return _PRIVILEGE_OFF
    if asks_nothing(envelope):
        case.privilege_ok = True
        return _PRIVILEGE_EMPTY
    ceiling = ceiling_for(config.ceilings, request.env, request.data_label)
    if ceiling is None and not demanded and request.env not in GUARDED_ENVS:
        return _PRIVILEGE_OPEN
    case.privilege_ok = False
    who = case.selected.worker_id
    if ceiling is None:
        where = f"{request.env}/{request.data_label}"
        raise Refusal(Code.PRIVILEGE_ENVELOPE_UNCONFIGURED, f"no ceiling is configured for {where}")
    beyond = excess(envelope, ceiling)
    if beyond is not None:
        raise Refusal(
            Code.PRIVILEGE_ENVELOPE_VIOLATED,
            f"worker `{who}` asks for more than its ceiling in {beyond.partition(':')[0]}",
            {
                "reason": beyond.partition(":")[0],
                "worker_id": who,
                "worker_species_id": case.selected.worker_species_id,
            },
            digests=(("beyond", beyond),),
        )
    case.privilege_ok = True
    return _PRIVILEGE


def blast(case: Deciding) -> Check:
    """How much can break: scored always, and a matter for a human from the environment's threshold on."""
    config, request = case.config, case.request
    score = case.blast_score = scoring.situational(request)
    case.blast_declared = scoring.declared(case.selected.blast_radius, request.blast_radius)
    threshold = config.blast_thresholds.get(request.env)
    if BLAST_CONTROL in case.matched.required_controls:
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
    elif threshold is None or not (config.enforce_blast_scoring_in_prod or request.env not in GUARDED_ENVS):
        return _BLAST_OFF
    case.blast_passed = score < threshold
    if case.blast_passed:
        return _blast_passed(score, threshold)
    reason = f"the blast score {score} is at or above {threshold}"
    case.concerns.append(Concern(Code.REQUIRES_HUMAN, reason, extras=(("blast_score", score), _HIGH_BLAST)))
    return Check("blast", "hold", reason)


def chain(case: Deciding) -> Check:
    """What a chain of workers can break adds up; a request that names no chain is told by its correlation id."""
    request, own = case.request, case.blast_declared or 0
    limit = case.config.chain_thresholds.get(request.env)
    key = scoring.chain_of(request)
    if not request.chain_id and (limit is None or not own):
        return _NO_CHAIN
    total, problem = own, ""
    if key is not None:
        problem, total = case.chains.reserve(key, own, limit, case.now_ms, keep=not case.changes_nothing)
    elif limit is not None and own > limit:
        problem = f"the declared score is {own}, allowed are {limit}"
    if problem:
        raise Refusal(Code.CHAIN_BLAST_EXCEEDED, problem, {"blast_declared": total})
    case.reserved = None if case.changes_nothing or key is None else (key, own)
    case.blast_declared = total
    return Check("chain", "pass", f"{total} so far")


def policy_gate(case: Deciding) -> Check:
    """The operator's policy, which sees all of it and whose every failure denies."""
    world = case.world
    if not case.matched.escalation.policy_gate and not case.config.ask_policy_gate:
        return _GATE_OFF
    if world.policy_gate is None:
        raise Refusal(Code.POLICY_GATE_UNCONFIGURED, "a policy gate is wanted and none is configured")
    context = PolicyContext(
        request=case.request,
        rule_id=case.rule_id,
        escalation=case.matched.escalation,
        worker=case.selected,
        verified=None if case.attested is None else case.attested.verified,
        blast_score=case.blast_score or 0,
        blast_declared=case.blast_declared or 0,
        policy_version=case.config.policy_version,
        now_ms=case.now_ms,
    )
    answer = case.answer = ask(world.policy_gate, context, case.callbacks, case.deadline.remaining())
    extras: dict[str, JsonValue] = {"reason": answer.reason, "policy_version": answer.policy_version}
    if answer.decision == "DENY":
        raise Refusal(Code.POLICY_GATE, f"the policy denies: {answer.reason or 'no reason given'}", extras)
    if answer.decision == "REQUIRE_HUMAN":
        reason = f"the policy wants a human: {answer.reason or 'no reason given'}"
        case.concerns.append(Concern(Code.REQUIRES_HUMAN_APPROVAL, reason, answer.level, tuple(sorted(extras.items()))))
        return Check("policy_gate", "hold", reason)
    return Check("policy_gate", "pass", answer.policy_version)


def wants_human(case: Deciding) -> Check:
    """Gather what the rule says about people, then hold or let go."""
    request, escalation = case.request, case.matched.escalation
    cell = cell_of(request.env, request.data_label, request.tenant_risk, request.qos_class)
    if escalation.human_required_default:
        case.concerns.append(Concern(Code.REQUIRES_HUMAN_APPROVAL, "the rule always wants a human"))
    elif case.matched.human_cells >> cell & 1:
        case.concerns.append(Concern(Code.REQUIRES_HUMAN_APPROVAL, "the rule wants a human for such requests"))
    if escalation.msavx_step_up:
        case.concerns.append(Concern(Code.REQUIRES_HUMAN_APPROVAL, "the rule wants a step-up, here a human"))
    return human(case)


GATES: Final = (
    Gate("tenant", tenant, "request", looks_only=True),
    Gate("hall_env", hall_env, "request", looks_only=True),
    Gate("rule_set", rule_set, "request", looks_only=True),
    Gate("rule", rule, "request", looks_only=True),
    Gate("preconditions", preconditions, "rule", looks_only=True),
    Gate("controls", controls, "rule", looks_only=True),
    Gate("worker", find_workers, "rule", looks_only=False),
    Gate("attestation", choose_worker, "rule", looks_only=False),
    Gate("privilege", privilege, "worker", looks_only=True),
    Gate("blast", blast, "worker", looks_only=True),
    Gate("chain", chain, "worker", looks_only=False),
    Gate("policy_gate", policy_gate, "worker", looks_only=False),
    Gate("human", wants_human, "worker", looks_only=False),
)
