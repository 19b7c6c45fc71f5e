"""What a Hall's state does when several want the same thing, when time passes, and when the disk is full."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings

from tests.drawn import examples
from tests.route.state_worlds import START_MS, a_hold, a_record, some_evidence
from tests.route.stores import MemoryReceipts
from tests.route.test_receipts_body import SCHEMA, as_value, evidence, spoilt
from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.domain.clock import LATEST_MS
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import DenyReason, Evidence, Redemption
from wcp_route.storage import approval_events
from wcp_route.storage import registry as registry_module
from wcp_route.storage.approvals import ApprovalError, ApprovalExpired, Approver
from wcp_route.storage.receipts import KeyFileSigner, ReceiptError, ReceiptsBroken, find, verify
from wcp_route.storage.receipts.body import draft
from wcp_route.storage.receipts.chain import Batch, BatchStatement, ChainRow, Tip, seal
from wcp_route.storage.receipts.check import Checker
from wcp_route.storage.receipts.receipt import MAX_RECEIPT_BYTES, Receipt, ReceiptHead, index_of
from wcp_route.storage.registry import RegistryError
from wcp_route.storage.state import State, open_state
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest.base.strictjson import JsonObject

ROOT = Path(__file__).parents[2]
SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
OTHER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
KEYS = [SIGNER.public]
WORKER, SECOND = "org.acme.summarizer", "org.acme.other"
NOW, END = START_MS + 1000, START_MS + 60_000


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hall.db")


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, path: str) -> Iterator[State]:
    with open_state(":memory:" if request.param == "memory" else path, signer=SIGNER) as made:
        made.registry.enroll(a_record(), by="carol")
        made.registry.enroll(a_record(SECOND), by="carol")
        yield made


def wanted(state: State, grant: str, number: int = 1, *, at_ms: int = NOW, worker_id: str = WORKER) -> Redemption:
    hold = state.approvals.get(f"hold-{number}")
    assert hold is not None
    return Redemption(
        grant_id=grant,
        input_hash=hold.input_hash,
        worker_id=worker_id,
        rule_id=hold.rule_id,
        rules_digest=hold.rules_digest,
        manifest_sha256=hold.manifest_sha256,
        level=None,
        at_ms=at_ms,
    )


def approved(state: State, number: int = 1, **changes: object) -> str:
    state.approvals.hold(a_hold(number, **changes))
    return state.approvals.resolve(f"hold-{number}", "approve", by="ada", at_ms=NOW).grant_id


def at_once(count: int, use: Callable[[int], object]) -> list[object]:
    """Let threads begin together; return what each got, or the error it met."""
    ready = threading.Barrier(count)

    def one(number: int) -> object:
        ready.wait(60)
        try:
            return use(number)
        except Error as problem:
            return problem

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# Grants


def test_of_four_requests_with_one_grant_one_gets_through(state: State) -> None:
    for number in range(1, 6):
        grant = approved(state, number)
        use = wanted(state, grant, number)
        found = at_once(4, lambda _, use=use: state.approvals.redeem(use, use=True))  # type: ignore[misc]
        assert sum(not isinstance(one, Error) for one in found) == 1
        assert sum(isinstance(one, ApprovalError) for one in found) == 3


def test_of_two_operators_who_answer_at_once_one_is_late(state: State) -> None:
    state.approvals.hold(a_hold(1))
    found = at_once(2, lambda number: state.approvals.resolve("hold-1", "approve", by=f"op-{number}", at_ms=NOW))
    assert sum(isinstance(one, ApprovalError) for one in found) == 1


# Processes that use the same grants, let off at once when each has opened the state: one line of answers for each.
REDEEMERS = """
import os, sys
from tests.route.test_ledger_behaviour import SIGNER, Error, open_state, wanted

address, processes, *grants = sys.argv[1:]
closed, start = os.pipe()
answers = []
for _ in range(int(processes)):
    out, into = os.pipe()
    if os.fork() == 0:
        os.close(start)
        said = []
        with open_state(address, signer=SIGNER) as state:
            os.write(into, b"ready\\n")
            os.read(closed, 1)
            for number, grant in enumerate(grants, 1):
                try:
                    state.approvals.redeem(wanted(state, grant, number), use=True)
                except Error:
                    said.append("late")
                else:
                    said.append("mine")
        os.write(into, " ".join(said).encode() + b"\\n")
        os._exit(0)
    os.close(into)
    answers.append(open(out))
