"""What all registries share: the protocol, what can be read from a snapshot, and how one is made."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, Self

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.values import RegistrySnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_route.domain.values import Quarantine, WorkerRecord

MAX_WORKERS: Final = 100_000  # a snapshot of so many is made in about a second
MAX_REASON: Final = 500  # characters


class RegistryError(ConfigError):
    """The worker is enrolled already, or the registry takes no more."""


class Registry(Protocol):
    """What the Hall and the command line need of a registry."""

    def snapshot(self) -> RegistrySnapshot:
        """Return the present state; cheap when nothing changed. Raises `StateError`."""

    def enrol(self, record: WorkerRecord, *, replace: bool = False) -> None:
        """Add a worker. Raises `RegistryError` when its id is known and `replace` is not set, and `StateError`."""

    def withdraw(self, worker_id: str) -> bool:
        """Remove a worker; tell whether it was there. Raises `StateError`."""

    def lookup(self, worker_id: str) -> WorkerRecord | None:
        """Return the record of a worker. Raises `StateError`."""

    def workers(self) -> tuple[WorkerRecord, ...]:
        """Return all records, sorted by worker id. Raises `StateError`."""

    def quarantine(self, worker_id: str, reason: str, *, by: str, at_ms: int) -> None:
        """Bar a worker, enrolled or not; the first reason stays. Raises `StateError`."""

    def clear(self, worker_id: str, *, by: str, at_ms: int) -> bool:
        """End a quarantine; tell whether there was one. Raises `StateError`."""

    def close(self) -> None:
        """Let go of everything."""


class Reading:
    """What every registry can answer from its snapshot."""

    def snapshot(self) -> RegistrySnapshot:
        """Return the present state."""
        raise NotImplementedError

    def lookup(self, worker_id: str) -> WorkerRecord | None:
        """Return the record of a worker, none when it is not enrolled.

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

        Raises:
            StateError: the registry cannot be read.
        """
        return tuple(record for record in self.workers() if capability_id in record.capabilities)

    def worker_ids(self, worker_species_id: str) -> tuple[str, ...]:
        """Return the ids of the enrolled workers of a species, sorted; a species has no authority of its own.

        Raises:
            StateError: the registry cannot be read.
        """
        return tuple(record.worker_id for record in self.snapshot().species.get(worker_species_id, ()))

    def controls_present(self, worker_id: str | None = None) -> frozenset[str]:
        """Return the controls that one worker implements, or that all enrolled ones out of quarantine do together.

        Raises:
            StateError: the registry cannot be read.
        """
        if worker_id is None:
            return self.snapshot().implemented
        record = self.lookup(worker_id)
        return frozenset(() if record is None else record.currently_implements)

    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def freeze(
    version: int, workers: Mapping[str, WorkerRecord], quarantined: Mapping[str, Quarantine]
) -> RegistrySnapshot:
    """Make the frozen view of a registry that has these workers and quarantines."""
    species: dict[str, list[WorkerRecord]] = {}
    implemented: set[str] = set()
    for worker_id in sorted(workers):
        record = workers[worker_id]
        species.setdefault(record.worker_species_id, []).append(record)
        if worker_id not in quarantined:
            implemented.update(record.currently_implements)
    return RegistrySnapshot(
        version=version,
        species=MappingProxyType({name: tuple(records) for name, records in species.items()}),
        workers=MappingProxyType(dict(workers)),
        quarantined=MappingProxyType(dict(quarantined)),
        implemented=frozenset(implemented),
    )


def check_place(worker_id: str, *, known: bool, replace: bool) -> None:
    """Refuse a worker that is enrolled already, unless it is to be replaced.

    Raises:
        RegistryError: it is.
    """
    if known and not replace:
        raise RegistryError(f"worker `{worker_id}` is enrolled already; withdraw it first, or say that it is replaced")


def check_room(others: int) -> None:
    """Refuse one more worker when there are as many others as may be.

    Raises:
        RegistryError: there are.
    """
    if others >= MAX_WORKERS:
        raise RegistryError(f"the registry holds {MAX_WORKERS} workers and takes no more; withdraw some")
