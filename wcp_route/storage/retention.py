"""Copy a ledger to another place, and remove old receipts without losing the current state.

Pruning writes the current state (workers, quarantine, holds, grants, denied requests) again at the end of the ledger.
Then it removes whole batches from the beginning. The rest begins with a signed statement that names the last removed
batch, so you can still verify it. You can keep the removed receipts as an export.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.clock import now_ms
from wcp_route.storage import tables
from wcp_route.storage.database import Database
from wcp_route.storage.database_errors import failure
from wcp_route.storage.ledger_state import STATE_STREAM, carried
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.chain import BatchStatement
from wcp_route.storage.receipts.read import export_from
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.ledger_state import LedgerState

ROWS: Final = 500  # copied with one statement


def backup(address: str, target: str) -> int:
    """Copy a state, as of one moment, to an empty place. Other processes may go on writing.

    Args:
        address: the state: a file, or `postgresql://user@host/name`.
        target: a file that does not exist, or an empty PostgreSQL database.

    Returns:
        How many receipts were copied.

    Raises:
        StateError: one of them cannot be used, or the target is not empty.
    """
    with (
        closing(Database(address)) as source,
        _removed_unless_whole(target),
        closing(Database(target, create=True)) as copy,
        source.reading() as reading,
        copy.writing(60.0) as writing,
    ):
        if writing.execute(select(func.count()).select_from(tables.batches)).scalar():
            raise StateError(f"state `{copy.name}` holds receipts already; name another place for the copy")
        count = 0
        for table in (tables.origins, tables.batches, tables.receipts):
            key = next(iter(table.primary_key))
            query = select(table).order_by(key).execution_options(yield_per=ROWS)
            for part in _read(source.name, reading, query):
                writing.execute(insert(table), part)
                count += len(part) if table is tables.receipts else 0
    return count


def _read(name: str, connection: Connection, query: Any) -> Iterator[list[dict[str, Any]]]:
    """Return rows, some at a time; what goes wrong is said of the database that is read, not of the copy."""
    try:
        for part in connection.execute(query).mappings().partitions(ROWS):
            yield [dict(row) for row in part]
    except SQLAlchemyError as problem:
        raise failure(name, problem) from problem


@contextmanager
def _removed_unless_whole(target: str) -> Iterator[None]:
    """Remove a file that the block made when the block fails: an empty state must not pass for a copy."""
    ours = "://" not in target and not os.path.lexists(target)
    try:
        yield
    except BaseException:
        for name in (target, f"{target}-wal", f"{target}-shm") if ours else ():
            with suppress(OSError):
                os.unlink(name)
        raise


def prune(
    ledger: Ledger,
    before_ms: int,
    *,
    by: str,
    write: Callable[[bytes], object] | None = None,
    written: Callable[[], object] | None = None,
) -> int:
    """Remove receipts that are older than a moment, in whole batches. The state and the chain go on.

    Args:
        ledger: open for writing.
        before_ms: the moment, milliseconds since 1970.
        by: the person who prunes, a printable name of at most 500 characters.
        write: called with each line of an export of these receipts before they are removed; `verify_export` reads it.
        written: called after the last line, to bring the export to the disk; what it raises keeps all receipts.

    Returns:
        How many receipts were removed.

    Raises:
        ConfigError: the moment is in the future.
        StateError: the ledger cannot be written.
    """
    if before_ms > now_ms():
        raise ConfigError("receipts can only be pruned up to now")
    database = ledger.database
    with database.reading() as connection:
        cut = _last_batch_before(connection, before_ms)
        if cut is None:
            return 0
        if write is not None:
            export_from(connection, write, up_to=cut.batch)
    if written is not None:
        written()
    carried_from = 0

    def restate(state: LedgerState) -> list[JsonObject]:
        nonlocal carried_from
        carried_from = state.seq + 1
        return carried(state, at_ms=now_ms(), by=by)

    ledger.change(restate, seconds=60.0)
    with database.writing(60.0) as connection:
        receipts = tables.receipts.c
        before = connection.execute(
            select(receipts.body).where(receipts.stream == STATE_STREAM, receipts.seq == carried_from)
        ).scalar_one()
        prev = json.loads(before)["prev_receipt_hash"]
        statement = select(tables.batches.c.statement).where(tables.batches.c.number == cut.batch)
        origin = Origin(
            batch=cut.batch,
            batch_hash=sha256(connection.execute(statement).scalar_one()).hexdigest(),
            position=cut.last_position,
            state=cut.state,
            carried_seq=carried_from,
            carried_prev="" if prev is None else str(prev).removeprefix("sha256:"),
        )
        ledger.set_origin(connection, origin)
        removed = connection.execute(delete(tables.receipts).where(receipts.position <= cut.last_position)).rowcount
        connection.execute(delete(tables.batches).where(tables.batches.c.number <= cut.batch))
    return removed


def _last_batch_before(connection: Connection, before_ms: int) -> BatchStatement | None:
    """Return the last batch in which every receipt is older; the newest batch always stays."""
    receipts, batches = tables.receipts.c, tables.batches.c
    first_kept = connection.execute(select(func.min(receipts.position)).where(receipts.at_ms >= before_ms)).scalar()
    newest = connection.execute(select(func.max(batches.number))).scalar()
    if newest is None:
        return None
    wanted = select(batches.statement).where(batches.number < newest)
    if first_kept is not None:
        holding = select(func.max(batches.number)).where(batches.first_position <= first_kept).scalar_subquery()
        wanted = wanted.where(batches.number < holding)
    statement = connection.execute(wanted.order_by(batches.number.desc()).limit(1)).scalar()
    return None if statement is None else BatchStatement.from_bytes(statement)
