"""Run commands in interleaved rounds and take down wall time, processor time and memory."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NOISY = 1.3  # the longest of some runs over the shortest: from here on the median is worth little
DEPENDENT = "PYTHON"  # variables that change how Python runs, such as PYTHONDONTWRITEBYTECODE, are not passed on


@dataclass
class Series:
    """What one command took, round by round.

    Attributes:
        name: what the tables and the bars call it.
        command: what is run.
        before: what must be done before each run, untimed.
        environment: further variables.
        most: how many rounds it takes part in; a peer that takes half a minute need not be asked five times.
        files: how many it reads, for tables of cost a file.
        terminal: whether its standard error is a terminal, as a person has it.
        wall: seconds from start to end, a figure a round.
        processor: seconds of all its processes.
        memory: MiB that the largest of its processes had at most.
        together: MiB of all its processes at once, pages that they share counted once; looked at in the first run only.
    """

    name: str
    command: list[str]
    before: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    most: int = sys.maxsize
    files: int = 0
    terminal: bool = False
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    together: float = 0.0

    def run(self, *, warming: bool = False) -> None:
        """Run the command once, after what must be done before it; when warming up, watch its memory, not its time."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(DEPENDENT)}
        environment |= self.environment
        if self.before is not None:
            subprocess.run(self.before, check=True, stdout=subprocess.DEVNULL, env=environment)
        errors = Terminal() if self.terminal else None
        started = time.perf_counter()
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if errors is None else errors.inner,
            env=environment,
        )
        watch = Watch(process.pid) if warming else None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if errors is not None:
            errors.close()
        if process.returncode:
            raise SystemExit(f"{self.name} ended with status {process.returncode}: {' '.join(self.command)}")
        if watch is not None:
            self.together = watch.most()
            return
        self.wall.append(wall)
        self.processor.append(usage.ru_utime + usage.ru_stime)
        self.memory.append(usage.ru_maxrss / 1024)

    def figure(self, measure: str) -> float:
        """Return the median of `wall` or `processor`, or the most of `memory`."""
        values: list[float] = getattr(self, measure)
        return max(values) if measure == "memory" else statistics.median(values)

    @property
    def spread(self) -> float:
        """How many times the longest run took what the shortest took."""
        return max(self.wall) / min(self.wall)


class Watch:
    """Adds up, time and again, the memory of a process and of those it started; Linux only, elsewhere it sees none."""

    EVERY = 0.01  # seconds

    def __init__(self, process: int) -> None:
        self._most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(process,), daemon=True)
        self._thread.start()

    def most(self) -> float:
        """Stop looking, and return the most that was seen, in MiB."""
        self._over.set()
        self._thread.join()
        return self._most

    def _look(self, process: int) -> None:
        while not self._over.wait(self.EVERY):
            self._most = max(self._most, sum(map(_share, _family(process))) / 1024)


class Terminal:
    """A terminal to write to, whose other end is read and forgotten."""

    def __init__(self) -> None:
        self._outer, self.inner = os.openpty()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of both ends, once everything is read."""
        os.close(self.inner)
        self._thread.join()
        os.close(self._outer)

    def _drain(self) -> None:
        try:
            while os.read(self._outer, 65536):
                pass
        except OSError:  # how Linux says that the other end is closed
            return


def interleave(series: Sequence[Series], rounds: int) -> None:
    """Run each once to warm the page cache, then all of them in turn, so that a disturbance hits none alone.

    Slow ones are not run for warming: by their turn the cache is warm.
    """
    for one in series:
        if one.most >= rounds:
            one.run(warming=True)
    for number in range(rounds):
        for one in series:
            if number < one.most:
                one.run()


class Others:
    """How much of the machine others took while we measured; 0 where the system does not say."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._taken = _busy() - _own()

    def share(self) -> float:
        """Return the part of all processors, 0 to 1, that others had since."""
        taken = _busy() - _own() - self._taken
        return max(taken, 0.0) / ((time.monotonic() - self._started) * (os.cpu_count() or 1))


def _busy() -> float:
    """Return the seconds that all processors together were not idle, stolen ones included."""
    if not os.path.exists("/proc/stat"):
        return _own()
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _waiting, *rest = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return the processor time of this process and of those it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _family(process: int) -> list[int]:
    """Return a process and all that come from it."""
    found = [process]
    try:
        with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
            for child in file.read().split():
                found += _family(int(child))
    except OSError:  # it is over
        pass
    return found


def _share(process: int) -> float:
    """Return the memory of a process in KiB, a page that several share in equal parts."""
    try:
        with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as file:
            return next((float(line.split()[1]) for line in file if line.startswith("Pss:")), 0.0)
    except OSError:
        return 0.0
