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
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_route.compat.go_codes import GO_CODES
from wcp_route.compat.legacy_options import LegacyGate
from wcp_route.compat.legacy_values import PolicyGate, RouteDecision, RouteInput
from wcp_route.config import Ceiling, fold_control_id
from wcp_route.config import HallConfig as Settings
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import NO_MATCH, DenyReason
from wcp_route.domain.decision import RouteDecision as Decision
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.ids import new_id
from wcp_route.domain.record_model import MAX_RECORD_BYTES, read_record
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.values import DATA_LABELS, ENVS, GUARDED_ENVS
from wcp_route.hall import Hall, Services
from wcp_route.rules.rules_model import MAX_RULES_BYTES, read_rules
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.receipts import ReceiptStore
    from wcp_route.storage.registry import LedgerRegistry

__all__ = [
    "DEFAULTS", "GO_CODES", "HallConfig", "PolicyGate", "Registry", "RouteDecision", "RouteInput", "Rule", "configure",
    "detect_shadow_rules", "fill_record", "load_rules", "load_rules_from_dict", "make_decision", "route_first_match",
]  # fmt: skip

_AXES: Final = ("capability_id", "env", "data_label", "tenant_risk", "qos_class", "tenant_id")
_log = logging.getLogger("wcp_route")
MAX_RECORDS: Final = 10_000  # files that a registry directory may hold

# What a record of the Go SDK (worker_id, worker_species_id, capabilities, risk_tier) lacks. It runs in dev alone.
DEFAULTS: Final[Mapping[str, JsonValue]] = {
    "risk_tier": "medium",
    "idempotency": "none",
    "determinism": "nondeterministic",
    "required_controls": [],
    "currently_implements": [],
    "allowed_environments": ["dev"],
    "privilege_envelope": {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []},
    "blast_radius": {"data": 5, "network": 0, "financial": 0, "time": 0, "reversibility": 0},
    "owner": "unknown",
}


@dataclass(slots=True)
class _Setup:
    trust_policy: Policy | None = None
    packages: dict[str, str] = field(default_factory=dict)
    receipts: ReceiptStore | None = None
    unattested: bool = False


_setup = _Setup()


def configure(
    *,
    trust_policy: Policy | None = None,
    packages: Mapping[str, str] | None = None,
    receipts: ReceiptStore | None = None,
    unsafe_dispatch_workers_without_attestation: bool = False,
) -> None:
    """Say what the earlier SDK did not ask for; for all calls of `make_decision` from now on.

    Args:
        trust_policy: who is trusted about packages.
        packages: the package directory of each worker, by worker id.
        receipts: where evidence goes; prod and edge need a signed durable store.
        unsafe_dispatch_workers_without_attestation: do without attestation, in `dev` and `stage` alone.
    """
    _setup.trust_policy, _setup.packages = trust_policy, dict(packages or {})
    _setup.receipts, _setup.unattested = receipts, unsafe_dispatch_workers_without_attestation


def fill_record(record: JsonObject) -> JsonObject:
    """Return a record with what it lacks from `DEFAULTS`; a record so filled may run in `dev` alone.

    Args:
        record: of any earlier SDK, above all the four fields of Go's.
    """
    lacking = DEFAULTS.keys() - record.keys()
    if not lacking:
        return record
    return {**DEFAULTS, **record, "allowed_environments": ["dev"]}


