"""Receipts are chained, sealed, durable, and found out when they are touched."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.state_worlds import START_MS, some_evidence
from tests.route.stores import SqliteReceipts
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.codes import Code
from wcp_route.storage.receipts import (
    KeyFileSigner,
    ReceiptError,
    ReceiptsBroken,
    export,
    find,
    head,
    last,
    verify,
    verify_export,
)
from wcp_route.storage.receipts.check import Checked
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
OTHER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
KEYS = [SIGNER.public]
STREAMS = ("acme", "globex")

# What the triggers of the schema keep honest programs from; an attacker drops them, edits, and puts them back.
GUARDS = ("receipts_keep", "receipts_stay", "batches_keep", "batches_stay")


def fill(path: Path, *, batches: int = 4, size: int = 5, signer: KeyFileSigner | None = SIGNER) -> None:
    with SqliteReceipts(str(path), signer=signer, clock=lambda: START_MS) as receipts:
        for batch in range(batches):
            numbers = range(batch * size, (batch + 1) * size)
            receipts.append([some_evidence(number, stream=STREAMS[number % 2]) for number in numbers])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """20 receipts of two streams in four batches, and the head that was kept elsewhere."""
    path = tmp_path_factory.mktemp("receipts") / "hall.db"
    fill(path)
    return path, head(str(path))


@pytest.fixture
def store(filled: tuple[Path, bytes], tmp_path: Path) -> Path:
    """A copy to attack."""
    return Path(shutil.copy2(filled[0], tmp_path / "hall.db"))


def attack(path: Path, *statements: str) -> None:
    """Edit the file as somebody who can write it would, leaving the schema as it was."""
    connection = sqlite3.connect(path)
    guards = connection.execute(
        f"SELECT name, sql FROM sqlite_schema WHERE name IN ({','.join('?' * len(GUARDS))})", GUARDS
    ).fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in guards:
        connection.execute(sql)
    connection.commit()
    connection.close()


def broken(path: Path, kept: bytes | None = None) -> ReceiptsBroken:
    with pytest.raises(ReceiptsBroken) as caught:
        verify(str(path), keys=KEYS, head=kept)
    return caught.value


def test_what_was_written_verifies(filled: tuple[Path, bytes]) -> None:
    path, kept = filled
    found = verify(str(path), keys=KEYS, head=kept)
    assert found == Checked(
        receipts=20, batches=4, streams=2, signed=True, anchored=True, last_hash=last(str(path), 1)[0].hash
    )
    assert not verify(str(path), keys=KEYS).anchored


def test_each_stream_is_a_chain_of_its_own(filled: tuple[Path, bytes]) -> None:
    path, _ = filled
    for stream in STREAMS:
        receipts = [receipt.to_dict() for receipt in reversed(last(str(path), 100, stream=stream))]
        assert [receipt["seq"] for receipt in receipts] == list(range(1, 11))
        assert [receipt["prev_receipt_hash"] for receipt in receipts] == [
            None,
            *[receipt["receipt_hash"] for receipt in receipts[:-1]],
        ]


CONTENT = "CAST(replace(CAST(body AS TEXT), 'cap.doc.summarize', 'cap.doc.summarise') AS BLOB)"


@pytest.mark.parametrize(
    ("statement", "kind", "position"),
    [
        (f"UPDATE receipts SET body = {CONTENT} WHERE position = 8", "edited", 8),
        ("UPDATE receipts SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE position = 8", "edited", 8),
        ("UPDATE receipts SET stream = 'initech' WHERE position = 20", "edited", 20),
        ("UPDATE receipts SET body = x'7b7d' WHERE position = 1", "edited", 1),
        ("UPDATE receipts SET body = zeroblob(300000) WHERE position = 3", "edited", 3),
        ("DELETE FROM receipts WHERE position = 1", "deleted", 1),
        ("DELETE FROM receipts WHERE position = 13", "deleted", 13),
        ("DELETE FROM receipts WHERE position = 20", "deleted", 20),
        ("DELETE FROM receipts WHERE position > 15", "deleted", 16),
        ("DELETE FROM receipts", "deleted", 1),
        ("DELETE FROM batches WHERE number = 1", "deleted", 1),
        ("DELETE FROM batches WHERE number = 2", "deleted", 6),
        ("DELETE FROM batches WHERE number = 4", "unsealed", 16),
        ("DELETE FROM batches", "unsealed", 1),
        ("UPDATE batches SET signature = zeroblob(64) WHERE number = 2", "signature", 6),
        ("UPDATE batches SET signature = NULL, key_id = NULL WHERE number = 2", "signature", 6),
        ("UPDATE batches SET key_id = 'feed' WHERE number = 3", "signature", 11),
        ("UPDATE batches SET statement = x'7b7d' WHERE number = 3", "unreadable", 11),
    ],
)
def test_one_touched_place_is_found_and_named(store: Path, statement: str, kind: str, position: int) -> None:
    attack(store, statement)
    problem = broken(store)
    assert (problem.kind, problem.position) == (kind, position)
    assert f"receipt {position}" in str(problem)


def test_two_swapped_receipts_are_found(store: Path) -> None:
    attack(
        store,
        "UPDATE receipts SET position = 99 WHERE position = 7",
        "UPDATE receipts SET position = 7 WHERE position = 9",
        "UPDATE receipts SET position = 9 WHERE position = 99",
    )
    problem = broken(store)
    assert (problem.kind, problem.position) == ("reordered", 7)


def test_a_removed_receipt_is_found_when_the_others_close_up(store: Path) -> None:
    attack(
        store,
        "DELETE FROM receipts WHERE position = 7",
        *[f"UPDATE receipts SET position = {number - 1} WHERE position = {number}" for number in range(8, 21)],
    )
    problem = broken(store)
    assert (problem.kind, problem.position) == ("deleted", 7)


def test_the_end_cut_off_cleanly_is_found_by_the_kept_head_only(store: Path, filled: tuple[Path, bytes]) -> None:
    attack(store, "DELETE FROM receipts WHERE position > 15", "DELETE FROM batches WHERE number = 4")
    assert verify(str(store), keys=KEYS).receipts == 15  # the store alone cannot know
    problem = broken(store, filled[1])
    assert (problem.kind, problem.position) == ("truncated", 16)


def test_everything_gone_is_found(store: Path, filled: tuple[Path, bytes]) -> None:
    attack(store, "DELETE FROM receipts", "DELETE FROM batches")
    with pytest.raises(ConfigError, match="nothing was checked"):
        verify(str(store), keys=KEYS)
    assert broken(store, filled[1]).kind == "truncated"


def test_a_history_rewritten_with_another_key_is_found(tmp_path: Path, filled: tuple[Path, bytes]) -> None:
    forged = tmp_path / "forged.db"
    fill(forged, signer=OTHER)
    problem = broken(forged)
    assert (problem.kind, problem.position) == ("signature", 1)


def test_a_history_rewritten_with_the_same_key_is_found_by_the_kept_head(
    tmp_path: Path, filled: tuple[Path, bytes]
) -> None:
    again = tmp_path / "again.db"
    fill(again)  # receipt ids differ, so do all hashes
    verify(str(again), keys=KEYS)
    problem = broken(again, filled[1])
    assert (problem.kind, problem.position) == ("edited", 16)


def test_every_damaged_byte_of_a_receipt_is_found(store: Path) -> None:
    """Edits of the file beneath SQLite: whatever page they hit, verification does not pass and does not crash."""
    data = bytearray(store.read_bytes())
    body = data.index(b'{"approval_expires_at"')
    for offset in range(body, body + 2000, 97):
        hurt = bytearray(data)
        hurt[offset] ^= 1
        store.write_bytes(hurt)
        with pytest.raises(ReceiptsBroken):
            verify(str(store), keys=KEYS)


def test_damage_anywhere_never_passes_for_other_receipts(store: Path, filled: tuple[Path, bytes]) -> None:
    whole = verify(str(filled[0]), keys=KEYS)
    data = store.read_bytes()
    for offset in range(0, len(data), 1511):
        store.write_bytes(data[:offset] + bytes([data[offset] ^ 0x41]) + data[offset + 1 :])
        with suppress(ReceiptsBroken, ConfigError):
            assert verify(str(store), keys=KEYS) == whole  # an unused byte, or an index that verification does not read


# Without the right keys, or without any


def test_without_keys_nothing_is_verified(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no receipt key"):
        verify(str(store), keys=[])
    unsigned = tmp_path / "unsigned.db"
    fill(unsigned, signer=None)
    assert broken(unsigned).kind == "signature"
    assert not verify(str(unsigned), keys=[], unsigned=True).signed
    with pytest.raises(StateError, match="no signed batch"):
        head(str(unsigned))


def test_a_head_by_another_key_is_not_believed(store: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.db"
    fill(forged, signer=OTHER)
    with pytest.raises(ConfigError, match="not signed by one of the given keys"):
        verify(str(store), keys=KEYS, head=head(str(forged)))


@pytest.mark.parametrize("change", [b"", b"{}", b"[1]", b"\xff"])
def test_an_odd_head_is_refused(store: Path, change: bytes) -> None:
    with pytest.raises(ConfigError, match="head"):
        verify(str(store), keys=KEYS, head=change)


def test_every_flipped_byte_of_a_head_is_refused(store: Path, filled: tuple[Path, bytes]) -> None:
    kept = filled[1]
    for offset in range(0, len(kept), 7):
        hurt = kept[:offset] + bytes([kept[offset] ^ 1]) + kept[offset + 1 :]
        with pytest.raises(ConfigError):
            verify(str(store), keys=KEYS, head=hurt)


# Exports


def exported(path: Path) -> list[bytes]:
    out = io.BytesIO()
    assert export(str(path), out.write) == 20
    return out.getvalue().splitlines(keepends=True)


def check_lines(lines: list[bytes], kept: bytes | None = None) -> Checked:
    return verify_export(io.BytesIO(b"".join(lines)), keys=KEYS, head=kept)


def test_an_export_verifies_alike(filled: tuple[Path, bytes]) -> None:
    path, kept = filled
    assert check_lines(exported(path), kept) == verify(str(path), keys=KEYS, head=kept)


def test_every_line_of_an_export_matters(filled: tuple[Path, bytes]) -> None:
    lines = exported(filled[0])
    for number in range(len(lines)):
        without = lines[:number] + lines[number + 1 :]
        twice = [*lines[: number + 1], *lines[number:]]
        swapped = [*lines[:number], *lines[number : number + 2][::-1], *lines[number + 2 :]]
        for changed in (without, twice, swapped if number + 1 < len(lines) else without):
            with pytest.raises(ReceiptsBroken):
                check_lines(changed, filled[1])


def test_an_edited_line_of_an_export_is_named(filled: tuple[Path, bytes]) -> None:
    lines = exported(filled[0])
    lines[9] = lines[9].replace(b"cap.doc.summarize", b"cap.doc.summarise")
    with pytest.raises(ReceiptsBroken) as caught:
        check_lines(lines)
    assert (caught.value.kind, caught.value.position) == ("edited", 8)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"nonsense\n",
        b'{"receipt":1}\n',
        b'{"batch":{}}\n',
        b'{"statement":{}}\n',
        b"x" * 400_000,
        b"\xff",
    ],
)
def test_a_foreign_line_is_refused(filled: tuple[Path, bytes], line: bytes) -> None:
    lines = exported(filled[0])
    for place in (0, 3, 6, len(lines)):
        with pytest.raises(ReceiptsBroken):
            check_lines([*lines[:place], line, *lines[place:]])


# Finding one


def test_receipts_are_found_by_what_they_name(filled: tuple[Path, bytes]) -> None:
    path = str(filled[0])
    wanted = last(path, 1, stream="globex")[0]
    fields = wanted.to_dict()
    for name in (
        "globex/10",
        fields["receipt_hash"],
        fields["decision_id"],
        fields["correlation_id"],
        fields["receipt_id"],
    ):
        assert find(path, str(name)) == (wanted,)
    for name in ("globex/11", "sha256:00", "corr-1x", "", "'", "/", "%"):
        assert find(path, name) == ()


# What a receipt says


def test_a_receipt_holds_the_minimum_of_the_specification(filled: tuple[Path, bytes]) -> None:
    fields = last(str(filled[0]), 1)[0].to_dict()
    assert fields["dispatched_at"] == "2025-11-24T16:00:00.142Z"
    minimum = ("correlation_id", "worker_id", "capability_id", "policy_decision", "controls_verified", "artifact_hash")
    assert all(fields[name] for name in minimum)
    checks = fields["checks"]
    assert isinstance(checks, list)
    assert checks[0] == {"name": "input", "outcome": "pass", "detail": "all is well"}
    hashes = {"current_hash": "sha256:" + "ab" * 32, "registered_hash": "sha256:" + "ab" * 32}
    assert checks[-1] == {"name": "seal", "outcome": "pass", "digests": hashes}


def test_a_denial_has_a_receipt_too(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    with SqliteReceipts(str(path), signer=SIGNER) as receipts:
        receipts.append([some_evidence(code=Code.WORKER_TAMPERED)])
    fields = last(str(path), 1)[0].to_dict()
    assert (fields["outcome"], fields["denied"], fields["deny_code"]) == ("DENY", True, "DENY_WORKER_TAMPERED")
    assert fields["deny_extras"] == {"missing": ["ctrl.a", "ctrl.b"]}


@pytest.mark.parametrize("stream", ["", " ", "a b", "x" * 129, "é", "a\n"])
def test_a_stream_has_a_printable_name(tmp_path: Path, stream: str) -> None:
    with (
        SqliteReceipts(str(tmp_path / "hall.db")) as receipts,
        pytest.raises(ReceiptError, match="cannot name a stream"),
    ):
        receipts.append([some_evidence(stream=stream)])


def flaws() -> Iterator[tuple[str, Callable[[], object]]]:
    yield "pem", lambda: KeyFileSigner.from_file_bytes(b"nonsense")
    yield "long", lambda: KeyFileSigner.from_file_bytes(b"x" * 100_000)


@pytest.mark.parametrize(("name", "make"), list(flaws()))
def test_a_key_file_that_is_none_is_refused(name: str, make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_the_export_is_json_lines(filled: tuple[Path, bytes]) -> None:
    assert [sorted(json.loads(line)) for line in exported(filled[0])][:7] == [["batch"], *[["receipt"]] * 5, ["batch"]]
