"""Cut a walk into jobs of a good size for hashing, and do one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.errors import ConfigError, TreeUnsafe
from wcp_attest.tree.hashing import FileProblem, Task, hash_folder
from wcp_attest.tree.walk import Folder, Link, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Expect = Callable[[Run | Link], list[bytes] | None]

JOB_FILES = 128  # enough that handing a job over costs little beside it, few enough that none waits for another long


class Part(NamedTuple):
    """Files of one directory with the lines expected of them, or ready lines when there is no directory."""

    folder: Folder | None
    names: list[str]
    lines: list[bytes] | None


class Job(NamedTuple):
    """Parts that follow one another, and all lines expected of them, where any are."""

    parts: list[Part]
    files: int
    expected: list[bytes] | None


class Done(NamedTuple):
    """What came of a job.

    Attributes:
        lines: manifest lines as found, in order.
        records: records of the package hash, joined.
        files: how many regular files there were.
        size: how many bytes were read.
        expected: the lines that were expected, where any were.
    """

    lines: list[bytes]
    records: bytes
    files: int
    size: int
    expected: list[bytes] | None


def cut(walk: Iterable[Run | Link], expect: Expect) -> Iterator[Job]:
    """Cut a walk into jobs.

    Args:
        walk: in order.
        expect: returns the lines that a run or link should have, or None to take what is there.
    """
    parts: list[Part] = []
    expected: list[bytes] | None = None
    files = 0
    for step in _short_runs(walk):
        lines = expect(step)
        if lines is not None:
            expected = [*expected, *lines] if expected else lines
        if isinstance(step, Link):
            parts.append(Part(None, [], [step.line]))
        else:
            parts.append(Part(step.folder, step.names, lines))
            files += len(step.names)
        if files >= JOB_FILES or len(parts) >= JOB_FILES:
            yield Job(parts, files, expected)
            parts, expected, files = [], None, 0
    if parts:
        yield Job(parts, files, expected)


def do(root: int, job: Job, task: Task) -> Done:
    """Hash the files of a job here and now.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile.
        ConfigError: the staged copy cannot be written.
    """
    lines: list[bytes] = []
    records: list[bytes] = []
    size = 0
    for part in job.parts:
        if part.folder is None:
            lines += part.lines or []
            continue
        try:
            hashed = hash_folder(root, part.folder[:2], part.names, part.lines, task)
        except FileProblem as problem:
            raise as_error(problem) from None
        lines += hashed.lines
        records.append(hashed.records)
        size += hashed.size
    return Done(lines, b"".join(records), job.files, size, job.expected)


def as_error(problem: FileProblem) -> TreeUnsafe | ConfigError:
    """Return the error that tells of a file's problem."""
    return (ConfigError if problem.ours else TreeUnsafe)(f"{problem.path or '.'!r} {problem.reason}")


def _short_runs(walk: Iterable[Run | Link]) -> Iterator[Run | Link]:
    for step in walk:
        if isinstance(step, Run) and len(step.names) > JOB_FILES:
            for start in range(0, len(step.names), JOB_FILES):
                yield Run(step.folder, step.names[start : start + JOB_FILES])
        else:
            yield step
