"""The names and calls of the earlier Python SDK (`pyhall-wcp` 0.2.2), on a Hall that attests its workers.

    from wcp_route.compat.pyhall import Registry, RouteInput, configure, load_rules, make_decision

    configure(trust_policy=load_policy("trust.toml"), packages={"org.acme.summarizer": "/srv/summarizer"})
    registry = Registry("enrolled/")
    decision = make_decision(inp, rules, registry.controls_present(), registry.worker_available)
    decision.denied, decision.selected_worker_species_id

What differs on purpose stands in docs/route/coming-from-pyhall.md.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_route.compat.go_codes import GO_CODES
from wcp_route.compat.legacy_hashes import LegacyHashes
from wcp_route.compat.legacy_options import LegacyGate
from wcp_route.compat.legacy_registry import DEFAULTS, Registry, configure, fill_record, setup
from wcp_route.compat.legacy_values import PolicyGate, RouteDecision, RouteInput
from wcp_route.config import Ceiling, fold_control_id
from wcp_route.config import HallConfig as Settings
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import NO_MATCH, DenyReason
from wcp_route.domain.decision import RouteDecision as Decision
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.ids import new_id
from wcp_route.domain.record_model import read_record
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.values import DATA_LABELS, ENVS, GUARDED_ENVS
from wcp_route.hall import Hall, Services
from wcp_route.rules.rules_model import MAX_RULES_BYTES, read_rules
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.registry import LedgerRegistry

__all__ = [
    "DEFAULTS", "GO_CODES", "HallConfig", "PolicyGate", "Registry", "RouteDecision", "RouteInput", "Rule", "configure",
    "detect_shadow_rules", "fill_record", "load_rules", "load_rules_from_dict", "make_decision", "route_first_match",
]  # fmt: skip

_AXES: Final = ("capability_id", "env", "data_label", "tenant_risk", "qos_class", "tenant_id")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as the earlier SDK kept it: the members of the rules document.

    Attributes:
        rule_id: unique among the rules.
        match: conditions by axis.
        decision: candidates, controls, escalation and preconditions.
    """

    rule_id: str
    match: JsonObject
    decision: JsonObject


@dataclass(frozen=True, slots=True)
class HallConfig:
    """The settings of the earlier SDK; those of `wcp_route.config.HallConfig` have the same names.

    Attributes:
        require_signatory: whether only `allowed_tenants` are served.
        allowed_tenants: tenant ids.
        require_credential: whether each tenant must bring a credential; enforced here, so without one all is denied.
        require_worker_attestation: not read, because workers are always attested.
        enforce_correlation_id: whether a blank correlation id is denied.
        enforce_required_controls: whether the rule's controls must be provided.
        enforce_blast_scoring_in_prod: whether a high blast score needs a human in prod and edge.
        enforce_privilege_envelopes: whether envelopes are held against ceilings although the rule does not ask.
    """

    require_signatory: bool = False
    allowed_tenants: Sequence[str] = ()
    require_credential: bool = False
    require_worker_attestation: bool = True
    enforce_correlation_id: bool = True
    enforce_required_controls: bool = True
    enforce_blast_scoring_in_prod: bool = True
    enforce_privilege_envelopes: bool = False


def load_rules(seed_path: str | os.PathLike[str]) -> list[Rule]:
    """Read a rules document.

    Args:
        seed_path: of the file (JSON).

    Raises:
        ConfigError: it cannot be read or used.
    """
    try:
        with open(seed_path, "rb") as file:
            data = file.read(MAX_RULES_BYTES + 1)
    except OSError as problem:
        raise ConfigError(f"cannot read the rules {os.fspath(seed_path)!r}: {problem.strerror}") from None
    document = strictjson.loads(data, what="rules document", max_bytes=MAX_RULES_BYTES, floats=True)
    if not isinstance(document, dict):
        raise ConfigError("the rules document is not a JSON object")
    return load_rules_from_dict(document)


def load_rules_from_dict(doc: JsonObject) -> list[Rule]:
    """Return the rules of a document.

    Args:
        doc: the parsed document, `{"rules": [...]}`.

    Raises:
        ConfigError: it cannot be used.
    """
    read_rules(doc)
    given: Any = doc["rules"]
    return [Rule(each["rule_id"], each.get("match", {}), each["decision"]) for each in given]


