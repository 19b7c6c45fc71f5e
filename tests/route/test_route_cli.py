"""The command line, as users run it: real files, real exit statuses, wrong input, no input."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.state_worlds import some_evidence
from tests.route.stores import SqliteReceipts
from tests.route.worlds import SPECIES, WORKER, World, a_record, a_request, a_rule, tamper
from wcp_attest.signing.key import generate
from wcp_route.cli import main
from wcp_route.cli.root import COMMANDS
from wcp_route.json_schemas import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = 'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'


class Desk:
    """A directory with everything that a Hall needs, and a way to run commands there."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        world = World(directory)
        self.package = world.package()
        self.write("acme.pub", world.signer.public_pem().decode())
        self.write("trust.toml", POLICY)
        self.write("hall.toml", 'env = "dev"\n')
        self.write("rules.json", {"rules": [a_rule()]})
        self.write("record.json", a_record())
        self.write("request.json", a_request())
        key = generate()
        self.write("receipts.key", key.to_pem(None).decode())
        self.write("receipts.pub", key.public_pem().decode())
        (directory / "receipts.key").chmod(0o600)

    def write(self, name: str, content: Any) -> str:
        path = self.directory / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def decide(self, *more: str, command: str = "decide", request: str = "request.json") -> tuple[int, str, str]:
        return self.run(
            command, self.path(request), "--config", self.path("hall.toml"), "--rules", self.path("rules.json"),
            "--state", self.path("hall.db"), "--policy", self.path("trust.toml"), *more,
        )  # fmt: skip

    def enroll(self, *more: str) -> tuple[int, str, str]:
        return self.run(
            "enroll",
            self.path("record.json"),
            "--package",
            self.package,
            "--state",
            self.path("hall.db"),
            "--create-state",
            *more,
        )


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in [name for name in os.environ if name.startswith("WCP_")]:
        monkeypatch.delenv(name)
    return Desk(tmp_path, capsys)


def test_from_enrolment_to_a_verified_receipt(desk: Desk) -> None:
    assert desk.enroll("--policy", desk.path("trust.toml"), "--receipt-key", desk.path("receipts.key"))[0] == 0
    status, out, _ = desk.decide("--receipt-key", desk.path("receipts.key"), "--format", "json")
    decision = json.loads(out)
    assert (status, decision["outcome"], decision["worker_id"]) == (0, "DISPATCH", WORKER)
    status, out, _ = desk.run("receipts", "show", decision["decision_id"], "--state", desk.path("hall.db"))
    assert status == 0
    assert json.loads(out)["correlation_id"] == a_request()["correlation_id"]
    verify = ("receipts", "verify", "--state", desk.path("hall.db"), "--key", desk.path("receipts.pub"))
    status, out, err = desk.run(*verify)
    assert (status, out.split()[0]) == (0, "3")  # the enrolment, what is in force, and the decision
    assert "--head" in err
    desk.write("head", desk.run("receipts", "head", "--state", desk.path("hall.db"))[1])
    assert desk.run(*verify, "--head", desk.path("head"))[0] == 0
    assert desk.run("receipts", "export", "--state", desk.path("hall.db"), "-o", desk.path("out.jsonl"))[0] == 0
    assert os.stat(desk.path("out.jsonl")).st_mode & 0o777 == 0o600
    status, _, err = desk.run("receipts", "export", "--state", desk.path("hall.db"), "-o", desk.path("out.jsonl"))
    assert (status, "file exists" in err) == (2, True)
    exported = ("receipts", "verify", "--export", desk.path("out.jsonl"), "--key", desk.path("receipts.pub"))
    assert desk.run(*exported)[0] == 0
    text = Path(desk.path("out.jsonl")).read_text()
    desk.write("out.jsonl", text.replace("DISPATCH", "DISPATCh"))
    status, _, err = desk.run(*exported)
    assert (status, err.startswith("error: ")) == (1, True)


