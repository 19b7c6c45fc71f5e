"""The program of a worker process: read a batch, hash its files, write the answer.

Messages are `marshal` data behind a length of four bytes; both ends are this package, at the same version, under the
same interpreter. A worker ends when its input does, and, while it reads a large file, when its parent is gone. It needs
the standard library only and is started by `python -I -S` (`wcp_attest.disk.parallel`), in a few milliseconds.

    first     (algorithm, owner, limits, root, copy, rights, parent, search_path)
    batch     (number, [(path, identity, names, expected) or None, …])
                            without names, a directory is looked at again, and `expected` is its listing
    answers   ("done", number, [(lines or None when as expected, records, size, holes), or None where nothing was read])
              ("reading", number, part, index, done)     a file of many blocks, and how many bytes of it were read;
                                                         again from time to time
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

MAX_MESSAGE = 1 << 28  # far above any batch; a length beyond it is garbage
WINDOW = 16 * 1024 * 1024  # bytes mapped at once; they count as resident memory (bar: memory of corpus `one`)
WIDE_WINDOW = 64 * 1024 * 1024  # where several threads share the work of one (bar: `one`, BLAKE3)
_ALL_THREADS = -1  # `blake3.blake3.AUTO`
_HELD_BYTES = 1 << 16  # of answers that are held back at the most
_HELD_SECONDS = 0.05  # likewise, so that progress on a slow disk is seen, and a failure soon heard of
_ALIVE_SECONDS = 0.25  # after which a worker that reads a large file says how far it is


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
    """Do batches until there are no more."""
    inbox = Inbox()
    worker = task = None
    while data := os.read(0, 1 << 16):
        inbox.feed(data)
        for message in inbox.messages():
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
    """A task that tells the parent of large files and stops when the parent is gone.

    Answers are held back for a moment: with few cores every wake-up of the parent preempts a worker (bar: `small`).
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
        """Take an answer, to be sent soon."""
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
        """Name the file, in case it is the last thing done here."""
        self._index = index
        self.answer(("reading", *self.place, index, 0))
        self.send()

    def hash_mapped(self, descriptor: int, size: int) -> str | None:
        """Hash a file window by window, without copying it.

        Mapped memory of a file that is truncated meanwhile cannot be touched: the system ends this process (SIGBUS),
        and the parent knows by the notice which file that was. Windows are given back to the system one at a time,
        while the next is hashed, which saves an eighth of the time of BLAKE3 (bar: `one`, BLAKE3).
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
                return None  # no mapping on this file system, or the file is shorter by now: reading will tell
            hasher.update(view)
            idle.acquire()
            start_new_thread(unmap, (view,))
            self.between_blocks(offset)
        digest: str = hasher.hexdigest()
        return digest if not os.pread(descriptor, 1, size) else None

    def between_blocks(self, done: int) -> None:
        """End with the parent, and tell it from time to time that the work goes on."""
        if os.getppid() != self._parent:
            os._exit(1)
        if monotonic() >= self._due + _ALIVE_SECONDS:
            self.answer(("reading", *self.place, self._index, done))