def detect_shadow_rules(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Return the rules that can never match.

    Args:
        rules: from `load_rules`; only `match` is looked at.

    Returns:
        For each dead rule its id (`shadowed`), the first rule that takes its place (`shadower`), and a sentence
        (`reason`).

    Raises:
        ConfigError: the rules cannot be used.
    """
    matches = [Rule(each.rule_id, each.match, {"candidate_workers_ranked": []}) for each in rules]
    return [
        {"shadowed": each.rule_id, "shadower": each.covered_by[0], "reason": str(each)}
        for each in (_compiled(matches).shadows if matches else ())
    ]


def route_first_match(rules: Sequence[Rule], inp: Mapping[str, Any]) -> Rule | None:
    """Return the first rule that matches the given fields of a request, or None.

    Args:
        rules: from `load_rules`; only `match` is looked at.
        inp: fields of a request by name; one that is missing matches `any` alone.

    Raises:
        ConfigError: the rules cannot be used.
    """
    detect_shadow_rules(rules)  # a misspelt key or a condition that is none would match everything or nothing
    for rule in rules:
        conditions: list[tuple[Any, Any]] = [(rule.match.get(axis, {"any": True}), inp.get(axis)) for axis in _AXES]
        allowed = [
            (each.get("in", [each.get("eq", value)]) if isinstance(each, dict) else [each], value)
            for each, value in conditions
        ]
        if all(value in values for values, value in allowed):
            return rule
    return None


def _compiled(rules: Sequence[Rule]) -> RuleSet:
    """Compile rules again from their members; a caller may have changed these since."""
    listed: list[JsonValue] = [
        {"rule_id": each.rule_id, "match": each.match, "decision": each.decision} for each in rules
    ]
    return read_rules({"rules": listed})


def make_decision(  # noqa: PLR0913  # the call of the earlier SDK
    inp: RouteInput | JsonObject,
    rules: Sequence[Rule],
    registry_controls_present: Iterable[str],
    registry_worker_available: Callable[[str], bool],
    registry_get_privilege_envelope: Callable[[str], Mapping[str, Any] | None] | None = None,
    *,
    registry_policy_allows_privilege: Callable[[str, str, Any], tuple[bool, str]] | None = None,
    policy_gate_eval: Callable[[Any], tuple[str, str, str]] | None = None,
    conformance_spec: object = None,
    task_id: str = "task_default",
    hall_config: HallConfig | None = None,
    registry_get_worker_hash: Callable[[str], object] | None = None,
    get_current_worker_hash: Callable[[str], object] | None = None,
    registry_client: object = None,
) -> RouteDecision:
    """Decide on one request as the earlier SDK did; never raises for the request's sake.

    Args:
        inp: the request.
        rules: from `load_rules`.
        registry_controls_present: what the platform provides.
        registry_worker_available: tells whether a species can take work. A method of `Registry` names the registry;
            any other function gets workers of `DEFAULTS`, in dev.
        registry_get_privilege_envelope: the envelope of a species.
        registry_policy_allows_privilege: tells whether an envelope is allowed in an environment for a label.
        policy_gate_eval: the operator's policy.
        conformance_spec: not used.
        task_id: the caller's name for the task.
        hall_config: the settings; the environment of the request by default.
        registry_get_worker_hash: the hash that a species should have; compared after the package was attested.
        get_current_worker_hash: the hash that it has now. Give both or neither.
        registry_client: not used; name ban lists in the trust policy.

    Raises:
        ConfigError: the rules or settings cannot be used, or `configure` was not called.
    """
    del conformance_spec, registry_client
    request: JsonObject = inp.model_dump() if isinstance(inp, RouteInput) else dict(inp)
    env = request.get("env")
    owner = getattr(registry_worker_available, "__self__", None)
    if not rules:
        return _refused(request, Code.NO_MATCHING_RULE, "there are no rules, so no request may pass", {})
    compiled = _compiled(rules)
    if compiled.shadows and env in GUARDED_ENVS:
        dead: list[JsonValue] = [shadow.rule_id for shadow in compiled.shadows[:100]]
        extras: JsonObject = {"shadowed_rule_ids": dead, "shadow_count": len(compiled.shadows)}
        return _refused(request, Code.SHADOW_RULES_DETECTED, f"rules can never match: {compiled.shadows[0]}", extras)
    asked = request.get("capability_id")
    store = _workers_of(compiled, str(asked), owner if isinstance(owner, Registry) else None)
    asks_envelope = registry_policy_allows_privilege is not None and registry_get_privilege_envelope is not None
    config = replace(
        _settings_of(hall_config or HallConfig(), env, compiled, registry_controls_present),
        ceilings=() if registry_policy_allows_privilege is None else _ANYTHING,
        ask_policy_gate=asks_envelope,
    )
    gate = LegacyGate(policy_gate_eval, registry_get_privilege_envelope, registry_policy_allows_privilege)
    services = Services(
        policy_gate=None if policy_gate_eval is None and not asks_envelope else gate,
        availability=lambda worker: registry_worker_available(worker.worker_species_id),
        receipts=setup.receipts,
        task_id=task_id,
    )
    with store, Hall(compiled, store, setup.trust_policy, config, services=services) as hall:
        _compare_hashes(hall, registry_get_worker_hash, get_current_worker_hash)
        made = hall.route(request)
        if isinstance(owner, Registry):  # this store is gone after the call
            _carry_quarantine(store, owner.store)
        return RouteDecision(to_wire(made, operator=True))


def _compare_hashes(
    hall: Hall, should_be: Callable[[str], object] | None, is_now: Callable[[str], object] | None
) -> None:
    """Have a Hall compare the caller's hashes once it has attested a package; nothing changes without them."""
    if should_be is None and is_now is None:
        return
    inner = hall.world.attestor
    if inner is None:
        raise ConfigError("hash callbacks are checked beside the package; give `configure` a trust policy")
    hall.world = replace(hall.world, attestor=cast("Any", LegacyHashes(inner, should_be, is_now)))


def _settings_of(given: HallConfig, env: object, compiled: RuleSet, controls: Iterable[str]) -> Settings:
    """Return the settings of a Hall: every control that a rule names is one of the platform, as it was.

    Args:
        given: the settings of the earlier SDK.
        env: of the request, which the Hall itself checks.
        compiled: the rules.
        controls: what the platform provides.
    """
    named = {control for rule in compiled.rules for control in rule.required_controls}
    return Settings(
        env=env if env in ENVS else "dev",
        require_signatory=given.require_signatory,
        allowed_tenants=frozenset(given.allowed_tenants),
        require_credential=given.require_credential,
        enforce_correlation_id=given.enforce_correlation_id,
        enforce_required_controls=given.enforce_required_controls,
        enforce_blast_scoring_in_prod=given.enforce_blast_scoring_in_prod,
        enforce_privilege_envelopes=given.enforce_privilege_envelopes,
        unsafe_dispatch_workers_without_attestation=setup.unattested and env not in {"prod", "edge"},
        controls_present=frozenset(fold_control_id(name) for name in controls),
        control_scopes=dict.fromkeys(named - {"ctrl.blast-radius-scoring"}, "platform"),
    )


def _refused(request: JsonObject, code: Code, message: str, extras: JsonObject) -> RouteDecision:
    """Refuse where a Hall would not even start, as the earlier SDK did.

    Args:
        request: as it was given; one that is malformed is refused for that.
        code: why.
        message: one line.
        extras: further members of the reason.
    """
    try:
        asked = parse_request(request)
        reason = DenyReason(code, message, tuple(sorted(extras.items())))
    except ConfigError as problem:
        return RouteDecision(
            to_wire(
                Decision(
                    decision_id=new_id(),
                    decided_at_ms=now_ms(),
                    reason=DenyReason(Code.INVALID_INPUT, str(problem)[:1024]),
                )
            )
        )
    known = {name: getattr(asked, name) for name in ("correlation_id", *_AXES)}
    refused = Decision(decision_id=new_id(), decided_at_ms=now_ms(), reason=reason, matched_rule_id=NO_MATCH, **known)
    return RouteDecision(to_wire(refused))


_ANYTHING: Final = (
    Ceiling(
        envs=ENVS,
        data_labels=DATA_LABELS,
        secrets_access=("*",),
        network_egress="unrestricted",
        filesystem_writes=("/",),
        tools=("*",),
    ),
)


def _carry_quarantine(source: LedgerRegistry, target: LedgerRegistry) -> None:
    """Put the workers that are in quarantine in one registry into quarantine in another."""
    for held in source.snapshot().quarantined.values():
        target.quarantine(held.worker_id, held.reason, by=held.by, at_ms=held.at_ms)


def _workers_of(rules: RuleSet, asked: str, registry: Registry | None) -> LedgerRegistry:
    """Return what is enrolled, and one worker of `DEFAULTS` for each species that is only said to be available.

    Args:
        rules: which name the species.
        asked: the capability of the request; such a worker declares it where its rule is for any.
        registry: of the caller; None when availability came from another function.
    """
    store = open_state().registry
    for worker in () if registry is None else registry.store.workers():
        store.enroll(worker)
    if registry is not None:
        _carry_quarantine(registry.store, store)
    capabilities: dict[str, set[str]] = {}
    for rule in rules.rules:
        for candidate in rule.candidates:
            species = candidate.worker_species_id
            if not store.worker_ids(species) and (registry is None or registry.worker_available(species)):
                capabilities.setdefault(species, set()).update(rule.capabilities or {asked})
    for species, named in capabilities.items():
        worker_id = f"x.dev.{species.removeprefix('wrk.').replace('.', '-')}"
        record: JsonObject = {"worker_id": worker_id, "worker_species_id": species, "capabilities": [*sorted(named)]}
        root = setup.packages.get(worker_id, "")
        worker = read_record(json.loads(json.dumps(fill_record(record))))
        store.enroll(replace(worker, package_root=os.path.abspath(root) if root else ""))
    return store