def test_each_command_that_writes_says_when_it_does_not_sign(desk: Desk) -> None:
    said = "what is written is not signed"
    key = ("--receipt-key", desk.path("receipts.key"))
    for command in (desk.enroll, desk.decide):
        assert said in command()[2]
    assert said not in desk.decide(command="explain")[2]
    assert said in desk.run("quarantine", WORKER, "--state", desk.path("hall.db"))[2]
    assert said not in desk.run("list", "--state", desk.path("hall.db"))[2]
    assert said not in desk.run("quarantine", WORKER, "--clear", "--state", desk.path("hall.db"), *key)[2]
    assert said not in desk.decide(*key)[2]


def test_a_tampered_worker_is_denied_quarantined_and_cleared(desk: Desk) -> None:
    desk.enroll()
    assert desk.decide()[0] == 0
    tamper(desk.package)
    status, out, _ = desk.decide()
    assert (status, "DENY_WORKER_TAMPERED" in out) == (1, True)
    assert "quarantined since" in desk.run("list", "--state", desk.path("hall.db"))[1]
    assert desk.run("quarantine", WORKER, "--clear", "--state", desk.path("hall.db"))[0] == 0
    assert desk.run("quarantine", WORKER, "--clear", "--state", desk.path("hall.db"))[0] == 1
    assert desk.run("quarantine", WORKER, "--state", desk.path("hall.db"))[0] == 0
    assert "DENY_WORKER_QUARANTINED" in desk.decide()[1]
    assert desk.run("withdraw", WORKER, "--state", desk.path("hall.db"))[0] == 0
    assert desk.run("withdraw", WORKER, "--state", desk.path("hall.db"))[0] == 1


def test_a_package_that_fails_is_not_enrolled(desk: Desk) -> None:
    tamper(desk.package)
    status, out, _ = desk.enroll("--policy", desk.path("trust.toml"))
    assert (status, "ATTEST_HASH_MISMATCH" in out) == (1, True)
    assert not os.path.exists(desk.path("hall.db"))


def test_events_are_appended_as_cloudevents(desk: Desk) -> None:
    desk.enroll()
    desk.decide("--events", desk.path("events.jsonl"))
    desk.decide("--events", desk.path("events.jsonl"), request="record.json")
    told = [json.loads(line) for line in Path(desk.path("events.jsonl")).read_text().splitlines()]
    assert {event["specversion"] for event in told} == {"1.0"}
    assert {"evt.os.task.routed", "evt.os.task.denied"} <= {event["type"] for event in told}


def test_explain_shows_each_check_and_why(desk: Desk) -> None:
    desk.enroll()
    desk.write("hall.toml", 'env = "dev"\nrequire_signatory = true\nallowed_tenants = ["other"]\n')
    status, out, _ = desk.decide(command="explain")
    assert status == 1
    assert [line.split()[:2] for line in out.splitlines()][1] == ["DENY", "tenant"]
    status, out, _ = desk.decide("--format", "json", command="explain")
    checks = {check["name"]: check["outcome"] for check in json.loads(out)["checks"]}
    assert (checks["tenant"], checks["rule"], checks["human"]) == ("deny", "pass", "skipped")


def test_a_hold_is_approved_and_the_request_sent_again(desk: Desk) -> None:
    desk.enroll()
    desk.write("rules.json", {"rules": [a_rule(escalation={"human_required_default": True})]})
    status, out, _ = desk.decide("--format", "json")
    pending = json.loads(out)["pending_approval_id"]
    assert status == 3
    listed = json.loads(desk.run("approvals", "list", "--state", desk.path("hall.db"), "--format", "json")[1])
    assert (listed["kind"], listed["schema_version"]) == ("approval-list", 1)
    assert [each["pending_approval_id"] for each in listed["items"]] == [pending]
    status, out, err = desk.run("approvals", "approve", pending, "--by", "ada", "--state", desk.path("hall.db"))
    assert (status, "shown once" in err) == (0, True)
    grant = out.strip()
    assert desk.decide("--grant", grant)[0] == 0
    assert desk.decide("--grant", grant)[0] == 1
    assert desk.run("approvals", "deny", pending, "--by", "ada", "--state", desk.path("hall.db"))[0] == 2