assert [answer.readline() for answer in answers] == ["ready\\n"] * len(answers)
os.close(start)
for answer in answers:
    print(answer.readline(), end="")
"""


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_hold_and_its_grant_end_when_their_time_is_over(state: State) -> None:
    state.approvals.hold(a_hold(1))
    grant = approved(state, 2)
    assert [hold.pending_id for hold in state.approvals.pending(END - 1)] == ["hold-1"]
    assert state.approvals.pending(END) == ()
    for action in ("approve", "deny", "escalate"):
        with pytest.raises(ApprovalExpired):
            state.approvals.resolve("hold-1", action, by=Approver("ada", "incident_commander"), at_ms=END)
    for use in (False, True):
        with pytest.raises(ApprovalExpired):
            state.approvals.redeem(wanted(state, grant, 2, at_ms=END), use=use)
    state.approvals.redeem(wanted(state, grant, 2, at_ms=END - 1), use=True)


def test_escalation_climbs_to_the_top_and_no_further(state: State) -> None:
    state.approvals.hold(a_hold(level="advisory"))
    levels = [state.approvals.resolve("hold-1", "escalate", by="ada", at_ms=NOW).level for _ in range(3)]
    assert levels == ["gatekeeper", "executor", "incident_commander"]
    with pytest.raises(ApprovalError, match="no level above"):
        state.approvals.resolve("hold-1", "escalate", by="ada", at_ms=NOW)
    assert [hold.level for hold in state.approvals.pending(NOW)] == ["incident_commander"]
    with pytest.raises(ApprovalError, match="may approve up to"):
        state.approvals.resolve("hold-1", "approve", by=Approver("bea", "executor"), at_ms=NOW)
    done = state.approvals.resolve("hold-1", "approve", by=Approver("bea", "incident_commander"), at_ms=NOW)
    assert (done.level, done.grant_id) == ("incident_commander", "")


def test_holds_have_an_end_for_each_tenant_and_for_all(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval_events, "MAX_PENDING", 4)
    monkeypatch.setattr(approval_events, "MAX_PENDING_OF_TENANT", 3)
    for number in range(1, 4):
        state.approvals.hold(a_hold(number))
    with pytest.raises(ApprovalError, match="of this tenant"):
        state.approvals.hold(a_hold(4))
    state.approvals.hold(a_hold(5, tenant_id="globex"))
    with pytest.raises(ApprovalError, match="4 requests wait for a human already"):
        state.approvals.hold(a_hold(6, tenant_id="initech"))
    state.approvals.hold(a_hold(7, created_at_ms=END, expires_at_ms=END + 1000))  # the others have expired by then
    assert [hold.pending_id for hold in state.approvals.pending(END)] == ["hold-7"]


def test_a_hold_that_is_too_large_is_refused_and_leaves_nothing(state: State) -> None:
    with pytest.raises(Error, match="bytes"):
        state.approvals.hold(a_hold(reason="x" * (MAX_RECEIPT_BYTES + 1)))
    assert state.approvals.get("hold-1") is None
    state.approvals.hold(a_hold())


def test_what_is_not_there_cannot_be_answered(state: State) -> None:
    with pytest.raises(ApprovalError, match="no hold"):
        state.approvals.resolve("hold-1", "approve", by="ada", at_ms=NOW)
    state.approvals.hold(a_hold())
    with pytest.raises(ApprovalError, match="already"):
        state.approvals.hold(a_hold(1, input_hash="sha256:" + "0" * 64))
    with pytest.raises(ConfigError, match="no answer"):
        state.approvals.resolve("hold-1", "Approve", by="ada", at_ms=NOW)  # type: ignore[arg-type]
    assert state.approvals.state("hold-1") == "pending"


def cancel(state: State) -> None:
    assert state.approvals.cancel_for(WORKER, by="hall", at_ms=NOW) == 2
    assert state.approvals.cancel_for(WORKER, by="hall", at_ms=NOW) == 0


def quarantine(state: State) -> None:
    state.registry.quarantine(WORKER, "DENY_WORKER_TAMPERED", by="hall", at_ms=NOW)


def enroll_again(state: State) -> None:
    state.registry.enroll(a_record(), replace=True, by="carol", at_ms=NOW)


@pytest.mark.parametrize("end", [cancel, quarantine, enroll_again])
def test_a_ban_quarantine_or_enrolment_ends_holds_and_grants_of_its_worker_only(
    state: State, end: Callable[[State], None]
) -> None:
    state.approvals.hold(a_hold(1))
    grant = approved(state, 2)
    other = approved(state, 3, worker_id=SECOND)
    used = wanted(state, approved(state, 4), 4)
    state.approvals.redeem(used, use=True)
    end(state)
    found = [state.approvals.state(f"hold-{number}") for number in range(1, 5)]
    assert found == ["cancelled", "cancelled", "approved", "redeemed"]
    with pytest.raises(ApprovalError, match="not good"):
        state.approvals.redeem(wanted(state, grant, 2), use=True)
    with pytest.raises(ApprovalError, match="cancelled already"):
        state.approvals.resolve("hold-1", "approve", by="ada", at_ms=NOW)
    state.approvals.redeem(wanted(state, other, 3, worker_id=SECOND), use=True)


def test_every_step_of_a_hold_leaves_a_receipt_without_the_grant(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        grant = approved(state, 1)
        state.approvals.redeem(wanted(state, grant), use=True)
        bodies = [row.body for row in rows_of(state)]
    kinds = [json.loads(body)["kind"] for body in bodies]
    assert kinds == ["worker.enrolled", "approval.held", "approval.approved", "approval.redeemed"]
    whole = b"".join(bodies) + b"".join(one.read_bytes() for one in Path(path).parent.iterdir())
    assert grant.encode() not in whole
    assert sha256(grant.encode()).hexdigest().encode() in whole


# The registry


def test_workers_have_an_end(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_WORKERS", 2)
    state.registry.enroll(a_record(), replace=True)
    with pytest.raises(RegistryError, match="takes no more"):
        state.registry.enroll(a_record("org.globex.third"))
    assert len(state.registry.workers()) == 2


def test_a_change_by_another_process_is_seen_by_the_next_decision(path: str) -> None:
    code = (
        "import sys; from tests.route.test_ledger_behaviour import *\n"
        "with open_state(sys.argv[1], signer=SIGNER) as s:\n"
        "    s.registry.quarantine(WORKER, 'seen elsewhere', by='ada', at_ms=NOW)"
    )
    with open_state(path, signer=SIGNER) as state:
        state.registry.enroll(a_record())
        assert not state.registry.snapshot().quarantined
        process = run_python(code, path)
        assert process.communicate(timeout=60)[1] == ""
        assert state.registry.snapshot().quarantined[WORKER].reason == "seen elsewhere"


def test_a_locked_file_is_one_clear_error_for_changes_and_none_for_decisions(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.registry.enroll(a_record())
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match=r"locked by another process|not durable in time"):
            state.ledger.append([some_evidence(1)], seconds=0.2)
        assert list(state.registry.snapshot().workers) == [WORKER]
        blocker.execute("ROLLBACK")
        blocker.close()
        state.ledger.append([some_evidence(2)])
    assert not find(path, "corr-1")
    assert len(find(path, "corr-2")) == 1
    assert verify(path, keys=KEYS).receipts == 2


# Receipts


def rows_of(state: State) -> list[ChainRow]:
    from wcp_route.storage.receipts.read import _rows

    with state.ledger.database.reading() as connection:
        return list(_rows(connection))


def two_receipts() -> tuple[list[ChainRow], list[Batch]]:
    memory = MemoryReceipts(signer=SIGNER, clock=lambda: START_MS)
    memory.append([some_evidence(1)])
    memory.append([some_evidence(2)])
    return memory.rows, memory.batches


def checked(rows: list[ChainRow], batches: list[Batch]) -> ReceiptsBroken:
    checker, left = Checker(KEYS), iter(rows)
    try:
        for batch in batches:
            checker.check(batch, left)
        checker.finish(next(left, None))
    except ReceiptsBroken as problem:
        return problem
    raise AssertionError("nothing was found")


def test_a_fork_is_found() -> None:
    """Two receipts follow the same one, sealed by the rightful key: only the chain can tell."""
    memory = MemoryReceipts(signer=SIGNER, clock=lambda: START_MS)
    memory.append([some_evidence(1), some_evidence(2)])
    (first, second), (batch,) = memory.rows, memory.batches
    fields = parse_canonical(second.body, what="body", max_bytes=MAX_RECEIPT_BYTES)
    assert isinstance(fields, dict)
    body = canonical_json({**fields, "correlation_id": "corr-3"})
    digest = sha256(body).hexdigest()
    statement = BatchStatement.from_bytes(batch.statement)
    end = Tip(2, 1, sha256(batch.statement).hexdigest(), statement.state)
    forged, _ = seal([digest], end, at_ms=START_MS, signer=SIGNER, state=end.state)
    row = ChainRow(3, "acme", 2, digest, body, index_of(json.loads(body)))
    problem = checked([first, second, row], [batch, forged])
    assert (problem.kind, problem.position, problem.stream, problem.seq) == ("forked", 3, "acme", 2)


def test_the_database_itself_refuses_a_fork(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(receipts)")]
    copied = ", ".join("9" if name == "position" else name for name in columns)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"INSERT INTO receipts SELECT {copied} FROM receipts")
    connection.close()


def test_a_rotated_key_needs_both(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    with pytest.raises(StateError, match="another key"):
        open_state(path, signer=OTHER)
    with open_state(path, signer=OTHER, keys=KEYS) as state:
        state.ledger.append([some_evidence(2)])
    assert verify(path, keys=[SIGNER.public, OTHER.public]).receipts == 2
    for key, position in ((SIGNER, 2), (OTHER, 1)):
        with pytest.raises(ReceiptsBroken) as caught:
            verify(path, keys=[key.public])
        assert (caught.value.kind, caught.value.position) == ("signature", position)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "wcp.receipt-batch.v1"},
        {"spec_version": "9"},
        {"batch": True},
        {"batch": "1"},
        {"first_position": 1.5},
        {"hashes": "ab"},
        {"hashes": [1]},
        {"prev_batch_hash": 1},
        {"state_seq": "7"},
        {"state_seq": True},
        {"state_hash": 7},
        {"extra": 1},
    ],
)
def test_a_statement_has_one_shape(change: JsonObject) -> None:
    _, (batch, _) = two_receipts()
    fields = parse_canonical(batch.statement, what="statement", max_bytes=MAX_RECEIPT_BYTES)
    assert isinstance(fields, dict)
    with pytest.raises(ConfigError, match="batch statement"):
        BatchStatement.from_bytes(canonical_json(fields | change))
    for name in fields:
        with pytest.raises(ConfigError, match="batch statement"):
            BatchStatement.from_bytes(canonical_json({key: value for key, value in fields.items() if key != name}))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"batch": 7}, "deleted"),
        ({"batch": 1}, "deleted"),
        ({"first_position": 1}, "edited"),
        ({"first_position": 3}, "edited"),
        ({"prev_batch_hash": None}, "edited"),
        ({"prev_batch_hash": "sha256:" + "0" * 64}, "edited"),
        ({"hashes": []}, "edited"),
    ],
)
def test_each_field_of_a_statement_is_checked_even_when_it_is_signed(change: JsonObject, kind: str) -> None:
    rows, batches = two_receipts()
    fields = parse_canonical(batches[1].statement, what="statement", max_bytes=MAX_RECEIPT_BYTES)
    assert isinstance(fields, dict)
    statement = canonical_json(fields | change)
    problem = checked(rows, [batches[0], Batch(2, statement, SIGNER.key_id, SIGNER.sign(statement))])
    assert (problem.kind, problem.position) == (kind, 2)


@pytest.mark.parametrize("change", [{"seq": 1}, {"seq": 3}, {"stream": "globex"}, {"hash": "0" * 64}])
def test_each_column_must_repeat_the_body(change: dict[str, Any]) -> None:
    rows, batches = two_receipts()
    problem = checked([rows[0], rows[1]._replace(**change)], batches)
    assert (problem.kind, problem.position) == ("edited", 2)


@given(evidence)
@settings(max_examples=examples(100))
def test_a_body_is_what_the_reference_library_writes_and_its_schema_says(one: Evidence) -> None:
    for head in (ReceiptHead(), ReceiptHead(7, "ab" * 32)):
        body = draft(one).body(head)
        fields = parse_canonical(body, what="body", max_bytes=MAX_RECEIPT_BYTES)
        assert isinstance(fields, dict)
        assert (fields["seq"], fields["prev_receipt_hash"]) == (
            head.seq + 1,
            f"sha256:{head.hash}" if head.seq else None,
        )
        assert body == rfc8785.dumps(as_value(one, fields))
    jsonschema.validate(Receipt(1, one.stream, 8, "0" * 64, body).to_dict(), SCHEMA)


def test_the_schema_refuses_what_is_no_receipt() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = Receipt(1, "acme", 1, "0" * 64, draft(some_evidence()).body(ReceiptHead())).to_dict()
    jsonschema.validate(good, SCHEMA)
    for name in good:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in good.items() if key != name}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "extra": 1}, SCHEMA)


def test_a_grant_is_kept_only_as_its_hash() -> None:
    secret = "a-grant-that-must-not-leak"
    body = draft(replace(some_evidence(), grant_id=secret)).body(ReceiptHead())
    assert secret.encode() not in body
    assert json.loads(body)["grant_hash"] == "sha256:" + sha256(secret.encode()).hexdigest()


@pytest.mark.parametrize(
    "bad",
    [
        spoilt(correlation_id="\ud800"),
        spoilt(correlation_id="x" * MAX_RECEIPT_BYTES),
        spoilt(decided_at_ms=-1),
        spoilt(approval_expires_at_ms=LATEST_MS + 1),
        spoilt(reason=DenyReason(Code.INVALID_INPUT, "", (("n", float("nan")),))),
    ],
    ids=["surrogate", "large", "early", "late", "nan"],
)
def test_what_cannot_be_written_fails_alone_and_leaves_no_gap(bad: Evidence) -> None:
    receipts = MemoryReceipts()
    receipts.append([some_evidence(1)])
    with pytest.raises(ReceiptError):
        receipts.append([some_evidence(2), bad])
    receipts.append([some_evidence(3)])
    assert [row.seq for row in receipts.rows] == [1, 2, 3]


# The writer


FILL = """
import resource, signal, sys
from tests.route.test_ledger_behaviour import *

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = open_state(sys.argv[1], signer=SIGNER)
written = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
try:
    for number in range(1000):
        state.ledger.append([some_evidence(number)])
        written += 1
