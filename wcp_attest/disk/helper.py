"""The program of a helper process: takes jobs on standard input, answers on standard output.

Messages are `marshal` data behind a length of four bytes; both ends are this package, at the same version, under the
same interpreter. The helper ends when its input does, and, while it reads a large file, when its parent is gone. It
needs the standard library only and is started by `python -I -S` (`wcp_attest.disk.crew`).

    first     (algorithm, owner, has_stage, parent, search_path)
    job       (number, [(path, identity, names, expected) or None, …])
                            without names, a directory is looked at again, and `expected` is its listing
    answers   ("done", number, [(lines or None when as expected, records, size), or None where no file was read, …])
              ("reading", number, part, index, large)
                            a file of many blocks is begun; behind a large one the rest of the job is given back
              ("back", number)
                            a job that would have waited behind a large file is given back
              ("failed", number, path, reason, ours)
"""

from __future__ import annotations

import marshal
import os
import select
import sys
from _thread import allocate_lock, start_new_thread  # `threading` takes a helper longer to import than it gains
from time import monotonic

from wcp_attest.disk import hashing
from wcp_attest.disk.directory import FileProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from typing import Any

ROOT, STAGE = 3, 4  # descriptors that the parent leaves open
MAX_MESSAGE = 1 << 28  # far above any job; a length beyond it is garbage
LARGE = 8 * 1024 * 1024  # bytes from which nothing should have to wait behind a file
WINDOW = 16 * 1024 * 1024  # bytes mapped at once; they count as resident memory
WIDE_WINDOW = 64 * 1024 * 1024  # where several threads share the work of one
_ALL_THREADS = -1  # `blake3.blake3.AUTO`
_CHUNK = 1 << 16
_BATCH = 1 << 17  # bytes of answers that are held back at the most
_HELD_SECONDS = 0.05  # likewise, so that progress on a slow disk is seen, and a failure soon heard of


def pack(message: tuple[Any, ...]) -> bytes:
    """Return a message as it goes over the wire."""
    data = marshal.dumps(message)
    return len(data).to_bytes(4, "big") + data


class Inbox:
    """Takes bytes as they arrive and hands out whole messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._data += data

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """Yield the messages that are complete.

        Raises:
            ValueError: what arrived is not a message.
        """
        start = 0
        while len(self._data) - start >= 4:
            end = start + 4 + int.from_bytes(self._data[start : start + 4], "big")
            if end - start > MAX_MESSAGE:
                raise ValueError("overlong message")
            if len(self._data) < end:
                break
            message = marshal.loads(memoryview(self._data)[start + 4 : end])  # noqa: S302  # from our own process
            if not isinstance(message, tuple):
                raise ValueError("not a message")  # noqa: TRY004  # whatever it is, it is garbage
            yield message
            start = end
        del self._data[:start]


def serve() -> None:
    """Do jobs until there are no more."""
    answers = _Answers()
    jobs = _Jobs(answers)
    first = jobs.next()
    if first is not None:
        algorithm, owner, has_stage, parent, search_path = first
        sys.path.extend(search_path)
        task = _Task(algorithm, owner=owner, stage=STAGE if has_stage else None, parent=parent, jobs=jobs)
        worker = hashing.Worker(ROOT, task)
        while (job := jobs.next()) is not None:
            answers.add(_do(job, task, worker))
            if not jobs.waiting:
                answers.send()
    os._exit(0)


def _do(job: tuple[Any, ...], task: _Task, worker: hashing.Worker) -> tuple[Any, ...]:
    number, parts = job
    task.number, task.enough = number, False
    results: list[tuple[bytes | None, bytes, int] | None] = []
    for part in parts:
        if task.enough:
            break
        if part is None:
            results.append(None)
            continue
        task.part = len(results)
        try:
            hashed = worker.answer(*part)
        except FileProblem as problem:
            return "failed", number, problem.path, problem.reason, problem.fault
        results.append(None if hashed is None else hashed.result(part[3]))
    return "done", number, results


class _Answers:
    """What goes out on standard output, several answers at once: each time the parent wakes, a helper has to rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._due = 0.0

    def add(self, message: tuple[Any, ...]) -> None:
        """Take an answer, to be sent soon."""
        self._data += pack(message)
        if len(self._data) > _BATCH or monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        """Send all answers."""
        view = memoryview(self._data)
        while view:
            view = view[os.write(1, view) :]
        self._data = bytearray()
        self._due = monotonic() + _HELD_SECONDS


