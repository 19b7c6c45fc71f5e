"""Helper processes that hash files while the walk goes on.

Threads do not help small files: the interpreter's lock is the limit. Helpers are started by `posix_spawn`, which is
safe in a threaded program, as isolated interpreters that run one small module (`wcp_attest.disk.helper`). Each has some
jobs ready but reads one file at a time, so a slow disk is asked for no more than there are processes; files are named
relative to the root's descriptor, which the helper inherits. A helper in its own process group does not see Ctrl-C: the
parent does, and ends it. A helper whose parent dies finds its input at an end, or its parent changed, and ends itself.

This process is one of those that hash: while nobody needs it, it does jobs itself, but for large files, which would
keep it from the others and are never mapped here. Where such files wait for each other, one more helper is started.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING, Any

from wcp_attest.base.errors import ConfigError, MachineError, TreeUnsafe
from wcp_attest.disk.batches import Done, Job, as_error, assemble, do, request, second_looks
from wcp_attest.disk.board import Board, Piece
from wcp_attest.disk.directory import FileProblem
from wcp_attest.disk.hashing import Task, Worker
from wcp_attest.disk.helper import LARGE, ROOT, STAGE, Inbox, pack
from wcp_attest.disk.process import Process

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from wcp_attest.disk.walk import Folder

_PREFETCH = 4  # jobs a helper has at once: one in hand, and enough ready that it need not wait for the parent
_READ = 1 << 16  # a larger block would be mapped, touched and unmapped by the allocator for each read
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f"""
import sys
for name, path in (("wcp_attest", {_PACKAGE!r}), ("wcp_attest.disk", {os.path.join(_PACKAGE, "disk")!r})):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
from wcp_attest.disk.helper import serve
serve()
"""


def hash_with_helpers(
    root: int, jobs: tuple[Iterator[Job], Sequence[Folder]], task: Task, count: int
) -> Generator[Done, None, None]:
    """Do jobs in helper processes, yield what came of them in their order, and look at every directory again.

    Args:
        root: descriptor of the root.
        jobs: in order, drawn from as helpers are free; and the directories, complete when the jobs have run out.
        task: what is asked of every file.
        count: how many processes hash, at least two.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile, or a helper died.
        ConfigError: the staged copy cannot be written, or no helper can be started.
    """
    reading, folders = jobs
    with _Crew(root, task, count) as crew:
        yield from crew.work_off(Board(reading))
        for _ in crew.work_off(Board(second_looks(folders))):
            pass


class _Helper:
    """One helper process and what it has to do."""

    def __init__(self, root: int, task: Task) -> None:
        self.pieces: dict[int, Piece] = {}
        self.busy = False  # with a large file, until its job is done
        self.reading: str | None = None  # the path of the last file of many blocks, likewise
        self.process = Process()
        self._inbox = Inbox()
        self._root = root
        self._task = task
        setup = (task.algorithm, task.owner, task.stage is not None, os.getpid(), _search_path(task))
        self._outgoing = bytearray(pack(setup))

    def start(self) -> None:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        given = {ROOT: self._root} if self._task.stage is None else {ROOT: self._root, STAGE: self._task.stage}
        self.process.start(_PROGRAM, given)

    @property
    def free(self) -> bool:
        """Whether another job may be given to it."""
        return not self.busy and len(self.pieces) < _PREFETCH

    @property
    def unsent(self) -> bool:
        """Whether there is something to write to it."""
        return bool(self._outgoing)

    def give(self, piece: Piece) -> None:
        """Queue a piece of work for it."""
        self.pieces[piece.number] = piece
        self._outgoing += pack((piece.number, [request(part) for part in piece.job.parts]))
        self.write()

    def write(self) -> None:
        """Write what it will take now."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a dead one shows when it is read from
            while self._outgoing:
                del self._outgoing[: os.write(self.process.input, self._outgoing)]

    def read(self, board: Board) -> None:
        """Take what it has to say.

        Raises:
            TreeUnsafe: it has died, or talks nonsense.
        """
        data = os.read(self.process.output, _READ)
        if not data:
            raise TreeUnsafe(self._obituary())
        self._inbox.feed(data)
        try:
            for message in self._inbox.messages():
                self._hear(message, board)
        except (ValueError, TypeError, EOFError, KeyError, IndexError):
            raise TreeUnsafe("a helper process sent an answer that makes no sense") from None

    def _hear(self, message: tuple[Any, ...], board: Board) -> None:
        kind, number, *rest = message
        piece = self.pieces[number]
        if kind == "reading":
            part, index, large = rest
            self.reading = piece.job.parts[part].path_of(index)
            if large:
                self.busy = True
                board.shorten(piece, part, index)
            return
        del self.pieces[number]
        if kind == "back":
            board.give_back(piece)
            return
        self.busy = False
        self.reading = None
        if kind == "failed":
            piece.result = as_error(FileProblem(*rest))
        else:
            piece.result = assemble(piece.job, rest[0])

    def _obituary(self) -> str:
        ending = self.process.end()
        if self.reading is not None:
            return f"{self.reading!r} cannot be read: the process that read it was ended ({ending})"
        return f"a process that read files was ended ({ending}); nothing was decided about the tree"


