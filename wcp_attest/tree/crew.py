"""Helper processes that hash files while the walk goes on.

Threads do not help small files: the interpreter's lock is the limit. Helpers are started by `posix_spawn`, which is
safe in a threaded program, as isolated interpreters that run one small module (`wcp_attest.tree.helper`). Each has some
jobs ready but reads one file at a time, so a slow disk is asked for no more than there are helpers; files are named
relative to the root's descriptor, which the helper inherits. A helper in its own process group does not see Ctrl-C: the
parent does, and ends it. A helper whose parent dies finds its input at an end, or its parent changed, and ends itself.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any

from wcp_attest.errors import ConfigError, Error, TreeUnsafe
from wcp_attest.tree.descent import FileProblem
from wcp_attest.tree.helper import ROOT, STAGE, Inbox, pack
from wcp_attest.tree.jobs import Done, Job, as_error, assemble, request, second_looks, split
from wcp_attest.tree.process import Process

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from wcp_attest.tree.hashing import Task
    from wcp_attest.tree.walk import Folder

_PREFETCH = 4  # jobs a helper has at once: one in hand, and enough ready that it need not wait for the parent
_AHEAD = 32  # jobs drawn from the walk while helpers start or are busy
_READ = 1 << 16  # a larger block would be mapped, touched and unmapped by the allocator for each read
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f"""
import sys
for name, path in (("wcp_attest", {_PACKAGE!r}), ("wcp_attest.tree", {os.path.join(_PACKAGE, "tree")!r})):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
from wcp_attest.tree.helper import serve
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
        count: how many helpers to start.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile, or a helper died.
        ConfigError: the staged copy cannot be written, or no helper can be started.
    """
    reading, folders = jobs
    with _Crew(root, task, count) as crew:
        yield from crew.work_off(_Board(reading))
        for _ in crew.work_off(_Board(second_looks(folders))):
            pass


class _Piece:
    """A job, or what is left of one after a part of it was given back; `result` is set when it is done."""

    __slots__ = ("following", "job", "number", "result")

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job
        self.result: Done | Error | None = None
        self.following: _Piece | None = None


class _Board:
    """All pieces of work: in order, and those to be handed out."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._ready: deque[Job] = deque()
        self._again: deque[_Piece] = deque()
        self._order: deque[_Piece] = deque()
        self._count = 0

    @property
    def empty(self) -> bool:
        """Whether everything was handed out, done and yielded."""
        return not self._order

    def take(self) -> _Piece | None:
        """Return the next piece of work, or None when there is none."""
        if self._again:
            return self._again.popleft()
        if not self._ready and not self.prepare():
            return None
        job = self._ready.popleft()
        piece = self._new(job)
        self._order.append(piece)
        return piece

    def prepare(self) -> bool:
        """Draw one more job before anybody is free for it; return whether there was one and room for it."""
        job = next(self._jobs, None) if len(self._ready) < _AHEAD else None
        if job is not None:
            self._ready.append(job)
        return job is not None

    def give_back(self, piece: _Piece) -> None:
        """Take a piece back that nobody has begun."""
        self._again.append(piece)

    def shorten(self, piece: _Piece, part: int, index: int) -> None:
        """Take back what follows one file of a piece."""
        piece.job, rest = split(piece.job, part, index)
        if rest is not None:
            following = self._new(rest)
            following.following, piece.following = piece.following, following
            self._again.append(following)

    def finished(self) -> Iterator[Done]:
        """Yield, in order, what was done and not yet yielded; raise what failed when its turn comes."""
        while self._order and self._order[0].result is not None:
            piece = self._order.popleft()
            if isinstance(piece.result, Error):
                raise piece.result
            if piece.following is not None:
                self._order.appendleft(piece.following)
            if piece.result is not None:
                yield piece.result

    def _new(self, job: Job) -> _Piece:
        self._count += 1
        return _Piece(self._count, job)


class _Helper:
    """One helper process and what it has to do."""

    def __init__(self, root: int, task: Task) -> None:
        self.pieces: dict[int, _Piece] = {}
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

    def give(self, piece: _Piece) -> None:
        """Queue a piece of work for it."""
        self.pieces[piece.number] = piece
        self._outgoing += pack((piece.number, [request(part) for part in piece.job.parts]))
        self.write()

    def write(self) -> None:
        """Write what it will take now."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a dead one shows when it is read from
            while self._outgoing:
                del self._outgoing[: os.write(self.process.input, self._outgoing)]

    def read(self, board: _Board) -> None:
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

    def _hear(self, message: tuple[Any, ...], board: _Board) -> None:
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
            path, reason, ours = rest
            piece.result = as_error(FileProblem(path, reason, ours=ours))
        else:
            piece.result = assemble(piece.job, rest[0])

    def _obituary(self) -> str:
        ending = self.process.end()
        if self.reading is not None:
            return f"{self.reading!r} cannot be read: the process that read it was ended ({ending})"
        return f"a process that read files was ended ({ending}); nothing was decided about the tree"


class _Crew:
    """All helpers; a context manager that leaves none behind."""

    def __init__(self, root: int, task: Task, count: int) -> None:
        self._root = root
        self._task = task
        self._count = count
        self._helpers: list[_Helper] = []
        self._poll = select.poll()
        self._by_descriptor: dict[int, _Helper] = {}

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._helpers.append(_Helper(self._root, self._task))
                self._helpers[-1].start()
        except OSError as problem:
            self._helpers.pop().process.end()
            if not self._helpers:
                raise ConfigError(f"cannot start a helper process: {problem}; use one job") from None
        except BaseException:
            self.__exit__(None, None, None)
            raise
        for helper in self._helpers:
            process = helper.process
            self._by_descriptor[process.input] = self._by_descriptor[process.output] = helper
            self._poll.register(process.output, select.POLLIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.process.end()

    def work_off(self, board: _Board) -> Iterator[Done]:
        """Do everything on a board, and yield what came of it in order."""
        while True:
            self.hand_out(board)
            yield from board.finished()
            if board.empty:
                return
            self.hear(board, wait=not board.prepare())

    def hand_out(self, board: _Board) -> None:
        """Give every helper as much as it may have."""
        while True:
            free = [helper for helper in self._helpers if helper.free]
            piece = board.take() if free else None
            if piece is None:
                return
            min(free, key=lambda helper: len(helper.pieces)).give(piece)

    def hear(self, board: _Board, *, wait: bool) -> None:
        """Hear what the helpers have to say, and wait for one of them if so asked."""
        for helper in self._helpers:
            if helper.unsent:
                self._poll.register(helper.process.input, select.POLLOUT)
        for descriptor, _ in self._poll.poll(None if wait else 0):
            helper = self._by_descriptor[descriptor]
            if descriptor == helper.process.input:
                helper.write()
                self._poll.unregister(descriptor)
            else:
                helper.read(board)


def _search_path(task: Task) -> list[str]:
    """Return where a helper finds the hash that is not in the standard library."""
    if task.algorithm == "sha256":
        return []
    import blake3

    return [os.path.dirname(os.path.dirname(os.path.abspath(blake3.__file__)))]
