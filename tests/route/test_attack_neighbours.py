"""Attacks beside those that were once found: the same kind of fault, at a place where nobody reported it."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as sql_event

from tests.limits import few_descriptors
from tests.route.state_worlds import START_MS, a_hold, some_evidence
from tests.route.state_worlds import a_record as a_worker
from tests.route.stores import MemoryReceipts
from tests.route.test_hall_attacks import NEEDS_AUDIT, PROVIDER, a_provider
from tests.route.test_ledger import change
from tests.route.test_ledger_behaviour import NOW, SIGNER, approved, wanted
from tests.route.worlds import WORKER, Counting, World, a_record, a_request, a_rule, tamper, trust
from wcp_attest import ConfigError, build_manifest, sign
from wcp_attest.signing.key import generate
from wcp_route.compat import pyhall
from wcp_route.config import Ceiling, HallConfig
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.record_model import read_record
from wcp_route.hall import Hall, Services
from wcp_route.rules.rule_tests import read_goldens, write_goldens
from wcp_route.storage.approvals import ApprovalDenied
from wcp_route.storage.receipts import KeyFileSigner, ReceiptError, find, head, last, verify
from wcp_route.storage.retention import backup, prune
from wcp_route.storage.state import open_state
from wcp_route.storage.state_errors import ReceiptsBroken, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wcp_route.storage.state import State

HELD = a_rule(escalation={"human_required_default": True})


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hall.db")


@pytest.fixture
def kept(path: str, tmp_path: Path) -> Iterator[tuple[State, World]]:
    """A state in a file with one enrolled worker."""
    with open_state(path, signer=SIGNER) as state:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        yield state, world


def services_of(state: State, world: World) -> Services:
    return Services(approvals=state.approvals, receipts=state.ledger, clock=world.clock)


# Who provides controls


@pytest.mark.parametrize("fault", ["the package of another worker", "withdrawn", "an empty root"])
def test_a_provider_that_is_not_what_it_says_provides_no_control(fault: str, world: World, tmp_path: Path) -> None:
    root = world.package() if fault == "the package of another worker" else world.package(PROVIDER, "wrk.obs.audit")
    if fault == "an empty root":
        root = str(tmp_path / "empty")
        os.mkdir(root)
    world.registry.enroll(replace(a_provider(), package_root=root))
    if fault == "withdrawn":
        world.registry.withdraw(PROVIDER)
    evidence = world.hall(NEEDS_AUDIT).decide(a_request())
    assert (evidence.decision.code, evidence.controls_verified) == (Code.MISSING_REQUIRED_CONTROLS, ())


# No input suppresses a receipt


@pytest.mark.parametrize(
    "hostile",
    [
        a_request(correlation_id="\ud800"),
        a_request(tenant_id="t" * 100_000),
        a_request(request={"a": [[[[[[]]]]]] * 2000}),
        b'{"tenant_id":' + b"[" * 50_000,
        b"\xff\xfe" * 3000,
        None,
    ],
    ids=["surrogate", "long tenant", "wide payload", "deep text", "no utf-8", "null"],
)
def test_odd_input_has_a_receipt_and_costs_its_neighbours_none(hostile: Any, world: World) -> None:
    receipts = MemoryReceipts()
    hall = world.hall(services=Services(receipts=receipts, clock=world.clock, ids=Counting()))
    made = hall.route_many([a_request(), hostile, a_request()])
    assert [made[0].code, made[2].code] == [None, None]
    assert len(receipts.rows) == 1 + 3


# Accidents blame no worker


def test_a_process_out_of_descriptors_refuses_and_blames_no_worker(world: World) -> None:
    hall = world.hall()
    assert hall.route(a_request()).denied is False
    with few_descriptors(0):
        refused = hall.route(a_request())
    assert (refused.denied, refused.quarantined) == (True, False)
    assert hall.route(a_request()).denied is False


@pytest.mark.parametrize("half", ["an empty signature file", "half a manifest"])
def test_a_deployment_half_way_refuses_and_ends_by_itself(half: str, world: World) -> None:
    hall, root = world.hall(), world.package()
    place = os.path.join(root, "manifest.sig" if half == "an empty signature file" else "manifest.json")
    with open(place, "rb") as file:
        whole = file.read()
    with open(place, "wb") as file:
        file.write(b"" if half == "an empty signature file" else whole[: len(whole) // 2])
    refused = hall.route(a_request())
    with open(place, "wb") as file:
        file.write(whole)
    assert refused.denied
    if not refused.quarantined:  # half a manifest is another manifest than was signed, which a second reading confirms
        assert hall.route(a_request()).denied is False
    assert refused.quarantined == (refused.code == Code.WORKER_TAMPERED and half == "half a manifest")


# Sealed copies


@pytest.mark.parametrize("damage", ["a planted directory", "a missing file", "a planted link"])
def test_a_damaged_sealed_copy_is_made_anew(damage: str, world: World, tmp_path: Path) -> None:
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    first = hall.route(a_request())
    copy = first.package_path
    for folder in (copy, os.path.join(copy, "code")):
        os.chmod(folder, 0o700)
    if damage == "a planted directory":
        os.mkdir(os.path.join(copy, "planted"))
    elif damage == "a missing file":
        os.unlink(os.path.join(copy, "code", "bootstrap.py"))
    else:
        os.symlink("/etc/passwd", os.path.join(copy, "code", "planted"))
    world.clock.now_ms += 61_000
    again = hall.route(a_request())
    assert (again.denied, again.quarantined) == (False, False)
    assert sorted(os.listdir(again.package_path)) == sorted(
        name for name in os.listdir(world.package()) if not name.startswith("manifest.")
    )
    assert sorted(os.listdir(os.path.join(again.package_path, "code"))) == ["bootstrap.py", "worker_logic.py"]


# Evidence


@pytest.mark.parametrize("missing", ["durable", "signed"])
def test_a_guarded_hall_needs_receipts_that_are_signed_and_durable(missing: str, path: str, world: World) -> None:
    signer = None if missing == "signed" else SIGNER
    with (
        open_state(":memory:" if missing == "durable" else path, signer=signer) as state,
        pytest.raises(ConfigError, match="signed receipts in a state file"),
    ):
        Hall(
            {"rules": [a_rule()]},
            world.registry,
            trust(world.signer),
            HallConfig(env="prod"),
            services=Services(receipts=state.ledger),
        )


# Approvals


def grant_for(hall: Hall, state: State, world: World) -> str:
    pending = hall.route(a_request()).pending_approval_id
    return state.approvals.resolve(pending, "approve", by="ada", at_ms=world.clock.now_ms).grant_id


def new_rules(hall: Hall, world: World) -> None:
    del world
    hall.swap(rules={"rules": [HELD, a_rule("rule-2", match={"capability_id": "cap.other.thing"})]})


def new_release(hall: Hall, world: World) -> None:
    del hall
    root = world.package()
    with open(os.path.join(root, "requirements.lock"), "w", encoding="utf-8") as file:
        file.write("# another release\n")
    manifest = build_manifest(
        root, worker_id=WORKER, worker_species_id="wrk.doc.summarizer", worker_version="2.0.0", build_source="local"
    )
    sign(root, [world.signer], manifest=manifest)


def new_record(hall: Hall, world: World) -> None:
    del hall
    root = world.package()
    record = read_record(
        a_record(blast_radius={"data": 5, "network": 5, "financial": 5, "time": 5, "reversibility": 5})
    )
    world.registry.enroll(replace(record, package_root=root), replace=True)


@pytest.mark.parametrize("change_it", [new_rules, new_release, new_record])
def test_a_grant_does_not_outlive_what_was_approved(
    change_it: Callable[[Hall, World], None], kept: tuple[State, World]
) -> None:
    state, world = kept
    hall = world.hall(HELD, services=services_of(state, world))
    grant = grant_for(hall, state, world)
    change_it(hall, world)
    assert hall.route(a_request(), grant=grant).denied


def test_retries_of_a_held_request_make_one_hold(kept: tuple[State, World]) -> None:
    state, world = kept
    hall = world.hall(HELD, services=services_of(state, world))
    assert len({hall.route(a_request()).pending_approval_id for _ in range(50)}) == 1
    assert len(state.approvals.pending(world.clock.now_ms)) == 1


@pytest.mark.parametrize("planted", ["ALTER TABLE receipts ADD COLUMN note TEXT", "CREATE TABLE notes (x)"])
def test_a_column_or_table_too_many_is_refused_and_statistics_are_not(planted: str, path: str) -> None:
    open_state(path, signer=SIGNER).close()
    change(path, "ANALYZE")
    open_state(path, signer=SIGNER).close()
    change(path, planted)
    with pytest.raises(StateError, match="another schema"):
        open_state(path, signer=SIGNER)


# Signers


@pytest.mark.parametrize("made", [None, b"", b"\0" * 63, "x" * 64], ids=["none", "empty", "short", "text"])
def test_what_is_no_signature_acknowledges_nothing(made: Any, path: str) -> None:
    class Odd:
        public, key_id, broken = SIGNER.public, SIGNER.key_id, True

        def sign(self, statement: bytes) -> bytes:
            return made if self.broken else SIGNER.sign(statement)

    signer = Odd()
    with open_state(path, signer=signer) as state:
        with pytest.raises(ReceiptError, match="signature"):
            state.ledger.append([some_evidence(1)])
        signer.broken = False
        state.ledger.append([some_evidence(2)])
    assert verify(path, keys=[SIGNER.public]).receipts == 1


def test_a_signer_slower_than_the_deadline_leaves_no_receipt_that_says_otherwise(kept: tuple[State, World]) -> None:
    state, world = kept
    slow, go_on = threading.Event(), threading.Event()

    class Slow:
        public, key_id = SIGNER.public, SIGNER.key_id

        def sign(self, statement: bytes) -> bytes:
            if slow.is_set():
                go_on.wait(60)
            return SIGNER.sign(statement)

    path = state.ledger.database.name
    with open_state(path, signer=Slow()) as other:
        own = replace(world, registry=other.registry)
        hall = own.hall(HELD, services=services_of(other, world), decision_seconds=0.5)
        grant = grant_for(hall, other, world)
        slow.set()
        told = hall.route(a_request(), grant=grant)
        assert told.code == Code.RECEIPT_UNAVAILABLE
        slow.clear()
        go_on.set()
        deadline = time.monotonic() + 30
        while (used := hall.route(a_request(), grant=grant)).denied:  # the grant was used for nothing
            assert time.monotonic() < deadline
        written = [one.to_dict() for one in find(path, told.decision_id)]
        if any(one.get("kind") is None for one in written):
            assert any(one.get("kind") == "decision.corrected" for one in written)
        assert used.outcome == "DISPATCH"
    assert verify(path, keys=[SIGNER.public]).signed


# Deadlines and threads


class HangingApprovals:
    """A store of holds that never answers."""

    def __init__(self) -> None:
        self.never = threading.Event()

    def look(self, hold: Any) -> Any:
        self.never.wait()
        return hold, True

    hold = look

    def redeem(self, wanted: Any, *, use: bool) -> Any:
        del use
        self.never.wait()
        return wanted

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:
        del worker_id, by, at_ms
        self.never.wait()
        return 0


@pytest.mark.parametrize("grant", ["", "a grant"])
def test_approvals_that_hang_are_a_denial_in_time(grant: str, world: World) -> None:
    store = HangingApprovals()
    services = Services(approvals=store, clock=world.clock, ids=Counting())
    hall = world.hall(HELD, services=services, decision_seconds=0.5)
    began = time.monotonic()
    assert hall.route(a_request(), grant=grant).denied
    assert time.monotonic() - began < 10
    store.never.set()


def test_a_hall_that_nobody_holds_ends_its_threads(world: World) -> None:
    before = threading.active_count()
    for _ in range(20):
        assert (
            world.hall(HELD, services=Services(clock=world.clock, availability=lambda _: True))
            .route(a_request())
            .denied
        )
    gc.collect()
    deadline = time.monotonic() + 20
    while threading.active_count() > before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Names and retention


@pytest.mark.parametrize("name", ["hal.db", "org.acme.evil ", "org", "", "org.acme.\n", "../x"])
def test_what_is_no_worker_id_is_not_quarantined(name: str) -> None:
    with open_state() as state:
        with pytest.raises(ConfigError, match="no worker id"):
            state.registry.quarantine(name, "x", by="ada", at_ms=NOW)
        assert not state.registry.snapshot().quarantined


def test_grants_and_denials_outlive_pruning(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.registry.enroll(a_worker(), by="carol")
        end = now_ms() + 3_600_000
        grant = approved(state, 1, expires_at_ms=end)
        state.approvals.hold(a_hold(2, expires_at_ms=end))
        state.approvals.resolve("hold-2", "deny", by="ada", at_ms=START_MS + 2)
        assert prune(state.ledger, now_ms(), by="ada") > 0
    with open_state(path, signer=SIGNER) as state:
        state.approvals.redeem(wanted(state, grant), use=True)
        with pytest.raises(ApprovalDenied):
            state.approvals.hold(a_hold(2, pending_id="hold-9", expires_at_ms=end))
    assert verify(path, keys=[SIGNER.public]).signed


def test_a_state_that_was_removed_under_a_hall_dispatches_nothing(kept: tuple[State, World]) -> None:
    """A fresh file in the place of the old one has no quarantine: a running Hall must not go on from it."""
    state, world = kept
    hall = world.hall(services=services_of(state, world))
    assert hall.route(a_request()).denied is False
    path = state.ledger.database.name
    shutil.move(path, f"{path}.old")
    with open_state(path, signer=SIGNER) as fresh:
        fresh.registry.quarantine(WORKER, "x", by="ada", at_ms=NOW)
    made = hall.decide(a_request())
    assert made.decision.denied or find(f"{path}.old", made.decision.decision_id)  # its receipt is in its own ledger


# Receipts


def test_a_head_of_another_ledger_at_the_place_where_pruning_ended_is_refused(path: str) -> None:
    """The batch that the head is of is gone here, and the statement about where the receipts begin names it by hash."""
    heads = {}
    for place in (path, f"{path}.other"):
        with open_state(place, signer=SIGNER) as state:
            for number in range(2):
                state.ledger.append([some_evidence(number)])
            heads[place] = head(place)
            state.ledger.append([some_evidence(3)])
    with open_state(path, signer=SIGNER) as state:
        assert prune(state.ledger, now_ms(), by="ada") == 2  # the newest batch stays
    assert verify(path, keys=[SIGNER.public], head=heads[path]).anchored
    with pytest.raises(ReceiptsBroken, match="is not the one of the kept head"):
        verify(path, keys=[SIGNER.public], head=heads[f"{path}.other"])


def test_a_backup_of_a_damaged_state_names_it_and_leaves_no_copy(path: str, tmp_path: Path) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(number) for number in range(200)])
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b"\xff" * 40_000)
    with pytest.raises(StateError, match=r"hall\.db` is damaged"):
        backup(path, str(tmp_path / "copy.db"))
    assert os.listdir(tmp_path) == ["hall.db"]


def test_a_closed_hall_takes_no_other_rules(world: World) -> None:
    hall = world.hall()
    hall.close()
    with pytest.raises(ConfigError, match="closed"):
        hall.swap(rules={"rules": [a_rule("other")]})


def test_a_batch_of_a_key_that_is_not_given_names_the_key(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    other = KeyFileSigner.from_file_bytes(generate().to_pem(None))
    with pytest.raises(ReceiptsBroken, match=f"signed by the key {SIGNER.key_id[:16]}…, which is not given"):
        verify(path, keys=[other.public])


def test_an_export_that_cannot_be_brought_to_the_disk_keeps_every_receipt(path: str) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with open_state(path, signer=SIGNER) as state:
        for number in range(3):
            state.ledger.append([some_evidence(number)])
        with pytest.raises(OSError, match="No space left"):
            prune(state.ledger, now_ms(), by="ada", write=lambda _: None, written=full)
    assert verify(path, keys=[SIGNER.public]).receipts == 3


def test_a_mistake_of_one_caller_costs_nobody_else_a_receipt(path: str) -> None:
    """Changes and receipts that come at the same time share a transaction."""

    class Slow:
        public, key_id = SIGNER.public, SIGNER.key_id

        def sign(self, statement: bytes) -> bytes:
            time.sleep(0.05)  # the others gather meanwhile
            return SIGNER.sign(statement)

    failed: list[str] = []

    def mistaken() -> None:
        odd: Any = None
        with pytest.raises(StateError, match="nothing is written"):
            state.registry.quarantine(WORKER, odd, by="ada", at_ms=NOW)
        failed.append("as it should")

    with open_state(path, signer=Slow()) as state:
        others = [threading.Thread(target=state.ledger.append, args=([some_evidence(n)],)) for n in range(8)]
        others += [threading.Thread(target=mistaken) for _ in range(8)]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
    assert len(failed) == 8
    assert verify(path, keys=[SIGNER.public]).receipts == 8


@pytest.mark.parametrize(
    "named",
    [{"tenant": "eve"}, {"worker": "org.acme.none"}, {"code": "DENY_X"}, {"kind": "worker.enrolled"}, {"until_ms": 5},
     {"stream": "globex"}, {"name": "corr-1"}, {"name": "globex/1"}, {"name": f"sha256:{'a' * 64}"}],
)  # fmt: skip
def test_a_rare_receipt_is_looked_for_in_an_index_and_not_in_the_bodies(named: dict[str, Any], path: str) -> None:
    asked: list[tuple[str, Any]] = []

    def keep(*given: Any) -> None:
        if "FROM receipts" in given[2]:
            asked.append((given[2], given[3]))

    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1), some_evidence(2, stream="globex")])
    sql_event.listen(Engine, "before_cursor_execute", keep)
    try:
        found = find(path, **named) if "name" in named else last(path, 10, **named)
    finally:
        sql_event.remove(Engine, "before_cursor_execute", keep)
    assert len(found) == (1 if {"globex", "corr-1", "globex/1"} & {*named.values()} else 0)
    with closing(sqlite3.connect(path)) as connection:
        for statement, values in asked:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not [step for step in plan if step.startswith("SCAN receipts") and "COVERING" not in step], plan


def test_receipts_are_listed_by_their_time(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(number) for number in (3, 1, 2)])
    ids = [one.to_dict()["correlation_id"] for one in last(path, 2, tenant="acme")]
    assert ids == ["corr-3", "corr-2"]
    assert [one.to_dict()["correlation_id"] for one in last(path, 2)] == ["corr-2", "corr-1"]


@pytest.mark.parametrize("text", ["\ud800", "\0", "\ud800/1", "\0/1", ""])
def test_odd_text_finds_no_receipt_and_is_no_error(text: str, path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    assert find(path, text) == ()
    assert last(path, 9, worker=text) == last(path, 9, stream=text) == last(path, 9, kind=text) == ()


def test_a_principal_that_is_no_text_suppresses_no_receipt(kept: tuple[State, World]) -> None:
    state, world = kept
    made = world.hall(services=services_of(state, world)).decide(a_request(), principal="acme\ud800")
    assert made.decision.code == Code.UNKNOWN_TENANT
    (written,) = find(state.ledger.database, made.decision.decision_id)
    assert written.to_dict()["principal"] == "acme?"


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"unsafe_dispatch_workers_without_attestation": "false"},
        {"require_signatory": 1},
        {"attestation": "Always"},
        {"env": "Prod"},
        {"allowed_tenants": "acme"},
        {"controls_present": "ctrl.obs.audit-log"},
        {"callback_seconds": True},
        {"approval_seconds": 1.5},
        {"chain_thresholds": {"dev": float("nan")}},
        {"blast_thresholds": {"Dev": 10}},
        {"blast_thresholds": None},
        {"control_scopes": {"ctrl.obs.audit-log": "nobody"}},
        {"tenant_credentials": {"acme": "A" * 64}},
        {"ceilings": [{"envs": ("dev",)}]},
    ],
)
def test_settings_from_python_are_as_strict_as_those_of_a_file(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(ConfigError, match=name):
        HallConfig(**{"env": "dev", **settings})


@pytest.mark.parametrize(
    "ceiling",
    [
        {"envs": "dev,prod", "data_labels": ("INTERNAL",)},  # `in` would look for a part of the text
        {"envs": ("dev",), "data_labels": ("INTERNAL",), "secrets_access": "db-root"},
        {"envs": ("dev",), "data_labels": ("INTERNAL",), "network_egress": "all"},
    ],
)
def test_a_ceiling_from_python_holds_lists_of_words(ceiling: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Ceiling at"):
        Ceiling(**ceiling)


def test_a_list_given_for_a_ceiling_cannot_be_changed_later() -> None:
    tools: Any = ["read"]
    ceiling = Ceiling(envs=("dev",), data_labels=("INTERNAL",), tools=tools)
    config = HallConfig(env="dev", ceilings=(ceiling,))
    before = config.digest()
    tools.append("*")
    assert (config.ceilings[0].tools, config.digest()) == (("read",), before)


# The earlier SDK


def test_quarantine_outlives_a_call_of_the_earlier_sdk(world: World) -> None:
    """Each call of it makes a Hall of its own."""
    pyhall.configure(
        trust_policy=trust(world.signer), packages={WORKER: world.package()}, receipts=MemoryReceipts(signer=SIGNER)
    )
    registry = pyhall.Registry()
    registry.enroll(a_record())
    rules = pyhall.load_rules_from_dict({"rules": [a_rule()]})

    def code() -> object:
        made = pyhall.make_decision(a_request(), rules, set(), registry.worker_available)
        return made.deny_reason_if_denied["code"] if made.denied else None

    assert code() is None
    registry.store.quarantine(WORKER, "by an operator", by="ada", at_ms=NOW)
    assert code() == "DENY_WORKER_QUARANTINED"
    registry.store.clear(WORKER, by="ada", at_ms=NOW)
    assert code() is None
    tamper(world.package())
    assert code() == "DENY_WORKER_TAMPERED"
    assert WORKER in registry.store.snapshot().quarantined
    assert code() == "DENY_WORKER_QUARANTINED"


# Rule tests


def test_goldens_are_not_written_over_another_file(tmp_path: Path) -> None:
    for name, content in (("tests.json", '{"tests": []}'), ("notes.txt", "mine")):
        place = tmp_path / name
        place.write_text(content)
        with pytest.raises(ConfigError, match="is not a file of goldens"):
            write_goldens(str(place), {})
        assert place.read_text() == content


def test_goldens_that_name_a_test_twice_are_refused() -> None:
    twice = {"test_id": "t", "matched_rule_id": "rule-1"}
    with pytest.raises(ConfigError, match="two goldens have the same test_id"):
        read_goldens(json.dumps({"snapshots": [twice, {**twice, "matched_rule_id": "rule-2"}]}).encode())
