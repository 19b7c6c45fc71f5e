"""What programs use: public names, the guard, the call of the earlier SDKs, the Cedar gate, compliance levels."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import wcp_route
from tests.route.stores import MemoryRegistry
from tests.route.worlds import CAPABILITY, WORKER, Counting, World, a_record, a_request, a_rule, tamper, trust
from wcp_attest import ConfigError
from wcp_route import (
    CedarGate,
    Hall,
    HallConfig,
    LegacyGate,
    NotDispatched,
    Options,
    Services,
    check_compliance,
    guard,
    guarded,
    make_decision,
)
from wcp_route.domain.codes import Code

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject


def test_every_public_name_is_there_and_costs_nothing_until_used() -> None:
    for name in wcp_route.__all__:
        assert getattr(wcp_route, name) is not None
    assert set(dir(wcp_route)) == set(wcp_route.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Door'"):
        _ = wcp_route.Door
    code = "import sys, wcp_route; assert 'pydantic' not in sys.modules and 'sqlite3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- guard ---------------------------------------------------------------------------------------------------------


def test_a_guarded_tool_runs_only_when_it_is_dispatched(world: World) -> None:
    ran: list[str] = []

    @guard(world.hall(), lambda text: a_request(request={"text": text}))
    def summarize(text: str) -> str:
        """Summarise."""
        ran.append(text)
        return text[:2]

    assert summarize("hello") == "he"
    assert (summarize.__name__, summarize.__doc__) == ("summarize", "Summarise.")
    tamper(world.package())
    with pytest.raises(NotDispatched) as refused:
        summarize("again")
    assert refused.value.decision.code == Code.WORKER_TAMPERED
    assert ran == ["hello"]


def test_a_guarded_block_gets_the_decision_and_a_refused_or_rehearsed_one_does_not_run(world: World) -> None:
    hall = world.hall()
    with guarded(hall, a_request()) as decision:
        assert decision.package_path == world.package()
    refused: list[JsonObject] = [a_request(env="prod"), a_request(dry_run=True), {"bad": 1}]
    for request in refused:
        with pytest.raises(NotDispatched), guarded(hall, request):
            pytest.fail("the block ran")
    with pytest.raises(NotDispatched), guarded(hall, a_request(), principal="mallory"):
        pytest.fail("the block ran")


def test_what_a_tool_raises_comes_through(world: World) -> None:
    with pytest.raises(ZeroDivisionError), guarded(world.hall(), a_request()):
        _ = 1 / 0


# --- make_decision -------------------------------------------------------------------------------------------------


def options(world: World, **changes: Any) -> Options:
    given: dict[str, Any] = {
        "rules": {"rules": [a_rule()]},
        "trust_policy": trust(world.signer),
        "config": HallConfig(env="dev"),
    }
    return Options(**{**given, **changes})


def test_programs_of_the_earlier_sdks_read_what_they_know(world: World) -> None:
    mine = options(world)
    decision = make_decision(a_request(), world.registry, mine)
    assert decision.denied is False
    assert decision.selected_worker_species_id == "wrk.doc.summarizer"
    assert decision.matched_rule_id == "rule-1"
    assert {"event_id", "timestamp", "correlation_id", "tenant_id"} <= decision.telemetry_envelopes[0].keys()
    denied = make_decision(a_request(env="prod"), world.registry, mine)
    assert denied.deny_reason_if_denied is not None
    assert denied.deny_reason_if_denied["code"] == "DENY_ENV_NOT_ALLOWED"
    assert make_decision({"nonsense": True}, world.registry, mine).denied is True


def test_options_and_registry_are_never_mixed_up(world: World) -> None:
    mine = options(world)
    assert make_decision(a_request(), world.registry, mine).denied is False
    assert make_decision(a_request(), MemoryRegistry(), mine).deny_code == "DENY_NO_AVAILABLE_WORKER"
    nothing = options(world, rules={"rules": [a_rule(match={"env": "prod"})]})
    assert make_decision(a_request(), world.registry, nothing).deny_code == "DENY_NO_MATCHING_RULE"
    for number in range(100):
        each = options(world, rules={"rules": [a_rule(f"rule-{number}")]})
        assert make_decision(a_request(), world.registry, each).matched_rule_id == f"rule-{number}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (("ALLOW", "policy.v1", "ok"), None),
        (("DENY", "policy.v1", "no"), "DENY_POLICY_GATE"),
        (("REQUIRE_HUMAN", "policy.v1", "ask"), "DENY_REQUIRES_HUMAN_APPROVAL"),
        (("MAYBE", "policy.v1", ""), "DENY_POLICY_GATE_INVALID_RESPONSE"),
        (("ALLOW", None, ""), "DENY_POLICY_GATE_INVALID_RESPONSE"),
        (("ALLOW",), "DENY_INTERNAL_ERROR"),
        (None, "DENY_INTERNAL_ERROR"),
    ],
)
def test_gates_of_the_earlier_sdks_still_answer(answer: Any, code: str | None, world: World) -> None:
    seen: list[Any] = []

    def function(context: Any) -> Any:
        seen.append(dict(context))
        return answer

    gate = LegacyGate(function)
    mine = options(
        world, rules={"rules": [a_rule(escalation={"policy_gate": True})]}, services=Services(policy_gate=gate)
    )
    assert make_decision(a_request(), world.registry, mine).deny_code == code
    assert seen[0]["capability_id"] == CAPABILITY


# --- Cedar ---------------------------------------------------------------------------------------------------------

CEDAR = """
permit (principal == Tenant::"acme", action == Action::"dispatch", resource in Namespace::"org.acme")
when { context.attested && context.data_label != "RESTRICTED" && context.blast_score < 60 };
permit (principal, action == Action::"hold", resource in Species::"wrk.doc.summarizer")
when { context.data_label == "RESTRICTED" };
forbid (principal, action, resource) when { context.tenant_risk == "high" };
"""


def cedar_hall(world: World, text: str) -> Hall:
    services = Services(clock=world.clock, ids=Counting(), policy_gate=CedarGate(text, name="acme"))
    return world.hall(services=services, ask_policy_gate=True, callback_seconds=30.0)


def test_cedar_permits_holds_and_denies(world: World) -> None:
    hall = cedar_hall(world, CEDAR)
    allowed = hall.route(a_request())
    assert (allowed.denied, allowed.policy_decision) == (False, "ALLOW")
    assert allowed.policy_version.startswith("acme-")
    assert hall.route(a_request(data_label="RESTRICTED")).code == Code.REQUIRES_HUMAN_APPROVAL
    assert hall.route(a_request(tenant_id="other")).code == Code.POLICY_GATE
    assert hall.route(a_request(blast_score=60)).code == Code.POLICY_GATE
    assert hall.route(a_request(tenant_risk="high")).code == Code.POLICY_GATE
    assert hall.route(a_request(data_label="RESTRICTED", tenant_risk="high")).code == Code.POLICY_GATE


def test_a_cedar_policy_that_cannot_be_evaluated_denies_although_another_permits(world: World) -> None:
    overflow = "forbid (principal, action, resource) when { context.hour_utc + 9223372036854775807 > 1 };"
    text = "permit (principal, action, resource);\n" + overflow
    decision = cedar_hall(world, text).route(a_request())
    assert (decision.code, decision.policy_reason) == (Code.POLICY_GATE, "a Cedar policy could not be evaluated")


@pytest.mark.parametrize("text", ["", "  \n", "permit", "permit (principal, action, resource)", "x" * (1 << 21)])
def test_cedar_policies_that_are_none_are_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="Cedar"):
        CedarGate(text)


def test_a_tenant_cannot_speak_cedar(world: World) -> None:
    hall = cedar_hall(world, CEDAR)
    for name in ('acme"', 'x" || "acme', 'Tenant::"acme"', "acme\\"):
        assert hall.route(a_request(tenant_id=name)).denied is True


# --- compliance ----------------------------------------------------------------------------------------------------

GOOD = {
    "required_controls": ["ctrl.obs.audit_log_append_only"],
    "currently_implements": ["ctrl.obs.audit-log-append-only", "ctrl.sec.default-deny"],
    "artifact_hash": "sha256:" + "0" * 64,
}


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (GOOD, "full"),
        ({**GOOD, "artifact_hash": None}, "standard"),
        ({**GOOD, "privilege_envelope": {}}, "standard"),
        ({**GOOD, "blast_radius": {"data": 1}}, "standard"),
        ({**GOOD, "currently_implements": ["ctrl.obs.audit-log"]}, "basic"),
        ({**GOOD, "allowed_environments": []}, "basic"),
        ({}, "basic"),
        ({**GOOD, "worker_id": ""}, "none"),
    ],
)
def test_a_record_reaches_the_level_of_which_nothing_is_missing(change: dict[str, Any], level: str) -> None:
    found = check_compliance(a_record(**change))
    assert found.level == level
    lacking: dict[str, Any] = dict(found.missing)
    assert all(not lacking[name] for name in ("basic", "standard", "full")) is (level == "full")


@pytest.mark.parametrize("record", [{}, {"blast_radius": 7, "currently_implements": "x", "required_controls": [1]}])
def test_any_object_has_a_level(record: JsonObject) -> None:
    assert check_compliance(record).level == "none"


def test_the_worker_named_in_the_decision_is_the_enrolled_one(world: World) -> None:
    assert make_decision(a_request(), world.registry, options(world)).worker_id == WORKER
