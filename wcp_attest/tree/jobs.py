"""Cut a walk into jobs of a good size for hashing, and do one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.errors import ConfigError, TreeUnsafe
from wcp_attest.tree.hashing import SEPARATOR, FileProblem, Task, hash_folder
from wcp_attest.tree.walk import Folder, Link, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Expect = Callable[[Run | Link], bytes | None]

JOB_FILES = 128  # enough that handing a job over costs little beside it, few enough that none waits for another long
LINE_SEPARATOR = SEPARATOR.encode()


class Part(NamedTuple):
    """Files of one directory, or a ready line when there is no directory.

    Attributes:
        folder: the directory, or None.
        names: of the files.
        expected: the lines they should have, joined, or None to take what is there.
        line: the ready line.
    """

    folder: Folder | None
    names: list[str]
    expected: bytes | None
    line: bytes = b""


class Job(NamedTuple):
    """Parts that follow one another, and how many files they have together."""

    parts: list[Part]
    files: int


class Done(NamedTuple):
    """What came of a job.

    Attributes:
        lines: manifest lines as found, in order, joined.
        records: records of the package hash, joined.
        files: how many regular files there were.
        size: how many bytes were read.
        as_expected: whether every line is the one that was expected.
    """

    lines: bytes
    records: bytes
    files: int
    size: int
    as_expected: bool


def cut(walk: Iterable[Run | Link], expect: Expect) -> Iterator[Job]:
    """Cut a walk into jobs.

    Args:
        walk: in order.
        expect: returns the joined lines that a run or link should have, or None to take what is there.
    """
    parts: list[Part] = []
    files = 0
    for step in _short_runs(walk):
        if isinstance(step, Link):
            parts.append(Part(None, [], expect(step), step.line))
        else:
            parts.append(Part(step.folder, step.names, expect(step)))
            files += len(step.names)
        if files >= JOB_FILES or len(parts) >= JOB_FILES:
            yield Job(parts, files)
            parts, files = [], 0
    if parts:
        yield Job(parts, files)


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
            lines.append(part.line)
            continue
        try:
            hashed = hash_folder(root, part.folder[:2], part.names, part.expected, task)
        except FileProblem as problem:
            raise as_error(problem) from None
        lines.append(hashed.lines)
        records.append(hashed.records)
        size += hashed.size
    return done(job, lines, b"".join(records), size)


def done(job: Job, lines: list[bytes], records: bytes, size: int) -> Done:
    """Put together what came of the parts of a job."""
    as_expected = all(part.expected == found for part, found in zip(job.parts, lines, strict=True))
    return Done(LINE_SEPARATOR.join(lines), records, job.files, size, as_expected)


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
