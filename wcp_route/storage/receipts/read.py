"""Verify, show and export the receipts of a state file, or verify an export. Nothing that is read is trusted."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, Final

from wcp_route.domain.canonical import canonical_json
from wcp_route.storage.database import StateError, connect_to_read, failures
from wcp_route.storage.receipts.chain import MAX_STATEMENT_BYTES, Batch, Row
from wcp_route.storage.receipts.check import Checked, Checker
from wcp_route.storage.receipts.lines import ExportLines, batch_line, listed, receipt_line
from wcp_route.storage.receipts.receipt import MAX_RECEIPT_BYTES, Receipt, ReceiptsBroken
from wcp_route.storage.receipts.sign import SignedHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wcp_route.storage.receipts.sign import ReceiptKey

MAX_SHOWN: Final = 1000

# Texts and blobs are cut where they would be refused anyway: a hostile file may hold gigabytes in one field.
_ROWS: Final = (
    "SELECT position, substr(stream, 1, 200), seq, substr(prev, 1, 200), substr(hash, 1, 200),"  # noqa: S608  # a number
    f" substr(body, 1, {MAX_RECEIPT_BYTES + 1}) FROM receipts "
)
_BATCHES: Final = (
    f"SELECT number, substr(statement, 1, {MAX_STATEMENT_BYTES + 1}),"  # noqa: S608  # a number
    " substr(key_id, 1, 200), substr(signature, 1, 200) FROM batches "
)


def verify(path: str, *, keys: Sequence[ReceiptKey], head: bytes | None = None, unsigned: bool = False) -> Checked:
    """Verify all receipts of a state file, as of one moment; others may go on writing.

    Args:
        path: the state file.
        keys: whose signatures are believed.
        head: a head kept elsewhere (`head`), to find receipts cut off at the end.
        unsigned: accept batches that nobody signed.

    Raises:
        ReceiptsBroken: they are not what was written; it names the first bad one.
        ConfigError: the file, the keys or the head cannot be used, or there are no receipts.
    """
    checker = Checker(keys, head=head, unsigned=unsigned)
    with failures(path), closing(connect_to_read(path)) as connection:
        connection.execute("BEGIN")
        try:
            return _check_all(connection, checker)
        except sqlite3.DatabaseError as problem:
            if getattr(problem, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            raise ReceiptsBroken("unreadable", checker.position + 1, "the database is damaged there") from None


def verify_export(
    file: BinaryIO, *, keys: Sequence[ReceiptKey], head: bytes | None = None, unsigned: bool = False
) -> Checked:
    """Verify an export.

    Args:
        file: what `export` wrote, opened in binary mode.
        keys: as for `verify`.
        head: as for `verify`.
        unsigned: as for `verify`.

    Raises:
        ReceiptsBroken: the receipts are not what was written.
        ConfigError: the file, the keys or the head cannot be used, or there are no receipts.
    """
    checker = Checker(keys, head=head, unsigned=unsigned)
    lines = ExportLines(file)
    while (batch := lines.batch(checker.batches + 1)) is not None:
        checker.check(batch, lines.rows())
    return checker.finish(next(lines.rows(), None))


def head(path: str) -> bytes:
    """Return the signed end of the receipts, one line to be kept where the state file's owner cannot reach.

    Raises:
        StateError: the file cannot be used, or holds no signed batch.
    """
    with failures(path), closing(connect_to_read(path)) as connection:
        row = connection.execute(_BATCHES + "ORDER BY number DESC LIMIT 1").fetchone()
    batch = Batch(*row) if row else None
    if batch is None or batch.key_id is None or batch.signature is None:
        raise StateError(f"state file `{path}` holds no signed batch of receipts; open it with a receipt key")
    return SignedHead(batch.statement, batch.key_id, batch.signature).to_bytes()


def find(path: str, name: str) -> tuple[Receipt, ...]:
    """Return the receipts that `name` names, newest first, `MAX_SHOWN` at most; they are not verified.

    Args:
        path: the state file.
        name: a receipt hash (`sha256:…`), `stream/number`, or a decision, receipt or correlation id.

    Raises:
        StateError: the file cannot be used.
    """
    stream, _, number = name.rpartition("/")
    if name.startswith("sha256:"):
        condition, values = "WHERE hash = ?", [name.removeprefix("sha256:")]
    elif stream and number.isdecimal() and len(number) < 16:
        condition, values = "WHERE stream = ? AND seq = CAST(? AS INTEGER)", [stream, number]
    else:
        fields = ("correlation_id", "decision_id", "receipt_id")
        condition = f"WHERE {' OR '.join(['instr(body, CAST(? AS BLOB)) > 0' for _ in fields])}"
        values = [f'"{field}":{canonical_json(name).decode()}' for field in fields]
    return _receipts(path, condition, values, MAX_SHOWN)


def last(path: str, count: int, *, stream: str | None = None) -> tuple[Receipt, ...]:
    """Return the last receipts, newest first; they are not verified.

    Args:
        path: the state file.
        count: how many at most, up to `MAX_SHOWN`.
        stream: only those of this stream.

    Raises:
        StateError: the file cannot be used.
    """
    condition, values = ("", []) if stream is None else ("WHERE stream = ?", [stream])
    return _receipts(path, condition, values, max(0, min(count, MAX_SHOWN)))


def export(path: str, write: Callable[[bytes], object]) -> int:
    """Write everything that `verify_export` needs, as of one moment.

    Args:
        path: the state file.
        write: takes one line at a time.

    Returns:
        How many receipts were written; those that no batch holds come last.

    Raises:
        StateError: the file cannot be used.
        ReceiptsBroken: a receipt cannot stand on a line; `verify` says more.
    """
    count = 0
    with failures(path), closing(connect_to_read(path)) as connection:
        connection.execute("BEGIN")
        rows = _rows(connection)
        for batch in _batches(connection):
            write(batch_line(batch))
            for row in itertools.islice(rows, listed(batch)):
                write(receipt_line(row))
                count += 1
        for row in rows:
            write(receipt_line(row))
            count += 1
    return count


def _check_all(connection: sqlite3.Connection, checker: Checker) -> Checked:
    rows = _rows(connection)
    for batch in _batches(connection):
        checker.check(batch, rows)
    return checker.finish(next(rows, None))


def _receipts(path: str, condition: str, values: Sequence[str], limit: int) -> tuple[Receipt, ...]:
    with failures(path), closing(connect_to_read(path)) as connection:
        query = f"{_ROWS}{condition} ORDER BY position DESC LIMIT ?"  # the conditions are our own literals
        rows = [_row(row) for row in connection.execute(query, (*values, limit))]
    return tuple(Receipt(row.position, row.stream, row.seq, row.hash, row.body) for row in rows)


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    return map(_row, connection.execute(_ROWS + "ORDER BY position"))


def _row(values: tuple[object, ...]) -> Row:
    match values:
        case (int(position), str(stream), int(seq), str(prev), str(digest), bytes(body)):
            return Row(position, stream, seq, prev, digest, body)
        case (int(position), *_):
            raise ReceiptsBroken("unreadable", position, "a column is of another type")
        case _:
            raise ReceiptsBroken("unreadable", 0, "a column is of another type")


def _batches(connection: sqlite3.Connection) -> Iterator[Batch]:
    for number, statement, key_id, signature in connection.execute(_BATCHES + "ORDER BY number"):
        whole = isinstance(statement, bytes) and isinstance(key_id, str | None) and isinstance(signature, bytes | None)
        yield Batch(number, statement, key_id, signature) if whole else Batch(number, b"", None, None)
