"""Attacks on the ledger: what somebody with the database changes is found, or is not taken for true."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.state_worlds import START_MS, a_hold, a_record, some_evidence
from wcp_route.domain.clock import now_ms
from wcp_route.storage.approvals import ApprovalDenied, ApprovalError, Approver
from wcp_route.storage.receipts import KeyFileSigner, ReceiptsBroken, find, head, verify
from wcp_route.storage.retention import backup, prune
from wcp_route.storage.state import State, open_state
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
WORKER = "org.acme.summarizer"


@pytest.fixture
def path(tmp_path: Path) -> str:
    made = str(tmp_path / "hall.db")
    with open_state(made, signer=SIGNER) as state:
        state.registry.enroll(a_record(), by="carol")
        state.approvals.hold(a_hold())
        state.ledger.append([some_evidence()])
        state.registry.quarantine(WORKER, "DENY_WORKER_TAMPERED", by="hall", at_ms=START_MS)
    return made


def change(path: str, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE receipts SET body = CAST(replace(CAST(body AS TEXT), 'TAMPERED', 'tampered') AS BLOB)",
        "DELETE FROM receipts WHERE kind = 'approval.held'",
        "UPDATE receipts SET seq = seq + 100 WHERE kind = 'worker.quarantined'",
        "DELETE FROM batches WHERE number = 4",
    ],
)
def test_an_event_that_was_edited_is_found_and_not_opened(path: str, statement: str) -> None:
    change(path, statement)
    with pytest.raises(ReceiptsBroken):
        verify(path, keys=[SIGNER.public])
    with pytest.raises(StateError, match="receipts verify"):
        open_state(path, signer=SIGNER)


def test_a_column_that_hides_a_receipt_is_found(path: str) -> None:
    change(path, "UPDATE receipts SET worker_id = 'org.acme.other' WHERE kind = 'decision'")
    with pytest.raises(ReceiptsBroken, match="found by"):
        verify(path, keys=[SIGNER.public])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER sqlite_stat5 AFTER INSERT ON receipts BEGIN DELETE FROM receipts; END",
        "CREATE VIEW evil AS SELECT 1",
        "DROP INDEX receipts_by_time",
    ],
)
def test_a_planted_object_is_refused(path: str, statement: str) -> None:
    try:
        change(path, statement)
    except sqlite3.OperationalError:  # newer versions reserve the name
        return
    with pytest.raises(StateError, match="another schema"):
        open_state(path, signer=SIGNER)


def test_an_older_copy_is_refused_with_a_kept_head(path: str, tmp_path: Path) -> None:
    older = str(tmp_path / "older.db")
    backup(path, older)
    with open_state(path, signer=SIGNER) as state:
        state.ledger.append([some_evidence(2)])
    kept = head(path)
    open_state(path, signer=SIGNER, head=kept).close()
    with pytest.raises(StateError, match="older than the kept head"):
        open_state(older, signer=SIGNER, head=kept)


def test_what_still_holds_is_carried_when_receipts_are_pruned(path: str) -> None:
    lines: list[bytes] = []
    with open_state(path, signer=SIGNER) as state:
        assert prune(state.ledger, now_ms(), by="ada", write=lines.append) > 0
    with open_state(path, signer=SIGNER) as state:
        assert WORKER in state.registry.snapshot().quarantined
        assert state.registry.lookup(WORKER) is not None
    assert verify(path, keys=[SIGNER.public]).signed


def test_a_misspelt_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not exist"):
        open_state(str(tmp_path / "hal.db"), create=False)
    assert not (tmp_path / "hal.db").exists()


def asked(state: State, requester: str = "bob") -> None:
    state.registry.enroll(a_record(), by="carol")
    state.approvals.hold(a_hold(requester=requester))


@pytest.mark.parametrize(
    ("requester", "name"),
    [
        ("bob", "bob"),
        ("bob", " BOB "),
        ("bob", "carol"),
        ("bob", "\uff22ob"),
        ("jos\u00e9", "JOSE\u0301"),
        ("Bob  Smith", "bob smith"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_requester_and_enroller_cannot_approve(requester: str, name: str) -> None:
    with open_state() as state:
        asked(state, requester)
        with pytest.raises(ApprovalError, match="somebody else must"):
            state.approvals.resolve("hold-1", "approve", by=Approver(name), at_ms=START_MS + 2)


def test_what_was_denied_is_not_asked_again() -> None:
    with open_state() as state:
        asked(state)
        state.approvals.resolve("hold-1", "deny", by="ada", at_ms=START_MS + 2)
        with pytest.raises(ApprovalDenied):
            state.approvals.hold(a_hold(pending_id="hold-9"))


def test_a_level_needs_authority_and_a_human_who_acts_gives_no_grant() -> None:
    with open_state() as state:
        asked(state)
        state.approvals.resolve("hold-1", "escalate", by="ada", at_ms=START_MS + 2)
        with pytest.raises(ApprovalError, match="may approve up to level gatekeeper"):
            state.approvals.resolve("hold-1", "approve", by="ada", at_ms=START_MS + 2)
        done = state.approvals.resolve("hold-1", "approve", by=Approver("ada", "executor"), at_ms=START_MS + 2)
        assert done.grant_id == ""


def test_quarantine_from_python_ends_holds() -> None:
    with open_state() as state:
        asked(state)
        state.registry.quarantine(WORKER, "by hand", by="ada", at_ms=START_MS)
        assert state.approvals.state("hold-1") == "cancelled"


def test_any_exception_of_a_signer_fails_its_batch_only(path: str) -> None:
    class Flaky:
        public, key_id, broken = SIGNER.public, SIGNER.key_id, True

        def sign(self, statement: bytes) -> bytes:
            if self.broken:
                raise OSError("the device is gone")
            return SIGNER.sign(statement)

    signer = Flaky()
    with open_state(path, signer=signer) as state:
        with pytest.raises(StateError):
            state.ledger.append([some_evidence(5)])
        signer.broken = False
        state.ledger.append([some_evidence(6)])
    assert not find(path, "corr-5")
    assert len(find(path, "corr-6")) == 1
