"""The rims: times, full ledgers and caches, what the command line says in passing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.test_route_cli import Desk
from tests.route.worlds import World, a_record, a_request, a_rule
from wcp_attest import ConfigError
from wcp_route.config import HallConfig
from wcp_route.domain.clock import LATEST_MS, format_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.ids import new_id
from wcp_route.gates import attestation, blast
from wcp_route.rules.rules import MAX_RULES, RuleSet
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_764_000_000_123, "2025-11-24T16:00:00.123Z"),
        (LATEST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_have_one_form(at: int, text: str) -> None:
    assert format_ms(at) == text


@pytest.mark.parametrize("at", [-1, LATEST_MS + 1])
def test_times_outside_the_calendar_are_refused(at: int) -> None:
    with pytest.raises(ConfigError):
        format_ms(at)


def test_ids_are_random_uuids_of_version_4() -> None:
    import uuid

    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(str(uuid.UUID(each)) == each and uuid.UUID(each).version == 4 for each in made)
    assert {uuid.UUID(each).variant for each in made} == {uuid.RFC_4122}


def test_neither_threads_nor_a_fork_hand_out_an_id_twice() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [each for part in pool.map(lambda _: [new_id() for _ in range(2000)], range(8)) for each in part]
    assert len(set(made)) == 16_000
    script = (
        "import os, sys; from wcp_route.domain.ids import new_id; new_id(); child = os.fork()\n"
        "sys.stdout.write(' '.join(new_id() for _ in range(300)) + '\\n'); sys.stdout.flush()\n"
        "os.waitpid(child, 0) if child else os._exit(0)"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert len(set(printed.split())) == 600


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_full_ledger_refuses_new_chains_and_forgets_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blast, "MAX_CHAINS", 2)
    hall = world.hall(chain_thresholds={"dev": 10})
    codes = [hall.route(a_request(chain_id=f"c{number}")).code for number in (1, 2, 3, 1)]
    assert codes == [None, None, Code.CHAIN_BLAST_EXCEEDED, None]


def test_packages_beyond_the_cache_are_verified_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attestation, "MAX_WATCHED", 1)
    world = World(tmp_path)
    world.enroll()
    world.enroll(a_record(worker_id="org.acme.other", worker_species_id="wrk.other.kind"))
    hall = world.hall(
        a_rule("low", match={"tenant_risk": "low"}),
        a_rule("rest", candidate_workers_ranked=[{"worker_species_id": "wrk.other.kind"}]),
    )
    for risk in ("low", "high", "low", "high"):
        assert hall.route(a_request(tenant_risk=risk)).worker_attestation_valid is True


def test_a_tree_with_too_many_stamps_is_read_in_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attestation, "MAX_STAMPED", 2)
    hall = world.hall(attestation="on-change")
    assert [hall.route(a_request()).denied for _ in range(2)] == [False, False]


def test_more_rules_than_the_tables_hold_are_refused() -> None:
    rule = read_rules({"rules": [a_rule()]}).rules[0]
    with pytest.raises(ConfigError, match="at most"):
        RuleSet([rule] * (MAX_RULES + 1), "")
    with pytest.raises(ConfigError, match="empty"):
        RuleSet([], "")


def test_a_seal_directory_that_cannot_be_made_is_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use the seal directory"):
        world.hall(attestation="sealed", seal_directory=str(tmp_path / "file" / "sealed"))


def test_a_hall_without_what_a_rule_relies_on_refuses(world: World) -> None:
    hall = world.hall(a_rule(preconditions={"deny_if_no_attestation_in_prod": True}), env="prod")
    hall.world = replace(hall.world, attestor=None)
    assert hall.route(a_request(env="prod")).code == Code.ATTESTATION_UNCONFIGURED
    silent = world.hall()
    silent.world = replace(silent.world, config=HallConfig(env="dev", policy_version=""))
    assert silent.world.config.policy_version == ""
    assert silent.route(a_request()).code == Code.MISSING_POLICY_VERSION


def test_cedar_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from wcp_route.gates.cedar import CedarGate

    monkeypatch.setitem(sys.modules, "cedarpy", None)
    with pytest.raises(ConfigError, match=r"install wcp-attest\[cedar\]"):
        CedarGate("permit (principal, action, resource);")


# --- what the command line says in passing -------------------------------------------------------------------------


def test_text_tells_who_waits_and_what_a_rehearsal_is(desk: Desk) -> None:
    state = ("--state", desk.path("hall.db"))
    assert "no state file" in desk.run("list", *state)[2]
    desk.enroll()
    assert "nothing waits" in desk.run("approvals", "list", *state)[2]
    desk.write("rules.json", {"rules": [a_rule(escalation={"human_required_default": True})]})
    assert "waiting for a human, as " in desk.decide()[1]
    assert "gatekeeper" in desk.run("approvals", "list", *state)[1]
    desk.write("rules.json", {"rules": [a_rule()]})
    desk.write("request.json", a_request(dry_run=True))
    assert "nothing is dispatched" in desk.decide()[2]
    assert "verifies nothing" in desk.run("receipts", "show", *state)[2]
    assert desk.run("receipts", "show", "no-such", *state)[0] == 1
    assert desk.run("receipts", "export", *state)[0] == 0


def test_rules_say_so_in_text_and_json(desk: Desk) -> None:
    assert desk.run("rules", "coverage", desk.path("rules.json"))[1] == "every request has a rule\n"
    desk.write("dead.json", {"rules": [a_rule("a"), a_rule("b")]})
    assert "rule `b` can never match: `a`" in desk.run("rules", "check", desk.path("dead.json"))[1]
    desk.write("prod.json", {"rules": [a_rule("a", match={"env": "prod"})]})
    told = json.loads(desk.run("rules", "coverage", desk.path("prod.json"), "--format", "json")[1])
    assert (told["kind"], told["items"][0]["capability_id"]) == ("rules-coverage", None)
    assert desk.run("rules", "test", desk.path("prod.json"), desk.path("x.json"), "--update")[0] == 2
    desk.write("tests.json", {"tests": [{"test_id": "t", "input": a_request()}]})
    missing = desk.path("no-such-directory/goldens.json")
    assert (
        desk.run("rules", "test", desk.path("prod.json"), desk.path("tests.json"), "--goldens", missing, "--update")[0]
        == 2
    )


def test_a_file_that_is_too_large_is_refused(desk: Desk) -> None:
    desk.write("request.json", '{"a": "' + "x" * (1 << 20) + '"}')
    status, _, err = desk.decide("--create-state")
    assert (status, "larger than" in err) == (2, True)
    desk.write("hall.toml", "#" * ((1 << 20) + 1))
    assert desk.decide()[0] == 2


def test_without_a_trust_policy_nothing_is_opened_but_where_it_is_off(desk: Desk) -> None:
    desk.enroll()
    places = ("--config", desk.path("hall.toml"), "--rules", desk.path("rules.json"), "--state", desk.path("hall.db"))
    status, _, err = desk.run("decide", desk.path("request.json"), *places)
    assert (status, "no trust policy" in err) == (2, True)
    desk.write("hall.toml", 'env = "dev"\nunsafe_dispatch_workers_without_attestation = true\n')
    assert desk.run("decide", desk.path("request.json"), *places)[0] == 0
    assert "OFF: anything may run" in desk.run("status", *places)[1]


def test_a_package_that_is_no_directory_is_not_enrolled(desk: Desk) -> None:
    record, state = desk.path("record.json"), ("--state", desk.path("hall.db"))
    assert desk.run("enroll", record, "--package", record, *state)[0] == 2
    os.symlink(desk.package, desk.path("link"))
    assert desk.run("enroll", record, "--package", desk.path("link"), *state)[0] == 2


def test_a_reader_that_goes_away_and_a_bug_are_status_2(desk: Desk) -> None:
    program = "import sys; from wcp_route.cli import main; sys.exit(main(['schema', 'rules']))"
    script = f'"{sys.executable}" -c "{program}" | head -c 1; exit ${{PIPESTATUS[0]}}'
    piped = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    assert (piped.returncode in {0, 2}, piped.stderr) == (True, "")
    code = (
        "import sys, wcp_route.cli.root as root; from wcp_route.cli import main\n"
        "def fail(arguments): raise {error}\n"
        "root.run = fail\n"
        "sys.exit(main([]))"
    )
    for error, status, said in (
        ("ZeroDivisionError('x')", 2, "internal error"),
        ("KeyboardInterrupt", 130, "interrupted"),
        ("PermissionError(13, 'Permission denied', 'hall.db')", 2, "permission denied: 'hall.db'"),
    ):
        environment: dict[str, Any] = {**os.environ, "WCP_ATTEST_DEBUG": "1"}
        command = [sys.executable, "-c", code.format(error=error)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr
        assert ("Traceback" in done.stderr) is (status == 2)
