"""Decisions held against a second reading of the protocol, made from its text alone.

`second_reading` below says what the specification (pipeline of section 3, as resolved in the conformance page) wants of
a request: the first reason to deny, in order, or None. It shares no code with the router. Requests, rules, workers,
settings and policy gates are drawn, right and wrong ones, and both must say the same.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.stores import MemoryRegistry
from tests.route.worlds import Counting, Ticking, a_record, make_package, tamper, trust
from wcp_attest.signing.key import generate
from wcp_route.config import HallConfig
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.record_model import read_record
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest import KeySigner

ENVS, LABELS = ("dev", "stage", "prod", "edge"), ("PUBLIC", "INTERNAL", "RESTRICTED")
RISKS, CLASSES = ("low", "medium", "high"), ("P0", "P1", "P2", "P3")
AXES = {"env": ENVS, "data_label": LABELS, "tenant_risk": RISKS, "qos_class": CLASSES}
SUMMARIZE, DELETE = "cap.doc.summarize", "cap.doc.delete"
PLATFORM, OWN = "ctrl.obs.audit-log-append-only", "ctrl.exec.sandbox"
SCORING, ENVELOPES = "ctrl.blast-radius-scoring", "ctrl.privilege-envelopes-required"
GOOD, BAD = "wrk.doc.good", "wrk.doc.tampered"
KNOWN = {
    "capability_id", "tenant_id", "correlation_id", "env", "data_label", "tenant_risk", "qos_class", "request",
    "blast_score", "blast_radius", "chain_id", "privilege_context", "dry_run", "tenant_credential", "policy_version",
}  # fmt: skip
REQUIRED = ("capability_id", "tenant_id", "correlation_id", "env", "data_label", "tenant_risk", "qos_class")


class SaidGate:
    """A policy gate that says what it was made with, or raises it."""

    def __init__(self, said: str) -> None:
        self.said = said

    def evaluate(self, context: object) -> Any:
        del context
        if self.said == "raises":
            raise ValueError("no")
        return None if self.said == "nothing" else PolicyAnswer(self.said, "p1")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Asked:
    """A request and all that it is judged by."""

    request: dict[str, Any]
    rules: tuple[dict[str, Any], ...]
    env: str
    workers: dict[str, dict[str, Any]]
    present: frozenset[str]
    signatories: frozenset[str] | None
    gate: str | None
    available: bool
    quarantined: bool


# ---- the second reading ---------------------------------------------------------------------------------------------


def is_request(body: dict[str, Any]) -> bool:
    if not body.keys() <= KNOWN or any(type(body.get(name)) is not str for name in REQUIRED):
        return False
    if any(body[axis] not in values for axis, values in AXES.items()):
        return False
    score, payload, rehearsal = body.get("blast_score"), body.get("request", {}), body.get("dry_run", False)
    if score is not None and not (type(score) is int and 0 <= score <= 100):
        return False
    if type(payload) is not dict or type(rehearsal) is not bool or not body["capability_id"].strip():
        return False
    if body.get("privilege_context") is not None and type(body["privilege_context"]) is not dict:
        return False
    if body["env"] == "dev":
        return True
    ids = [body[name] for name in ("tenant_id", "correlation_id") if body[name].strip()]
    named = re.fullmatch(r"cap(\.[a-z0-9-]+){1,3}", body["capability_id"])
    return named is not None and not any(set(" \n") & set(one) for one in ids)


def matches(rule: dict[str, Any], body: dict[str, Any]) -> bool:
    for axis, condition in rule["match"].items():
        if condition == {"any": True}:
            continue
        wanted = condition if isinstance(condition, dict) else {"eq": condition}
        if body[axis] not in wanted.get("in", [wanted.get("eq")]):
            return False
    return True


def score_of(body: dict[str, Any]) -> int:
    payload = body.get("request", {})
    score: int = 10 + {"PUBLIC": 0, "INTERNAL": 20, "RESTRICTED": 40}[body["data_label"]]
    score += 15 * (body["env"] in ("prod", "edge")) + 10 * (body["qos_class"] == "P0")
    score += 15 * bool(payload.get("egress") or payload.get("external_call"))
    score += 15 * bool(payload.get("writes") or payload.get("mutates_state"))
    raised: int = body.get("blast_score") or 0
    return max(min(score, 100), raised)


def put_right(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "capability_id": body["capability_id"].split("\n")[0].strip()}


def second_reading(asked: Asked) -> str | None:  # the list of the specification
    body = asked.request
    if not is_request(body):
        return "DENY_INVALID_INPUT"
    if not body["tenant_id"].strip():
        return "DENY_MISSING_TENANT_ID"
    if asked.signatories is not None and body["tenant_id"] not in asked.signatories:
        return "DENY_UNKNOWN_TENANT"
    if body["env"] != asked.env:
        return "DENY_ENV_NOT_ALLOWED"
    body = put_right(body)
    capability = body["capability_id"]
    rule = next((one for one in asked.rules if matches(one, body)), None)
    if rule is None:
        return "DENY_NO_MATCHING_RULE"
    decision = rule["decision"]
    if not body["correlation_id"].strip():
        return "DENY_MISSING_CORRELATION_ID"
    needed = decision["required_controls_suggested"]
    if PLATFORM in needed and PLATFORM not in asked.present:
        return "DENY_MISSING_REQUIRED_CONTROLS"
    worker = None
    for candidate in decision["candidate_workers_ranked"]:
        found = asked.workers.get(candidate["worker_species_id"])
        fits = found is not None and capability in found["capabilities"] and asked.env in found["allowed_environments"]
        if fits and asked.available:
            worker = found
            break
    if worker is None:
        return "DENY_NO_AVAILABLE_WORKER"
    if OWN in needed and OWN not in worker["currently_implements"]:
        return "DENY_MISSING_REQUIRED_CONTROLS"
    if asked.quarantined:
        return "DENY_WORKER_QUARANTINED"
    if worker["worker_species_id"] == BAD:
        return "DENY_WORKER_TAMPERED"
    if body.get("privilege_context"):
        return "DENY_PRIVILEGE_ENVELOPE_VIOLATED"  # these workers may do nothing of that kind
    if worker["privilege_envelope"]["tools"] and (ENVELOPES in needed or asked.env in ("prod", "edge")):
        return "DENY_PRIVILEGE_ENVELOPE_UNCONFIGURED"  # no ceiling is configured here
    concerns = []
    if (SCORING in needed or asked.env in ("prod", "edge")) and score_of(body) >= 85:
        concerns.append("DENY_REQUIRES_HUMAN")
    if decision["escalation"]["policy_gate"]:
        answers = {
            None: "DENY_POLICY_GATE_UNCONFIGURED", "raises": "DENY_INTERNAL_ERROR", "DENY": "DENY_POLICY_GATE",
            "nothing": "DENY_POLICY_GATE_INVALID_RESPONSE", "MAYBE": "DENY_POLICY_GATE_INVALID_RESPONSE",
        }  # fmt: skip
        if asked.gate in answers:
            return answers[asked.gate]
        concerns += ["DENY_REQUIRES_HUMAN_APPROVAL"] * (asked.gate == "REQUIRE_HUMAN")
    if decision["escalation"]["human_required_default"]:
        concerns.append("DENY_REQUIRES_HUMAN_APPROVAL")
    return concerns[0] if concerns else None


# ---- drawn worlds ---------------------------------------------------------------------------------------------------

_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 84, 85, 100, 101, 1.0, 50.5, "85", "", "  ", [], {}, {"x": 1}, "prod ", "PROD", "CONFIDENTIAL",
     "staging", "critical", "P4", "p0", "cap.doc.summarize\nevt.x", "a b", "acme\n"]
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn, env: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "capability_id": draw(st.sampled_from((SUMMARIZE, SUMMARIZE, DELETE, "cap.nobody.knows"))),
        "tenant_id": draw(st.sampled_from(("acme", "acme", "other", ""))),
        "correlation_id": draw(st.sampled_from(("c-1", "c-1", "", " "))),
        "env": env,
        **{axis: draw(st.sampled_from(values)) for axis, values in AXES.items() if axis != "env"},
        "request": {name: draw(st.booleans()) for name in draw(st.sets(st.sampled_from(
            ("egress", "external_call", "writes", "mutates_state", "text"))))},
    }  # fmt: skip
    if draw(st.booleans()):
        body["blast_score"] = draw(st.sampled_from((None, 0, 30, 84, 85, 100)))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        match draw(st.integers(0, 3)):
            case 0:
                body.pop(draw(st.sampled_from(sorted(body))), None)
            case 1:
                body[draw(st.sampled_from(("x", "Env", "capabilityId", "policy", "payload")))] = 1
            case _:
                names = (*REQUIRED, "request", "blast_score", "dry_run", "privilege_context")
                body[draw(st.sampled_from(names))] = draw(_ODD)
    return body


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    made = []
    for number in range(draw(st.integers(1, 3))):
        match: dict[str, Any] = {}
        for axis, values in {**AXES, "capability_id": (SUMMARIZE, DELETE)}.items():
            chosen = draw(st.sampled_from(values))
            forms: list[Any] = [chosen, {"eq": chosen}, {"in": [*values[:2]]}, {"any": True}]
            form = draw(st.sampled_from((None, None, None, *range(4))))
            if form is not None:
                match[axis] = forms[form]
        ranked = draw(st.permutations((GOOD, BAD)))[: draw(st.sampled_from((0, 1, 1, 2, 2)))]
        controls = (PLATFORM, OWN, SCORING, ENVELOPES)
        made.append(
            {
                "rule_id": f"r{number}",
                "match": match,
                "decision": {
                    "candidate_workers_ranked": [{"worker_species_id": name} for name in ranked],
                    "required_controls_suggested": draw(st.lists(st.sampled_from(controls), unique=True, max_size=2)),
                    "escalation": {
                        "policy_gate": draw(st.booleans()),
                        "human_required_default": draw(st.sampled_from((False, False, False, True))),
                    },
                },
            }
        )
    return tuple(made)


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    env = draw(st.sampled_from(ENVS))
    workers = {}
    for species in draw(st.sets(st.sampled_from((GOOD, BAD)), min_size=1)):
        workers[species] = a_record(
            worker_id=f"org.acme.{species.rpartition('.')[2]}",
            worker_species_id=species,
            capabilities=draw(st.sampled_from(([SUMMARIZE], [SUMMARIZE, DELETE]))),
            currently_implements=draw(st.sampled_from(([], [OWN]))),
            allowed_environments=draw(st.sampled_from((list(ENVS), ["dev"], ["prod", "edge"]))),
            privilege_envelope={
                "secrets_access": [],
                "network_egress": "none",
                "filesystem_writes": [],
                "tools": draw(st.sampled_from(([], [], ["bash"]))),
            },
        )
    return Asked(
        request=draw(requests(draw(st.sampled_from((env, env, env, "dev"))))),
        rules=draw(rule_lists()),
        env=env,
        workers=workers,
        present=frozenset({PLATFORM} if draw(st.booleans()) else ()),
        signatories=draw(st.sampled_from((None, None, frozenset({"acme"})))),
        gate=draw(st.sampled_from((None, "ALLOW", "ALLOW", "DENY", "REQUIRE_HUMAN", "raises", "nothing", "MAYBE"))),
        available=draw(st.sampled_from((True, True, True, False))),
        quarantined=draw(st.sampled_from((False, False, False, True))),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, KeySigner]:
    """Two signed packages, one of which was changed afterwards."""
    directory, signer = tmp_path_factory.mktemp("packages"), generate()
    for species in (GOOD, BAD):
        make_package(directory / species, signer, f"org.acme.{species.rpartition('.')[2]}", species)
    tamper(str(directory / BAD))
    return str(directory), signer


def hall_of(asked: Asked, place: tuple[str, KeySigner]) -> Hall:
    directory, signer = place
    registry = MemoryRegistry()
    for species, record in asked.workers.items():
        registry.enroll(replace(read_record(record), package_root=os.path.join(directory, species)))
        if asked.quarantined:
            registry.quarantine(record["worker_id"], "x", by="ops", at_ms=1)
    config = HallConfig(
        env=asked.env,  # type: ignore[arg-type]
        controls_present=asked.present,
        require_signatory=asked.signatories is not None,
        allowed_tenants=asked.signatories or frozenset(),
        unsafe_dispatch_without_signed_durable_receipts=True,
    )
    gate = None if asked.gate is None else SaidGate(asked.gate)
    services = Services(clock=Ticking(), ids=Counting(), policy_gate=gate, availability=lambda _: asked.available)
    rules: Any = {"rules": list(asked.rules)}
    return Hall(rules, registry, trust(signer), config, services=services)


def reaches_all(rules: tuple[dict[str, Any], ...]) -> bool:
    """Tell whether each rule is the first to match something, by trying every case."""
    alive = set()
    for values in itertools.product(*AXES.values(), (SUMMARIZE, DELETE, "cap.nobody.knows")):
        body = dict(zip((*AXES, "capability_id"), values, strict=True))
        alive.add(next((rule["rule_id"] for rule in rules if matches(rule, body)), ""))
    return {rule["rule_id"] for rule in rules} <= alive


@given(asked=questions())
@settings(
    max_examples=examples(300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_decision_is_that_of_a_second_reading(place: Any, asked: Asked) -> None:
    assume(asked.env not in ("prod", "edge") or reaches_all(asked.rules))  # such a Hall does not start
    expected = second_reading(asked)
    with hall_of(asked, place) as hall, hall_of(asked, place) as again:  # a tampered worker is in quarantine afterwards
        decision = hall.route(asked.request)
        text = again.route(json.dumps(asked.request).encode())
    assert decision.code == expected, (decision.reason, asked)
    assert (text.code, text.matched_rule_id) == (decision.code, decision.matched_rule_id)
    assert decision.denied is (expected is not None)
    wire = to_wire(decision)
    assert wire["outcome"] == ("DENY" if expected else "DISPATCH")  # without a store of holds nobody can be asked
    assert wire["deny_code"] == expected
    if expected not in ("DENY_INVALID_INPUT", "DENY_MISSING_TENANT_ID", "DENY_UNKNOWN_TENANT", "DENY_ENV_NOT_ALLOWED"):
        first = next((one["rule_id"] for one in asked.rules if matches(one, put_right(asked.request))), "NO_MATCH")
        assert wire["matched_rule_id"] == first


WRONG: dict[str, tuple[Any, ...]] = {
    "env": ("staging", "PROD", "", None, 1, ["dev"]),
    "data_label": ("CONFIDENTIAL", "public", "", None, {}),
    "tenant_risk": ("critical", "LOW", "", None, 0),
    "qos_class": ("P4", "p0", "", None, 2),
    "blast_score": (-1, 101, 50.5, 1.0, True, "50", [], 2**70),
    "request": (None, [], "x", 1),
    "dry_run": (None, 1, "true"),
    "blast_radius": ([], {"data": 6}, {"data": -1}, {"data": True}, 3),
    "privilege_context": ([], "x", 1),
    "capability_id": (7, None, "", " "),
    "tenant_id": (7, None),
    "correlation_id": (7, None),
    "chain_id": (7, None),
    "unknown": ("x",),
    "capabilityId": (SUMMARIZE,),
    "Env": ("dev",),
    "decision": ({},),
}
CASES: list[tuple[dict[str, Any], str | None]] = [
    *(({name: value}, "DENY_INVALID_INPUT") for name, values in WRONG.items() for value in values),
    *(({"blast_score": score}, None) for score in (0, 1, 84, None)),
    ({"privilege_context": None, "blast_radius": None, "dry_run": False}, None),
    ({"tenant_id": ""}, "DENY_MISSING_TENANT_ID"),
    ({"tenant_id": " \t"}, "DENY_MISSING_TENANT_ID"),
    ({"correlation_id": " "}, "DENY_MISSING_CORRELATION_ID"),
]


@pytest.mark.parametrize("env", ENVS)
def test_a_field_of_another_form_has_the_code_of_the_specification(place: Any, env: str) -> None:
    with hall_of(_plain(env), place) as hall:
        for change, code in CASES:
            decision = hall.route({**_plain(env).request, **change})
            assert decision.code == code, (change, decision.reason)


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_field_that_is_missing_is_invalid_and_told_by_name(place: Any, missing: str) -> None:
    with hall_of(_plain("dev"), place) as hall:
        body = {name: value for name, value in _plain("dev").request.items() if name != missing}
        decision = hall.route(body)
    assert decision.reason is not None
    assert (decision.reason.code.value, f"/{missing}" in decision.reason.message) == ("DENY_INVALID_INPUT", True)


def _boundaries() -> Iterator[tuple[str, str, str, dict[str, bool]]]:
    for env, label, qos in itertools.product(ENVS, LABELS, CLASSES):
        for said in ({}, {"egress": True}, {"writes": True}, {"external_call": True, "mutates_state": True}):
            yield env, label, qos, said


def test_every_cell_of_the_blast_score_and_its_threshold(place: Any) -> None:
    number = 0
    for env, cells in itertools.groupby(_boundaries(), key=lambda cell: cell[0]):
        with hall_of(_plain(env), place) as hall:
            for _, label, qos, said in cells:
                body = {**_plain(env).request, "data_label": label, "qos_class": qos, "request": said}
                own = score_of(body)
                for given_score in (None, 0, own - 1, own, own + 1, 84, 85, 100):
                    if given_score is not None and not 0 <= given_score <= 100:
                        continue
                    number += 1  # the declared scores of one correlation id add up
                    decision = hall.route({**body, "blast_score": given_score, "correlation_id": f"c-{number}"})
                    score = max(own, given_score or 0)
                    high = env in ("prod", "edge") and score >= 85
                    assert (decision.blast_score, decision.denied) == (score, high), (env, label, qos, said)


def _plain(env: str) -> Asked:
    """A good request to a Hall that dispatches it."""
    request = {
        "capability_id": SUMMARIZE, "tenant_id": "acme", "correlation_id": "c-1", "env": env, "data_label": "PUBLIC",
        "tenant_risk": "low", "qos_class": "P2",
    }  # fmt: skip
    decision = {"candidate_workers_ranked": [{"worker_species_id": GOOD}], "escalation": {}, "preconditions": {}}
    rules: tuple[dict[str, Any], ...] = ({"rule_id": "all", "match": {}, "decision": decision},)
    record = a_record(worker_id="org.acme.good", worker_species_id=GOOD, capabilities=[SUMMARIZE])
    return Asked(request, rules, env, {GOOD: record}, frozenset(), None, None, available=True, quarantined=False)