except ReceiptError as problem:
    print(problem, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
state.ledger.append([some_evidence(1001)])
state.close()
print(written)
"""


def test_a_full_disk_acknowledges_nothing_and_leaves_the_chain_whole(path: str) -> None:
    process = run_python(FILL, path)
    said, problem = process.communicate(timeout=60)
    assert process.returncode == 0, problem
    written = int(said)
    assert problem.count("\n") == 1
    assert "state `" in problem
    assert 1 < written < 1000
    assert len(find(path, f"corr-{written - 1}")) == 1
    assert len(find(path, "corr-1001")) == 1
    assert verify(path, keys=KEYS).receipts == written + 1


def test_eight_threads_may_make_one_file_at_once(path: str) -> None:
    found = at_once(8, lambda _: open_state(path, signer=SIGNER))
    states = [one for one in found if isinstance(one, State)]
    assert len(states) == 8, found
    answers = at_once(8, lambda number: states[number].ledger.append([some_evidence(number)]))
    for one in states:
        one.close()
    assert answers == [None] * 8
    assert verify(path, keys=KEYS).receipts == 8


def test_nothing_is_added_to_a_signed_ledger_without_its_key(path: str) -> None:
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(1)])
    with pytest.raises(StateError, match="are signed; open it with"):
        open_state(path)
    assert verify(path, keys=KEYS).receipts == 1
