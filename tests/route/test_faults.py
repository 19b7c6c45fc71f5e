"""A ledger and a Hall when others hold locks, hang, die or lie in the way: every wait ends, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event as sql_event

from tests.drawn import PROFILE
from tests.route import killed_writer
from tests.route.state_worlds import START_MS, a_hold, a_record, some_evidence
from tests.route.test_databases import KEYS, ROOT, SIGNER, Place, place
from tests.route.test_ledger_behaviour import REDEEMERS, WORKER, approved, run_python, wanted
from tests.route.worlds import World, a_request
from wcp_attest.base.errors import Error
from wcp_route.domain.codes import Code
from wcp_route.hall import Services
from wcp_route.storage import database, ledger
from wcp_route.storage.ledger_state import event
from wcp_route.storage.past import past_decision
from wcp_route.storage.receipts import ReceiptError, find, verify
from wcp_route.storage.receipts.receipt import MAX_BATCH
from wcp_route.storage.state import open_state
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wcp_route.domain.decision import Evidence, RouteDecision
    from wcp_route.storage.receipts.writer import Submitted

__all__ = ["place"]  # the fixture: each database

SECONDS = 1.0  # for a decision
SOON = 4.5  # at the latest by then, on a busy machine; the ledger's own wait is 5


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the one write lock, as a stuck process does."""
    if place.server is None:
        connection = sqlite3.connect(place.address, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()
        return
    import psycopg

    with psycopg.connect(place.server.address(place.name)) as other:
        other.execute(f"SELECT pg_advisory_xact_lock{database.WRITER_LOCK}".encode())
        yield


# One deadline


def test_six_callers_before_a_locked_database_are_answered_in_time(place: Place, tmp_path: Path) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        services = Services(receipts=state.ledger, approvals=state.approvals)
        hall = world.hall(services=services, decision_seconds=SECONDS)
        assert hall.route(a_request()).denied is False
        made: list[tuple[float, Code | None]] = []

        def ask() -> None:
            began = time.monotonic()
            code = hall.route(a_request()).code
            made.append((time.monotonic() - began, code))

        with locked(place):
            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert {code for _, code in made} <= {Code.RECEIPT_UNAVAILABLE, Code.INTERNAL_ERROR}
        assert max(took for took, _ in made) < SOON
        deadline = time.monotonic() + 30
        while hall.route(a_request()).denied:  # what was given up ends by itself
            assert time.monotonic() < deadline
    assert verify(place.address, keys=KEYS).signed


class Hanging:
    """A store and a sink of others that never return."""

    durable = signed = True

    def __init__(self, *, at_once: bool = True) -> None:
        self.never, self.at_once = threading.Event(), at_once

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = 5.0) -> Any:
        del evidence, seconds
        if self.at_once:
            self.never.wait()
        return self

    append = submit

    def wait(self) -> None:
        self.never.wait()

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        del decision, elapsed_ns
        self.never.wait()

    def close(self) -> None:
        self.never.set()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_store_of_others_that_hangs_is_a_denial_in_time(at_once: bool, world: World) -> None:
    store: Any = Hanging(at_once=at_once)
    hall = world.hall(services=Services(receipts=store), decision_seconds=SECONDS)
    began = time.monotonic()
    assert hall.route(a_request()).code == Code.RECEIPT_UNAVAILABLE
    assert time.monotonic() - began < SOON
    store.close()


def test_a_sink_that_hangs_holds_no_decision_up_and_uses_up_no_policy_gate(world: World) -> None:
    sink = Hanging()
    hall = world.hall(services=Services(events=sink), decision_seconds=SECONDS, callback_seconds=0.01)
    began = time.monotonic()
    assert [hall.route(a_request()).denied for _ in range(40)] == [False] * 40
    assert time.monotonic() - began < 10 * SOON
    sink.close()


# The writer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_thread_that_a_bug_ends_leaves_nobody_waiting(place: Place) -> None:
    class Ending:
        public, key_id, ends = SIGNER.public, SIGNER.key_id, False

        def sign(self, statement: bytes) -> bytes:
            if self.ends:
                raise SystemExit
            return SIGNER.sign(statement)

    signer = Ending()
    with open_state(place.address, signer=signer) as state:
        state.ledger.append([some_evidence(1)])
        signer.ends = True
        for _ in range(2):
            with pytest.raises(ReceiptError, match=r"stopped|closed|not durable"):
                state.ledger.append([some_evidence(2)])
    with open_state(place.address, signer=SIGNER) as state:  # another process goes on
        state.ledger.append([some_evidence(3)])
    assert not find(place.address, "corr-2")
    assert verify(place.address, keys=KEYS).receipts == 2


