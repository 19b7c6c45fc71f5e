"""Where receipts are kept: in memory (tests, development) or in the state file."""

from __future__ import annotations

import itertools
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol, Self

from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.clock import now_ms
from wcp_route.storage.database import connect, failures, transaction
from wcp_route.storage.receipts.body import drafts
from wcp_route.storage.receipts.chain import MAX_BATCH, Batch, Row, Statement, Tip, link, seal
from wcp_route.storage.receipts.receipt import Head, ReceiptError
from wcp_route.storage.receipts.writer import Group, GroupWriter

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from wcp_route.domain.decision import Evidence
    from wcp_route.storage.receipts.sign import ReceiptSigner

MAX_HEADS: Final = 4096  # streams whose end is remembered; the others are looked up again
INSERT_SIZES: Final = (128, 16, 1)  # rows of one statement; each size is prepared once

_ROW: Final = "(?, ?, ?, ?, ?, ?)"
_INSERTS: Final = {
    size: "INSERT INTO receipts VALUES " + ", ".join([_ROW] * size)  # noqa: S608  # question marks
    for size in INSERT_SIZES
}


class Waitable(Protocol):
    """Receipts on their way."""

    def wait(self) -> None:
        """Return when they are durable. Raises `ReceiptError` when they are not, or not known to be."""


class ReceiptStore(Protocol):
    """Takes evidence and makes it last."""

    def append(self, evidence: Sequence[Evidence], /) -> None:
        """Return when a receipt of each is durable; up to `MAX_BATCH` are one transaction.

        Raises:
            ReceiptError: they are not, or not known to be; what they are about must not be acknowledged.
        """

    def submit(self, evidence: Sequence[Evidence], /) -> Waitable:
        """Begin to `append`; nothing must be acknowledged before `wait` has returned. Raises `ReceiptError`."""

    def close(self) -> None:
        """Finish what is waiting and let go of everything."""


class _Done:
    """Nothing to wait for."""

    def wait(self) -> None:
        """Return."""


class MemoryReceipts:
    """Keeps receipts as long as the process lives; chained and sealed as in the state file.

    Args:
        signer: who vouches for the batches.
        clock: the time, milliseconds since 1970.
    """

    def __init__(self, *, signer: ReceiptSigner | None = None, clock: Callable[[], int] = now_ms) -> None:
        self._signer, self._clock = signer, clock
        self._lock = threading.Lock()
        self._heads: dict[str, Head] = {}
        self._tip = Tip()
        self.rows: list[Row] = []
        self.batches: list[Batch] = []

    durable = False

    @property
    def signed(self) -> bool:
        """Whether somebody vouches for the batches."""
        return self._signer is not None

    def append(self, evidence: Sequence[Evidence], /) -> None:
        """Add a receipt of each.

        Raises:
            ReceiptError: one of them cannot be written; none is.
        """
        waiting = drafts(evidence)
        for start in range(0, len(waiting), MAX_BATCH):
            part = waiting[start : start + MAX_BATCH]
            with self._lock:
                heads = {one.stream: self._heads.get(one.stream, Head()) for one in part}
                rows, moved = link(part, heads, self._tip.position)
                batch, self._tip = seal([row.hash for row in rows], self._tip, at_ms=self._clock(), signer=self._signer)
                self._heads.update(moved)
                self.rows += rows
                self.batches.append(batch)

    def submit(self, evidence: Sequence[Evidence], /) -> Waitable:
        """Do as `append` does.

        Raises:
            ReceiptError: one of them cannot be written.
        """
        self.append(evidence)
        return _Done()

    def close(self) -> None:
        """Do nothing; the receipts can still be read."""


