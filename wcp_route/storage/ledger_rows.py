"""Rows of the ledger: give drafts their places in the chain, and write the tables."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from wcp_route.storage import tables
from wcp_route.storage.ledger_state import STATE_STREAM, LedgerState, event
from wcp_route.storage.receipts.chain import Batch, ChainRow, Tip, link
from wcp_route.storage.receipts.receipt import ReceiptHead, key_of
from wcp_route.storage.state_errors import ReceiptError, StateMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.storage.database import Database
    from wcp_route.storage.receipts.body import Draft
    from wcp_route.storage.receipts.writer import Group

INSERT_ROWS: Final = 64  # of receipts in one statement


@dataclass(frozen=True, slots=True)
class Written:
    """What one transaction makes durable."""

    rows: list[ChainRow]
    heads: dict[str, ReceiptHead]
    state: LedgerState
    batches: list[Batch]
    tip: Tip
    of_group: dict[int, list[ChainRow]]


@dataclass(slots=True)
class Placing:
    """Gives drafts their places, and applies the events among them to a copy of the state.

    Attributes:
        before: the state before the transaction.
        position: the position of the last receipt in the ledger.
        head_of: returns the current end of a stream.
        state: the state after the events that were placed.
        rows: the rows that were placed, in order.
        heads: the new ends of the streams that have moved.
        of_group: the rows of each group, by the `id()` of the group.
    """

    before: LedgerState
    position: int
    head_of: Callable[[str], ReceiptHead]
    state: LedgerState = field(init=False)
    rows: list[ChainRow] = field(default_factory=list)
    heads: dict[str, ReceiptHead] = field(default_factory=dict)
    of_group: dict[int, list[ChainRow]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.before

    def place(self, drafts: Sequence[Draft], group: Group | None, *, whole: bool) -> None:
        """Place the drafts of a group. A draft that cannot be written fails alone, or with `whole` all fail together.

        Args:
            drafts: the drafts of the group, in order.
            group: their group; None for corrections, for which no caller waits.
            whole: place all drafts or none.

        Raises:
            Error: with `whole` or for corrections, a draft cannot be written.
        """
        mine: list[ChainRow] = []
        moved: dict[str, ReceiptHead] = {}
        for number, one in enumerate(drafts):
            head = moved.get(one.stream) or self.heads.get(one.stream) or self.head_of(one.stream)
            try:
                if one.registry not in (0, self.state.registry_seq):
                    raise StateMoved("the registry has changed since the decision was made")  # noqa: TRY301  # as `link` does
                row, moved[one.stream] = link(one, head, self.position + len(self.rows) + len(mine) + 1)
            except (ReceiptError, StateMoved) as problem:
                if whole or group is None:
                    raise
                group.problems[number] = problem
                continue
            mine.append(row)
        events = [one.event for one in drafts if one.event is not None]
        if events:
            after = self.before.copy() if self.state is self.before else self.state
            digests = [row.hash for row in mine if row.stream == STATE_STREAM]
            for fields, digest in zip(events, digests, strict=True):
                after.apply({**fields, "seq": after.seq + 1}, digest)
            self.state = after
        self.rows += mine
        self.heads.update(moved)
        if group is not None:
            self.of_group[id(group)] = mine


def corrections_of(rows: Sequence[ChainRow] | Iterator[ChainRow], at_ms: int) -> list[JsonObject]:
    """Return the events that correct receipts whose callers were told that no receipt was stored.

    Args:
        rows: the receipts to correct.
        at_ms: the current time, milliseconds since 1970.
    """
    made: list[JsonObject] = []
    for row in rows:
        fields = json.loads(row.body)
        kind = fields.get("kind")
        if kind == "approval.redeemed":
            made.append(
                event("approval.restored", at_ms=at_ms, by="hall", via="hall",
                      pending_id=fields["pending_id"], grant_hash=fields["grant_hash"])
            )  # fmt: skip
        elif kind == "approval.held":
            made.append(
                event("approval.cancelled", at_ms=at_ms, by="hall", via="hall",
                      pending_id=fields["hold"]["pending_id"], reason="its caller was not told of it")
            )  # fmt: skip
        elif kind is None:
            said = event("decision.corrected", at_ms=at_ms, by="hall", via="hall",
                         corrects=f"sha256:{row.hash}", decision_id=fields["decision_id"],
                         tenant_id=fields["tenant_id"], worker_id=fields["worker_id"], outcome="DENY",
                         deny_code="DENY_RECEIPT_UNAVAILABLE",
                         reason="the caller was told that the receipt could not be stored in time")  # fmt: skip
            made.append(said | {"stream": row.stream})
    return made


def insert_rows(
    connection: Connection, database: Database, rows: Sequence[ChainRow], sealed: Sequence[tuple[Batch, Tip]], tip: Tip
) -> None:
    """Insert many rows with few statements.

    Each statement releases the interpreter's lock to other threads and may wait 5 ms to get it back. On PostgreSQL each
    statement is also a round trip to the server.

    Args:
        connection: a connection in a transaction of the ledger's database.
        database: the database with the tables.
        rows: the receipts, in order.
        sealed: each batch with the end of the chain after it.
        tip: the end of the chain before the first row.
    """
    for start in range(0, len(rows), INSERT_ROWS):
        values: list[object] = []
        part = rows[start : start + INSERT_ROWS]
        for row in part:
            found_by = row.found_by or ()
            values += (*row[:5], *found_by[:6], key_of(row.hash), *found_by[6:])
        database.run(connection, _inserting(database.prefix, "receipts", len(part)), values)
    for batch, end in sealed:
        database.run(
            connection,
            _inserting(database.prefix, "batches", 1),
            (batch.number, tip.position + 1, end.state.seq, batch.statement, batch.key_id, batch.signature),
        )
        tip = end


@lru_cache(maxsize=4 * INSERT_ROWS)
def _inserting(prefix: str, name: str, rows: int) -> str:
    """Return the statement that inserts `rows` rows. PostgreSQL numbers the placeholders, SQLite does not."""
    columns = [column.name for column in getattr(tables, name).c]
    numbers = itertools.count(1)
    marks = [f"({', '.join(f'${next(numbers)}' if prefix else '?' for _ in columns)})" for _ in range(rows)]
    return f"INSERT INTO {prefix}{name} ({', '.join(columns)}) VALUES {', '.join(marks)}"  # noqa: S608