def test_rules_are_checked_covered_and_tested(desk: Desk) -> None:
    status, out, _ = desk.run("rules", "check", desk.path("rules.json"))
    assert (status, out.split(",")[0]) == (0, "1 rule")
    desk.write("dead.json", {"rules": [a_rule("a"), a_rule("b", match={"env": "prod"})]})
    status, out, _ = desk.run("rules", "check", desk.path("dead.json"), "--format", "json")
    assert status == 1
    assert json.loads(out)["shadows"] == [{"rule_id": "b", "kind": "pairwise", "covered_by": ["a"]}]
    desk.write("prod.json", {"rules": [a_rule("a", match={"env": "prod", "data_label": "PUBLIC"})]})
    status, out, _ = desk.run("rules", "coverage", desk.path("prod.json"))
    assert (status, "any other capability: prod/RESTRICTED has no rule" in out) == (0, True)
    assert desk.run("rules", "coverage", desk.path("prod.json"), "--strict")[0] == 1
    assert desk.run("rules", "coverage", desk.path("rules.json"), "--strict")[0] == 0


def test_rule_tests_compare_with_expectations_and_goldens(desk: Desk) -> None:
    tests = [
        {"test_id": "t1", "input": a_request(), "expect": {"expected_rule_id": "rule-1"}},
        {"test_id": "t2", "input": a_request(env="prod")},
    ]
    desk.write("tests.json", {"tests": tests})
    run = ("rules", "test", desk.path("rules.json"), desk.path("tests.json"), "--goldens", desk.path("goldens.json"))
    assert desk.run(*run)[0] == 2
    assert desk.run(*run, "--update")[0] == 0
    assert desk.run(*run)[0] == 0
    desk.write("rules.json", {"rules": [a_rule("rule-2")]})
    status, out, _ = desk.run(*run)
    assert status == 1
    assert "t1: matched rule-2, expected rule-1" in out
    assert "t2: matched rule-2, recorded was rule-1" in out
    broken: list[Any] = [[], [tests[0], tests[0]], [{"test_id": "x", "input": {}}]]
    for bad in broken:
        desk.write("tests.json", {"tests": bad})
        assert desk.run(*run)[0] == 2


def test_status_tells_what_needs_an_operator(desk: Desk) -> None:
    desk.enroll()
    run = (
        "status",
        "--config",
        desk.path("hall.toml"),
        "--rules",
        desk.path("rules.json"),
        "--state",
        desk.path("hall.db"),
    )
    status, out, _ = desk.run(*run, "--format", "json")
    assert (status, json.loads(out)["enrolled"], json.loads(out)["attestation"]) == (0, 1, "always")
    assert json.loads(out)["receipts"] == "NOT signed: no receipt key is named"
    _, out, _ = desk.run(*run, "--receipt-key", desk.path("receipts.key"))
    assert re.search(r"^receipts +signed by the key that is named$", out, re.MULTILINE)
    desk.run("quarantine", WORKER, "--state", desk.path("hall.db"))
    assert desk.run(*run)[0] == 1


def test_check_tells_the_level_of_a_record(desk: Desk) -> None:
    status, out, _ = desk.run("check", desk.path("record.json"))
    assert (status, out.splitlines()[0]) == (0, "level: basic")
    status, out, _ = desk.run("check", desk.path("record.json"), "--level", "full", "--format", "json")
    assert (status, json.loads(out)["level"]) == (1, "basic")


def test_cedar_policies_are_the_gate(desk: Desk) -> None:
    desk.enroll()
    desk.write("hall.toml", 'env = "dev"\nask_policy_gate = true\ncallback_seconds = 30.0\n')
    assert "DENY_POLICY_GATE_UNCONFIGURED" in desk.decide()[1]
    policies = desk.write("p.cedar", 'permit (principal, action == Action::"dispatch", resource);')
    assert desk.decide("--cedar", policies)[0] == 0


