"""Two registries, one behaviour: frozen snapshots, clean replacement, quarantine that only an operator ends."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.drawn import examples
from tests.route.state_worlds import START_MS, a_record, some_evidence
from tests.route.stores import MemoryRegistry, SqliteRegistry
from wcp_route.domain.values import Quarantine, RegistrySnapshot
from wcp_route.storage.registry import RegistryError
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
AnyRegistry = MemoryRegistry | SqliteRegistry
ACME, GLOBEX = "org.acme.summarizer", "org.globex.summarizer"


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyRegistry]:
    made: AnyRegistry = MemoryRegistry() if request.param == "memory" else SqliteRegistry(str(tmp_path / "hall.db"))
    with made:
        yield made


def test_an_empty_registry_knows_nobody(registry: AnyRegistry) -> None:
    assert registry.snapshot() == RegistrySnapshot(0, {}, {}, {}, frozenset())
    assert registry.workers() == ()
    assert registry.lookup(ACME) is None
    assert registry.worker_ids("wrk.doc.summarizer") == ()
    assert registry.controls_present() == registry.controls_present(ACME) == frozenset()


def test_a_record_comes_back_as_it_was(registry: AnyRegistry) -> None:
    record = a_record(ACME, package_root="/srv/workers/acme")
    registry.enroll(record)
    assert registry.lookup(ACME) == record
    assert registry.workers() == (record,)


def test_workers_are_found_by_species_and_capability_in_order(registry: AnyRegistry) -> None:
    for worker_id in (GLOBEX, ACME):
        registry.enroll(a_record(worker_id))
    registry.enroll(a_record("org.acme.other", worker_species_id="wrk.doc.other", capabilities=("cap.doc.other",)))
    assert registry.worker_ids("wrk.doc.summarizer") == (ACME, GLOBEX)
    assert [one.worker_id for one in registry.workers_for_capability("cap.doc.summarize")] == [ACME, GLOBEX]
    assert registry.workers_for_capability("wrk.doc.summarizer") == ()
    assert [one.worker_id for one in registry.snapshot().species["wrk.doc.other"]] == ["org.acme.other"]


def test_replacing_leaves_nothing_of_the_old_record(registry: AnyRegistry) -> None:
    old = a_record(ACME, currently_implements=("ctrl.a", "ctrl.b"), package_root="/old")
    registry.enroll(old)
    new = a_record(ACME, worker_species_id="wrk.doc.other", capabilities=("cap.doc.other",), currently_implements=())
    with pytest.raises(RegistryError, match="enrolled already"):
        registry.enroll(new)
    assert registry.lookup(ACME) == old
    registry.enroll(new, replace=True)
    seen = registry.snapshot()
    assert registry.lookup(ACME) == new
    assert seen.species == {"wrk.doc.other": (new,)}
    assert seen.implemented == frozenset()
    assert registry.workers_for_capability("cap.doc.summarize") == ()


def test_withdrawing_leaves_nothing(registry: AnyRegistry) -> None:
    registry.enroll(a_record(ACME))
    assert registry.withdraw(ACME)
    assert not registry.withdraw(ACME)
    assert replace(registry.snapshot(), version=0) == RegistrySnapshot(0, {}, {}, {}, frozenset())


def test_controls_are_a_workers_own_or_everybodys(registry: AnyRegistry) -> None:
    registry.enroll(a_record(ACME, currently_implements=("ctrl.a", "ctrl.b")))
    registry.enroll(a_record(GLOBEX, currently_implements=("ctrl.b", "ctrl.c")))
    assert registry.controls_present() == {"ctrl.a", "ctrl.b", "ctrl.c"}
    assert registry.controls_present(ACME) == {"ctrl.a", "ctrl.b"}
    registry.quarantine(ACME, "DENY_WORKER_TAMPERED", by="hall", at_ms=START_MS)
    assert registry.controls_present() == {"ctrl.b", "ctrl.c"}


def test_a_quarantine_ends_only_when_it_is_cleared(registry: AnyRegistry) -> None:
    registry.enroll(a_record(ACME))
    registry.quarantine(ACME, "DENY_WORKER_TAMPERED", by="hall", at_ms=START_MS)
    registry.quarantine(ACME, "another reason", by="somebody", at_ms=START_MS + 1)
    barred = {ACME: Quarantine(ACME, "DENY_WORKER_TAMPERED", "hall", START_MS)}
    assert registry.snapshot().quarantined == barred
    registry.enroll(a_record(ACME, owner="new"), replace=True)
    registry.withdraw(ACME)
    registry.enroll(a_record(ACME))
    assert registry.snapshot().quarantined == barred
    assert registry.clear(ACME, by="ada", at_ms=START_MS + 2)
    assert not registry.clear(ACME, by="ada", at_ms=START_MS + 3)
    assert registry.snapshot().quarantined == {}


def test_a_worker_can_be_barred_before_it_is_enrolled(registry: AnyRegistry) -> None:
    registry.quarantine(ACME, "x" * 10_000, by="ada", at_ms=START_MS)
    registry.enroll(a_record(ACME))
    assert len(registry.snapshot().quarantined[ACME].reason) == 500


def test_the_version_grows_with_every_change_and_with_nothing_else(registry: AnyRegistry) -> None:
    versions = [registry.snapshot().version]
    for change in (
        lambda: registry.enroll(a_record(ACME)),
        lambda: registry.enroll(a_record(ACME), replace=True),
        lambda: registry.quarantine(ACME, "why", by="hall", at_ms=START_MS),
        lambda: registry.clear(ACME, by="ada", at_ms=START_MS),
        lambda: registry.withdraw(ACME),
    ):
        change()
        versions.append(registry.snapshot().version)
    registry.withdraw(ACME)
    registry.clear(ACME, by="ada", at_ms=START_MS)
    assert versions == sorted(set(versions))
    assert registry.snapshot().version == versions[-1]


def test_a_snapshot_is_frozen_and_stays_what_it_was(registry: AnyRegistry) -> None:
    registry.enroll(a_record(ACME))
    before = registry.snapshot()
    assert registry.snapshot() is before
    registry.withdraw(ACME)
    assert list(before.workers) == [ACME]
    for mapping in (before.workers, before.species, before.quarantined):
        with pytest.raises(TypeError):
            mapping[GLOBEX] = 1  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        before.version = 7  # type: ignore[misc]


def test_many_threads_leave_it_whole(registry: AnyRegistry) -> None:
    stop = threading.Event()
    odd: list[RegistrySnapshot] = []

    def watch() -> None:
        while not stop.is_set():
            seen = registry.snapshot()
            if sorted(record.worker_id for group in seen.species.values() for record in group) != sorted(seen.workers):
                odd.append(seen)

    def change(number: int) -> None:
        for index in range(10):
            registry.enroll(a_record(f"org.t{number}.w{index}"))
            registry.quarantine(f"org.t{number}.w{index}", "why", by="hall", at_ms=START_MS)
            if index % 2:
                registry.withdraw(f"org.t{number}.w{index}")

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    changers = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in (*watchers, *changers):
        thread.start()
    for thread in changers:
        thread.join()
    stop.set()
    for thread in watchers:
        thread.join()
    assert not odd
    assert (len(registry.workers()), len(registry.snapshot().quarantined)) == (20, 40)


class Twins(RuleBasedStateMachine):
    """Whatever is done to both registries, they say the same."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryRegistry()
        self.sqlite = SqliteRegistry(f"{self.folder.name}/hall.db")
        self.other = SqliteRegistry(f"{self.folder.name}/hall.db")  # as another process would have it open
        self.known: set[str] = set()

    ids = st.sampled_from([ACME, GLOBEX, "org.acme.third"])
    controls = st.sets(st.sampled_from(["ctrl.a", "ctrl.b", "ctrl.c"])).map(sorted).map(tuple)

    @rule(worker_id=ids, controls=controls, species=st.sampled_from(["wrk.doc.summarizer", "wrk.doc.other"]))
    def enroll(self, worker_id: str, controls: tuple[str, ...], species: str) -> None:
        record = a_record(worker_id, currently_implements=controls, worker_species_id=species)
        for registry in (self.memory, self.sqlite):
            registry.enroll(record, replace=True)
        self.known.add(worker_id)

    @rule(worker_id=ids)
    def withdraw(self, worker_id: str) -> None:
        assert self.memory.withdraw(worker_id) == self.sqlite.withdraw(worker_id) == (worker_id in self.known)
        self.known.discard(worker_id)

    @rule(worker_id=ids, at=st.integers(0, 100))
    def quarantine(self, worker_id: str, at: int) -> None:
        for registry in (self.memory, self.sqlite):
            registry.quarantine(worker_id, f"reason {at}", by="hall", at_ms=at)

    @precondition(lambda self: self.memory.snapshot().quarantined)
    @rule(worker_id=ids)
    def clear(self, worker_id: str) -> None:
        assert self.memory.clear(worker_id, by="a", at_ms=1) == self.sqlite.clear(worker_id, by="a", at_ms=1)

    @invariant()
    def they_say_the_same(self) -> None:
        assert self.memory.snapshot() == self.sqlite.snapshot() == self.other.snapshot()

    def teardown(self) -> None:
        self.sqlite.close()
        self.other.close()
        self.folder.cleanup()


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=examples(25), stateful_step_count=15)


# Only in a file


def test_receipts_in_the_same_file_do_not_make_new_snapshots(tmp_path: Path) -> None:
    with open_state(str(tmp_path / "hall.db")) as state:
        state.registry.enroll(a_record(ACME))
        before = state.registry.snapshot()
        state.receipts.append([some_evidence()])
        assert state.registry.snapshot() is before


def test_it_is_there_again_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with SqliteRegistry(path) as registry:
        registry.enroll(a_record(ACME, package_root="/srv/acme"))
        registry.quarantine(ACME, "why", by="hall", at_ms=START_MS)
        before = registry.snapshot()
    with SqliteRegistry(path) as registry:
        assert registry.snapshot() == before
