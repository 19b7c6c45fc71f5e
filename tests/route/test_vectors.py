"""The 13 published conformance vectors, as data, each in a Hall that attests its workers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.route.worlds import Counting, World, a_record, tamper
from wcp_route.compat.go_codes import GO_CODES
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.events import events
from wcp_route.hall import Services

if TYPE_CHECKING:
    from wcp_route.hall import Hall

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "published.json").read_text())
VECTORS: list[dict[str, Any]] = PUBLISHED["vectors"]
DECISIONS = [vector for vector in VECTORS if vector["kind"] == "single-decision"]
PROCEDURES = [vector for vector in VECTORS if vector["kind"] == "procedure"]
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NEEDS_NOTHING = {"data": 0, "network": 0, "financial": 0, "time": 0, "reversibility": "reversible"}


def a_hall(vector: dict[str, Any], directory: Path) -> tuple[World, Hall]:
    """The vectors describe workers by what matters to them; the rest of a record is neutral."""
    world = World(directory)
    for worker in vector["world"]["workers"]:
        world.enroll(a_record(blast_radius=NEEDS_NOTHING, **worker))
    services = Services(clock=world.clock, ids=Counting())
    hall = world.hall(*vector["rules"], env=vector["input"]["env"], services=services)
    return world, hall


def test_all_thirteen_are_there() -> None:
    assert [vector["id"] for vector in VECTORS] == [f"CV-{number:03d}" for number in range(1, 14)]


@pytest.mark.parametrize("vector", DECISIONS, ids=lambda vector: vector["id"])
def test_published_vector(vector: dict[str, Any], tmp_path: Path) -> None:
    _, hall = a_hall(vector, tmp_path)
    decision = hall.route(vector["input"])
    expected = vector["expect"]
    assert (decision.denied, decision.code) == (expected["denied"], expected["code"]), decision.reason
    if "invariant" in expected:
        for event in events(decision):
            assert not CONTROL.search(json.dumps(event.to_dict(), ensure_ascii=False))


@pytest.mark.parametrize("vector", PROCEDURES, ids=lambda vector: vector["id"])
def test_published_procedure(vector: dict[str, Any], tmp_path: Path) -> None:
    world, hall = a_hall(vector, tmp_path)
    (worker,) = vector["world"]["workers"]
    assert vector["hall"] == {"require_worker_attestation": True}
    expected = [step["expect"] for step in vector["steps"] if step["do"] == "decide"]
    for before, expect in enumerate(expected):
        if before:
            tamper(world.package(worker["worker_id"]))
        wire = to_wire(hall.route(vector["input"]))
        reason = cast("dict[str, Any]", wire["deny_reason_if_denied"] or {})
        assert wire["denied"] is expect["denied"]
        assert wire["worker_attestation_checked"] is expect["worker_attestation_checked"]
        assert wire["worker_attestation_valid"] is expect["worker_attestation_valid"]
        assert wire["deny_code"] == expect.get("code")
        assert not set(expect.get("absent_from_deny_reason", ())) & set(reason)
        assert not re.search(r"[0-9a-f]{64}", json.dumps(reason))


def test_codes_of_the_go_sdk_are_those_published() -> None:
    assert {alias: code.value for alias, code in GO_CODES.items()} == PUBLISHED["code_aliases"]