@pytest.mark.parametrize("name", [*SCHEMAS, "receipt"])
def test_schemas_are_printed(name: str, desk: Desk) -> None:
    status, out, _ = desk.run("schema", name)
    assert (status, json.loads(out)["$schema"]) == (0, "https://json-schema.org/draft/2020-12/schema")


# --- wrong input, no input -----------------------------------------------------------------------------------------


def spoil(name: str, content: Any) -> Callable[[Desk], object]:
    return lambda desk: desk.write(name, content)


def replaced(name: str, make: Callable[[str], object]) -> Callable[[Desk], object]:
    def replace(desk: Desk) -> None:
        os.unlink(desk.path(name))
        make(desk.path(name))

    return replace


@pytest.mark.parametrize(
    "attack",
    [
        spoil("hall.toml", "env = "),
        spoil("hall.toml", 'env = "prod"\nunsafe_dispatch_workers_without_attestation = true'),
        spoil("rules.json", "{"),
        spoil("rules.json", {"rules": []}),
        spoil("rules.json", {"rules": [a_rule(match={"evn": "dev"})]}),
        spoil("trust.toml", "version = 1"),
        spoil("hall.db", "this is no database, and long enough to be read as one" * 100),
        lambda desk: os.unlink(desk.path("rules.json")),
        lambda desk: os.unlink(desk.path("acme.pub")),
        lambda desk: os.unlink(desk.path("request.json")),
        replaced("rules.json", os.mkfifo),
        replaced("request.json", os.mkdir),
    ],
)
def test_what_cannot_be_decided_exits_2_with_one_line(attack: Callable[[Desk], object], desk: Desk) -> None:
    desk.enroll()
    attack(desk)
    status, out, err = desk.decide()
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_locked_state_file_and_events_that_fail_are_a_line_each(desk: Desk) -> None:
    desk.enroll()
    desk.write("hall.toml", 'env = "dev"\ndecision_seconds = 2.0\n')
    assert desk.decide()[0] == 0  # what is in force is in the ledger by now
    events = desk.path("events.jsonl")
    other = sqlite3.connect(desk.path("hall.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    status, out, err = desk.decide("--events", events)
    other.close()
    assert (status, out.split(":")[0]) == (2, "DENY  DENY_RECEIPT_UNAVAILABLE")
    unsigned, said = err.splitlines()
    assert unsigned.startswith("what is written is not signed: no --receipt-key is given")
    assert said.startswith("error: receipts could not be stored: ReceiptError: ")
    assert "locked" in err


def test_half_an_export_is_not_left_behind(desk: Desk) -> None:
    with SqliteReceipts(desk.path("hall.db")) as receipts:
        receipts.append([some_evidence(number) for number in range(100)])
    program = (
        "import resource, sys; from wcp_route.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(['receipts', 'export', '--state', 'hall.db', '-o', 'out.jsonl']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=desk.directory, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: file too large\n")
    assert not os.path.exists(desk.path("out.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "closed", "status"),
    [
        ("decide request.json", "<&-", 0),
        ("decide request.json", "2>&-", 0),
        ("decide request.json", ">&-", 2),
        ("decide request.json", "<&- >&- 2>&-", 2),
        ("decide -", "<&-", 2),
        ("nonsense", "2>&-", 2),
    ],
)
def test_closed_streams_are_no_crash_and_no_wrong_status(arguments: str, closed: str, status: int, desk: Desk) -> None:
    desk.enroll()
    places = {"CONFIG": "hall.toml", "RULES": "rules.json", "STATE": "hall.db"}
    environment = {f"WCP_ROUTE_{name}": value for name, value in places.items()}
    environment |= {"WCP_ATTEST_POLICY": "trust.toml", "PYTHONPATH": str(Path(__file__).parents[2])}
    program = f'"{sys.executable}" -c "import sys; from wcp_route.cli import main; sys.exit(main())"'
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} {arguments} {closed}"], cwd=desk.directory, capture_output=True, text=True,
        check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "internal error" not in done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"env": "dev"}', "\x00"])
def test_a_request_that_is_none_is_denied(text: str, desk: Desk) -> None:
    desk.enroll()
    desk.write("request.json", text)
    status, out, _ = desk.decide()
    assert (status, "DENY_INVALID_INPUT" in out) == (2, True)  # told apart from a denial: fix the request


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("decide",), ("nothing",), ("decide", "--no-such"), ("rules",), ("rules", "check"), ("schema", "x"),
        ("approvals",), ("receipts", "verify"), ("quarantine", "org.acme.x"), ("list",),
    ],
)  # fmt: skip
def test_usage_errors_exit_2(arguments: tuple[str, ...], desk: Desk) -> None:
    status, _, err = desk.run(*arguments)
    assert (status, err.count("\n")) == (2, 1)


