"""Where the earlier systems contradict each other (docs/route/conformance.md): one test for each row of that table.

The rows' numbers are in the names. Most are attacked in depth elsewhere; here stands the one sentence of each.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.stores import MemoryApprovals
from tests.route.worlds import AUDIT, CAPABILITY, SPECIES, WORKER, Counting, World, a_record, a_request, a_rule, tamper
from wcp_attest import ConfigError, HmacSecret, Namespace, Policy, build_manifest, sign
from wcp_route.cli.root import COMMANDS
from wcp_route.compat.go_codes import GO_CODES
from wcp_route.config import HallConfig
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.events import events
from wcp_route.domain.record_model import read_record
from wcp_route.domain.wire_model import WireError
from wcp_route.hall import Hall, Services
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_route.domain.decision import RouteDecision


def with_approvals(world: World) -> Services:
    return Services(clock=world.clock, ids=Counting(), approvals=MemoryApprovals())


def test_01_records_of_both_versions_are_read_and_both_approval_surfaces_are_there() -> None:
    newer = a_record(artifact_hash=None, catalog_version_min="0.1.0", attestation=None)
    assert read_record(a_record()).catalog_version_min == ""
    assert read_record(newer).catalog_version_min == "0.1.0"
    assert "approvals" in COMMANDS
    assert callable(MemoryApprovals.pending)
    assert callable(MemoryApprovals.resolve)


def test_02_a_decision_has_the_fields_of_the_sdks_and_of_the_schema(world: World) -> None:
    wire = to_wire(world.hall(a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"])).route(a_request()))
    assert (wire["denied"], wire["outcome"]) == (False, "DISPATCH")
    assert (wire["timestamp"], wire["worker_id"], wire["deny_code"]) == (wire["decided_at"], WORKER, None)
    assert wire["controls_applied"] == ["ctrl.blast-radius-scoring"]


def test_03_a_hold_is_denied_for_who_reads_only_that_and_an_advisory_note_is_not(world: World) -> None:
    rule = a_rule(escalation={"human_required_default": True})
    held = to_wire(world.hall(rule, services=with_approvals(world)).route(a_request()))
    assert (held["denied"], held["supervisor_required"], held["outcome"]) == (True, True, "STEWARD_HOLD")
    assert held["pending_approval_id"]
    told = to_wire(world.hall(rule, supervisor_level="advisory").route(a_request()))
    assert (told["denied"], told["supervisor_required"], told["outcome"]) == (False, True, "DISPATCH")


def test_04_both_spellings_of_a_control_are_one(world: World) -> None:
    for name in ("ctrl.blast_radius_scoring", "ctrl.blast-radius-scoring"):
        rule = a_rule(required_controls_suggested=[name])
        hall = world.hall(rule, env="prod", enforce_blast_scoring_in_prod=False)
        assert hall.route(a_request(env="prod", blast_score=90)).code == Code.REQUIRES_HUMAN
    with pytest.raises(WireError):
        read_record(a_record(capabilities=["cap.doc_summarize"]))


def test_05_ids_are_strict_outside_dev_and_put_right_and_reported_in_dev(world: World) -> None:
    bad = f"{CAPABILITY}\nevt.fake"
    assert world.hall(env="stage").route(a_request(env="stage", capability_id=bad)).code == Code.INVALID_INPUT
    evidence = world.hall().decide(a_request(capability_id=bad))
    assert (evidence.decision.denied, evidence.decision.capability_id) == (False, CAPABILITY)
    assert (evidence.checks[0].name, evidence.checks[0].outcome) == ("input", "warn")


@pytest.mark.parametrize(
    "rule",
    [
        a_rule(match={"enviroment": "prod"}),
        a_rule(match={"env": {"one_of": ["prod"]}}),
        a_rule(match={"env": 1}),
        a_rule(colour="red"),
    ],
)
def test_06_what_is_unknown_is_an_error_with_a_pointer(rule: Any) -> None:
    with pytest.raises(WireError) as refused:
        read_rules({"rules": [rule]})
    assert refused.value.pointer.startswith("/rules/0/")


def test_07_eq_in_and_any_are_understood_and_null_is_refused(world: World) -> None:
    for match in ({"env": {"eq": "dev"}}, {"env": {"in": ["dev"]}}, {"env": {"any": True}}):
        assert world.hall(a_rule(match=match)).route(a_request()).denied is False  # type: ignore[arg-type]
    for bad in (None, {"in": "dev"}, {"any": "true"}):
        with pytest.raises(WireError):
            read_rules({"rules": [a_rule(match={"env": bad})]})  # type: ignore[dict-item]


def test_08_shadowed_rules_are_found_at_load_and_refused_in_prod(world: World) -> None:
    rules = (
        a_rule("a", match={"env": {"in": ["prod", "edge"]}}),
        a_rule("b", match={"env": {"in": ["dev", "stage"]}}),
        a_rule("c", match={"capability_id": CAPABILITY}),
    )
    (shadow,) = read_rules({"rules": [*rules]}).shadows
    assert (shadow.rule_id, shadow.kind, shadow.covered_by) == ("c", "union", ("a", "b"))
    with pytest.raises(ConfigError):
        world.hall(*rules, env="prod")
    assert Code("DENY_SHADOW_RULES_DETECTED") == Code.SHADOW_RULES_DETECTED


def test_09_controls_of_the_worker_count_on_the_worker_and_others_on_the_hall(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.enroll()
    both = [AUDIT, "ctrl.exec.sandbox"]
    world.enroll(a_record(worker_id="org.acme.x", worker_species_id="wrk.x.y", currently_implements=both))
    for control, code in ((AUDIT, None), ("ctrl.exec.sandbox", Code.MISSING_REQUIRED_CONTROLS)):
        assert world.hall(a_rule(required_controls_suggested=[control])).route(a_request()).code == code


def test_10_both_blast_scales_are_there_and_can_only_be_raised(world: World) -> None:
    hall = world.hall(env="prod", chain_thresholds={"prod": 5})
    decision = hall.route(a_request(env="prod", blast_score=0, chain_id="c"))
    assert (decision.blast_score, decision.blast_declared) == (45, 2)
    assert hall.route(a_request(env="prod", blast_score=90)).code == Code.REQUIRES_HUMAN
    assert hall.route(a_request(env="prod", chain_id="c")).blast_declared == 4
    assert hall.route(a_request(env="prod", chain_id="c")).code == Code.CHAIN_BLAST_EXCEEDED
    assert world.hall(blast_thresholds={"dev": 10}).route(a_request()).code == Code.REQUIRES_HUMAN


@pytest.mark.parametrize(
    "dimension",
    [
        {"secrets_access": ["*"]},
        {"network_egress": "unrestricted"},
        {"network_egress": "allowlisted", "egress": {"allowlist": ["evil.example"]}},
        {"filesystem_writes": ["/"]},
        {"tools": ["*"]},
    ],
)
def test_11_all_four_dimensions_of_an_envelope_are_checked(dimension: dict[str, Any], tmp_path: Path) -> None:
    nothing = {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []}
    world = World(tmp_path)
    world.enroll(a_record(privilege_envelope={**nothing, **dimension}))
    decision = world.hall(env="prod").route(a_request(env="prod"))
    assert decision.code == Code.PRIVILEGE_ENVELOPE_UNCONFIGURED


def test_12_what_rule_and_record_declare_is_enforced(tmp_path: Path) -> None:
    for number, (record, rule, code) in enumerate(
        (
            (a_record(allowed_environments=["prod"]), a_rule(), Code.NO_AVAILABLE_WORKER),
            (a_record(capabilities=["cap.other.thing"]), a_rule(), Code.NO_AVAILABLE_WORKER),
            (a_record(required_controls=[AUDIT]), a_rule(), Code.MISSING_REQUIRED_CONTROLS),
            (a_record(), a_rule(escalation={"human_required_default": True}), Code.REQUIRES_HUMAN_APPROVAL),
            (a_record(), a_rule(escalation={"human_required_if": [{"env": "dev"}]}), Code.REQUIRES_HUMAN_APPROVAL),
        )
    ):
        world = World(tmp_path / str(number))
        world.enroll(record)
        assert world.hall(rule).route(a_request()).code == code


def test_13_candidates_are_species_and_what_counts_is_the_enrolled_worker(world: World) -> None:
    decision = world.hall().route(a_request())
    assert decision.candidates[0].worker_species_id == SPECIES
    assert decision.worker_id == WORKER
    world.registry.quarantine(WORKER, "x", by="ops", at_ms=1)
    assert world.hall().route(a_request()).code == Code.WORKER_QUARANTINED


def test_14_a_tampered_first_candidate_is_quarantined_and_denies(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.enroll(a_record(worker_id="org.acme.a"))
    world.enroll(a_record(worker_id="org.acme.b"))
    tamper(world.package("org.acme.a"))
    assert world.hall().route(a_request()).code == Code.WORKER_TAMPERED
    assert world.hall(fall_through_to_next_attested_worker=True).route(a_request()).worker_id == "org.acme.b"


def test_15_there_is_one_canonicaliser_and_hashes_on_allow_and_deny(world: World) -> None:
    hall = world.hall()
    allowed, denied = hall.route(a_request()), hall.route(a_request(env="prod"))
    assert allowed.request_hash == denied.request_hash
    assert allowed.input_hash != denied.input_hash
    assert hall.route(a_request(request={"text": "hello"}, tenant_credential="x")).input_hash == allowed.input_hash
    for decision in (allowed, denied):
        assert to_wire(decision)["artifact_hash"] == decision.request_hash
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", decision.input_hash)


def test_16_there_is_one_table_of_codes_and_go_is_understood() -> None:
    new = ("BANNED", "QUARANTINED")
    names = {f"DENY_WORKER_{name}" for name in new} | {
        "DENY_BANLIST_STALE", "DENY_APPROVAL_EXPIRED", "DENY_CHAIN_BLAST_EXCEEDED",
        "DENY_ENV_NOT_ALLOWED",
    }  # fmt: skip
    assert names <= {code.value for code in Code}
    assert GO_CODES["NO_WORKER_FOR_CAPABILITY"] == Code.NO_AVAILABLE_WORKER


def test_17_the_hall_has_its_environment_and_the_tenant_its_principal(world: World) -> None:
    hall = world.hall(env="prod")
    assert hall.route(a_request(env="dev")).code == Code.ENV_NOT_ALLOWED
    assert hall.route(a_request(env="prod"), principal="mallory").code == Code.UNKNOWN_TENANT


def test_18_digests_of_a_package_are_in_the_receipt_and_not_in_the_reply(world: World) -> None:
    evidence = world.hall().decide(a_request())
    assert evidence.package_hash
    assert evidence.package_hash not in json.dumps(to_wire(evidence.decision))


def test_20_a_denial_has_events_and_times_have_one_form(world: World) -> None:
    tamper(world.package())
    decision: RouteDecision = world.hall().route(a_request())
    told = [event.to_dict() for event in events(decision)]
    assert "evt.os.task.denied" in {event["event_id"] for event in told}
    for event in told:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(event["timestamp"]))


def test_21_a_shared_secret_counts_only_where_the_policy_names_it(tmp_path: Path) -> None:
    secret = HmacSecret(b"0123456789abcdef0123456789abcdef")
    world = World(tmp_path)
    world.enroll()
    root = world.package()
    (tmp_path / WORKER / "manifest.sig").unlink()
    manifest = build_manifest(
        root, worker_id=WORKER, worker_species_id=SPECIES, worker_version="1.0.0", build_source="local"
    )
    sign(root, [secret], manifest=manifest)
    assert world.hall().route(a_request()).code == Code.WORKER_UNTRUSTED
    world.registry.clear(WORKER, by="ops", at_ms=1)
    named = Policy((Namespace("org.acme", keys=(secret,)),))
    hall = Hall({"rules": [a_rule()]}, world.registry, named, HallConfig(env="dev"))
    assert hall.route(a_request()).denied is False
    strict = Hall(
        {"rules": [a_rule()]},
        world.registry,
        named,
        HallConfig(env="prod", unsafe_dispatch_without_signed_durable_receipts=True),
    )
    assert strict.route(a_request(env="prod")).code == Code.WORKER_UNTRUSTED
