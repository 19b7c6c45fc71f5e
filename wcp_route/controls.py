"""Controls: who must provide them, and which are missing (wcp 15.9).

A control of `worker` scope counts only on the worker that is about to run; one worker's audit log says nothing about
another's. `platform` and `hall` scope count when the platform, the Hall or any enrolled worker in good standing
provides them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_route.config import HALL_CONTROLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_route.config import HallConfig
    from wcp_route.values import RegistrySnapshot, WorkerRecord


def missing_around(required: Iterable[str], config: HallConfig, snapshot: RegistrySnapshot) -> list[str]:
    """Return the required controls of platform and hall scope that nobody provides, in the order given."""
    return [
        control
        for control in required
        if control not in HALL_CONTROLS
        and config.scope_of(control) != "worker"
        and control not in config.controls_present
        and control not in snapshot.implemented
    ]


def missing_on(required: Iterable[str], config: HallConfig, worker: WorkerRecord) -> list[str]:
    """Return the required controls of worker scope that the worker does not implement, in the order given."""
    return [
        control
        for control in required
        if config.scope_of(control) == "worker" and control not in worker.currently_implements
    ]