def test_help_names_every_command(desk: Desk) -> None:
    status, out, _ = desk.run("--help")
    assert status == 0
    assert all(name in out for name in COMMANDS)
    for name in COMMANDS:
        assert desk.run(name, "--help")[0] == 0


def test_control_characters_never_reach_the_terminal(desk: Desk) -> None:
    desk.enroll()
    desk.write("rules.json", '{"rules": [{"rule_id": "a", "match": {"\\u001b[31m": 1}, "decision": {}}]}')
    _, out, err = desk.decide()
    assert "\x1b" not in out + err


def test_the_program_starts_quickly_and_reads_standard_input(desk: Desk) -> None:
    desk.enroll()
    command = [sys.executable, "-c", "import sys; from wcp_route.cli import main; sys.exit(main())"]
    places = {
        "WCP_ROUTE_CONFIG": desk.path("hall.toml"),
        "WCP_ROUTE_RULES": desk.path("rules.json"),
        "WCP_ROUTE_STATE": desk.path("hall.db"),
        "WCP_ATTEST_POLICY": desk.path("trust.toml"),
    }
    done = subprocess.run(
        [*command, "decide"], input=json.dumps(a_request()), env={**os.environ, **places},
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()[0]) == (0, "DISPATCH"), done.stderr
    modules = "import sys; from wcp_route.cli import main; main(['--help']); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", modules], capture_output=True, check=False).returncode == 0


def test_the_species_is_what_rules_name(desk: Desk) -> None:
    desk.enroll()
    told = json.loads(desk.run("list", "--state", desk.path("hall.db"), "--format", "json")[1])
    assert (told["schema_version"], told["kind"]) == (1, "worker-list")
    assert told["items"] == [
        {"worker_id": WORKER, "worker_species_id": SPECIES, "standing": "enrolled", "package_root": desk.package}
    ]


