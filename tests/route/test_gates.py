"""Each gate on its own: what it lets pass, what it refuses, and by which code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.worlds import (
    AUDIT,
    CAPABILITY,
    GENEROUS,
    SPECIES,
    WORKER,
    Counting,
    World,
    a_record,
    a_request,
    a_rule,
)
from wcp_attest import ConfigError
from wcp_route.config import Ceiling, HallConfig
from wcp_route.domain.codes import Code
from wcp_route.gates.table import GATES
from wcp_route.hall import Services

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.hall import Hall


def code(hall: Hall, **request: Any) -> Code | None:
    return hall.route(a_request(**request)).code


def of(directory: Path, *records: JsonObject) -> World:
    world = World(directory)
    for record in records:
        world.enroll(record)
    return world


# --- tenant --------------------------------------------------------------------------------------------------------


def test_a_blank_tenant_is_refused(world: World) -> None:
    assert code(world.hall(), tenant_id=" ") == Code.MISSING_TENANT_ID


def test_only_signatories_pass_where_the_hall_requires_them(world: World) -> None:
    hall = world.hall(require_signatory=True, allowed_tenants=frozenset({"acme"}))
    assert code(hall) is None
    assert code(hall, tenant_id="acme2") == Code.UNKNOWN_TENANT
    assert code(hall, tenant_id="Acme") == Code.UNKNOWN_TENANT
    assert code(world.hall(), tenant_id="anybody") is None


def test_the_tenant_is_the_one_that_authenticated(world: World) -> None:
    hall = world.hall()
    assert hall.route(a_request(), principal="acme").code is None
    assert hall.route(a_request(), principal="mallory").code == Code.UNKNOWN_TENANT
    assert hall.route(a_request(), principal="").code == Code.UNKNOWN_TENANT


def test_a_tenant_with_a_credential_must_bring_it(world: World) -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of `secret`
    hall = world.hall(tenant_credentials={"acme": digest})
    assert code(hall, tenant_credential="secret") is None
    assert code(hall, tenant_credential="Secret") == Code.UNKNOWN_TENANT
    assert code(hall, tenant_credential="") == Code.UNKNOWN_TENANT
    assert code(hall) == Code.UNKNOWN_TENANT
    assert code(hall, tenant_id="other") is None
    assert code(world.hall(tenant_credentials={"acme": digest}, require_credential=True), tenant_id="other") == (
        Code.UNKNOWN_TENANT
    )


# --- environment, rule, preconditions ------------------------------------------------------------------------------


def test_the_caller_does_not_choose_the_environment(world: World) -> None:
    assert code(world.hall(), env="prod") == Code.ENV_NOT_ALLOWED
    assert code(world.hall(env="prod"), env="dev") == Code.ENV_NOT_ALLOWED
    assert code(world.hall(env="prod"), env="prod") is None


def test_without_a_rule_nothing_passes(world: World) -> None:
    decision = world.hall(a_rule(match={"env": "prod"})).route(a_request())
    assert (decision.code, decision.matched_rule_id) == (Code.NO_MATCHING_RULE, "NO_MATCH")


def test_a_blank_correlation_id_is_refused_by_rule_or_by_hall(world: World) -> None:
    lax = a_rule(preconditions={"must_have_correlation_id": False})
    assert code(world.hall(), correlation_id="") == Code.MISSING_CORRELATION_ID
    assert code(world.hall(lax), correlation_id="") == Code.MISSING_CORRELATION_ID
    assert code(world.hall(a_rule(), enforce_correlation_id=False), correlation_id="") == Code.MISSING_CORRELATION_ID
    assert code(world.hall(lax, enforce_correlation_id=False), correlation_id="") is None


def test_a_rule_that_wants_attestation_in_prod_is_content_with_a_hall_that_attests(world: World) -> None:
    rule = a_rule(preconditions={"deny_if_no_attestation_in_prod": True, "deny_if_unsigned_artifact_in_prod": True})
    assert code(world.hall(rule, env="prod"), env="prod") is None


# --- controls ------------------------------------------------------------------------------------------------------

WANTS_AUDIT = a_rule(required_controls_suggested=[AUDIT])
WANTS_SANDBOX = a_rule(required_controls_suggested=["ctrl.exec.sandbox"])


def test_a_control_around_the_worker_counts_whoever_provides_it(tmp_path: Path) -> None:
    other = a_record(worker_id="org.acme.auditor", worker_species_id="wrk.audit.log", currently_implements=[AUDIT])
    alone = of(tmp_path / "alone", a_record())
    assert code(alone.hall(WANTS_AUDIT)) == Code.MISSING_REQUIRED_CONTROLS
    assert code(alone.hall(WANTS_AUDIT, controls_present=frozenset({AUDIT}))) is None
    together = of(tmp_path / "together", a_record(), other)
    assert code(together.hall(WANTS_AUDIT)) is None
    together.registry.quarantine("org.acme.auditor", "x", by="me", at_ms=1)
    assert code(together.hall(WANTS_AUDIT)) == Code.MISSING_REQUIRED_CONTROLS


def test_a_control_of_the_worker_counts_on_that_worker_only(tmp_path: Path) -> None:
    other = a_record(
        worker_id="org.acme.sandboxed", worker_species_id="wrk.x.y", currently_implements=["ctrl.exec.sandbox"]
    )
    world = of(tmp_path, a_record(), other)
    decision = world.hall(WANTS_SANDBOX, controls_present=frozenset({"ctrl.exec.sandbox"})).route(a_request())
    assert decision.code == Code.MISSING_REQUIRED_CONTROLS
    assert dict(decision.reason.extras)["missing"] == ["ctrl.exec.sandbox"] if decision.reason else False
    world.enroll(a_record(currently_implements=["ctrl.exec.sandbox"]), replace_=True)
    assert code(world.hall(WANTS_SANDBOX)) is None
    around = world.hall(WANTS_SANDBOX, control_scopes={"ctrl.exec.sandbox": "platform"})
    assert code(around) is None


def test_what_a_worker_requires_around_itself_must_be_there(tmp_path: Path) -> None:
    world = of(tmp_path, a_record(required_controls=[AUDIT, "ctrl.exec.sandbox"]))
    assert code(world.hall()) == Code.MISSING_REQUIRED_CONTROLS
    assert code(world.hall(controls_present=frozenset({AUDIT}))) == Code.MISSING_REQUIRED_CONTROLS
    world.enroll(a_record(required_controls=[AUDIT], currently_implements=[AUDIT]), replace_=True)
    assert code(world.hall()) is None


def test_controls_can_only_be_waived_by_rule_and_hall_together(world: World) -> None:
    waived = a_rule(
        required_controls_suggested=[AUDIT, "ctrl.exec.sandbox"],
        preconditions={"deny_if_missing_required_controls": False},
    )
    assert code(world.hall(waived)) == Code.MISSING_REQUIRED_CONTROLS
    assert code(world.hall(waived, enforce_required_controls=False)) is None


@pytest.mark.parametrize("name", ["ctrl.blast_radius_scoring", "ctrl.blast-radius-scoring"])
def test_the_hall_provides_its_own_controls_in_either_spelling(world: World, name: str) -> None:
    assert code(world.hall(a_rule(required_controls_suggested=[name]))) is None


# --- choosing a worker ---------------------------------------------------------------------------------------------


def test_a_worker_is_passed_over_for_what_it_does_not_declare(tmp_path: Path) -> None:
    for change, why in (
        ({"capabilities": ["cap.other.thing"]}, "capability_not_declared"),
        ({"allowed_environments": ["prod"]}, "env_not_allowed"),
        ({"allowed_environments": []}, "env_not_allowed"),
    ):
        decision = of(tmp_path / why / str(len(change)), a_record(**change)).hall().route(a_request())
        assert decision.code == Code.NO_AVAILABLE_WORKER
        assert decision.candidates[0].skip_reason == why
        tmp_path = tmp_path / "next"


def test_candidates_come_in_rank_order_and_workers_by_id(tmp_path: Path) -> None:
    second = a_record(worker_id="org.acme.b", worker_species_id="wrk.second.best")
    world = of(tmp_path, a_record(worker_id="org.acme.z"), a_record(worker_id="org.acme.y"), second)
    ranked = [
        {"worker_species_id": SPECIES, "score_hint": 0.1},
        {"worker_species_id": "wrk.second.best", "score_hint": 9},
    ]
    decision = world.hall(a_rule(candidate_workers_ranked=ranked)).route(a_request())
    assert decision.worker_id == "org.acme.y"
    assert [candidate.skip_reason for candidate in decision.candidates] == ["", "already_selected"]
    world.registry.withdraw("org.acme.y")
    world.registry.withdraw("org.acme.z")
    decision = world.hall(a_rule(candidate_workers_ranked=ranked)).route(a_request())
    assert decision.worker_id == "org.acme.b"
    assert [candidate.skip_reason for candidate in decision.candidates] == ["unavailable", ""]


def available(world: World, answer: Any) -> Hall:
    def ask(worker: WorkerRecord) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return bool(answer(worker)) if callable(answer) else answer

    return world.hall(services=Services(clock=world.clock, ids=Counting(), availability=ask))


def test_availability_is_asked_and_only_true_counts(world: World) -> None:
    assert available(world, True).route(a_request()).code is None
    for answer, why in (
        (False, "unavailable"),
        (None, "unavailable"),
        (1, "unavailable"),
        ("yes", "unavailable"),
        (RuntimeError("down"), "availability_check_failed"),
    ):
        decision = available(world, answer).route(a_request())
        assert (decision.code, decision.candidates[0].skip_reason) == (Code.NO_AVAILABLE_WORKER, why)


def test_the_next_worker_is_taken_when_the_first_is_not_available(tmp_path: Path) -> None:
    world = of(tmp_path, a_record(worker_id="org.acme.a"), a_record(worker_id="org.acme.b"))
    decision = available(world, lambda worker: worker.worker_id == "org.acme.b").route(a_request())
    assert (decision.worker_id, decision.denied) == ("org.acme.b", False)


# --- privileges ----------------------------------------------------------------------------------------------------

NARROW = Ceiling(
    envs=("dev",),
    data_labels=("PUBLIC", "INTERNAL"),
    secrets_access=("db-read",),
    network_egress="allowlisted",
    egress_allowlist=("api.acme.example",),
    filesystem_writes=("/var/work",),
    tools=("grep",),
)


def asking(**change: Any) -> JsonObject:
    nothing: JsonObject = {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []}
    return a_record(privilege_envelope={**nothing, **change})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"secrets_access": ["db-read"]}, None),
        ({"secrets_access": ["db-root"]}, "secrets_access:db-root"),
        ({"secrets_access": ["*"]}, "secrets_access:*"),
        ({"network_egress": "allowlisted", "egress": {"allowlist": ["api.acme.example"]}}, None),
        (
            {"network_egress": "allowlisted", "egress": {"allowlist": ["api.acme.example", "evil.example"]}},
            "egress_not_allowlisted:evil.example",
        ),
        ({"network_egress": "unrestricted"}, "network_egress:unrestricted"),
        ({"filesystem_writes": ["/var/work", "/var/work/out"]}, None),
        ({"filesystem_writes": ["/var/workshop"]}, "filesystem_writes:/var/workshop"),
        ({"filesystem_writes": ["/var"]}, "filesystem_writes:/var"),
        ({"filesystem_writes": ["/"]}, "filesystem_writes:/"),
        ({"tools": ["grep"]}, None),
        ({"tools": ["bash"]}, "tools:bash"),
        ({"tools": ["*"]}, "tools:*"),
    ],
)
def test_each_dimension_of_an_envelope_stays_under_its_ceiling(
    change: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    decision = of(tmp_path, asking(**change)).hall(ceilings=(NARROW,)).route(a_request())
    if reason is None:
        assert (decision.code, decision.privilege_envelope_ok) == (None, True)
    else:
        assert decision.reason is not None
        assert (decision.code, dict(decision.reason.extras)["reason"]) == (
            Code.PRIVILEGE_ENVELOPE_VIOLATED,
            reason.partition(":")[0],  # the names of secrets, hosts and paths are for the receipt alone
        )
        assert decision.privilege_envelope_ok is False


def test_a_generous_ceiling_allows_what_it_says(tmp_path: Path) -> None:
    everything = asking(secrets_access=["*"], network_egress="unrestricted", filesystem_writes=["/"], tools=["*"])
    assert code(of(tmp_path, everything).hall(ceilings=GENEROUS)) is None


def test_without_a_ceiling_prod_refuses_and_dev_warns(tmp_path: Path) -> None:
    world = of(tmp_path, asking(tools=["grep"]))
    assert code(world.hall(env="prod"), env="prod") == Code.PRIVILEGE_ENVELOPE_UNCONFIGURED
    assert code(world.hall(env="prod", ceilings=(NARROW,)), env="prod") == Code.PRIVILEGE_ENVELOPE_UNCONFIGURED
    evidence = world.hall().decide(a_request())
    assert {check.name: check.outcome for check in evidence.checks}["privilege"] == "warn"
    assert evidence.decision.privilege_envelope_ok is None
    demanding = a_rule(required_controls_suggested=["ctrl.privilege_envelopes_required"])
    assert code(world.hall(demanding)) == Code.PRIVILEGE_ENVELOPE_UNCONFIGURED
    assert code(world.hall(demanding, enforce_privilege_envelopes=False)) == Code.PRIVILEGE_ENVELOPE_UNCONFIGURED


# --- blast ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "score"),
    [
        ({"data_label": "PUBLIC"}, 10),
        ({}, 30),
        ({"data_label": "RESTRICTED"}, 50),
        ({"qos_class": "P0"}, 40),
        ({"request": {"egress": "x"}}, 45),
        ({"request": {"external_call": True, "egress": True}}, 45),
        ({"request": {"writes": 1, "mutates_state": False}}, 45),
        ({"request": {"writes": 0, "egress": ""}}, 30),
        ({"blast_score": 0}, 30),
        ({"blast_score": 31}, 31),
        ({"blast_score": 100}, 100),
        ({"data_label": "RESTRICTED", "qos_class": "P0", "request": {"egress": 1, "writes": 1}}, 90),
    ],
)
def test_the_situational_score_can_be_raised_and_never_lowered(
    change: dict[str, Any], score: int, world: World
) -> None:
    assert world.hall().route(a_request(**change)).blast_score == score


def test_a_high_score_is_a_matter_for_a_human_in_prod(world: World) -> None:
    hall = world.hall(env="prod")
    worst: dict[str, Any] = {"data_label": "RESTRICTED", "qos_class": "P0", "request": {"egress": 1, "writes": 1}}
    decision = hall.route(a_request(env="prod", blast_score=0, **worst))
    assert (decision.code, decision.blast_score, decision.blast_gate_passed) == (Code.REQUIRES_HUMAN, 100, False)
    assert decision.escalation.human_required_default is True
    assert decision.reason is not None
    assert dict(decision.reason.extras) == {"blast_score": 100, "reason": "REQUIRE_HUMAN_HIGH_BLAST"}
    assert code(hall, env="prod", blast_score=84) is None
    assert code(hall, env="prod", blast_score=85) == Code.REQUIRES_HUMAN
    assert code(world.hall(blast_thresholds={"dev": 20})) == Code.REQUIRES_HUMAN
    assert code(world.hall(env="prod", enforce_blast_scoring_in_prod=False), env="prod", blast_score=99) is None
    demanding = a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"])
    assert code(world.hall(demanding, env="prod", enforce_blast_scoring_in_prod=False), env="prod", blast_score=99) == (
        Code.REQUIRES_HUMAN
    )


@pytest.mark.parametrize("env", ["prod", "edge"])
def test_prod_and_edge_have_thresholds_that_a_score_can_reach(env: Any, world: World) -> None:
    wrongs: list[dict[str, Any]] = [{"blast_thresholds": {"dev": 10}}, {"blast_thresholds": {env: 101}},
                                    {"blast_thresholds": {env: -1}}, {"chain_thresholds": {}}]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="threshold"):
            world.hall(env=env, **wrong)


def test_the_declared_score_can_be_raised_by_dimension_and_never_lowered(world: World) -> None:
    low = {"data": 0, "network": 0, "financial": 0, "time": 0, "reversibility": 0}
    assert world.hall().route(a_request()).blast_declared == 2
    assert world.hall().route(a_request(blast_radius=low)).blast_declared == 2
    assert world.hall().route(a_request(blast_radius={**low, "financial": 5})).blast_declared == 7


def test_a_chain_adds_up_until_it_is_too_much(world: World) -> None:
    hall = world.hall(chain_thresholds={"dev": 5})
    assert [hall.route(a_request(chain_id="c1")).blast_declared for _ in range(2)] == [2, 4]
    decision = hall.route(a_request(chain_id="c1"))
    assert (decision.code, decision.blast_declared) == (Code.CHAIN_BLAST_EXCEEDED, 2)
    assert code(hall, chain_id="c2") is None
    assert code(hall, chain_id="c1", tenant_id="other") is None
    assert code(hall) is None
    world.clock.now_ms += 25 * 3600 * 1000
    assert code(hall, chain_id="c1") is None


def test_a_worker_that_declares_more_than_a_chain_may_is_refused_without_a_chain_too(world: World) -> None:
    assert code(world.hall(chain_thresholds={"dev": 1})) == Code.CHAIN_BLAST_EXCEEDED


def test_what_is_not_dispatched_does_not_add_to_its_chain(world: World) -> None:
    held = a_rule(escalation={"human_required_default": True})
    hall = world.hall(held, chain_thresholds={"dev": 5})
    assert {code(hall, chain_id="c1") for _ in range(9)} == {Code.REQUIRES_HUMAN_APPROVAL}
    dry = world.hall(chain_thresholds={"dev": 5})
    assert {code(dry, chain_id="c1", dry_run=True) for _ in range(9)} == {None}


# --- the order -----------------------------------------------------------------------------------------------------


def test_every_gate_speaks_once_in_the_documented_order(world: World) -> None:
    names = [check.name for check in world.hall().decide(a_request()).checks]
    assert names == [
        "input", "tenant", "hall_env", "rule_set", "rule", "preconditions", "controls", "worker", "worker_controls",
        "quarantine", "bans", "attestation", "privilege", "blast", "chain", "policy_gate", "human",
    ]  # fmt: skip


def test_the_first_refusal_is_told_and_every_one_that_costs_nothing_is_kept(world: World) -> None:
    hall = world.hall(WANTS_AUDIT, require_signatory=True, allowed_tenants=frozenset({"acme"}))
    evidence = hall.decide(a_request(tenant_id="mallory", env="prod", correlation_id=""))
    assert evidence.decision.code == Code.UNKNOWN_TENANT
    outcomes = {check.name: check.outcome for check in evidence.checks}
    assert [name for name, outcome in outcomes.items() if outcome == "deny"] == [
        "tenant",
        "hall_env",
        "preconditions",
        "controls",
    ]
    assert outcomes["attestation"] == outcomes["policy_gate"] == outcomes["human"] == "skipped"


def test_gates_that_only_look_are_marked_so() -> None:
    assert [gate.name for gate in GATES if not gate.looks_only] == [
        "worker",
        "attestation",
        "chain",
        "policy_gate",
        "human",
    ]


def test_a_rule_set_with_a_dead_rule_is_refused_in_prod_and_reported_in_dev(world: World) -> None:
    from wcp_attest import ConfigError

    dead = (a_rule("first"), a_rule("dead", match={"capability_id": CAPABILITY}))
    for env in ("prod", "edge"):
        with pytest.raises(ConfigError, match="`dead` can never match: `first`"):
            world.hall(*dead, env=env)
    evidence = world.hall(*dead).decide(a_request())
    assert evidence.decision.code is None
    assert {check.name: check.outcome for check in evidence.checks}["rule_set"] == "warn"


def test_a_hall_that_got_such_a_set_all_the_same_decides_nothing(world: World) -> None:
    hall = world.hall(a_rule("first"), a_rule("dead", match={"capability_id": CAPABILITY}))
    hall.world = replace(hall.world, config=HallConfig(env="prod"))
    decision = hall.route(a_request(env="prod"))
    assert (decision.code, decision.matched_rule_id) == (Code.SHADOW_RULES_DETECTED, "NO_MATCH")
    assert decision.reason is not None
    assert dict(decision.reason.extras) == {"shadow_count": 1, "shadowed_rule_ids": ["dead"]}


def test_the_worker_is_named_on_a_denial_about_it_and_its_path_only_on_a_dispatch(world: World) -> None:
    dispatched = world.hall().route(a_request())
    assert (dispatched.worker_id, dispatched.package_path) == (WORKER, world.package())
    denied = world.hall(a_rule(required_controls_suggested=["ctrl.exec.sandbox"])).route(a_request())
    assert (denied.worker_id, denied.package_path) == (WORKER, "")
    assert world.hall().route(a_request(dry_run=True)).package_path == ""
