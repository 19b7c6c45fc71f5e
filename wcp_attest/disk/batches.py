"""Cut a walk into jobs of a good size for hashing, and do one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import ConfigError, MachineError, TreeUnsafe
from wcp_attest.disk.directory import FileProblem, Identity
from wcp_attest.disk.walk import Folder, Link, Run
from wcp_attest.package.entries import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wcp_attest.disk.hashing import Worker

    Expect = Callable[[Run | Link], bytes | None]
    Request = tuple[str, Identity, list[str], bytes | str | None]
    Result = tuple[bytes | None, bytes, int]

JOB_FILES = 128  # enough that handing a job over costs little beside it, few enough that none waits for another long
JOB_FOLDERS = 64  # likewise, of directories to be looked at again
JOB_NAMES = 64 * 1024  # and of characters in their names
JOB_BYTES = 8 * 1024 * 1024  # likewise, where sizes are known


class Part(NamedTuple):
    """Files of one directory; without files, a directory to be looked at again; without that, a ready line.

    Attributes:
        folder: the directory, or None.
        names: of the files, or none.
        expected: the lines they should have, joined, or None to take what is there.
        line: the ready line.
    """

    folder: Folder | None
    names: list[str]
    expected: bytes | None
    line: bytes = b""

    def path_of(self, index: int) -> str:
        """Return the path of one of the files."""
        return (self.folder.path if self.folder is not None else "") + self.names[index]


class Job(NamedTuple):
    """Parts that follow one another, and how many files they have together."""

    parts: list[Part]
    files: int


class Done(NamedTuple):
    """What came of a job.

    Attributes:
        blocks: manifest lines as found, in order, joined for each part.
        records: records of the package hash, joined.
        files: how many regular files there were.
        size: how many bytes were read.
        as_expected: whether every line is the one that was expected.
    """

    blocks: list[bytes]
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
    files = size = 0
    for step in _short_runs(walk):
        if isinstance(step, Link):
            parts.append(Part(None, [], expect(step), step.line))
        else:
            parts.append(Part(step.folder, step.names, expect(step)))
            files += len(step.names)
            size += sum(step.sizes or ())
        if files >= JOB_FILES or len(parts) >= JOB_FILES or size >= JOB_BYTES:
            yield Job(parts, files)
            parts, files, size = [], 0, 0
    if parts:
        yield Job(parts, files)


def second_looks(folders: Sequence[Folder]) -> Iterator[Job]:
    """Yield the jobs of seeing that every directory is as it was listed, to be done when everything has been read."""
    parts: list[Part] = []
    length = 0
    for folder in folders:
        parts.append(Part(folder, [], None))
        length += len(folder.names)
        if len(parts) >= JOB_FOLDERS or length >= JOB_NAMES:
            yield Job(parts, 0)
            parts, length = [], 0
    if parts:
        yield Job(parts, 0)


def do(worker: Worker, job: Job) -> Done:
    """Hash the files of a job here and now.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile.
        ConfigError: the staged copy cannot be written.
    """
    results: list[Result | None] = []
    for part in job.parts:
        wanted = request(part)
        try:
            hashed = None if wanted is None else worker.answer(*wanted)
        except FileProblem as problem:
            raise as_error(problem) from None
        results.append(None if hashed is None else hashed.result(None))
    return assemble(job, results)


def request(part: Part) -> Request | None:
    """Return what another process must know of a part, None when there is nothing to do.

    For a directory to be looked at again there are no names, and its listing in place of the lines.
    """
    if part.folder is None:
        return None
    path, identity, listing = part.folder
    return path, identity, part.names, part.expected if part.names else listing


def assemble(job: Job, results: object) -> Done:
    """Put together what came of the parts of a job.

    Args:
        job: what was asked.
        results: for each part its lines (None when as expected), records and size; None for a ready line. They come
            from another process, or from an executor that is not ours, so they are believed only in this shape.

    Raises:
        ValueError: the results do not fit the job.
    """
    if not isinstance(results, list | tuple) or len(results) != len(job.parts):
        raise ValueError("not one result for each part")
    lines: list[bytes] = []
    records: list[bytes] = []
    size = 0
    for part, result in zip(job.parts, results, strict=True):
        if not part.names:
            lines.append(part.line)
            continue
        found, record, read = _checked(part, result)
        lines.append(found)
        records.append(record)
        size += read
    as_expected = all(part.expected == found for part, found in zip(job.parts, lines, strict=True))
    return Done(lines, b"".join(records), job.files, size, as_expected)


def _checked(part: Part, result: object) -> tuple[bytes, bytes, int]:
    """Return a result that has the shape of an answer to this part."""
    if not isinstance(result, list | tuple) or len(result) != 3:
        raise ValueError("a result is not a triple")
    found, record, size = result
    found = part.expected if found is None else found
    if not isinstance(found, bytes) or not isinstance(record, bytes) or not isinstance(size, int) or size < 0:
        raise ValueError("a result holds the wrong types")
    all_read = part.expected is None or part.expected == found
    if found.count(b"\n") != len(part.names) - 1 or (all_read and record.count(b"\n") != 3 * len(part.names)):
        raise ValueError("a result holds too few or too many lines")
    return found, record, size


def split(job: Job, part: int, index: int) -> tuple[Job, Job | None]:
    """Split a job behind one of its files, given by its part and its place in it; the second half may be nothing."""
    at = job.parts[part]
    names, expected = at.names[: index + 1], at.expected
    rest: list[Part] = []
    if index + 1 < len(at.names):
        lines = None if expected is None else expected.split(SEPARATOR)
        tail = None if lines is None else SEPARATOR.join(lines[index + 1 :])
        rest.append(Part(at.folder, at.names[index + 1 :], tail))
        expected = None if lines is None else SEPARATOR.join(lines[: index + 1])
    first = [*job.parts[:part], Part(at.folder, names, expected)]
    rest += job.parts[part + 1 :]
    return _job(first), _job(rest) if rest else None


def _job(parts: list[Part]) -> Job:
    return Job(parts, sum(len(part.names) for part in parts))


def as_error(problem: FileProblem) -> TreeUnsafe | ConfigError | MachineError:
    """Return the error that tells of a file's problem."""
    text = f"{problem.path or '.'!r} {problem.reason}"
    if problem.fault == "machine":
        return MachineError(text)
    return ConfigError(text) if problem.fault == "copy" else TreeUnsafe(text)


def _short_runs(walk: Iterable[Run | Link]) -> Iterator[Run | Link]:
    for step in walk:
        if isinstance(step, Link):
            yield step
            continue
        start = 0
        while start < len(step.names):
            end = _end_of_run(step, start)
            yield Run(step.folder, step.names[start:end], step.sizes and step.sizes[start:end])
            start = end


def _end_of_run(run: Run, start: int) -> int:
    """Return where to cut a run: at as many files as a job takes, or behind the one that makes it heavy enough."""
    end = min(start + JOB_FILES, len(run.names))
    if run.sizes is None:
        return end
    room = JOB_BYTES
    for index in range(start, end):
        room -= run.sizes[index]
        if room <= 0:
            return index + 1
    return end