def test_every_command_that_speaks_json_names_kind_and_version(desk: Desk) -> None:
    state, key = ("--state", desk.path("hall.db")), ("--receipt-key", desk.path("receipts.key"))
    desk.write("hall.toml", 'env = "dev"\n[files]\nrules = "rules.json"\nstate = "hall.db"\npolicy = "trust.toml"\n')
    desk.write("rules.json", {"rules": [a_rule(escalation={"human_required_default": True})]})
    expected = {"test_id": "t", "input": a_request(), "expect": {"expected_rule_id": "rule-1"}}
    desk.write("tests.json", {"tests": [expected]})

    def kind(*arguments: str) -> str:
        said = desk.run(*arguments, "--format", "json")
        value = json.loads(said[1])
        assert value["schema_version"] == 1, said
        return str(value["kind"])

    config = ("--config", desk.path("hall.toml"))
    enroll = ("enroll", desk.path("record.json"), "--package", desk.package, *state, *key)
    assert kind(*enroll, "--create-state", "--by", "bob") == "worker-enrolled"
    assert kind("decide", desk.path("request.json"), *config, *key) == "route-decision"
    assert kind("explain", desk.path("request.json"), *config, *key) == "route-explanation"
    assert kind("approvals", "list", *state) == "approval-list"
    pending = json.loads(desk.run("approvals", "list", *state, "--format", "json")[1])["items"][0][
        "pending_approval_id"
    ]
    assert kind("approvals", "escalate", pending, *state, *key, "--by", "ada") == "approval-answer"
    authority = ("--authority", "executor", "--by", "ada")
    assert kind("approvals", "approve", pending, *state, *key, *authority) == "approval-answer"
    assert kind("receipts", "list", *state) == "receipt-list"
    assert kind("receipts", "show", *state) == "receipt-list"
    assert kind("receipts", "verify", *state, "--key", desk.path("receipts.pub")) == "receipts-check"
    assert kind("rules", "check", desk.path("rules.json")) == "rules-check"
    assert kind("rules", "coverage", desk.path("rules.json")) == "rules-coverage"
    assert kind("rules", "test", desk.path("rules.json"), desk.path("tests.json")) == "rules-test"
    assert kind("list", *state) == "worker-list"
    assert kind("status", *config) == "hall-status"
    assert kind("check", desk.path("record.json")) == "record-level"
    assert kind("quarantine", WORKER, *state, *key) == "worker-quarantined"
    assert kind("quarantine", WORKER, "--clear", *state, *key) == "worker-cleared"
    assert kind("withdraw", WORKER, *state, *key) == "worker-withdrawn"
    assert kind("migrate", *state) == "state-migrated"
    assert kind("backup", desk.path("copy.db"), *state) == "state-copied"


@pytest.mark.parametrize(
    ("arguments", "near"),
    [(("receipts", "shwo"), "show"), (("approvals", "aprove", "x"), "approve"), (("rules", "covrage"), "coverage")],
)
def test_a_misspelt_command_of_a_group_names_the_near_one(arguments: tuple[str, ...], near: str, desk: Desk) -> None:
    status, _, err = desk.run(*arguments)
    assert (status, f"did you mean `{near}`" in err) == (2, True)


def test_a_misspelt_option_names_the_near_one(desk: Desk) -> None:
    status, _, err = desk.run("list", "--sate", "x")
    assert (status, "--state" in err) == (2, True)


def test_init_with_a_worker_dispatches_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.directory)
    status, out, _ = desk.run("init", "new", "--with-worker")
    assert (status, "new/trust.toml" in out) == (0, True)
    status, out, _ = desk.run("decide", "new/request.json", "--config", "new/hall.toml")
    assert (status, out.startswith("DISPATCH  org.acme.doc-summarizer")) == (0, True)
    assert os.stat("new/worker.key").st_mode & 0o777 == 0o600
    desk.write("new/worker/code/worker_logic.py", "import os")
    assert desk.run("decide", "new/request.json", "--config", "new/hall.toml")[0] == 1
    assert desk.run("init", "new", "--with-worker")[0] == 2


def test_no_output_holds_a_command_to_a_ci_runner(desk: Desk) -> None:
    hostile = "##vso[task.setvariable variable=ok]true"
    assert desk.enroll("--policy", desk.path("trust.toml"), "--by", f"a {hostile}")[0] == 0
    state = ("--state", desk.path("hall.db"))
    desk.write("hostile.json", {**a_request(), "correlation_id": hostile})
    said = [
        desk.decide("--format", "json", request="hostile.json"),
        desk.decide(request="hostile.json"),
        *(
            desk.run("receipts", "show", "--last", "5", *state, "--format", form)
            for form in ("json", "text")
        ),
        desk.run("receipts", "list", *state, "--format", "json"),
        desk.run("list", *state, "--format", "json"),
    ]  # fmt: skip
    assert any("task.setvariable" in out for _, out, _ in said)
    assert not any("##vso[" in out or "##vso[" in err for _, out, err in said)
