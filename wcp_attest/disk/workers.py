"""The program of a worker process: read a batch, hash its files, write the answer.

Messages are a length of four bytes and `marshal` data: both ends are the same version of this package under the same
interpreter. A worker ends when its input ends, or, while it reads a large file, when its parent has ended. It needs the
standard library only and is started by `python -I -S` (`wcp_attest.disk.parallel`), in a few milliseconds.

    first     (algorithm, owner, limits, root, copy, rights, parent, search_path)
    batch     (number, [(path, identity, names, expected) or None, …])
                            without names, the directory is looked at again, and `expected` is its listing
    answers   ("done", number, [(lines or None when as expected, records, size, holes), or None where nothing was read])
              ("reading", number, part, index, done)     a file of many blocks and how many bytes of it were read;
                                                         sent before it is read and again from time to time
              ("failed", number, path, reason, fault)
"""

from __future__ import annotations

import marshal
import os
import sys
from _thread import allocate_lock, start_new_thread  # `threading` takes a worker longer to import than it gains
from time import monotonic

from wcp_attest.disk import hashing
from wcp_attest.disk.directory import FileProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from typing import Any

MAX_MESSAGE = 1 << 28  # bytes; far above any batch
WINDOW = 16 * 1024 * 1024  # bytes mapped at once; they count as resident memory (bar: memory of corpus `one`)
WIDE_WINDOW = 64 * 1024 * 1024  # where several threads share the work of one (bar: `one`, BLAKE3)
_ALL_THREADS = -1  # `blake3.blake3.AUTO`
_HELD_BYTES = 1 << 16  # of answers; with more, they are sent
_HELD_SECONDS = 0.05  # after which answers are sent, so that progress and failures are seen soon
_ALIVE_SECONDS = 0.25  # after which a worker that reads a large file says how far it is


def pack(message: tuple[Any, ...]) -> bytes:
    """Return the bytes of a message.

    Args:
        message: of texts, bytes, numbers, None, lists and tuples.
    """
    data = marshal.dumps(message)
    return len(data).to_bytes(4, "big") + data


class Inbox:
    """Puts bytes that arrive together into whole messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def messages(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Take more bytes, and yield the messages that are now complete.

        Args:
            data: what has arrived.

        Yields:
            The messages, in order.

        Raises:
            ValueError: what has arrived is not a message.
            EOFError, TypeError: likewise.
        """
        self._data += data
        start = 0
        while len(self._data) - start >= 4:
            end = start + 4 + int.from_bytes(self._data[start : start + 4], "big")
            if end - start > MAX_MESSAGE:
                raise ValueError("overlong message")
            if len(self._data) < end:
                break
            message = marshal.loads(memoryview(self._data)[start + 4 : end])  # noqa: S302  # from our own process
            if not isinstance(message, tuple):
                raise ValueError("not a message")  # noqa: TRY004  # of whatever type
            yield message
            start = end
        del self._data[:start]


def serve() -> None:
    """Do batches until there are no more."""
    inbox = Inbox()
    worker = task = None
    while data := os.read(0, 1 << 16):
        for message in inbox.messages(data):
            if task is None or worker is None:
                task = _WorkerTask(message)
                worker = hashing.Worker(message[3], task)
            else:
                task.answer(_do(message, task, worker))
        if task is not None:
            task.send()
    os._exit(0)


def _do(batch: tuple[Any, ...], task: _WorkerTask, worker: hashing.Worker) -> tuple[Any, ...]:
    number, parts = batch
    results: list[tuple[bytes | None, bytes, int, int] | None] = []
    for part in parts:
        task.place = (number, len(results))
        try:
            results.append(None if part is None else worker.answer(*part))
        except FileProblem as problem:
            return "failed", number, problem.path, problem.reason, problem.fault
    return "done", number, results


class _WorkerTask(hashing.Task):
    """A task that tells the parent about large files, and ends when the parent has ended.

    Answers are sent together: with few cores, each time the parent wakes up it takes the processor from a worker (bar:
    `small`).
    """

    __slots__ = ("_due", "_held", "_index", "_parent", "place")

    def __init__(self, setup: tuple[Any, ...]) -> None:
        algorithm, owner, limits, _, copy, rights, parent, search_path = setup
        sys.path.extend(search_path)
        super().__init__(algorithm, owner=owner, stage=copy, rights=rights, limits=limits)
        self.place = (0, 0)
        self._index = 0
        self._parent: int = parent
        self._held = bytearray()
        self._due = 0.0

    def answer(self, message: tuple[Any, ...]) -> None:
        """Take an answer, which is sent soon."""
        self._held += pack(message)
        if len(self._held) > _HELD_BYTES or monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        """Send all answers."""
        view = memoryview(self._held)
        while view:
            view = view[os.write(1, view) :]
        self._held = bytearray()
        self._due = monotonic() + _HELD_SECONDS

    def notice(self, index: int, size: int) -> None:  # noqa: ARG002
        """Name the file to the parent, in case reading it ends this process."""
        self._index = index
        self.answer(("reading", *self.place, index, 0))
        self.send()

    def hash_mapped(self, descriptor: int, size: int) -> str | None:
        """Hash a file window by window, without copying it.

        When the file is truncated meanwhile, the system ends this process (SIGBUS), and the parent knows by the notice
        which file that was. A second thread unmaps each window while the next one is hashed, which saves an eighth of
        the time of BLAKE3 (bar: `one`, BLAKE3).
        """
        from mmap import MAP_SHARED, PROT_READ, mmap

        hasher = self.new() if self.algorithm == "sha256" else self.new(max_threads=_ALL_THREADS)
        window = WINDOW if self.algorithm == "sha256" else WIDE_WINDOW
        idle = allocate_lock()

        def unmap(view: mmap) -> None:
            try:
                view.close()
            finally:
                idle.release()

        for offset in range(0, size, window):
            try:
                view = mmap(descriptor, min(window, size - offset), flags=MAP_SHARED, prot=PROT_READ, offset=offset)
            except (OSError, ValueError):
                return None  # this file system cannot map, or the file is shorter now: reading it finds out
            hasher.update(view)
            idle.acquire()
            start_new_thread(unmap, (view,))
            self.between_blocks(offset)
        digest: str = hasher.hexdigest()
        return digest if not os.pread(descriptor, 1, size) else None

    def between_blocks(self, done: int) -> None:
        """End when the parent has ended, and tell it from time to time how far the work is."""
        if os.getppid() != self._parent:
            os._exit(1)
        if monotonic() >= self._due + _ALIVE_SECONDS:
            self.answer(("reading", *self.place, self._index, done))