class _TooLarge(Exception):
    """A file that this process should not read itself."""


class _LightTask(Task):
    """A task that stops at a large file."""

    __slots__ = ()

    def notice(self, index: int, size: int) -> None:  # noqa: ARG002  # whatever its place
        if size >= LARGE:
            raise _TooLarge


class _Crew:
    """All that hash; a context manager that leaves no helper behind.

    Args:
        root: descriptor of the root.
        task: what is asked of every file.
        count: how many processes hash, this one among them unless it writes a staged copy, which cannot be begun again.
    """

    def __init__(self, root: int, task: Task, count: int) -> None:
        self._root = root
        self._task = task
        self._helpers: list[_Helper] = []
        self._poll = select.poll()
        self._by_descriptor: dict[int, _Helper] = {}
        self._own = None if task.stage is not None else Worker(root, _LightTask(task.algorithm, owner=task.owner))
        self._count = count

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count - (self._own is not None)):
                self._hire()
        except OSError as problem:
            if not self._helpers:
                self._leave()
                raise ConfigError(f"cannot start a helper process: {problem}; use one job") from None
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def work_off(self, board: Board) -> Iterator[Done]:
        """Do everything on a board, and yield what came of it in order."""
        while True:
            if len(self._helpers) < self._count and board.heavy and all(helper.busy for helper in self._helpers):
                self._count -= not self._hire_another()
            self._hand_out(board)
            yield from board.finished()
            if board.empty:
                return
            if not (self._hear(board, wait=False) or board.prepare() or self._do_one(board)):
                self._hear(board, wait=True)

    def _hire(self) -> None:
        helper = _Helper(self._root, self._task)
        try:
            helper.start()
        except BaseException:
            helper.process.end()
            raise
        self._helpers.append(helper)
        self._by_descriptor[helper.process.input] = self._by_descriptor[helper.process.output] = helper
        self._poll.register(helper.process.output, select.POLLIN)

    def _hire_another(self) -> bool:
        """Start one more helper, if the system lets us; those who are there do the work otherwise."""
        try:
            self._hire()
        except OSError:
            return False
        return True

    def _leave(self) -> None:
        for helper in self._helpers:
            helper.process.end()
        if self._own is not None:
            self._own.close()

    def _hand_out(self, board: Board) -> None:
        """Give every helper as much as it may have."""
        while True:
            free = [helper for helper in self._helpers if helper.free]
            piece = board.take() if free else None
            if piece is None:
                return
            min(free, key=lambda helper: len(helper.pieces)).give(piece)

    def _hear(self, board: Board, *, wait: bool) -> bool:
        """Hear what the helpers have to say, waiting for one of them if so asked; return whether there was anything."""
        for helper in self._helpers:
            if helper.unsent:
                self._poll.register(helper.process.input, select.POLLOUT)
        ready = self._poll.poll(None if wait else 0)
        for descriptor, _ in ready:
            helper = self._by_descriptor[descriptor]
            if descriptor == helper.process.input:
                helper.write()
                self._poll.unregister(descriptor)
            else:
                helper.read(board)
        return bool(ready)

    def _do_one(self, board: Board) -> bool:
        """Do a piece of work here; return whether there was one to do."""
        if self._own is None:
            return False
        piece = board.take(light=True)
        if piece is None:
            return False
        try:
            piece.result = do(self._own, piece.job)
        except (TreeUnsafe, ConfigError, MachineError) as problem:
            piece.result = problem
        except _TooLarge:
            piece.heavy = True
            board.give_back(piece)
        return True


def _search_path(task: Task) -> list[str]:
    """Return where a helper finds the hash that is not in the standard library."""
    if task.algorithm == "sha256":
        return []
    import blake3

    return [os.path.dirname(os.path.dirname(os.path.abspath(blake3.__file__)))]