class _Jobs:
    """The jobs that arrive on standard input."""

    def __init__(self, answers: _Answers) -> None:
        self.waiting: list[tuple[Any, ...]] = []
        self.answers = answers
        self._inbox = Inbox()

    def next(self) -> tuple[Any, ...] | None:
        """Wait for the next job; None when there will be no more."""
        while not self.waiting:
            if not self._receive():
                return None
        return self.waiting.pop(0)

    def give_back(self) -> None:
        """Return the jobs that wait here, so that others do them."""
        while select.select([0], [], [], 0)[0] and self._receive():
            pass
        for number, _ in self.waiting:
            self.answers.add(("back", number))
        self.answers.send()
        self.waiting.clear()

    def _receive(self) -> bool:
        data = os.read(0, _CHUNK)
        self._inbox.feed(data)
        self.waiting.extend(self._inbox.messages())
        return bool(data)


class _Unmapping:
    """Gives windows back to the system one at a time, while the next is hashed: an eighth of the time of BLAKE3."""

    def __init__(self) -> None:
        self._idle = allocate_lock()

    def begin(self, view: mmap) -> None:
        """Unmap a window, once the one before is unmapped."""
        self._idle.acquire()
        start_new_thread(self._unmap, (view,))

    def _unmap(self, view: mmap) -> None:
        try:
            view.close()
        finally:
            self._idle.release()


class _Task(hashing.Task):
    """A task that tells the parent of large files and stops when the parent is gone."""

    __slots__ = ("jobs", "number", "parent", "part")

    def __init__(self, algorithm: str, *, owner: int | None, stage: int | None, parent: int, jobs: _Jobs) -> None:
        super().__init__(algorithm, owner=owner, stage=stage)
        self.parent = parent
        self.jobs = jobs
        self.number = self.part = 0

    def notice(self, index: int, size: int) -> None:
        """Name the file, in case it is the last thing done here; give back whatever would wait for a large one."""
        large = size >= LARGE
        self.jobs.answers.add(("reading", self.number, self.part, index, large))
        self.jobs.answers.send()
        if large:
            self.jobs.give_back()
            self.enough = True

    def hash_mapped(self, descriptor: int, size: int) -> str | None:
        """Hash a file window by window, without copying it.

        Mapped memory of a file that is truncated meanwhile cannot be touched: the system ends this process (SIGBUS),
        and the parent knows by the notice which file that was.
        """
        from mmap import MAP_SHARED, PROT_READ, mmap

        hasher = self.new() if self.algorithm == "sha256" else self.new(max_threads=_ALL_THREADS)
        window = WINDOW if self.algorithm == "sha256" else WIDE_WINDOW
        unmapping = _Unmapping()
        for offset in range(0, size, window):
            try:
                view = mmap(descriptor, min(window, size - offset), flags=MAP_SHARED, prot=PROT_READ, offset=offset)
            except (OSError, ValueError):
                return None  # no mapping on this file system, or the file is shorter by now: reading will tell
            hasher.update(view)
            unmapping.begin(view)
            self.between_blocks()
        digest: str = hasher.hexdigest()
        return digest if not os.pread(descriptor, 1, size) else None

    def between_blocks(self) -> None:
        """End with the parent."""
        if os.getppid() != self.parent:
            os._exit(1)