class Registry:
    """Enrolled workers, as the earlier SDK kept them.

    Args:
        registry_dir: a directory of `*.json` records to enroll.

    Raises:
        ConfigError: the directory or a record cannot be read.
    """

    def __init__(self, registry_dir: str | os.PathLike[str] | None = None) -> None:
        self.store = open_state().registry
        self._records: list[JsonObject] = []
        self._controls: set[str] = set()
        self._available: set[str] = set()
        if registry_dir is None:
            return
        try:
            names = sorted(name for name in os.listdir(registry_dir) if name.endswith(".json"))
            for name in names[: MAX_RECORDS + 1]:
                with open(os.path.join(registry_dir, name), "rb") as file:
                    data = file.read(MAX_RECORD_BYTES + 1)
                self.enroll(strictjson.loads_object(data, what=name, max_bytes=MAX_RECORD_BYTES))
        except OSError as problem:
            raise ConfigError(f"cannot read the registry {os.fspath(registry_dir)!r}: {problem.strerror}") from None

    def enroll(self, record: JsonObject) -> None:
        """Enroll a worker; a later record of the same id takes its place.

        Args:
            record: what it lacks is filled in (`fill_record`).

        Raises:
            ConfigError: the record is malformed.
        """
        worker = read_record(fill_record(record))
        root = _setup.packages.get(worker.worker_id, "")
        self.store.enroll(replace(worker, package_root=os.path.abspath(root) if root else ""), replace=True)
        self._records.append(record)

    def controls_present(self) -> set[str]:
        """Return the controls that were set or added, in the protocol's spelling.

        What records claim is not among them: it counts once their workers are attested.
        """
        return set(self._controls)

    def set_controls_present(self, controls: Iterable[str]) -> None:
        """Say which controls the platform provides, in place of those said before.

        Args:
            controls: control ids, with hyphens or underscores; what is no control id is left out, with a warning.
        """
        self._controls = set()
        self.add_controls_present(controls)

    def add_controls_present(self, controls: Iterable[str]) -> None:
        """Say which controls the platform provides as well.

        Args:
            controls: control ids, with hyphens or underscores; what is no control id is left out, with a warning.
        """
        for name in controls:
            try:
                self._controls.add(fold_control_id(name))
            except ConfigError as problem:
                _log.warning("left out: %s", problem)

    def set_workers_available(self, worker_species_ids: Iterable[str]) -> None:
        """Say which species can take work, in place of those said before.

        Args:
            worker_species_ids: such as `wrk.doc.summarizer`.
        """
        self._available = set(worker_species_ids)

    def add_workers_available(self, worker_species_ids: Iterable[str]) -> None:
        """Say which species can take work as well.

        Args:
            worker_species_ids: such as `wrk.doc.summarizer`.
        """
        self._available |= set(worker_species_ids)

    def worker_available(self, worker_species_id: str) -> bool:
        """Tell whether a species is enrolled or was said to be available.

        Args:
            worker_species_id: such as `wrk.doc.summarizer`.
        """
        return worker_species_id in self._available or bool(self.store.worker_ids(worker_species_id))

    def workers_for_capability(self, capability_id: str) -> list[str]:
        """Return the species that declare a capability, sorted.

        Args:
            capability_id: such as `cap.doc.summarize`.
        """
        return sorted({each.worker_species_id for each in self.store.workers_for_capability(capability_id)})

    def enrolled_count(self) -> int:
        """Return how many workers are enrolled; one that was enrolled again counts once."""
        return len(self.store.workers())

    def enrolled_workers(self) -> list[JsonObject]:
        """Return the records as they were given, oldest first."""
        return [*self._records]

    def get_privilege_envelope(self, worker_species_id: str) -> JsonObject | None:
        """Return the envelope that the first enrolled worker of a species declares, or None.

        Args:
            worker_species_id: such as `wrk.doc.summarizer`.
        """
        found = self.store.snapshot().species.get(worker_species_id, ())
        return json.loads(json.dumps(asdict(found[0].privilege_envelope))) if found else None

    def summary(self) -> JsonObject:
        """Return what is enrolled and said, for a health check.

        Returns:
            `enrolled_workers` and `controls_present_count` as numbers; `available_species`, `controls_present` and
            `capabilities_mapped` as sorted lists.
        """
        enrolled, named = self.store.workers(), sorted(self._controls)
        species = self._available | {each.worker_species_id for each in enrolled}
        return {
            "enrolled_workers": len(enrolled),
            "available_species": [*sorted(species)],
            "controls_present_count": len(named),
            "controls_present": [*named],
            "capabilities_mapped": [*sorted({name for each in enrolled for name in each.capabilities})],
        }


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
    registry_get_worker_hash: object = None,
    get_current_worker_hash: object = None,
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
        registry_get_worker_hash: not used; the package is attested.
        get_current_worker_hash: not used.
        registry_client: not used; name ban lists in the trust policy.

    Raises:
        ConfigError: the rules or settings cannot be used, or `configure` was not called.
    """
    del conformance_spec, registry_get_worker_hash, get_current_worker_hash, registry_client
    request: JsonObject = inp.model_dump() if isinstance(inp, RouteInput) else dict(inp)
    env = request.get("env")
    owner = getattr(registry_worker_available, "__self__", None)
    compiled = _compiled(rules) if rules else None
    if compiled is None:
        return _refused(request, Code.NO_MATCHING_RULE, "there are no rules, so no request may pass", {})
    if compiled.shadows and env in GUARDED_ENVS:
        dead: list[JsonValue] = [shadow.rule_id for shadow in compiled.shadows[:100]]
        extras: JsonObject = {"shadowed_rule_ids": dead, "shadow_count": len(compiled.shadows)}
        return _refused(request, Code.SHADOW_RULES_DETECTED, f"rules can never match: {compiled.shadows[0]}", extras)
    asked = request.get("capability_id")
    store = _workers_of(compiled, str(asked), owner if isinstance(owner, Registry) else None)
    given = hall_config or HallConfig()
    config = Settings(
        env=env if env in ENVS else "dev",  # the request itself is checked by the Hall
        require_signatory=given.require_signatory,
        allowed_tenants=frozenset(given.allowed_tenants),
        require_credential=given.require_credential,
        enforce_correlation_id=given.enforce_correlation_id,
        enforce_required_controls=given.enforce_required_controls,
        enforce_blast_scoring_in_prod=given.enforce_blast_scoring_in_prod,
        enforce_privilege_envelopes=given.enforce_privilege_envelopes,
        unsafe_dispatch_workers_without_attestation=_setup.unattested and env not in {"prod", "edge"},
    )
    asks_envelope = registry_policy_allows_privilege is not None and registry_get_privilege_envelope is not None
    named = {control for rule in compiled.rules for control in rule.required_controls}
    config = replace(
        config,
        controls_present=config.controls_present | {fold_control_id(name) for name in registry_controls_present},
        control_scopes={**dict.fromkeys(named - {"ctrl.blast-radius-scoring"}, "platform"), **config.control_scopes},
        ceilings=config.ceilings or (_ANYTHING if registry_policy_allows_privilege is not None else ()),
        ask_policy_gate=asks_envelope,
    )
    gate = LegacyGate(policy_gate_eval, registry_get_privilege_envelope, registry_policy_allows_privilege)
    services = Services(
        policy_gate=None if policy_gate_eval is None and not asks_envelope else gate,
        availability=lambda worker: registry_worker_available(worker.worker_species_id),
        receipts=_setup.receipts,
        task_id=task_id,
    )
    with store, Hall(compiled, store, _setup.trust_policy, config, services=services) as hall:
        return RouteDecision(to_wire(hall.route(request), operator=True))


def _refused(request: JsonObject, code: Code, message: str, extras: JsonObject) -> RouteDecision:
    """Refuse where a Hall would not even start."""
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


def _workers_of(rules: RuleSet, asked: str, registry: Registry | None) -> LedgerRegistry:
    """Return what is enrolled, and one worker of `DEFAULTS` for each species that is only said to be available."""
    store = open_state().registry
    for worker in () if registry is None else registry.store.workers():
        store.enroll(worker)
    capabilities: dict[str, set[str]] = {}
    for rule in rules.rules:
        for candidate in rule.candidates:
            species = candidate.worker_species_id
            if not store.worker_ids(species) and (registry is None or registry.worker_available(species)):
                capabilities.setdefault(species, set()).update(rule.capabilities or {asked})
    for species, named in capabilities.items():
        worker_id = f"x.dev.{species.removeprefix('wrk.').replace('.', '-')}"
        record: JsonObject = {"worker_id": worker_id, "worker_species_id": species, "capabilities": [*sorted(named)]}
        root = _setup.packages.get(worker_id, "")
        worker = read_record(json.loads(json.dumps(fill_record(record))))
        store.enroll(replace(worker, package_root=os.path.abspath(root) if root else ""))
    return store
