"""Run commands in interleaved rounds and take down wall time, processor time and memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Series:
    """What one command took, round by round: seconds of wall and of processor time, MiB of the largest process."""

    name: str
    command: list[str]
    before: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run the command once, after what must be done before it, untimed."""
        environment = os.environ | self.environment
        if self.before is not None:
            subprocess.run(self.before, check=True, stdout=subprocess.DEVNULL, env=environment)
        started = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        self.wall.append(time.perf_counter() - started)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.processor.append(usage.ru_utime + usage.ru_stime)
        self.memory.append(usage.ru_maxrss / 1024)
        if process.returncode:
            raise SystemExit(f"{self.name} ended with status {process.returncode}: {' '.join(self.command)}")

    def summary(self) -> dict[str, float | str]:
        """Return the medians."""
        return {
            "name": self.name,
            "wall": statistics.median(self.wall),
            "wall_least": min(self.wall),
            "processor": statistics.median(self.processor),
            "processor_least": min(self.processor),
            "memory": max(self.memory),
        }


def interleave(series: Sequence[Series], rounds: int) -> None:
    """Run each once to warm the page cache, then all of them in turn, so that a disturbance hits none alone."""
    for one in series:
        one.run()
        one.wall.clear()
        one.processor.clear()
        one.memory.clear()
    for _ in range(rounds):
        for one in series:
            one.run()
