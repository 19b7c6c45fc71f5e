"""Choose who hashes: this process, helper processes, or an executor that the caller brings."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.batches import do, second_looks
from wcp_attest.disk.hashing import Worker
from wcp_attest.disk.options import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from wcp_attest.disk.batches import Done, Job
    from wcp_attest.disk.hashing import Task
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.walk import Root, Walk

WORTH_FILES = 1500  # a helper takes as long to start as a process needs for about so many small files
WORTH_BYTES = 24 * 1024 * 1024  # or for so many bytes
MAX_JOBS = 256
_DEFAULT_JOBS = 8  # more of them seldom wait for the processor rather than for the disk
_PROGRESS_SECONDS = 0.05


def hash_all(
    root: Root,
    jobs: Iterator[Job],
    task: Task,
    options: ReadOptions,
    *,
    walk: Walk,
    many: bool = False,
    total: int | None = None,
) -> Generator[Done, None, None]:
    """Do jobs, yield what came of them in their order, and at the end look at every directory again.

    Args:
        root: of the tree.
        jobs: cut from `walk`.
        task: what is asked of every file.
        options: how to read.
        walk: what the jobs are cut from.
        many: whether at least `WORTH_FILES` are expected, so that it is clear beforehand that helpers are worth it.
        total: how many files there will be, where that is known.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile.
        ConfigError: the staged copy cannot be written, or `jobs` is out of range.
    """
    results = _results(root, jobs, task, options, walk, many=many)
    try:
        yield from results if options.progress is None else _reported(results, options.progress, total)
    except TreeUnsafe as refusal:
        from wcp_attest.disk.unsafe import with_others

        raise with_others(refusal, root, walk.rules) from None


def _reported(
    results: Generator[Done, None, None], report: Callable[[Progress], None], total: int | None
) -> Generator[Done, None, None]:
    """Pass results on, and report from time to time and at the end."""
    files = size = 0
    next_time = 0.0
    for result in results:
        files += result.files
        size += result.size
        yield result
        if monotonic() >= next_time:
            report(Progress(files, size, total))
            next_time = monotonic() + _PROGRESS_SECONDS
    report(Progress(files, size, total))


def _results(
    root: Root, jobs: Iterator[Job], task: Task, options: ReadOptions, walk: Walk, *, many: bool
) -> Generator[Done, None, None]:
    processes = _processes(options.jobs)
    walk.stat_first = WORTH_FILES if processes > 1 or options.executor is not None else 0
    if options.executor is not None:
        from wcp_attest.disk.remote import hash_with_executor

        yield from hash_with_executor(root, jobs, task, options.executor)
        jobs = iter(())
    elif processes > 1 and _can_start_helpers():
        begun = [] if many else _until_worth(jobs, walk)
        jobs = chain(begun, jobs)
        if many or _is_worth(walk):
            from wcp_attest.disk.crew import hash_with_helpers

            yield from hash_with_helpers(root.descriptor, (jobs, walk.folders), task, processes)
            return
    with closing(Worker(root.descriptor, task)) as worker:
        for job in jobs:
            yield do(worker, job)
        for job in second_looks(walk.folders):
            do(worker, job)


def _until_worth(jobs: Iterator[Job], walk: Walk) -> list[Job]:
    """Draw jobs until it is clear that helpers are worth starting, or there are no more."""
    begun: list[Job] = []
    for job in jobs:
        begun.append(job)
        if _is_worth(walk):
            break
    return begun


def _is_worth(walk: Walk) -> bool:
    return walk.files >= WORTH_FILES or walk.size >= WORTH_BYTES


def _processes(wanted: int | None) -> int:
    if wanted is None:
        return min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _DEFAULT_JOBS
        )
    if not 1 <= wanted <= MAX_JOBS:
        raise ConfigError(f"jobs is {wanted}; give a number from 1 to {MAX_JOBS}")
    return wanted


def _can_start_helpers() -> bool:
    """Tell whether this is a POSIX system and a plain interpreter, and the package lies in files."""
    plain = not getattr(sys, "frozen", False) and os.path.basename(sys.executable or "").startswith(("python", "pypy"))
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "helper.py")
    return plain and hasattr(os, "posix_spawn") and os.path.isfile(program)
