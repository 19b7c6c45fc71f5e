"""Verify, show, list and export the receipts of a state, or verify an export. Data that is read is not trusted."""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from wcp_attest.base.errors import ConfigError
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.chain import Batch, BatchStatement, ChainRow
from wcp_route.storage.receipts.check import Checked, Checker
from wcp_route.storage.receipts.lines import ExportLines, batch_line, listed, origin_line, receipt_line
from wcp_route.storage.receipts.receipt import (
    MAX_RECEIPT_BYTES,
    MAX_STATEMENT_BYTES,
    Receipt,
    ReceiptIndex,
    column_text,
    key_of,
)
from wcp_route.storage.receipts.sign import SignedHead
from wcp_route.storage.state_errors import ReceiptsBroken, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.storage.database import Database
    from wcp_route.storage.receipts.sign import ReceiptKey

MAX_SHOWN: Final = 1000
_UUID7: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def verify(address: str, *, keys: Sequence[ReceiptKey], head: bytes | None = None, unsigned: bool = False) -> Checked:
    """Verify all receipts of a state, as of one moment. Other processes may go on writing.

    Args:
        address: the state file, or `postgresql://…`.
        keys: the trusted public keys.
        head: a head that you kept elsewhere (from `head`), to detect receipts cut off at the end.
        unsigned: accept batches that are not signed.

    Raises:
        ReceiptsBroken: the receipts differ from what was written; it names the first bad one.
        ConfigError: the state, the keys or the head cannot be used, or there are no receipts.
    """
    from wcp_route.storage.database_errors import is_damage

    with _opened(address) as (_, connection):
        checker = Checker(keys, head=head, unsigned=unsigned, origin=_origin(connection))
        try:
            rows = _rows(connection)
            for batch in _batches(connection):
                checker.check(batch, rows)
            return checker.finish(next(rows, None))
        except Exception as problem:
            if is_damage(problem):
                raise ReceiptsBroken("unreadable", checker.tip.position + 1, "the database is damaged there") from None
            raise


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
        ReceiptsBroken: the receipts differ from what was written.
        ConfigError: the file, the keys or the head cannot be used, or there are no receipts.
    """
    lines = ExportLines(file)
    origin = lines.origin()
    checker = Checker(keys, head=head, unsigned=unsigned, origin=origin)
    while (batch := lines.batch(checker.tip.batch + 1)) is not None:
        checker.check(batch, lines.rows())
    return checker.finish(next(lines.rows(), None))


def head(address: str) -> bytes:
    """Return the signed end of the receipts, one line. Keep it where the owner of the state cannot change it.

    Args:
        address: the state.

    Raises:
        StateError: the state cannot be used, or holds no signed batch.
    """
    from sqlalchemy import select

    from wcp_route.storage import tables

    with _opened(address) as (_, connection):
        columns = tables.batches.c
        row = connection.execute(select(tables.batches).order_by(columns.number.desc()).limit(1)).first()
    if row is None or row.key_id is None or row.signature is None:
        raise StateError(f"state `{address}` holds no signed batch of receipts; open it with a receipt key")
    return SignedHead(row.statement, row.key_id, row.signature).to_bytes()


def find(address: str | Database, name: str) -> tuple[Receipt, ...]:
    """Return the receipts that `name` names, newest first, `MAX_SHOWN` at most; they are not verified.

    Args:
        address: the state, or its database when that is open.
        name: a receipt hash (`sha256:…`), `stream/number`, or a decision, receipt, correlation or pending approval id.
            A name that is a correlation id and a `stream/number` returns the receipts of both.

    Raises:
        StateError: the state cannot be used.
    """
    from sqlalchemy import and_, select, union_all

    from wcp_route.storage import tables

    columns = tables.receipts.c
    wanted = [columns.decision_key == key_of(name), columns.correlation_key == key_of(name)]
    stream, _, number = name.rpartition("/")
    place = (stream, int(number)) if stream and number.isdecimal() and len(number) < 16 else None
    digest = name.removeprefix("sha256:") if name.startswith("sha256:") else None
    if digest is not None:
        wanted.append(columns.hash_key == key_of(digest))
    if place is not None:
        wanted.append(and_(columns.stream == _askable(place[0]), columns.seq == place[1]))
    if (parts := _UUID7.match(name)) is not None:
        wanted.append(columns.at_ms == int(parts[1] + parts[2], 16))
    # The newest by each name, from its index alone: a client may give a million requests one correlation id.
    newest = [select(columns.position).where(one).order_by(columns.position.desc()).limit(MAX_SHOWN) for one in wanted]
    places = columns.position.in_(union_all(*[select(one.subquery().c.position) for one in newest]))
    return tuple(
        one
        for one in _receipts(address, places)  # compare the whole name: the database was asked for 64 bits of it
        if (one.stream, one.seq) == place or one.hash == digest or name in _ids_of(one)
    )


def _ids_of(receipt: Receipt) -> list[JsonValue]:
    """Return the ids that a receipt is known by; none when its body cannot be read."""
    try:
        fields = receipt.to_dict()
    except ConfigError:
        return []
    hold = fields.get("hold")
    both = {**(hold if isinstance(hold, dict) else {}), **fields}
    return [both.get(key) for key in ("decision_id", "receipt_id", "correlation_id", "pending_id")]


def proof(address: str, receipt: Receipt) -> bytes:
    """Return the signed batch that holds a receipt, as a DSSE envelope: its statement lists the receipt's hash.

    Args:
        address: the state.
        receipt: as `find` returns it.

    Raises:
        StateError: the state cannot be used, or the batch is not signed or does not exist yet.
    """
    from sqlalchemy import select

    from wcp_route.storage import tables

    columns = tables.batches.c
    with _opened(address) as (_, connection):
        held = select(tables.batches).where(columns.first_position <= receipt.position)
        row = connection.execute(held.order_by(columns.number.desc()).limit(1)).first()
    if row is None or row.key_id is None or row.signature is None:
        raise StateError("nobody signed the batch of that receipt; open the state with a receipt key")
    if receipt.hash not in BatchStatement.from_bytes(row.statement).hashes:
        raise StateError("the batch of that receipt does not list it")
    return SignedHead(row.statement, row.key_id, row.signature).to_bytes()


def last(  # noqa: PLR0913  # one for each filter
    address: str | Database,
    count: int,
    *,
    stream: str | None = None,
    worker: str | None = None,
    tenant: str | None = None,
    outcome: str | None = None,
    code: str | None = None,
    kind: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> tuple[Receipt, ...]:
    """Return the last receipts, newest first; they are not verified.

    By their place in the store, or, with a filter that few receipts may pass, by their time: one index has the time
    and all that the filters name. So a rare receipt among a million is found without reading the bodies.

    Args:
        address: the state, or its database when that is open.
        count: how many at most, up to `MAX_SHOWN`.
        stream: only those of this stream.
        worker: only those about this worker.
        tenant: only those of this tenant.
        outcome: `DISPATCH`, `DENY` or `STEWARD_HOLD`.
        code: only those with this deny code.
        kind: `decision`, or a kind of event.
        since_ms: only those of this moment or later, milliseconds since 1970.
        until_ms: only those before this moment.

    Raises:
        StateError: the state cannot be used.
    """
    from sqlalchemy import and_, select, true

    from wcp_route.storage import tables

    columns = tables.receipts.c
    wanted: list[Any] = [true()]
    rare = any(one is not None for one in (worker, tenant, outcome, code, since_ms, until_ms))
    same = {
        "stream": stream, "worker_id": worker, "tenant_id": tenant, "outcome": outcome, "code": code, "kind": kind
    }  # fmt: skip
    for name, value in same.items():
        if value is not None:
            wanted.append(columns[name] == _askable(value if name == "stream" else column_text(value)))
    if since_ms is not None:
        wanted.append(columns.at_ms >= since_ms)
    if until_ms is not None:
        wanted.append(columns.at_ms < until_ms)
    most = max(0, min(count, MAX_SHOWN))
    if stream is not None:
        return _receipts(address, and_(*wanted), most, (columns.seq.desc(),))
    if not rare and kind in (None, "decision"):
        return _receipts(address, and_(*wanted), most)
    newest = (columns.at_ms.desc(), columns.position.desc())
    places = select(columns.position).where(*wanted).order_by(*newest).limit(most)
    return _receipts(address, columns.position.in_(places.scalar_subquery()), most, newest)


def export(address: str, write: Callable[[bytes], object]) -> int:
    """Write everything that `verify_export` needs, as of one moment.

    Args:
        address: the state.
        write: takes one line at a time.

    Returns:
        How many receipts were written. Receipts that are in no batch come last.

    Raises:
        StateError: the state cannot be used.
        ReceiptsBroken: a receipt cannot stand on a line; `verify` says more.
    """
    with _opened(address) as (_, connection):
        return export_from(connection, write)


def export_from(connection: Connection, write: Callable[[bytes], object], up_to: int | None = None) -> int:
    """Write what `export` does from an open connection.

    Args:
        connection: sees one moment of the database.
        write: takes one line at a time.
        up_to: the number of the last batch that is written; None writes all.

    Returns:
        How many receipts were written.

    Raises:
        ReceiptsBroken: a receipt cannot stand on a line.
    """
    count = 0
    origin = _origin(connection)
    if origin.batch:
        write(origin_line(origin))
    rows = _rows(connection)
    for batch in _batches(connection):
        if up_to is not None and batch.number > up_to:
            return count
        write(batch_line(batch))
        for row in itertools.islice(rows, listed(batch)):
            write(receipt_line(row))
            count += 1
    for row in rows:
        write(receipt_line(row))
        count += 1
    return count


@contextmanager
def _opened(address: str | Database) -> Iterator[tuple[Database, Connection]]:
    from contextlib import closing

    from wcp_route.storage.database import Database

    if isinstance(address, Database):
        with address.reading() as connection:
            yield address, connection
        return
    with closing(Database(address)) as database, database.reading() as connection:
        yield database, connection


def _askable(text: str) -> str:
    """Return text as a database takes it; half a surrogate pair and a zero are in no receipt, and match none."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _receipts(
    address: str | Database, condition: Any, limit: int = MAX_SHOWN, order: Sequence[Any] = ()
) -> tuple[Receipt, ...]:
    from wcp_route.storage import tables

    with _opened(address) as (_, connection):
        newest = order or (tables.receipts.c.position.desc(),)
        rows = list(_rows(connection, lambda query: query.where(condition).order_by(*newest).limit(limit)))
    return tuple(Receipt(row.position, row.stream, row.seq, row.hash, row.body) for row in rows)


