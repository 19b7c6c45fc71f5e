"""What only somebody with the rightful key, or with an eye for details, could try."""

from __future__ import annotations

import io
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.route.state_worlds import START_MS, some_evidence
from tests.route.stores import MemoryReceipts, SqliteReceipts
from tests.route.test_receipts_chain import KEYS, OTHER, SIGNER, STREAMS, attack, broken, fill
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json
from wcp_route.storage.receipts import (
    KeyFileSigner,
    ReceiptKey,
    ReceiptsBroken,
    export,
    head,
    verify,
    verify_export,
)
from wcp_route.storage.receipts.check import Checker
from wcp_route.storage.receipts.lines import MAX_LINE_BYTES
from wcp_route.storage.receipts.receipt import ReceiptHead
from wcp_route.storage.receipts.sign import PAYLOAD_TYPE, SignedHead, pae

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "hall.db"
    fill(made)
    return made


def checked(memory: MemoryReceipts) -> ReceiptsBroken:
    """Check until something is broken, and return that."""
    checker, rows = Checker(KEYS), iter(memory.rows)
    try:
        for batch in memory.batches:
            checker.check(batch, rows)
    except ReceiptsBroken as problem:
        return problem
    raise AssertionError("nothing was found")


# Batches of the rightful key in the wrong place


