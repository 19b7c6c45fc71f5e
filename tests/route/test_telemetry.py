"""Events: the protocol's fields on dispatch and denial, clean of controls and secrets; sinks that never hold up."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from tests.route.state_worlds import SHA, START_MS, a_decision
from tests.route.test_receipts_body import decisions
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.codes import Code
from wcp_route.domain.events import MAX_TEXT, EventSinks, clean, events
from wcp_route.telemetry.cloudevents import Telemetry, to_callable, to_file, to_stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import RouteDecision

ROOT = Path(__file__).parents[2]
AT = "2025-11-24T16:00:00.124Z"
COMMON = {"timestamp": AT, "correlation_id": "corr-1", "tenant_id": "acme"}
SOURCE = "urn:wcp:hall:test"


def told(decision: RouteDecision) -> dict[str, JsonObject]:
    found = {event.event_id: event.to_dict() for event in events(decision)}
    assert len(found) == len(events(decision))
    return found


def test_a_dispatch_tells_the_three_mandatory_events() -> None:
    found = told(a_decision())
    worker = {"worker_id": "org.acme.summarizer"}
    assert found["evt.os.task.routed"] == COMMON | worker | {
        "event_id": "evt.os.task.routed",
        "task_id": "task_default",
        "capability_id": "cap.doc.summarize",
        "matched_rule_id": "rule-7",
        "selected_worker_species_id": "wrk.doc.summarizer",
        "policy_version": "policy.v0",
        "qos_class": "P2",
    }
    assert found["evt.os.worker.selected"] == COMMON | worker | {
        "event_id": "evt.os.worker.selected",
        "capability_id": "cap.doc.summarize",
        "selected_worker_species_id": "wrk.doc.summarizer",
        "reason": "first_available_candidate",
    }
    assert found["evt.os.policy.gated"] == COMMON | {
        "event_id": "evt.os.policy.gated",
        "capability_id": "cap.doc.summarize",
        "decision": "ALLOW",
        "policy_version": "policy.v0",
        "reason": "policy_gate_allow",
    }
    assert found["evt.gov.blast_scored"] == COMMON | {
        "event_id": "evt.gov.blast_scored",
        "capability_id": "cap.doc.summarize",
        "env": "prod",
        "data_label": "INTERNAL",
        "policy_version": "policy.v0",
        "blast_score": 45,
        "decision": "ALLOW",
    }
    assert "evt.os.task.denied" not in found


def test_a_gate_that_was_not_wanted_says_so() -> None:
    found = told(replace(a_decision(), policy_decision=None, policy_reason=""))
    assert (found["evt.os.policy.gated"]["decision"], found["evt.os.policy.gated"]["reason"]) == (
        "ALLOW",
        "no_gate_required",
    )


def test_a_denial_tells_why_and_what_was_checked() -> None:
    found = told(replace(a_decision(code=Code.WORKER_TAMPERED), quarantined=True, privilege_envelope_ok=False))
    assert found["evt.os.task.denied"] == COMMON | {
        "event_id": "evt.os.task.denied",
        "capability_id": "cap.doc.summarize",
        "deny_code": "DENY_WORKER_TAMPERED",
        "deny_message": "the reason in one line",
        "matched_rule_id": "rule-7",
        "outcome": "DENY",
    }
    said = {name: event["decision"] for name, event in found.items() if "decision" in event}
    assert said == {
        "evt.os.policy.gated": "ALLOW",
        "evt.gov.blast_scored": "ALLOW",
        "evt.gov.privilege_envelope.checked": "DENY",
        "evt.os.worker.attestation_checked": "DENY",
        "evt.gov.worker.quarantined": "DENY",
    }
    assert not {"evt.os.task.routed", "evt.os.worker.selected"} & found.keys()


def test_a_denial_before_any_check_tells_only_itself() -> None:
    early = replace(
        a_decision(code=Code.INVALID_INPUT),
        blast_gate_passed=None,
        privilege_envelope_ok=None,
        policy_decision=None,
        worker_attestation_checked=False,
        worker_attestation_valid=None,
    )
    assert list(told(early)) == ["evt.os.task.denied"]


def test_a_refusal_by_the_gate_is_told_as_such() -> None:
    refused = replace(a_decision(code=Code.POLICY_GATE), policy_decision="DENY", policy_reason="")
    assert told(refused)["evt.os.policy.gated"]["reason"] == "policy_gate_deny"
    assert told(refused)["evt.os.policy.gated"]["decision"] == "DENY"


def test_a_hold_tells_who_must_say() -> None:
    held = replace(
        a_decision(code=Code.REQUIRES_HUMAN_APPROVAL),
        outcome="STEWARD_HOLD",
        supervisor_required=True,
        supervisor_level="gatekeeper",
        pending_approval_id="hold-1",
        approval_expires_at_ms=START_MS,
    )
    assert told(held)["evt.os.task.denied"]["outcome"] == "STEWARD_HOLD"
    asked = told(held)["evt.gov.approval.requested"]
    assert (asked["supervisor_level"], asked["pending_approval_id"]) == ("gatekeeper", "hold-1")
    assert asked["approval_expires_at"] == "2025-11-24T16:00:00.123Z"


def test_a_dispatch_without_attestation_is_told_loudly() -> None:
    blind = replace(a_decision(), worker_attestation_checked=False, worker_attestation_valid=None)
    assert told(blind)["evt.os.worker.attestation_skipped"]["severity"] == "warn"
    assert "evt.os.worker.attestation_skipped" not in told(a_decision())


def test_a_dry_run_is_marked_in_every_event() -> None:
    for decision in (a_decision(), a_decision(code=Code.WORKER_TAMPERED)):
        assert all(event["dry_run"] is True for event in told(replace(decision, dry_run=True)).values())
        assert not any("dry_run" in event for event in told(decision).values())


@given(decisions)
def test_events_are_clean_bounded_and_always_the_same(decision: RouteDecision) -> None:
    found = events(decision)
    assert found == events(decision)
    assert [event.number for event in found] == list(range(len(found)))
    for event in found:
        for name in ("event_id", "timestamp", "correlation_id", "tenant_id"):
            assert isinstance(event.fields[name], str)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(event.fields["timestamp"]))
        for value in event.fields.values():
            assert not isinstance(value, str) or (
                len(value) <= MAX_TEXT and not re.search(r"[\x00-\x1f\x7f-\x9f]", value)
            )


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\r\nb\x00\x1b[31m\x7f\x85\u2028", "ab[31m"),
        ("half \ud800", "half "),
        ("x" * 1000, "x" * MAX_TEXT),
        ("\n" * 1000 + "x", "x"),
        ("", ""),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_no_event_holds_a_hash() -> None:
    for decision in (a_decision(), a_decision(code=Code.WORKER_TAMPERED)):
        assert SHA not in json.dumps([event.to_dict() for event in events(decision)])


# CloudEvents


def test_cloudevents_have_the_attributes_of_version_1() -> None:
    heard: list[JsonObject] = []
    with Telemetry(
        SOURCE, to_callable(heard.append), traceparent=lambda: "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    ) as sink:
        sink.emit(a_decision(), 1000)
    decision_id = a_decision().decision_id
    assert heard[0] == {
        "specversion": "1.0",
        "id": f"{decision_id}/0",
        "source": SOURCE,
        "type": "evt.os.task.routed",
        "subject": decision_id,
        "time": AT,
        "datacontenttype": "application/json",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "data": events(a_decision())[0].to_dict(),
    }
    assert len({str(event["id"]) for event in heard}) == len(heard) == 6


@pytest.mark.parametrize("given_parent", ["", "nonsense", "00-x", "00-" + "1" * 32 + "-" + "2" * 16 + "-01\n"])
def test_an_odd_trace_context_is_left_out(given_parent: str) -> None:
    heard: list[JsonObject] = []
    with Telemetry(SOURCE, to_callable(heard.append), traceparent=lambda: given_parent) as sink:
        sink.emit(a_decision(), 0)
    assert heard
    assert not any("traceparent" in event for event in heard)


def test_stdout_gets_json_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    code = (
        "from tests.route.state_worlds import a_decision\n"
        "from wcp_route.telemetry.cloudevents import Telemetry, to_stdout\n"
        f"with Telemetry({SOURCE!r}, to_stdout()) as sink: sink.emit(a_decision(), 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == [event.event_id for event in events(a_decision())]


def test_a_file_is_appended_to_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in range(2):
        with Telemetry(SOURCE, to_file(str(path))) as sink:
            sink.emit(a_decision(number), 0)
    assert len(path.read_bytes().splitlines()) == 12
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write = to_file(str(path), max_bytes=1000, keep=2)
    for number in range(50):
        write([{"number": number, "filling": "x" * 80}])
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert all(one.stat().st_size <= 1000 for one in tmp_path.iterdir())
    lines = [json.loads(line) for name in reversed(names) for line in (tmp_path / name).read_bytes().splitlines()]
    numbers = [line["number"] for line in lines]
    assert numbers == list(range(numbers[0], 50))


def test_nothing_need_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write = to_file(str(path), max_bytes=100, keep=0)
    for number in range(9):
        write([{"number": number, "filling": "x" * 80}])
    assert [one.name for one in tmp_path.iterdir()] == ["events.jsonl"]


def test_an_odd_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("fifo", "link", "missing/events", "nul\0"):
        with pytest.raises(ConfigError, match="cannot write events"):
            to_file(str(tmp_path / name))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"env = 'prod'\n", b"SQLite format 3\0", b'{"rules": []}\n', b"\n"])
def test_a_file_that_holds_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hall.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="holds something other than events"):
        to_file(str(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("source", ["", "with blank", "x" * 300, "a\n"])
def test_a_source_is_a_uri(source: str) -> None:
    with pytest.raises(ConfigError, match="source of events"):
        Telemetry(source, to_stdout())


class Stuck:
    """A target that does not come back until it is let go."""

    def __init__(self) -> None:
        self.called, self.go = threading.Event(), threading.Event()
        self.seen = 0

    def __call__(self, told: Sequence[JsonObject]) -> None:
        self.seen += len(told)
        self.called.set()
        self.go.wait(30)


def test_a_stuck_target_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wcp_route.telemetry.cloudevents.MAX_WAITING", 10)
    stuck = Stuck()
    sink = Telemetry(SOURCE, stuck)
    sink.emit(a_decision(), 0)
    stuck.called.wait(30)
    for number in range(25):
        sink.emit(a_decision(number), 0)
    assert sink.dropped == 15
    stuck.go.set()
    sink.close()
    assert stuck.seen == 11 * 6
    sink.emit(a_decision(), 0)
    assert sink.dropped == 16


def test_a_target_that_stays_stuck_does_not_keep_close_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wcp_route.telemetry.cloudevents.CLOSE_SECONDS", 0.1)
    stuck = Stuck()
    sink = Telemetry(SOURCE, stuck)
    sink.emit(a_decision(), 0)
    sink.close()
    stuck.go.set()


def test_a_forked_process_writes_its_own_events_and_none_of_its_parents(tmp_path: Path) -> None:
    place = tmp_path / "events.jsonl"
    with Telemetry("urn:wcp:hall", to_file(str(place))) as sink:
        sink.emit(a_decision(1), 0)
        child = os.fork()
        if child == 0:  # pragma: no cover  # coverage does not follow forks
            sink.emit(a_decision(2), 0)
            sink.close()
            os._exit(0 if sink.dropped == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        sink.emit(a_decision(3), 0)
    subjects = [json.loads(line)["subject"] for line in place.read_text().splitlines()]
    assert sorted(subjects) == sorted(a_decision(n).decision_id for n in (1, 2, 3) for _ in events(a_decision(n)))


def test_a_target_that_raises_is_counted_and_asked_again() -> None:
    heard: list[JsonObject] = []

    def moody(event: JsonObject) -> None:
        if not heard and not sink.dropped:
            raise ZeroDivisionError
        heard.append(event)

    with Telemetry(SOURCE, to_callable(moody)) as sink:
        sink.emit(a_decision(1), 0)
        while not sink.dropped:
            pass
        sink.emit(a_decision(2), 0)
    assert (sink.dropped, len(heard)) == (1, 6)


def test_several_sinks_are_one() -> None:
    heard: list[list[JsonObject]] = [[], []]
    first, second = (Telemetry(SOURCE, to_callable(one.append)) for one in heard)
    EventSinks(first, second).emit(a_decision(), 0)
    first.close()
    second.close()
    assert len(heard[0]) == len(heard[1]) == 6


def test_lines_are_lines_whatever_a_caller_sends() -> None:
    out = io.BytesIO()
    nasty = replace(a_decision(), correlation_id="a\n{}\u2028b", tenant_id='"\\')
    target = to_callable(lambda event: out.write(json.dumps(event).encode() + b"\n"))
    with Telemetry(SOURCE, target) as sink:
        sink.emit(nasty, 0)
    assert [json.loads(line)["data"]["correlation_id"] for line in out.getvalue().splitlines()] == ["a{}b"] * 6