def test_more_streams_than_are_remembered_are_chained_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_HEADS", 10)
    with open_state(place.address, signer=SIGNER) as state:
        for number in range(3):
            state.ledger.append([some_evidence(number * 100 + one, stream=f"tenant-{one}") for one in range(40)])
            assert len(state.ledger._heads) <= 40
    found = verify(place.address, keys=KEYS)
    assert (found.receipts, found.streams) == (120, 40)


def test_a_change_of_the_registry_before_a_locked_database_is_an_error_and_changes_nothing(place: Place) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        failed: list[BaseException] = []

        def attempt(change: Any) -> None:
            try:
                change()
            except StateError as problem:
                failed.append(problem)

        changes = (
            lambda: state.registry.enroll(a_record("org.acme.second"), by="carol"),
            lambda: state.registry.withdraw(WORKER, by="carol"),
            lambda: state.registry.quarantine(WORKER, "by hand", by="carol", at_ms=START_MS),
            lambda: state.approvals.hold(a_hold()),
        )
        with locked(place):
            threads = [threading.Thread(target=attempt, args=(change,)) for change in changes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(failed) == 4
        assert all("locked" in str(one) or "in time" in str(one) for one in failed)
        state.ledger.append([some_evidence(9)])
        snapshot = state.registry.snapshot()
        assert (list(snapshot.workers), dict(snapshot.quarantined)) == ([WORKER], {})
        assert state.approvals.get("hold-1") is None
    assert verify(place.address, keys=KEYS).receipts == 2


def test_a_receipt_that_became_durable_too_late_is_corrected_and_its_grant_good_again(place: Place) -> None:
    """The commit itself takes too long: the caller has been told a denial, and the ledger says so afterwards."""
    from dataclasses import replace

    with open_state(place.address, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        grant = approved(state)
        slow, go_on = threading.Event(), threading.Event()

        def wait(_: object) -> None:
            if slow.is_set():
                slow.clear()
                go_on.wait(60)

        sql_event.listen(state.ledger.database._engine, "commit", wait)
        evidence = replace(some_evidence(1), redemption=wanted(state, grant), grant_id=grant)
        slow.set()
        with pytest.raises(ReceiptError, match="not written, or corrected"):
            state.ledger.append([evidence], seconds=0.5)
        go_on.set()
        state.ledger.append([some_evidence(2)])
        kinds = [one.to_dict().get("kind") for one in find(place.address, evidence.decision.decision_id)]
        assert sorted(map(str, kinds)) == ["None", "decision.corrected"]
        assert past_decision(state.ledger, evidence.decision.decision_id).corrected
        state.approvals.redeem(wanted(state, grant), use=True)  # it was never used for anything
    assert verify(place.address, keys=KEYS).signed


def test_a_change_that_became_durable_too_late_is_not_called_unwritten(place: Place) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        state.registry.quarantine(WORKER, "by hand", by="carol", at_ms=START_MS)
        slow, go_on = threading.Event(), threading.Event()

        def wait(_: object) -> None:
            if slow.is_set():
                slow.clear()
                assert go_on.wait(60)

        sql_event.listen(state.ledger.database._engine, "commit", wait)
        cleared = event("worker.cleared", at_ms=START_MS, by="carol", worker_id=WORKER, reason="")
        slow.set()
        with pytest.raises(ReceiptError, match="look whether it was made before you repeat it"):
            state.ledger.change(lambda _: [cleared], seconds=0.5)
        go_on.set()
        state.ledger.append([some_evidence(1)])
        assert not state.registry.snapshot().quarantined  # so the message must not say otherwise


def test_a_caller_whose_time_ends_during_the_correction_of_another_is_told_what_the_ledger_says(place: Place) -> None:
    """Both receipts are in one transaction; the correction of the first is another one, which is slow as well."""
    with open_state(place.address, signer=SIGNER) as state:
        reached, go_on = ([threading.Event() for _ in range(3)] for _ in range(2))
        commits = iter(range(3))

        def wait(_: object) -> None:
            number = next(commits, None) if threading.current_thread().name == "receipts" else None
            if number is not None:
                reached[number].set()
                assert go_on[number].wait(60)

        sql_event.listen(state.ledger.database._engine, "commit", wait)
        first = state.ledger.submit([some_evidence(1)], seconds=60)
        assert reached[0].wait(60)
        early = state.ledger.submit([some_evidence(2)], seconds=60)
        late = state.ledger.submit([some_evidence(3)], seconds=60)
        go_on[0].set()
        assert reached[1].wait(60)  # both of them
        early.groups[0][1].deadline = time.monotonic()
        assert early.problems()
        go_on[1].set()
        assert reached[2].wait(60)  # the correction of the early one
        late.groups[0][1].deadline = time.monotonic()
        told = late.problems()
        go_on[2].set()
        first.wait()
        state.ledger.append([some_evidence(4)])
    decisions = [some_evidence(number).decision.decision_id for number in (2, 3)]
    kinds = [[one.to_dict().get("kind") for one in find(place.address, name)] for name in decisions]
    corrected = ["decision.corrected" in each for each in kinds]
    assert corrected == [True, bool(told)], kinds
    assert verify(place.address, keys=KEYS).signed


def test_when_the_ledger_closes_between_two_receipts_of_a_caller_each_is_told_its_own_end(place: Place) -> None:
    from dataclasses import replace

    state = open_state(place.address, signer=SIGNER)
    state.registry.enroll(a_record(), by="carol")
    grant = approved(state)
    reached, go_on = threading.Event(), threading.Event()
    submitted: list[Submitted] = []

    def wait(_: object) -> None:
        if threading.current_thread().name == "receipts" and not reached.is_set():
            reached.set()
            assert go_on.wait(60)

    sql_event.listen(state.ledger.database._engine, "commit", wait)
    first = state.ledger.submit([some_evidence(1)], seconds=60)
    assert reached.wait(60)
    filling = state.ledger.submit([some_evidence(100 + one) for one in range(MAX_BATCH - 1)], seconds=60)
    second = replace(some_evidence(3), redemption=wanted(state, grant), grant_id=grant)
    both = [some_evidence(2), second]  # a transaction holds MAX_BATCH, so there is room for one of them

    caller = threading.Thread(target=lambda: submitted.append(state.ledger.submit(both, seconds=60)))
    caller.start()
    while state.ledger._writer._count < MAX_BATCH:
        time.sleep(0.001)
    closing = threading.Thread(target=state.close)
    closing.start()
    caller.join(60)
    go_on.set()
    closing.join(60)
    first.wait()
    filling.wait()
    assert [str(problem) for problem in submitted[0].problems().values()] == ["the receipt store is closed"]
    assert list(submitted[0].problems()) == [1]
    found = [find(place.address, one.decision.decision_id) for one in both]
    assert [len(each) for each in found] == [1, 0]
    assert verify(place.address, keys=KEYS).signed


def test_of_six_processes_with_one_grant_one_gets_through(place: Place) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        grants = [approved(state, number) for number in range(1, 11)]
    out, err = run_python(REDEEMERS, place.address, "6", *grants).communicate(timeout=120)
    said = [line.split() for line in out.splitlines()]
    assert len(said) == 6, err
    assert [sorted(each) for each in zip(*said, strict=True)] == [["late"] * 5 + ["mine"]] * len(grants)
    assert verify(place.address, keys=KEYS).signed


def test_a_kill_before_every_statement_loses_nothing_that_was_acknowledged(place: Place) -> None:
    """Before a push, each database is killed before every third statement, and each before others."""
    step = 1 if PROFILE == "nightly" else 3
    first = 1 if PROFILE == "nightly" else 1 + (place.server is not None) + place.pooled
    open_state(place.address, signer=SIGNER).close()
    done = subprocess.run(
        [sys.executable, killed_writer.__file__, place.address, str(first), str(step)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    *lines, last = done.stdout.splitlines()
    _, runs, status = last.split()
    assert (int(status), int(runs) > 20) == (0, True)  # the last run was a whole one
    assert verify(place.address, keys=KEYS).signed
    with open_state(place.address, signer=SIGNER) as state:
        now = state.ledger.state()
        for line in lines:
            run, step = map(int, line.split())
            worker = f"org.acme.w{run}"
            if step == 0:
                assert worker in now.workers
            if step == 1:
                assert len(find(place.address, f"corr-{run * 10 + 2}")) == 1
            if step == 4:
                assert worker in now.quarantined


# What may lie where a state file should


def other_version(path: Path) -> None:
    open_state(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO steps VALUES (99, 1)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: os.mkfifo(path, 0o600), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "symbolic link"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: (path.write_bytes(b"\x00\xff" * 5000), path.chmod(0o600)), "damaged or not a database"),
        (lambda path: (path.write_text("SQLite format 3\0" + "x" * 500), path.chmod(0o600)), "damaged|cannot be used"),
        (lambda path: (path.write_bytes(b""), path.chmod(0o644)), "open to other users"),
        (other_version, "has schema 99"),
    ],
)
def test_what_is_no_state_file_is_one_clear_error(make: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    make(path)
    for create in (False, True):
        with pytest.raises(StateError, match=said) as caught:
            open_state(str(path), create=create)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["postgresql://[", "mysql://x/y", "file://\0", "\0"])
def test_an_address_that_is_none_is_one_clear_error(address: str) -> None:
    with pytest.raises(Error) as caught:
        open_state(address, create=False)
    assert "\n" not in str(caught.value)
