"""Rules for some tenants, tests of whole decisions, Cedar's schema, and the command line around them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.test_route_cli import Desk
from tests.route.worlds import Counting, World, a_record, a_request, a_rule
from wcp_attest import ConfigError
from wcp_route.cli import main
from wcp_route.config_model import read_hall_file
from wcp_route.domain.codes import Code
from wcp_route.domain.request_model import parse_request
from wcp_route.gates.cedar import CedarGate
from wcp_route.hall import Services
from wcp_route.rules.rules import MAX_TENANTS
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject

TENANTS = ("a", "b", "c", "other")
ENVS = ("dev", "prod")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


some_tenants = st.none() | st.lists(st.sampled_from(TENANTS[:3]), min_size=1, max_size=3, unique=True)
some_envs = st.none() | st.lists(st.sampled_from(ENVS), min_size=1, max_size=2, unique=True)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(some_tenants, some_envs), min_size=1, max_size=7))
def test_tenant_rules_match_as_the_slow_way_does_and_dead_ones_are_found(
    shapes: list[tuple[list[str] | None, list[str] | None]],
) -> None:
    rules: list[Any] = []
    for number, (tenants, envs) in enumerate(shapes):
        match: JsonObject = {}
        if tenants is not None:
            match["tenant_id"] = {"in": [*tenants]}
        if envs is not None:
            match["env"] = {"in": [*envs]}
        rules.append(a_rule(f"r{number}", match=match))
    compiled, alive = read_rules({"rules": rules}), set()
    for tenant in TENANTS:
        for env in ("dev", "stage", "prod", "edge"):
            slow = next(
                (n for n, (t, e) in enumerate(shapes) if (t is None or tenant in t) and (e is None or env in e)), None
            )
            found = compiled.match(parse_request(a_request(tenant_id=tenant, env=env)))
            assert (None if found is None else found.rule_id) == (None if slow is None else f"r{slow}")
            alive.add(slow)
    dead = {f"r{number}" for number in range(len(shapes))} - {f"r{number}" for number in alive if number is not None}
    assert {shadow.rule_id for shadow in compiled.shadows} == dead


def test_rules_name_a_bounded_number_of_tenants() -> None:
    def named(count: int) -> Any:
        return [
            a_rule(f"r{n}", match={"tenant_id": {"in": [f"t{i}" for i in range(n, n + 100)]}})
            for n in range(0, count, 100)
        ]

    assert not read_rules({"rules": named(MAX_TENANTS)}).shadows
    with pytest.raises(ConfigError, match="at most 1000 tenants"):
        read_rules({"rules": named(MAX_TENANTS + 100)})


# --- rule tests ----------------------------------------------------------------------------------------------------


def test_a_test_that_expects_nothing_is_wrong(desk: Desk) -> None:
    desk.write("tests.json", {"tests": [{"test_id": "t", "input": a_request()}]})
    run = ("rules", "test", desk.path("rules.json"), desk.path("tests.json"))
    status, out, _ = desk.run(*run)
    assert (status, "could not fail" in out) == (1, True)
    desk.write("tests.json", {"tests": [{"test_id": "t", "input": a_request(), "expect": {}}]})
    assert desk.run(*run)[0] == 1
    assert desk.run(*run, "--goldens", desk.path("g.json"), "--update")[0] == 0
    assert desk.run(*run, "--goldens", desk.path("g.json"))[0] == 0


def test_whole_decisions_are_tested_and_none_is_made(desk: Desk) -> None:
    desk.enroll()
    desk.write("rules.json", {"rules": [a_rule(escalation={"human_required_default": True})]})
    held = {"outcome": "DENY", "deny_code": "DENY_REQUIRES_HUMAN_APPROVAL", "worker_id": "org.acme.doc-summarizer"}
    stranger = {"deny_code": "DENY_UNKNOWN_TENANT"}
    tests = {
        "tests": [
            {"test_id": "held", "input": a_request(), "expect": held},
            {"test_id": "who", "input": a_request(), "principal": "eve", "expect": stranger},
        ]
    }
    desk.write("tests.json", tests)
    run = ("rules", "test", desk.path("rules.json"), desk.path("tests.json"))
    assert desk.run(*run)[0] == 2  # rules alone know no outcome
    places = ("--config", desk.path("hall.toml"), "--policy", desk.path("trust.toml"), "--state", desk.path("hall.db"))
    assert desk.run(*run, "--decisions", *places)[0] == 0
    listed = desk.run("receipts", "list", "--state", desk.path("hall.db"), "--format", "json")
    assert [one["kind"] for one in json.loads(listed[1])["items"]] == ["worker.enrolled"]  # nor are the rules in force
    held["deny_code"] = "DENY_POLICY_GATE"
    desk.write("tests.json", tests)
    assert desk.run(*run, "--decisions", *places)[0] == 1


def test_a_rule_that_no_test_matches_is_named(desk: Desk) -> None:
    desk.write("rules.json", {"rules": [a_rule("a", match={"env": "dev"}), a_rule("b")]})
    desk.write("tests.json", {"tests": [{"test_id": "t", "input": a_request(), "expect": {"expected_rule_id": "a"}}]})
    run = ("rules", "test", desk.path("rules.json"), desk.path("tests.json"))
    assert desk.run(*run)[0] == 0
    status, out, _ = desk.run(*run, "--every-rule")
    assert (status, "rule b: no test matches it" in out) == (1, True)


# --- Cedar ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        "permit (principal, action, resource) when { context.data_lable == 1 };",
        'permit (principal, action == Action::"dispach", resource);',
        "permit (principal, action, resource) when { context.env == 3 && context.env > 1 };",
        "permit (principal, action, resource) when { context.payload.pages < 3 };",
    ],
)
def test_a_policy_that_does_not_fit_the_schema_is_an_error_at_the_start(policy: str) -> None:
    with pytest.raises(ConfigError, match="do not fit the schema"):
        CedarGate(policy)


def test_a_policy_may_speak_of_the_payload(world: World) -> None:
    policy = 'permit (principal, action == Action::"dispatch", resource) when { context.payload.pages < 3 };'
    gate = CedarGate(policy, payload="{ pages: Long }")
    services = Services(policy_gate=gate, clock=world.clock, ids=Counting())
    hall = world.hall(a_rule(escalation={"policy_gate": True}), services=services, callback_seconds=5.0)
    assert hall.route(a_request(request={"pages": 2})).code is None
    for payload in ({"pages": 3}, {}, {"pages": None}, {"pages": 2**70}, {"pages": "2"}, {"pages": {"__extn": 1}}):
        assert hall.route(a_request(request=payload)).denied is True
    with pytest.raises(ConfigError):
        CedarGate(policy, payload="{ pages: Lang }")


def test_the_settings_name_cedar_policies_and_the_type_of_the_payload(desk: Desk) -> None:
    desk.write("rules.json", {"rules": [a_rule(escalation={"policy_gate": True})]})
    desk.directory.joinpath("gate.cedar").write_text(
        'permit (principal, action == Action::"dispatch", resource) when { context.payload.pages < 3 };'
    )
    desk.directory.joinpath("payload.cedar").write_text("{ pages: Long }\n")
    files = '\n[files]\nrules = "rules.json"\npolicy = "trust.toml"\nstate = "hall.db"\ncedar = "gate.cedar"\n'
    settings = desk.directory / "hall.toml"
    before = settings.read_text()
    assert desk.enroll()[0] == 0
    for pages, status in ((2, 0), (3, 1), ("2", 1)):
        request = desk.write("request.json", a_request(request={"pages": pages}))
        settings.write_text(before + files + 'cedar_payload = "payload.cedar"\n')
        assert desk.run("decide", request, "--config", str(settings))[0] == status
    settings.write_text(before + files)
    status, _, err = desk.run("decide", request, "--config", str(settings))
    assert (status, "do not fit the schema" in err) == (2, True)
    desk.directory.joinpath("payload.cedar").write_text("\n")
    status, _, err = desk.run(
        "decide", request, "--config", str(settings), "--cedar-payload", desk.path("payload.cedar")
    )
    assert (status, "is empty" in err) == (2, True)


# --- the command line ----------------------------------------------------------------------------------------------


def test_a_misspelt_state_file_is_an_error_and_is_not_made(desk: Desk) -> None:
    desk.enroll()
    for command in (("list",), ("quarantine", "org.acme.evil"), ("withdraw", "org.acme.evil"), ("approvals", "list")):
        status, _, err = desk.run(*command, "--state", desk.path("hal.db"))
        assert (status, "no state file" in err) == (2, True)
    assert not os.path.exists(desk.path("hal.db"))
    status, _, err = desk.run("quarantine", "not an id", "--state", desk.path("hall.db"))
    assert (status, "no worker id" in err) == (2, True)


def test_the_settings_name_all_other_files(desk: Desk) -> None:
    desk.enroll()
    files = '[files]\nrules = "rules.json"\npolicy = "trust.toml"\nstate = "hall.db"\n'
    desk.write("hall.toml", f'env = "dev"\n{files}')
    settings_ = ("--config", desk.path("hall.toml"))
    assert desk.run("decide", desk.path("request.json"), *settings_)[0] == 0
    assert desk.run("list", *settings_)[0] == 0
    assert desk.run("approvals", "list", *settings_)[0] == 0


def test_a_misspelt_setting_or_command_names_the_near_one(desk: Desk) -> None:
    desk.write("hall.toml", 'env = "dev"\nblast_treshold = 3\n')
    assert "did you mean `blast_thresholds`" in desk.decide("--create-state")[2]
    status, _, err = desk.run("quarantin", "x")
    assert (status, "did you mean `quarantine`" in err) == (2, True)


def test_init_writes_a_hall_and_a_record_that_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new"
    assert main(["init", str(new)]) == 0
    assert main(["init", str(new)]) == 2  # nothing is overwritten
    world = World(tmp_path)
    package = world.package()
    (new / "trust.toml").write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\nthreshold = 1\n[[namespace.signer]]\nkey = "k.pub"\n'
    )
    (new / "k.pub").write_bytes(world.signer.public_pem())
    config = ["--config", str(new / "hall.toml")]
    assert main(["enrol", str(new / "record.json"), "--package", package, *config]) == 0  # the alias, too
    assert main(["decide", str(new / "request.json"), *config]) == 0
    capsys.readouterr()


def test_output_goes_to_a_new_file_and_quiet_says_no_more_than_data(desk: Desk) -> None:
    desk.enroll()
    desk.write("request.json", a_request(dry_run=True))
    status, out, err = desk.decide("--format", "json", "-q", "-o", desk.path("out.json"))
    assert (status, out, err) == (0, "", "")
    with open(desk.path("out.json"), encoding="utf-8") as file:
        assert json.load(file)["kind"] == "route-decision"
    assert desk.decide("-o", desk.path("out.json"))[0] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, desk: Desk) -> None:
    status, out, _ = desk.run("completion", shell)
    assert (status, "_WCP_ROUTE_COMPLETE" in out) == (0, True)


def test_a_denial_does_not_tell_a_caller_how_to_approve(desk: Desk) -> None:
    desk.enroll()
    desk.write("rules.json", {"rules": [a_rule(escalation={"human_required_default": True})]})
    status, out, _ = desk.decide()
    assert (status, "approvals approve" in out) == (3, False)
    assert Code.REQUIRES_HUMAN_APPROVAL in out
    assert a_record()


def test_hall_toml_is_read_with_its_files_and_the_service_table(tmp_path: Path) -> None:
    place = tmp_path / "hall.toml"
    place.write_text('env = "dev"\n[files]\nrules = "r.json"\nstate = "postgresql://h/d"\n[service]\nport = 7777\n')
    found = read_hall_file(place)
    assert (found.config.env, found.service) == ("dev", {"port": 7777})
    assert found.files == {"rules": str(tmp_path / "r.json"), "state": "postgresql://h/d"}
    place.write_text('env = "dev"\n[files]\nrulez = "r.json"\n')
    with pytest.raises(ConfigError, match="/files/rulez"):
        read_hall_file(place)
    with pytest.raises(ConfigError, match="cannot read"):
        read_hall_file(tmp_path / "no-such")
