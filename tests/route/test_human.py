"""Human approval: hold, approve, deny, escalate, expire; a grant is good once, for one request, after every check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.stores import MemoryApprovals
from tests.route.worlds import WORKER, Counting, World, a_record, a_request, a_rule, tamper
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Services
from wcp_route.storage.approvals import ApprovalError

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.gates.policy_gate import PolicyContext
    from wcp_route.hall import Hall

HELD = a_rule(escalation={"human_required_default": True})


class Gate:
    """Answers what it is told to."""

    def __init__(self, answer: PolicyAnswer) -> None:
        self.answer = answer

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        del context
        return self.answer


@pytest.fixture
def approvals() -> MemoryApprovals:
    return MemoryApprovals()


def hall_of(world: World, approvals: MemoryApprovals | None, *rules: JsonObject, **settings: Any) -> Hall:
    gate = settings.pop("gate", None)
    services = Services(clock=world.clock, ids=Counting(), approvals=approvals, policy_gate=gate)
    return world.hall(*rules, services=services, **settings)


def test_a_held_request_is_denied_with_what_a_human_needs(world: World, approvals: MemoryApprovals) -> None:
    decision = hall_of(world, approvals, HELD).route(a_request())
    assert (decision.outcome, decision.denied, decision.code) == ("STEWARD_HOLD", True, Code.REQUIRES_HUMAN_APPROVAL)
    wire = to_wire(decision)
    assert (wire["supervisor_required"], wire["supervisor_level"]) == (True, "gatekeeper")
    assert wire["selected_worker_species_id"] is None
    assert wire["escalation_context"] == {
        "capability_id": "cap.doc.summarize",
        "blast_score": 30,
        "tenant_risk": "low",
        "data_label": "INTERNAL",
        "policy_version": "policy.v0",
    }
    (waiting,) = approvals.pending(world.clock.now_ms)
    assert wire["pending_approval_id"] == waiting.pending_id
    assert waiting.input_hash == decision.input_hash
    assert waiting.expires_at_ms == world.clock.now_ms + 3_600_000
    assert (wire["approval_expires_at"], waiting.worker_id) == ("2027-01-15T09:00:00.000Z", WORKER)


def test_without_a_place_to_wait_it_is_a_plain_denial(world: World) -> None:
    decision = hall_of(world, None, HELD).route(a_request())
    assert (decision.outcome, decision.denied, decision.pending_approval_id) == ("DENY", True, "")
    assert decision.supervisor_required is True


def grant_for(hall: Hall, approvals: MemoryApprovals, world: World, **request: Any) -> str:
    pending = hall.route(a_request(**request)).pending_approval_id
    return approvals.resolve(pending, "approve", by="ada", at_ms=world.clock.now_ms).grant_id


def test_an_approval_lets_the_very_request_pass_once(world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    grant = grant_for(hall, approvals, world)
    passed = hall.decide(a_request(), grant=grant)
    assert (passed.decision.outcome, passed.grant_id) == ("DISPATCH", grant)
    assert passed.decision.supervisor_required is False
    assert grant not in json.dumps(to_wire(passed.decision))
    assert hall.route(a_request(), grant=grant).code == Code.APPROVAL_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"request": {"text": "hello!"}},
        {"correlation_id": "other"},
        {"tenant_id": "other"},
        {"tenant_risk": "high"},
        {"blast_score": 31},
        {"policy_version": "v2"},
        {"chain_id": "c"},
    ],
)
def test_an_approval_is_for_no_other_request(change: dict[str, Any], world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    grant = grant_for(hall, approvals, world)
    assert hall.route(a_request(**change), grant=grant).code == Code.APPROVAL_INVALID
    assert hall.route(a_request(), grant=grant).outcome == "DISPATCH"


@pytest.mark.parametrize("grant", ["x", "0" * 64, "\x00", "' OR 1=1 --"])
def test_a_made_up_grant_is_refused(grant: str, world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    assert hall.route(a_request(), grant=grant).code == Code.APPROVAL_INVALID
    assert hall_of(world, None, HELD).route(a_request(), grant=grant).code == Code.APPROVAL_INVALID
    assert hall_of(world, approvals).route(a_request(), grant=grant).code == Code.APPROVAL_INVALID


def test_an_approval_asks_every_check_again(world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    grant = grant_for(hall, approvals, world)
    tamper(world.package())
    assert hall.route(a_request(), grant=grant).code == Code.WORKER_TAMPERED


def test_an_approval_is_for_no_other_worker(world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    grant = grant_for(hall, approvals, world)
    world.enroll(a_record(worker_id="org.acme.another"))
    assert hall.route(a_request(), grant=grant).code == Code.APPROVAL_INVALID
    world.registry.withdraw("org.acme.another")
    assert hall.route(a_request(), grant=grant).outcome == "DISPATCH"


def test_an_approval_expires(world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD, approval_seconds=60)
    grant = grant_for(hall, approvals, world)
    world.clock.now_ms += 60_000
    assert hall.route(a_request(), grant=grant).code == Code.APPROVAL_EXPIRED


def test_what_was_not_answered_in_time_cannot_be_approved(world: World, approvals: MemoryApprovals) -> None:
    pending = hall_of(world, approvals, HELD, approval_seconds=60).route(a_request()).pending_approval_id
    with pytest.raises(ApprovalError):
        approvals.resolve(pending, "approve", by="ada", at_ms=world.clock.now_ms + 60_000)


def test_a_denied_hold_gives_no_grant_and_an_escalated_one_waits_higher_up(
    world: World, approvals: MemoryApprovals
) -> None:
    hall = hall_of(world, approvals, HELD)
    pending = hall.route(a_request()).pending_approval_id
    higher = approvals.resolve(pending, "escalate", by="ada", at_ms=world.clock.now_ms)
    assert (higher.grant_id, higher.level) == ("", "executor")
    denied = approvals.resolve(pending, "deny", by="grace", at_ms=world.clock.now_ms)
    assert (denied.grant_id, denied.state) == ("", "denied")
    with pytest.raises(ApprovalError):
        approvals.resolve(pending, "approve", by="ada", at_ms=world.clock.now_ms)


def test_a_dry_run_holds_nothing_and_uses_no_grant_up(world: World, approvals: MemoryApprovals) -> None:
    hall = hall_of(world, approvals, HELD)
    assert hall.route(a_request(dry_run=True)).outcome == "DENY"
    assert approvals.pending(world.clock.now_ms) == ()
    grant = grant_for(hall, approvals, world)
    for _ in range(2):
        rehearsed = hall.route(a_request(dry_run=True), grant=grant)
        assert (rehearsed.outcome, rehearsed.package_path) == ("DISPATCH", "")
    assert hall.route(a_request(), grant=grant).outcome == "DISPATCH"


def test_an_advisory_note_lets_the_request_pass_and_tells(world: World, approvals: MemoryApprovals) -> None:
    decision = hall_of(world, approvals, HELD, supervisor_level="advisory").route(a_request())
    assert (decision.outcome, decision.denied) == ("DISPATCH", False)
    assert (decision.supervisor_required, decision.supervisor_level) == (True, "advisory")
    assert approvals.pending(world.clock.now_ms) == ()


def test_the_highest_level_that_anybody_names_counts(world: World, approvals: MemoryApprovals) -> None:
    gate = Gate(PolicyAnswer("REQUIRE_HUMAN", "p7", "odd hours", level="incident_commander"))
    rule = a_rule(escalation={"human_required_default": True, "policy_gate": True})
    decision = hall_of(world, approvals, rule, gate=gate, supervisor_level="advisory").route(a_request())
    assert (decision.outcome, decision.supervisor_level) == ("STEWARD_HOLD", "incident_commander")
    assert (decision.policy_version, decision.policy_decision) == ("p7", "REQUIRE_HUMAN")


@pytest.mark.parametrize(
    ("escalation", "held"),
    [
        ({"human_required_if": [{"data_label": "RESTRICTED"}, {"tenant_risk": "high", "qos_class": "P0"}]}, False),
        ({"human_required_if": [{"data_label": {"in": ["INTERNAL", "RESTRICTED"]}}]}, True),
        ({"human_required_if": [{"tenant_risk": "low", "qos_class": "P2"}]}, True),
        ({"human_required_if": [{}]}, True),
        ({"msavx_step_up": True}, True),
        ({}, False),
    ],
)
def test_what_a_rule_says_about_people_is_enforced(
    escalation: JsonObject, held: bool, world: World, approvals: MemoryApprovals
) -> None:
    decision = hall_of(world, approvals, a_rule(escalation=escalation)).route(a_request())
    assert (decision.outcome == "STEWARD_HOLD") is held


def test_a_denial_of_the_policy_is_never_softened_into_a_hold(world: World, approvals: MemoryApprovals) -> None:
    gate = Gate(PolicyAnswer("DENY", "p7", "no"))
    rule = a_rule(escalation={"human_required_default": True, "policy_gate": True})
    hall = hall_of(world, approvals, rule, gate=gate)
    assert hall.route(a_request()).code == Code.POLICY_GATE
    assert approvals.pending(world.clock.now_ms) == ()


def test_a_grant_does_not_answer_a_denial_of_the_policy(world: World, approvals: MemoryApprovals) -> None:
    gate = Gate(PolicyAnswer("REQUIRE_HUMAN", "p7", "ask"))
    hall = hall_of(world, approvals, a_rule(escalation={"policy_gate": True}), gate=gate)
    grant = grant_for(hall, approvals, world)
    gate.answer = PolicyAnswer("DENY", "p8", "no more")
    assert hall.route(a_request(), grant=grant).code == Code.POLICY_GATE
    gate.answer = PolicyAnswer("REQUIRE_HUMAN", "p7", "ask")
    assert hall.route(a_request(), grant=grant).outcome == "DISPATCH"


def test_a_grant_does_not_answer_a_higher_level_than_gave_it(world: World, approvals: MemoryApprovals) -> None:
    gate = Gate(PolicyAnswer("REQUIRE_HUMAN", "p1", level="gatekeeper"))
    hall = hall_of(world, approvals, a_rule(escalation={"policy_gate": True}), gate=gate)
    grant = grant_for(hall, approvals, world)
    gate.answer = PolicyAnswer("REQUIRE_HUMAN", "p2", level="incident_commander")
    assert hall.route(a_request(), grant=grant).code == Code.APPROVAL_INVALID
    assert hall.route(a_request()).supervisor_level == "incident_commander"
    gate.answer = PolicyAnswer("REQUIRE_HUMAN", "p3", level="gatekeeper")
    assert hall.route(a_request(), grant=grant).outcome == "DISPATCH"


def test_a_request_that_finds_no_room_to_wait_is_denied_and_told_so(
    world: World, approvals: MemoryApprovals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wcp_route.storage.approval_events.MAX_PENDING", 1)
    hall = hall_of(world, approvals, HELD)
    assert hall.route(a_request()).outcome == "STEWARD_HOLD"
    decision = hall.route(a_request(correlation_id="another"))
    assert (decision.outcome, decision.code) == ("DENY", Code.REQUIRES_HUMAN_APPROVAL)
    assert decision.reason is not None
    assert "cannot be asked" in decision.reason.message