def test_a_batch_of_another_store_does_not_fit(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    fill(other)
    connection = sqlite3.connect(other)
    statement, signature = connection.execute("SELECT statement, signature FROM batches WHERE number = 3").fetchone()
    connection.close()
    change = f"UPDATE batches SET statement = x'{statement.hex()}', signature = x'{signature.hex()}' WHERE number = 3"
    attack(path, change)
    assert (broken(path).kind, broken(path).position) == ("edited", 11)


# Receipts that the rightful key sealed by mistake


def test_a_gap_in_a_stream_is_found() -> None:
    memory = MemoryReceipts(signer=SIGNER)
    memory.append([some_evidence(1)])
    memory._heads["acme"] = ReceiptHead(5, memory.rows[0].hash)
    memory.append([some_evidence(2)])
    problem = checked(memory)
    assert (problem.kind, problem.position, problem.seq) == ("deleted", 2, 6)


def test_a_receipt_that_follows_another_hash_is_found() -> None:
    memory = MemoryReceipts(signer=SIGNER)
    memory.append([some_evidence(1)])
    memory._heads["acme"] = ReceiptHead(1, "0" * 64)
    memory.append([some_evidence(2)])
    assert checked(memory).kind == "forked"


STATEMENT: JsonObject = {
    "schema": "wcp.receipt-batch.v1",
    "spec_version": "0.2",
    "batch": 1,
    "first_position": 1,
    "hashes": ["ab"],
    "prev_batch_hash": None,
    "sealed_at": "2026-01-31T08:00:00.000Z",
}


def two_receipts() -> MemoryReceipts:
    memory = MemoryReceipts(signer=SIGNER, clock=lambda: START_MS)
    memory.append([some_evidence(1)])
    memory.append([some_evidence(2)])
    return memory


def test_a_row_that_is_added_is_named() -> None:
    memory = two_receipts()
    checker, rows = Checker(KEYS), iter([*memory.rows, memory.rows[1]._replace(position=3)])
    for batch in memory.batches:
        checker.check(batch, rows)
    with pytest.raises(ReceiptsBroken) as caught:
        checker.finish(next(rows))
    assert (caught.value.kind, caught.value.position, caught.value.seq) == ("unsealed", 3, 2)


# The end of the store


def test_receipts_that_nobody_sealed_are_exported_and_found_there(path: Path) -> None:
    attack(path, "DELETE FROM batches WHERE number = 4")
    out = io.BytesIO()
    assert export(str(path), out.write) == 20
    with pytest.raises(ReceiptsBroken) as caught:
        verify_export(io.BytesIO(out.getvalue()), keys=KEYS)
    assert caught.value.position == 16


def test_a_line_has_a_length() -> None:
    for size in (MAX_LINE_BYTES + 1, 10 * MAX_LINE_BYTES):
        with pytest.raises(ReceiptsBroken, match=f"line 1: the line is longer than {MAX_LINE_BYTES} bytes"):
            verify_export(io.BytesIO(b"x" * size), keys=KEYS)


def test_an_unsigned_export_needs_leave(tmp_path: Path) -> None:
    path = tmp_path / "unsigned.db"
    fill(path, signer=None)
    out = io.BytesIO()
    export(str(path), out.write)
    with pytest.raises(ReceiptsBroken):
        verify_export(io.BytesIO(out.getvalue()), keys=KEYS)
    assert verify_export(io.BytesIO(out.getvalue()), keys=[], unsigned=True).receipts == 20


def test_leave_for_unsigned_batches_is_none_for_false_signatures(path: Path) -> None:
    attack(path, "UPDATE batches SET signature = zeroblob(64) WHERE number = 2")
    with pytest.raises(ReceiptsBroken, match="does not hold"):
        verify(str(path), keys=KEYS, unsigned=True)


# The file beneath


def test_a_line_break_in_a_body_does_not_break_an_export(path: Path) -> None:
    attack(path, "UPDATE receipts SET body = x'7b0a7d' WHERE position = 9")
    with pytest.raises(ReceiptsBroken) as caught:
        export(str(path), lambda _: None)
    assert (caught.value.kind, caught.value.position) == ("unreadable", 9)


def test_a_statement_that_is_none_is_still_exported(path: Path) -> None:
    attack(path, "UPDATE batches SET statement = x'00' WHERE number = 1")
    lines: list[bytes] = []
    assert export(str(path), lines.append) == 20


def test_damaged_pages_are_named_by_where_reading_stops(path: Path) -> None:
    """Every page in turn is overwritten: verification ends in a report, never in a crash or a pass."""
    data = path.read_bytes()
    kinds = set()
    for page in range(1, len(data) // 8192):
        path.write_bytes(data[: page * 8192] + b"\xff" * 8192 + data[(page + 1) * 8192 :])
        try:
            verify(str(path), keys=KEYS)
        except ReceiptsBroken as problem:
            kinds.add(problem.kind)
        except ConfigError:
            kinds.add("refused")
    assert "unreadable" in kinds


def test_a_truncated_file_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for size in range(0, len(data), 8192):
        path.write_bytes(data[:size])
        with pytest.raises((ReceiptsBroken, ConfigError)):
            verify(str(path), keys=KEYS)


def test_a_file_swapped_for_an_older_copy_is_found_by_the_kept_head(path: Path, tmp_path: Path) -> None:
    older = shutil.copy2(path, tmp_path / "older.db")
    with SqliteReceipts(str(path), signer=SIGNER) as receipts:
        receipts.append([some_evidence(100, stream=STREAMS[0])])
    kept = head(str(path))
    shutil.copy2(older, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert (broken(path, kept).kind, broken(path, kept).position) == ("truncated", 21)


# Keys and heads


PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PEM = PRIVATE.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
PUBLIC_PEM = PRIVATE.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
PUBLIC_SSH = PRIVATE.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
P256 = ec.generate_private_key(ec.SECP256R1())
P256_PEM = P256.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
P256_PUBLIC = P256.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def test_keys_come_from_files() -> None:
    signer = KeyFileSigner.from_file_bytes(PEM)
    assert signer.public == SIGNER.public
    assert (
        signer.key_id == ReceiptKey.from_file_bytes(PUBLIC_PEM).key_id == ReceiptKey.from_file_bytes(PUBLIC_SSH).key_id
    )


def test_only_ed25519_signs_receipts() -> None:
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        KeyFileSigner.from_file_bytes(P256_PEM)
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        ReceiptKey.from_file_bytes(P256_PUBLIC)
    spki = P256.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    signature = P256.sign(pae(b"statement"), ec.ECDSA(SHA256()))
    assert not ReceiptKey(spki).verifies(b"statement", signature)


@pytest.mark.parametrize("data", [b"", b"nonsense", PEM, b"x" * 100_000])
def test_what_is_no_public_key_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        ReceiptKey.from_file_bytes(data)


def test_a_signature_is_for_this_kind_of_statement_only() -> None:
    """The payload type is signed along: the same bytes signed as something else are nothing here."""
    statement = b"{}"
    raw = PRIVATE.sign(statement)
    other = PRIVATE.sign(pae(statement).replace(PAYLOAD_TYPE.encode(), b"application/vnd.in-toto+json"))
    assert SIGNER.public.verifies(statement, SIGNER.sign(statement))
    for signature in (raw, other, b"", OTHER.sign(statement)):
        assert not SIGNER.public.verifies(statement, signature)


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "application/vnd.in-toto+json"},
        {"payload": "e30"},
        {"payload": "e30=\n"},
        {"payload": "é"},
        {"signatures": []},
        {"signatures": [{"keyid": "a", "sig": "e30="}, {"keyid": "b", "sig": "e30="}]},
        {"signatures": [{"keyid": "a", "sig": "e30=", "extra": 1}]},
        {"extra": 1},
    ],
)
def test_a_head_has_one_shape(change: JsonObject) -> None:
    good: JsonObject = {
        "payload": "e30=",
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "a", "sig": "e30="}],
    }
    assert SignedHead.from_bytes(canonical_json(good) + b"\n") == SignedHead(b"{}", "a", b"{}")
    with pytest.raises(ConfigError, match="the head is not a DSSE envelope"):
        SignedHead.from_bytes(canonical_json(good | change))
