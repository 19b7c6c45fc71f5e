"""A registry in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wcp_route.domain.values import Quarantine
from wcp_route.storage.registry.shared import MAX_REASON, Reading, check_place, check_room, freeze

if TYPE_CHECKING:
    from wcp_route.domain.values import RegistrySnapshot, WorkerRecord


class MemoryRegistry(Reading):
    """Lives as long as the process; for tests, development and Halls that enrol at start."""

    never_waits = True  # no decision needs a thread for it

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[str, WorkerRecord] = {}
        self._quarantined: dict[str, Quarantine] = {}
        self._version = 0
        self._snapshot: RegistrySnapshot | None = None

    def snapshot(self) -> RegistrySnapshot:
        """Return the present state; made at the first look after a change."""
        found = self._snapshot
        if found is None:
            with self._lock:
                found = self._snapshot = freeze(self._version, self._workers, self._quarantined)
        return found

    def enrol(self, record: WorkerRecord, *, replace: bool = False) -> None:
        """Add a worker.

        Args:
            record: what is known of it.
            replace: whether it may take the place of an earlier record, of which nothing stays.

        Raises:
            RegistryError: the id is known and `replace` is not set, or there are too many workers.
        """
        with self._lock:
            check_place(record.worker_id, known=record.worker_id in self._workers, replace=replace)
            check_room(len(self._workers) - (record.worker_id in self._workers))
            self._workers[record.worker_id] = record
            self._changed()

    def withdraw(self, worker_id: str) -> bool:
        """Remove a worker; tell whether it was there. A quarantine stays."""
        with self._lock:
            found = self._workers.pop(worker_id, None) is not None
            if found:
                self._changed()
        return found

    def quarantine(self, worker_id: str, reason: str, *, by: str, at_ms: int) -> None:
        """Bar a worker until `clear`; when it is barred already, the first reason stays."""
        with self._lock:
            if worker_id not in self._quarantined:
                self._quarantined[worker_id] = Quarantine(worker_id, reason[:MAX_REASON], by, at_ms)
                self._changed()

    def clear(self, worker_id: str, *, by: str, at_ms: int) -> bool:  # noqa: ARG002  # there is no log to write to
        """End a quarantine; tell whether there was one."""
        with self._lock:
            found = self._quarantined.pop(worker_id, None) is not None
            if found:
                self._changed()
        return found

    def _changed(self) -> None:
        self._version += 1
        self._snapshot = None
