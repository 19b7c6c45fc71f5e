"""Controls: who must provide them, and which are missing (conformance row 9).

A control of `worker` scope counts only on the worker that will run; one worker's audit log says nothing about
another's. A control of `platform` or `hall` scope counts when the platform or the Hall provides it, or a worker in
good standing does: enrolled for this environment, not in quarantine, and attested by this Hall now. A record alone
proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_route.config import HALL_CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_route.config import HallConfig
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.domain.values import RegistrySnapshot

MAX_PROVIDERS = 8  # workers that are attested to find one that provides a control
MAX_LISTS = 100_000  # remembered; more than rules and workers hold


class Controls:
    """Tells which controls are missing under one Hall's settings.

    Args:
        config: the settings: who must provide which control, and which controls the platform and the Hall provide.
    """

    def __init__(self, config: HallConfig) -> None:
        self._config = config
        self._present = HALL_CONTROLS | config.controls_present
        self._providers: tuple[int, Mapping[str, tuple[WorkerRecord, ...]]] = (-1, {})
        self._split: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def missing_around(
        self, required: tuple[str, ...], snapshot: RegistrySnapshot, is_attested: Callable[[WorkerRecord], bool]
    ) -> list[str]:
        """Return the required controls of platform and hall scope that nobody provides, in the order given.

        Args:
            required: control ids.
            snapshot: the registry.
            is_attested: tells whether a worker is what a trusted signer released.
        """
        missing, _ = self._split.get(required) or self._part(required)
        if not missing:
            return []
        providers = self._providers_in(snapshot)
        return [name for name in missing if not any(map(is_attested, providers.get(name, ())[:MAX_PROVIDERS]))]

    def _providers_in(self, snapshot: RegistrySnapshot) -> Mapping[str, tuple[WorkerRecord, ...]]:
        """Return the workers that declare a control, may run in this environment and are not in quarantine."""
        version, known = self._providers
        if version == snapshot.version:
            return known
        found: dict[str, list[WorkerRecord]] = {}
        for worker_id, worker in snapshot.workers.items():
            if worker_id not in snapshot.quarantined and self._config.env in worker.allowed_environments:
                for name in worker.currently_implements:
                    found.setdefault(name, []).append(worker)
        kept = {name: tuple(workers) for name, workers in found.items()}
        self._providers = (snapshot.version, kept)
        return kept

    def missing_on(self, required: tuple[str, ...], worker: WorkerRecord) -> list[str]:
        """Return the required controls of worker scope that the worker does not implement, in the order given."""
        _, own = self._split.get(required) or self._part(required)
        return [name for name in own if name not in worker.currently_implements]

    def _part(self, required: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Split controls: those around the worker that the settings do not provide, and those on the worker itself."""
        own = tuple([name for name in required if self._config.scope_of(name) == "worker"])
        around = tuple([name for name in required if name not in own and name not in self._present])
        if len(self._split) < MAX_LISTS:
            self._split[required] = around, own
        return around, own