def _rows(connection: Connection, of: Callable[[Any], Any] | None = None) -> Iterator[ChainRow]:
    """Read receipts, all in their order or those that a query asks for.

    Texts and blobs are cut at a length that is refused anyway: a hostile file may have gigabytes in one field.
    """
    from sqlalchemy import func, select

    from wcp_route.storage import tables

    query = select(*[
        func.substr(column, 1, MAX_RECEIPT_BYTES + 1 if column.name == "body" else 300)
        if column.name in ("stream", "hash", "body", "kind", "tenant_id", "worker_id", "outcome", "code")
        else column
        for column in tables.receipts.c
    ])  # fmt: skip
    query = query.order_by(tables.receipts.c.position).execution_options(yield_per=500) if of is None else of(query)
    for row in connection.execute(query):
        position, stream, seq, digest, body, kind, at_ms, tenant, worker, outcome, code, key, decision, correlation = (
            row
        )
        texts = (stream, digest, kind, tenant, worker, outcome, code)
        numbers = (position, seq, at_ms, key, decision, correlation)
        typed = all(isinstance(one, str) for one in texts) and all(isinstance(one, int) for one in numbers)
        if not typed or not isinstance(body, bytes):
            place = position if isinstance(position, int) else 0
            raise ReceiptsBroken("unreadable", place, "a column is of another type")
        # A key that does not fit the hash hides the receipt from a search. An empty kind makes the later check fail.
        index = ReceiptIndex(
            kind if key == key_of(digest) else "", at_ms, tenant, worker, outcome, code, decision, correlation
        )
        yield ChainRow(position, stream, seq, digest, body, index)


