"""The enrolled workers, and which workers must not be used.

    registry = open_state("hall.db").registry
    registry.enroll(record, by="ada")                          # a known worker_id is refused unless replace=True
    registry.snapshot().species["wrk.doc.summarizer"]          # enrolled workers, sorted by worker id
    registry.quarantine("org.acme.summarizer", "DENY_WORKER_TAMPERED", by="hall", at_ms=now_ms())

A decision uses one `snapshot` and nothing else. The snapshot is frozen, has a version number, and is rebuilt only after
a change. Every change is an event of the ledger. Every change except `clear` ends the waiting and approved holds of the
worker. Only an operator's `clear` ends a quarantine; a new enrollment does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.base.identity import namespace_of
from wcp_route.domain.clock import now_ms
from wcp_route.domain.closing import Closing
from wcp_route.storage.holds import check_name
from wcp_route.storage.ledger_state import enrolment, event
from wcp_route.storage.state_errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.domain.values import RegistrySnapshot
    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.ledger_state import LedgerState

__all__ = ["MAX_WORKERS", "LedgerRegistry", "Registry", "RegistryError"]

MAX_WORKERS: Final = 100_000  # a snapshot of this many takes about a second
MAX_REASON: Final = 500  # characters


class Registry(Protocol):
    """What a Hall needs of a registry; `LedgerRegistry` implements it."""

    def snapshot(self) -> RegistrySnapshot:
        """Return the current state; cheap when nothing changed. Raises `StateError`."""

    def quarantine(self, worker_id: str, reason: str, *, by: str, at_ms: int) -> None:
        """Quarantine a worker, enrolled or not; the first reason stays. Raises `StateError`."""


class LedgerRegistry(Closing):
    """The registry, computed from the events of a ledger.

    Args:
        ledger: the ledger that stores the events.

    Attributes:
        ledger: the same ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._snapshot: tuple[object, RegistrySnapshot] | None = None

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def snapshot(self) -> RegistrySnapshot:
        """Return the current state; it is rebuilt at the first call after a change.

        Raises:
            StateError: the ledger cannot be read.
        """
        return self._snapshot_of(self.ledger.state())

    def snapshot_now(self, *, checked_later: bool = False) -> RegistrySnapshot | None:
        """Return the current state, or None when that means to wait for a database or to read new events.

        Args:
            checked_later: True when the receipt is submitted as `current`: its transaction then compares this state
                with the newest one. So the database is not asked now, unless the registry has never changed.

        Raises:
            StateError: the ledger cannot be read.
        """
        known = self.ledger.known_state
        state = known if checked_later and known.registry_seq else self.ledger.state_now()
        return None if state is None else self._snapshot_of(state)

    def _snapshot_of(self, state: LedgerState) -> RegistrySnapshot:
        known = self._snapshot
        if known is not None and (known[0] is state or known[1].version == state.registry_seq):
            return known[1]
        made = state.snapshot()
        self._snapshot = (state, made)
        return made

    def enroll(
        self,
        record: WorkerRecord,
        *,
        replace: bool = False,
        by: str = "library",
        via: str = "library",
        at_ms: int | None = None,
    ) -> None:
        """Add a worker.

        Args:
            record: the worker's record, with its package root.
            replace: whether it may replace an earlier record completely.
            by: the person who enrolls it, a printable name of at most 500 characters. This person
                cannot approve the worker's requests.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
            at_ms: the time of the change, milliseconds since 1970; now when not given.

        Raises:
            RegistryError: the id is enrolled and `replace` is False, or there are too many workers.
            ConfigError: the name is empty, too long, or not printable.
            StateError: the ledger cannot be written.
        """
        check_name(by)

        def plan(state: LedgerState) -> list[JsonObject]:
            known = record.worker_id in state.workers
            if known and not replace:
                raise RegistryError(
                    f"worker `{record.worker_id}` is enrolled already;"
                    " give --replace (from Python `replace=True`) to put this record in its place"
                )
            if len(state.workers) - known >= MAX_WORKERS:
                raise RegistryError(f"the registry holds {MAX_WORKERS} workers and takes no more; withdraw some")
            when = now_ms() if at_ms is None else at_ms
            return [enrolment(record, at_ms=when, by=by, via=via, replaced=known)]

        self.ledger.change(plan)

    enrol = enroll  # the earlier spelling

    def withdraw(self, worker_id: str, *, by: str = "library", via: str = "library", at_ms: int | None = None) -> bool:
        """Remove a worker; return whether it was enrolled. A quarantine stays.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.
            by: the person who does it, a printable name of at most 500 characters.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
            at_ms: the time of the change, milliseconds since 1970; now when not given.

        Raises:
            ConfigError: the name is empty, too long, or not printable.
            StateError: the ledger cannot be written.
        """
        check_name(by)
        when = now_ms() if at_ms is None else at_ms
        return self._once(
            lambda state: worker_id in state.workers,
            lambda: event("worker.withdrawn", at_ms=when, by=by, via=via, worker_id=worker_id),
        )

    def quarantine(self, worker_id: str, reason: str, *, by: str, at_ms: int, via: str = "library") -> None:
        """Quarantine a worker until `clear`. When it is in quarantine already, the first reason stays.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.
            reason: why; the first 500 characters are stored.
            by: the person who does it, a printable name of at most 500 characters.
            at_ms: the time of the change, milliseconds since 1970.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …

        Raises:
            ConfigError: the worker id or the name is not valid.
            StateError: the ledger cannot be written.
        """
        check_name(by)
        try:
            namespace_of(worker_id)
        except Error as problem:  # a mistyped id must not look like a successful quarantine
            raise ConfigError(f"{worker_id[:80]!r} is no worker id like org.acme.summarizer: {problem}") from None
        self._once(
            lambda state: worker_id not in state.quarantined,
            lambda: event(
                "worker.quarantined", at_ms=at_ms, by=by, via=via, worker_id=worker_id, reason=reason[:MAX_REASON]
            ),
        )

    def clear(self, worker_id: str, *, by: str, at_ms: int, via: str = "library", reason: str = "") -> bool:
        """End a quarantine; return whether there was one.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.
            by: the person who does it, a printable name of at most 500 characters.
            at_ms: the time of the change, milliseconds since 1970.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
            reason: why; the first 500 characters are stored.

        Raises:
            StateError: the ledger cannot be written.
        """
        check_name(by)
        return self._once(
            lambda state: worker_id in state.quarantined,
            lambda: event(
                "worker.cleared", at_ms=at_ms, by=by, via=via, worker_id=worker_id, reason=reason[:MAX_REASON]
            ),
        )

    def lookup(self, worker_id: str) -> WorkerRecord | None:
        """Return the record of a worker; None when it is not enrolled.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.

        Raises:
            StateError: the registry cannot be read.
        """
        return self.snapshot().workers.get(worker_id)

    def workers(self) -> tuple[WorkerRecord, ...]:
        """Return all records, sorted by worker id.

        Raises:
            StateError: the registry cannot be read.
        """
        known = self.snapshot().workers
        return tuple(known[worker_id] for worker_id in sorted(known))

    def workers_for_capability(self, capability_id: str) -> tuple[WorkerRecord, ...]:
        """Return the workers that declare a capability, sorted by worker id.

        Args:
            capability_id: the id of the capability, such as `cap.doc.summarize`.

        Raises:
            StateError: the registry cannot be read.
        """
        return tuple(record for record in self.workers() if capability_id in record.capabilities)

    def worker_ids(self, worker_species_id: str) -> tuple[str, ...]:
        """Return the sorted ids of the enrolled workers of a species. A species itself has no authority.

        Args:
            worker_species_id: the id of the species, such as `wrk.doc.summarizer`.

        Raises:
            StateError: the registry cannot be read.
        """
        return tuple(record.worker_id for record in self.snapshot().species.get(worker_species_id, ()))

    def controls_present(self, worker_id: str | None = None) -> frozenset[str]:
        """Return the controls of one worker, or of all enrolled workers that are not in quarantine.

        Args:
            worker_id: the id of the worker; None for all.

        Raises:
            StateError: the registry cannot be read.
        """
        if worker_id is None:
            return self.snapshot().implemented
        record = self.lookup(worker_id)
        return frozenset(() if record is None else record.currently_implements)

    def _once(self, wanted: Callable[[LedgerState], bool], make: Callable[[], JsonObject]) -> bool:
        """Write an event if the state needs it; return whether it was written."""
        done = False

        def plan(state: LedgerState) -> list[JsonObject]:
            nonlocal done
            done = wanted(state)
            return [make()] if done else []

        self.ledger.change(plan)
        return done