class SqliteReceipts:
    """Keeps receipts in the state file, several processes if need be: each batch is one immediate transaction.

    Args:
        path: the state file; made when it is not there.
        signer: who vouches for the batches; without one, only a copy kept elsewhere shows a rewritten history.
        clock: the time, milliseconds since 1970.

    Raises:
        StateError: the file cannot be used.
    """

    def __init__(self, path: str, *, signer: ReceiptSigner | None = None, clock: Callable[[], int] = now_ms) -> None:
        self._path, self._signer, self._clock = path, signer, clock
        self._connection = connect(path)
        self._heads: dict[str, Head] = {}
        self._tip = Tip()
        self._seen_version: int | None = None
        self._writer = GroupWriter(self._commit, self._connection.close)

    durable = True

    @property
    def signed(self) -> bool:
        """Whether somebody vouches for the batches."""
        return self._signer is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, evidence: Sequence[Evidence], /) -> None:
        """Return when a receipt of each is on disk; up to `MAX_BATCH` are one transaction.

        Raises:
            ReceiptError: they are not, or not known to be.
        """
        self.submit(evidence).wait()

    def submit(self, evidence: Sequence[Evidence], /) -> Waitable:
        """Begin to `append`, so that the caller can go on deciding while the disk works.

        Raises:
            ReceiptError: one of them cannot be written, or there was no room for them in time.
        """
        return self._writer.put(drafts(evidence))

    def close(self) -> None:
        """Write what is waiting and close the file.

        Raises:
            ReceiptError: the writer is stuck.
        """
        self._writer.close()

    def _commit(self, groups: Sequence[Group], prepared: Callable[[], None]) -> None:
        """Make the groups durable in one transaction, or say in each why not."""
        written: list[Group] = []
        try:
            with failures(self._path):
                with transaction(self._connection):
                    self._look_again(self._connection)
                    written, moved, tip = self._insert(self._connection, groups)
                    prepared()
                self._tip = tip
                self._heads.update(moved)
                if len(self._heads) > MAX_HEADS:
                    self._heads.clear()
        except Error as problem:  # the file's, or the signer's
            self._seen_version = None  # whatever was thought to be there is read again
            for group in groups:
                group.problem = ReceiptError(str(problem))
        else:
            for group in written:
                group.problem = None

    def _insert(
        self, connection: sqlite3.Connection, groups: Sequence[Group]
    ) -> tuple[list[Group], Mapping[str, Head], Tip]:
        rows: list[Row] = []
        moved: dict[str, Head] = {}
        written: list[Group] = []
        for group in groups:
            heads = {stream: moved.get(stream) or self._head(stream) for stream in {one.stream for one in group.drafts}}
            try:
                added, further = link(group.drafts, heads, self._tip.position + len(rows))
            except ReceiptError as problem:  # its own fault: the others are written
                group.problem = problem
                continue
            rows += added
            moved.update(further)
            written.append(group)
        if not rows:
            return written, moved, self._tip
        batch, tip = seal([row.hash for row in rows], self._tip, at_ms=self._clock(), signer=self._signer)
        _insert_rows(connection, rows)
        connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", batch)
        return written, moved, tip

    def _look_again(self, connection: sqlite3.Connection) -> None:
        """Read the end of the store afresh when another connection may have moved it."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen_version:
            return
        self._heads.clear()
        self._tip, signed = _read_tip(connection, self._path)
        if signed and self._signer is None:
            raise ReceiptError(f"the receipts in `{self._path}` are signed; open it with a receipt key")
        self._seen_version = version

    def _head(self, stream: str) -> Head:
        known = self._heads.get(stream)
        if known is None:
            row = self._connection.execute(
                "SELECT seq, hash FROM receipts WHERE stream = ? ORDER BY seq DESC LIMIT 1", (stream,)
            ).fetchone()
            known = self._heads[stream] = Head() if row is None else Head(*row)
        return known


def _insert_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert many rows with few statements.

    Every statement hands the interpreter's lock to whoever decides meanwhile, and may wait 5 ms to get it back.
    """
    start = 0
    for size in INSERT_SIZES:
        while len(rows) - start >= size:
            values = list(itertools.chain.from_iterable(rows[start : start + size]))
            connection.execute(_INSERTS[size], values)
            start += size


def _read_tip(connection: sqlite3.Connection, path: str) -> tuple[Tip, bool]:
    """Return where the store ends, and whether that is signed; nothing is added to an end that is not whole."""
    last = connection.execute("SELECT position, hash FROM receipts ORDER BY position DESC LIMIT 1").fetchone()
    batch = connection.execute("SELECT number, statement, key_id FROM batches ORDER BY number DESC LIMIT 1").fetchone()
    if last is None and batch is None:
        return Tip(), False
    broken = ReceiptError(f"the receipts in `{path}` do not end with a sealed batch; run `receipts verify` on it")
    if last is None or batch is None:
        raise broken
    try:
        statement = Statement.from_bytes(batch[1])
    except ConfigError:
        raise broken from None
    end = statement.first_position + len(statement.hashes) - 1
    if statement.batch != batch[0] or (end, statement.hashes[-1:]) != (last[0], (last[1],)):
        raise broken
    return Tip(end, statement.batch, sha256(batch[1]).hexdigest()), batch[2] is not None