def _batches(connection: Connection) -> Iterator[Batch]:
    from sqlalchemy import func, select

    from wcp_route.storage import tables

    columns = tables.batches.c
    query = select(
        columns.number,
        func.substr(columns.statement, 1, MAX_STATEMENT_BYTES + 1),
        func.substr(columns.key_id, 1, 200),
        func.substr(columns.signature, 1, 200),
        columns.first_position,
        columns.state_seq,
    ).order_by(columns.number)
    for number, statement, key_id, signature, first, seq in connection.execute(query.execution_options(yield_per=100)):
        whole = isinstance(statement, bytes) and isinstance(key_id, str | None) and isinstance(signature, bytes | None)
        batch = Batch(number, statement, key_id, signature) if whole else Batch(number, b"", None, None)
        try:
            read = BatchStatement.from_bytes(batch.statement)
            repeated = (read.first_position, read.state.seq) == (first, seq)
        except ConfigError:
            repeated = True  # the later check reports the problem
        yield batch if repeated else Batch(number, b"", None, None)


def _origin(connection: Connection) -> Origin:
    from sqlalchemy import select

    from wcp_route.storage import tables

    row = connection.execute(select(tables.origins)).first()
    if row is None:
        return Origin()
    try:
        return Origin.from_statement(row.statement, row.key_id, row.signature)
    except (ConfigError, TypeError) as problem:
        raise ReceiptsBroken("unreadable", 0, str(problem)) from None
