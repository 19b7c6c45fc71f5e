"""A registry in the state file."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.clock import now_ms
from wcp_route.domain.values import Quarantine
from wcp_route.storage.database import StateError, connect, failures, transaction
from wcp_route.storage.registry.shared import MAX_REASON, Reading, check_place, check_room, freeze

if TYPE_CHECKING:
    from wcp_route.domain.values import RegistrySnapshot, WorkerRecord


class SqliteRegistry(Reading):
    """Kept in the state file, for several processes: a change by one is seen by the next decision of every other.

    Every change leaves a row in `registry_log`, whose number is the version of the registry.

    Args:
        path: the state file; made when it is not there.

    Raises:
        StateError: the file cannot be used.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._writer = connect(path)
        self._reader = connect(path)  # of its own, so that a decision never waits for a change
        self._asking = self._reader.cursor()
        self._seen: int | None = None
        self._snapshot = freeze(0, {}, {})
        self._parsed: dict[str, tuple[bytes, WorkerRecord]] = {}

    def close(self) -> None:
        """Close the file."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    def snapshot(self) -> RegistrySnapshot:
        """Return the present state.

        Raises:
            StateError: the file cannot be read, or holds a record that cannot be.
        """
        with self._reading:
            try:
                (seen,) = self._asking.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                seen = None  # reading the tables says what is wrong
            if seen is None or seen != self._seen:
                with failures(self._path):
                    self._look_again()
                self._seen = seen
            return self._snapshot

    def enrol(self, record: WorkerRecord, *, replace: bool = False) -> None:
        """Add a worker.

        Args:
            record: what is known of it.
            replace: whether it may take the place of an earlier record, of which nothing stays.

        Raises:
            RegistryError: the id is known and `replace` is not set, or there are too many workers.
            StateError: the file cannot be written.
        """
        from wcp_route.domain.record_model import dump_record

        data = dump_record(record)
        with self._writing, failures(self._path), transaction(self._writer):
            known = self._writer.execute("SELECT 1 FROM workers WHERE worker_id = ?", (record.worker_id,)).fetchone()
            check_place(record.worker_id, known=known is not None, replace=replace)
            (count,) = self._writer.execute("SELECT count(*) FROM workers").fetchone()
            check_room(count - (known is not None))
            self._writer.execute(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", (record.worker_id, data, record.package_root)
            )
            self._log("enrol", record.worker_id)

    def withdraw(self, worker_id: str) -> bool:
        """Remove a worker; tell whether it was there. A quarantine stays.

        Raises:
            StateError: the file cannot be written.
        """
        with self._writing, failures(self._path), transaction(self._writer):
            gone = self._writer.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,)).rowcount
            if gone:
                self._log("withdraw", worker_id)
        return bool(gone)

    def quarantine(self, worker_id: str, reason: str, *, by: str, at_ms: int) -> None:
        """Bar a worker until `clear`; when it is barred already, the first reason stays.

        Raises:
            StateError: the file cannot be written.
        """
        row = (worker_id, reason[:MAX_REASON], by, at_ms)
        with self._writing, failures(self._path), transaction(self._writer):
            if self._writer.execute("INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?)", row).rowcount:
                self._log("quarantine", *row)

    def clear(self, worker_id: str, *, by: str, at_ms: int) -> bool:
        """End a quarantine; tell whether there was one.

        Raises:
            StateError: the file cannot be written.
        """
        with self._writing, failures(self._path), transaction(self._writer):
            gone = self._writer.execute("DELETE FROM quarantine WHERE worker_id = ?", (worker_id,)).rowcount
            if gone:
                self._log("clear", worker_id, "", by, at_ms)
        return bool(gone)

    def _log(self, action: str, worker_id: str, reason: str = "", by: str = "", at_ms: int | None = None) -> None:
        self._writer.execute(
            "INSERT INTO registry_log (action, worker_id, reason, by, at_ms) VALUES (?, ?, ?, ?, ?)",
            (action, worker_id, reason, by, now_ms() if at_ms is None else at_ms),
        )

    def _look_again(self) -> None:
        """The file was written to; make a new snapshot if it was the registry. Receipts go into the same file."""
        self._reader.execute("BEGIN")
        try:
            (version,) = self._reader.execute("SELECT ifnull(max(version), 0) FROM registry_log").fetchone()
            if version != self._snapshot.version:
                self._snapshot = freeze(version, self._read_workers(self._reader), self._read_quarantine())
        finally:
            self._reader.execute("ROLLBACK")

    def _read_workers(self, connection: sqlite3.Connection) -> dict[str, WorkerRecord]:
        """Read all records; those that are as they were are not parsed again."""
        parsed: dict[str, tuple[bytes, WorkerRecord]] = {}
        for worker_id, data, root in connection.execute("SELECT worker_id, record, package_root FROM workers"):
            before = self._parsed.get(worker_id)
            record = before[1] if before is not None and before[0] == data else self._parse(worker_id, data)
            parsed[worker_id] = (data, record if record.package_root == root else replace(record, package_root=root))
        self._parsed = parsed
        return {worker_id: record for worker_id, (_, record) in parsed.items()}

    def _parse(self, worker_id: str, data: bytes) -> WorkerRecord:
        from wcp_route.domain.record_model import parse_record

        try:
            record = parse_record(data)
        except ConfigError as problem:
            raise StateError(f"the record of `{worker_id}` in `{self._path}` is damaged: {problem}") from None
        if record.worker_id != worker_id:
            raise StateError(f"the record of `{worker_id}` in `{self._path}` is damaged: it names another worker")
        return record

    def _read_quarantine(self) -> dict[str, Quarantine]:
        rows = self._reader.execute("SELECT worker_id, reason, by, at_ms FROM quarantine")
        return {row[0]: Quarantine(*row) for row in rows}
