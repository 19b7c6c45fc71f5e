"""Cut a walk into batches of a good size for hashing, and hash one."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import ConfigError, MachineError, TreeUnsafe
from wcp_attest.disk.directory import FileProblem
from wcp_attest.disk.walk import Folder, Link, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wcp_attest.disk.directory import Identity
    from wcp_attest.disk.hashing import Worker

    Expect = Callable[[Run | Link], bytes | None]
    Request = tuple[str, Identity, list[str], bytes | str | None]
    Result = tuple[bytes | None, bytes, int, int]

BATCH_FILES = 128  # so many that handing a batch over costs little, so few that nothing waits for it long
BATCH_FOLDERS = 64  # directories in a batch of second looks
BATCH_NAMES = 64 * 1024  # characters of their names
BATCH_BYTES = 8 * 1024 * 1024  # of the files of a batch, where sizes are known


class Part(NamedTuple):
    """One of three things: files of a directory to be hashed, a directory to be looked at again, or a finished line.

    Attributes:
        folder: the directory; None for a finished line.
        names: of the files to be hashed; empty for the other two.
        expected: the manifest lines that the files or the link should have, joined; None accepts what is there.
        line: the finished line, of a symbolic link.
    """

    folder: Folder | None
    names: list[str]
    expected: bytes | None
    line: bytes = b""


class FileBatch(NamedTuple):
    """Parts that follow one another.

    Attributes:
        parts: in the order of the walk.
        files: how many files are to be hashed.
        size: how many bytes they have, as far as that is known.
    """

    parts: list[Part]
    files: int
    size: int


class Done(NamedTuple):
    """The result of a batch.

    Attributes:
        blocks: the manifest lines as they were found: for each part, its lines joined.
        records: the records of the package hash, joined.
        files: how many regular files there were.
        size: how many bytes were read.
        holes: how many of them take no room on the disk, where the task asked for that.
        as_expected: whether every line is the one that was expected.
    """

    blocks: list[bytes]
    records: bytes
    files: int
    size: int
    holes: int
    as_expected: bool


def cut(walk: Iterable[Run | Link], expect: Expect) -> Iterator[FileBatch]:
    """Cut a walk into batches.

    Args:
        walk: its steps, in order.
        expect: returns the joined lines that a run or link should have, or None to accept what is there.

    Yields:
        Batches in the order of the walk.
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
        if files >= BATCH_FILES or len(parts) >= BATCH_FILES or size >= BATCH_BYTES:
            yield FileBatch(parts, files, size)
            parts, files, size = [], 0, 0
    if parts:
        yield FileBatch(parts, files, size)


def _short_runs(walk: Iterable[Run | Link]) -> Iterator[Run | Link]:
    """Cut every run so that no part has more files than a batch, and each ends with the file that fills a batch."""
    for step in walk:
        if isinstance(step, Link):
            yield step
            continue
        start = 0
        while start < len(step.names):
            end = min(start + BATCH_FILES, len(step.names))
            if step.sizes is not None:
                sums = accumulate(step.sizes[start:end])
                end = next((start + n for n, size in enumerate(sums, 1) if size >= BATCH_BYTES), end)
            yield Run(step.folder, step.names[start:end], step.sizes and step.sizes[start:end])
            start = end


def second_looks(folders: Sequence[Folder]) -> Iterator[FileBatch]:
    """Yield the batches of the second look: when everything was read, is every directory still as it was listed?

    Args:
        folders: as they were first seen.

    Yields:
        Batches in the order of `folders`.
    """
    parts: list[Part] = []
    length = 0
    for folder in folders:
        parts.append(Part(folder, [], None))
        length += len(folder.names)
        if len(parts) >= BATCH_FOLDERS or length >= BATCH_NAMES:
            yield FileBatch(parts, 0, 0)
            parts, length = [], 0
    if parts:
        yield FileBatch(parts, 0, 0)


def do(worker: Worker, batch: FileBatch) -> Done:
    """Do a batch in this process.

    Args:
        worker: opens and hashes the files.
        batch: what to do.

    Returns:
        The result.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile.
        MachineError: this machine cannot read it.
        ConfigError: the verified copy cannot be written.
    """
    results: list[Result | None] = []
    for part in batch.parts:
        wanted = request(part)
        try:
            results.append(None if wanted is None else worker.answer(*wanted))
        except FileProblem as problem:
            raise as_error(problem) from None
    return assemble(batch, results)


def request(part: Part) -> Request | None:
    """Return what another process must know of a part.

    Args:
        part: of a batch.

    Returns:
        The arguments of `Worker.answer`: path and identity of the directory, the names, and the expected lines; for a
        directory to be looked at again, no names, and its listing in place of the lines. None for a finished line.
    """
    if part.folder is None:
        return None
    path, identity, listing = part.folder
    return path, identity, part.names, part.expected if part.names else listing


def assemble(batch: FileBatch, results: object) -> Done:
    """Put the results of the parts of a batch together.

    Args:
        batch: what was asked.
        results: for each part with files its lines (None when they are as expected), its records, the bytes read and
            the bytes of holes; for other parts, anything. They come from another process, or from an executor that is
            not ours, so nothing but this shape is accepted.

    Returns:
        The result of the batch.

    Raises:
        ValueError: the results do not fit the batch.
    """
    if not isinstance(results, list | tuple) or len(results) != len(batch.parts):
        raise ValueError("not one result for each part")
    lines: list[bytes] = []
    records: list[bytes] = []
    size = holes = 0
    for part, result in zip(batch.parts, results, strict=True):
        if not part.names:
            lines.append(part.line)
            continue
        found, record, read, hollow = _checked(part, result)
        lines.append(found)
        records.append(record)
        size += read
        holes += hollow
    as_expected = all(part.expected == found for part, found in zip(batch.parts, lines, strict=True))
    return Done(lines, b"".join(records), batch.files, size, holes, as_expected)


def _checked(part: Part, result: object) -> tuple[bytes, bytes, int, int]:
    """Return the result of a part with files, with its lines also where they are as expected; refuse a wrong one."""
    if not isinstance(result, list | tuple) or len(result) != 4:
        raise ValueError("a result has not four parts")
    found, record, read, hollow = result
    found = part.expected if found is None else found
    right = all(isinstance(number, int) and number >= 0 for number in (read, hollow))
    if not isinstance(found, bytes) or not isinstance(record, bytes) or not right:
        raise ValueError("a result holds the wrong types or numbers")
    all_read = part.expected is None or part.expected == found
    if found.count(b"\n") != len(part.names) - 1 or (all_read and record.count(b"\n") != 3 * len(part.names)):
        raise ValueError("a result holds too few or too many lines")
    return found, record, read, hollow


def as_error(problem: FileProblem) -> TreeUnsafe | ConfigError | MachineError:
    """Return the error for a problem with a file.

    Args:
        problem: as the reader found it.

    Returns:
        A refusal of the tree, unless the machine or the verified copy is at fault.
    """
    text = f"{problem.path or '.'!r} {problem.reason}"
    if problem.fault == "machine":
        return MachineError(text)
    return ConfigError(text) if problem.fault == "copy" else TreeUnsafe(text)
