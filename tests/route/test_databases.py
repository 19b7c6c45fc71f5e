"""One ledger on two databases: whatever a Hall does holds on SQLite, on PostgreSQL, and through a pooler."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route import receipt_writer
from tests.route.state_worlds import a_hold, a_record, some_evidence
from tests.route.test_ledger_behaviour import NOW, WORKER, approved, at_once, wanted
from tests.route.worlds import WORKER as DOC
from tests.route.worlds import Counting, World, a_request, a_rule
from wcp_attest.base.errors import Error
from wcp_route.domain.codes import Code
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Services
from wcp_route.storage.receipts import KeyFileSigner, export, find, head, verify
from wcp_route.storage.state import open_state
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.route.postgresql import PostgresServer
    from wcp_route.gates.policy_gate import PolicyContext
    from wcp_route.storage.registry import LedgerRegistry

ROOT = Path(__file__).parents[2]
SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
KEYS = [SIGNER.public]
HELD = a_rule(escalation={"human_required_default": True})


@dataclass
class Place:
    """An empty database, and a way around the ledger to it."""

    address: str
    server: PostgresServer | None = None
    name: str = ""
    pooled: bool = False

    def execute(self, statement: str) -> None:
        if self.server is not None:
            self.server.execute(self.name, statement)
            return
        connection = sqlite3.connect(self.address)
        connection.execute(statement)
        connection.commit()
        connection.close()


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(str(tmp_path / "hall.db"))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    port = request.getfixturevalue("pooler_port") if request.param == "pgbouncer" else 5432
    name = server.database()
    return Place(server.address(name, port), server, name, port != 5432)


def test_a_worker_is_enrolled_held_approved_and_dispatched_once(place: Place, tmp_path: Path) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        services = Services(clock=world.clock, ids=Counting(), approvals=state.approvals, receipts=state.ledger)
        hall = world.hall(HELD, services=services)
        held = hall.route(a_request())
        assert held.outcome == "STEWARD_HOLD"
        grant = state.approvals.resolve(
            held.pending_approval_id, "approve", by="ada", at_ms=world.clock.now_ms
        ).grant_id
        first, second = hall.route(a_request(), grant=grant), hall.route(a_request(), grant=grant)
        assert (first.outcome, first.denied) == ("DISPATCH", False)
        assert second.denied
        assert state.approvals.state(held.pending_approval_id) == "redeemed"
    # enrolled, in force, held, its decision, approved, redeemed, its decision, the second denial
    assert verify(place.address, keys=KEYS, head=head(place.address)).receipts == 8
    with open_state(place.address, signer=SIGNER) as state:
        assert [one.worker_id for one in state.registry.workers()] == [a_record("org.acme.doc-summarizer").worker_id]


def test_two_states_on_one_database_see_each_other_and_share_one_grant(place: Place) -> None:
    with open_state(place.address, signer=SIGNER) as one, open_state(place.address, signer=SIGNER) as other:
        one.registry.enroll(a_record(), by="carol")
        assert list(other.registry.snapshot().workers) == [WORKER]
        grant = approved(other)
        use, states = wanted(one, grant), (one, other)
        found = at_once(4, lambda number: states[number % 2].approvals.redeem(use, use=True))
        assert sum(not isinstance(each, Error) for each in found) == 1
        at_once(8, lambda number: states[number % 2].ledger.append([some_evidence(number)]))
        other.approvals.hold(a_hold(2))
        other.registry.quarantine(WORKER, "DENY_WORKER_TAMPERED", by="hall", at_ms=NOW)
        assert WORKER in one.registry.snapshot().quarantined
        assert one.approvals.state("hold-2") == "cancelled"
    # enrolled, held, approved, redeemed, eight decisions, held, quarantined
    assert verify(place.address, keys=KEYS).receipts == 14


class ChangesMeanwhile:
    """A policy that allows, and during each of its answers up to a number somebody else changes the registry."""

    version = "1"

    def __init__(self, change: Callable[[], object], times: int) -> None:
        self.change, self.left = change, times

    def evaluate(self, _: PolicyContext, /) -> PolicyAnswer:
        if self.left:
            self.left -= 1
            self.change()
        return PolicyAnswer("ALLOW", self.version, "policy_gate_allow")


CHANGES: dict[str, tuple[Callable[[LedgerRegistry], object], Code | None]] = {
    "quarantined": (
        lambda registry: registry.quarantine(DOC, "DENY_WORKER_TAMPERED", by="ada", at_ms=NOW),
        Code.WORKER_QUARANTINED,
    ),
    "withdrawn": (lambda registry: registry.withdraw(DOC, by="ada"), Code.NO_AVAILABLE_WORKER),
    "another enrolled": (lambda registry: registry.enroll(a_record("org.acme.zebra"), by="ada"), None),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_change_between_a_decision_and_its_receipt_decides_again(change: str, place: Place, tmp_path: Path) -> None:
    """Nobody looks at the registry before a decision: the transaction of its receipt does, and refuses a stale one."""
    with open_state(place.address, signer=SIGNER) as state, open_state(place.address, signer=SIGNER) as other:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        act, code = CHANGES[change]
        gate = ChangesMeanwhile(lambda: act(other.registry), 1)
        services = Services(receipts=state.ledger, approvals=state.approvals, policy_gate=gate)
        hall = world.hall(a_rule(escalation={"policy_gate": True}), services=services)
        evidence = hall.decide(a_request())
        assert (evidence.decision.code, gate.left) == (code, 0)
        assert evidence.versions.registry == other.registry.snapshot().version
        told = hall.route_many([a_request() for _ in range(3)])
        assert [one.code for one in told] == [code] * 3
        assert len(find(place.address, evidence.decision.correlation_id)) == 4  # and none of the stale decision
    assert verify(place.address, keys=KEYS).signed


def test_a_registry_that_changes_at_every_decision_ends_in_a_denial_in_time(place: Place, tmp_path: Path) -> None:
    with open_state(place.address, signer=SIGNER) as state, open_state(place.address, signer=SIGNER) as other:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        numbers = itertools.count()
        gate = ChangesMeanwhile(lambda: other.registry.enroll(a_record(f"org.acme.w{next(numbers)}"), by="ada"), -1)
        services = Services(receipts=state.ledger, approvals=state.approvals, policy_gate=gate)
        hall = world.hall(a_rule(escalation={"policy_gate": True}), services=services, decision_seconds=2.0)
        assert hall.route(a_request()).code in (Code.INTERNAL_ERROR, Code.RECEIPT_UNAVAILABLE)
        gate.left = 0
        assert hall.route(a_request()).denied is False
    assert verify(place.address, keys=KEYS).signed


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW {schema}planted AS SELECT 1 AS one",
        "CREATE TABLE {schema}planted (number INTEGER)",
        "ALTER TABLE {schema}receipts ADD COLUMN planted TEXT",
        "DROP INDEX {schema}receipts_by_time",
    ],
)
def test_a_planted_or_missing_object_is_refused(place: Place, statement: str) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    place.execute(statement.format(schema="wcp_route." if place.server else ""))
    with pytest.raises(StateError, match="another schema"):
        open_state(place.address, signer=SIGNER)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION wcp_route.planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE RULE planted AS ON INSERT TO wcp_route.receipts DO INSTEAD NOTHING",
        "ALTER TABLE wcp_route.receipts ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE public.child () INHERITS (wcp_route.receipts)",
        "CREATE TRIGGER planted BEFORE UPDATE ON wcp_route.receipts EXECUTE FUNCTION tsvector_update_trigger()",
    ],
)
def test_what_only_postgresql_can_plant_is_refused(postgres_server: PostgresServer, statement: str) -> None:
    name = postgres_server.database()
    open_state(postgres_server.address(name), signer=SIGNER).close()
    postgres_server.execute(name, statement)
    with pytest.raises(StateError, match="another schema"):
        open_state(postgres_server.address(name), signer=SIGNER)


def test_an_edited_event_is_found_and_not_opened(place: Place) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        state.registry.quarantine(WORKER, "DENY_WORKER_TAMPERED", by="hall", at_ms=NOW)
    table = "wcp_route.receipts" if place.server else "receipts"
    place.execute(f"DELETE FROM {table} WHERE kind = 'worker.quarantined'")
    with pytest.raises(Error, match=r"deleted|truncated"):
        verify(place.address, keys=KEYS)
    with pytest.raises(StateError, match="receipts verify"):
        open_state(place.address, signer=SIGNER)


def test_a_killed_writer_loses_no_answered_receipt(place: Place) -> None:
    writer = subprocess.Popen(
        [sys.executable, receipt_writer.__file__, place.address, "0", "2"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert writer.stdout is not None
    seen = [writer.stdout.readline() for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    seen += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    answered = {line.decode().strip() for line in seen if line.endswith(b"\n")}
    assert len(answered) >= 49
    with open_state(place.address, signer=SIGNER) as state:  # and it goes on
        state.ledger.append([some_evidence(10**9)])
    assert verify(place.address, keys=KEYS).receipts > len(answered)
    lines: list[bytes] = []
    export(place.address, lines.append)
    stored = {number for line in lines for number in re.findall(r"corr-(\d+)", line.decode())}
    assert answered <= stored


def test_a_database_that_is_not_there_is_one_clear_error(postgres_server: PostgresServer) -> None:
    with pytest.raises(StateError, match=r"does not exist|cannot be reached") as caught:
        open_state(postgres_server.address("nowhere"))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_locked_is_an_error_in_time(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgres_server.database()
    with (
        open_state(postgres_server.address(name), create=True) as state,
        psycopg.connect(postgres_server.address(name)) as other,
    ):
        assert state.registry.workers() == ()
        other.execute("LOCK TABLE wcp_route.batches IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr("wcp_route.storage.database.WAIT_SECONDS", 0.5)
        began = time.monotonic()
        with pytest.raises(StateError):
            state.registry.workers()
        assert time.monotonic() - began < 30  # and not for as long as the lock is held
        other.rollback()
        assert state.registry.workers() == ()


def test_a_file_that_another_program_keeps_to_itself_is_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "hall.db")
    open_state(path, create=True).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("wcp_route.storage.database.WAIT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(StateError, match=r"in use|locked"):
        open_state(path)
    assert time.monotonic() - began < 8  # one wait or two, and not one for each try
    other.close()
