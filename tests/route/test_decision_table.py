"""The table of decision fields: wire object, schema and receipt are made of it, and the receipt on disk agrees."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.route.worlds import Counting, World, a_record, a_request, a_rule
from wcp_route import open_state
from wcp_route.domain.decision import RouteDecision
from wcp_route.domain.decision_wire import RECEIPT, WIRE, decision_schema, receipt_members, to_wire
from wcp_route.domain.record import WorkerRecord, wire_of
from wcp_route.domain.record_model import RecordModel, read_record
from wcp_route.domain.wire_model import WireError
from wcp_route.hall import Services
from wcp_route.storage.receipts import last

if TYPE_CHECKING:
    from pathlib import Path


def test_every_field_is_in_the_wire_object_the_receipt_or_for_the_operator() -> None:
    placed = {field for _, field, _ in (*WIRE, *RECEIPT)}
    assert {column.name for column in fields(RouteDecision)} - placed == {"package_path"}


def test_a_decision_of_defaults_is_a_denial_and_fits_its_schema() -> None:
    nothing = RouteDecision()
    assert (nothing.denied, nothing.outcome, nothing.package_path) == (True, "DENY", "")
    wire: Any = to_wire(RouteDecision(decided_at_ms=1), operator=True)
    jsonschema.validate(wire, decision_schema())
    with pytest.raises(TypeError):
        RouteDecision("id")  # type: ignore[call-arg]  # keyword arguments only


@pytest.mark.parametrize(
    "request_",
    [a_request(), a_request(env="prod"), a_request(dry_run=True), {"nonsense": 1}, a_request(chain_id="c")],
)
def test_the_receipt_on_disk_says_what_the_table_says(request_: Any, world: World, tmp_path: Path) -> None:
    place = str(tmp_path / "hall.db")
    rule = a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"])
    with open_state(place) as state:
        services = Services(receipts=state.receipts, clock=world.clock, ids=Counting())
        evidence = world.hall(rule, services=services).decide(request_)
    written = last(place, 1)[0].to_dict()
    assert receipt_members(evidence).items() <= written.items()


def test_a_record_has_one_table_of_which_model_value_and_wire_form_are_made() -> None:
    found = read_record(a_record(notes="x", attestation={"code_hash": "sha256:" + "ab" * 32, "hash_method": "file"}))
    assert {*wire_of(found)} <= {*RecordModel.model_fields}
    assert {column.name for column in fields(WorkerRecord)} - {*RecordModel.model_fields} == {"package_root"}
    assert read_record(wire_of(found)) == found
    with pytest.raises(WireError):
        read_record({**a_record(), "package_root": "/srv"})  # the operator's, never the record's
