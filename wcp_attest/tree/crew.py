"""Helper processes that hash files while the walk goes on.

Threads do not help small files: the interpreter's lock is the limit. Helpers are started by `posix_spawn`, which is
safe in a threaded program, as isolated interpreters that run one small module (`wcp_attest.tree.helper`). Each has at
most two jobs, so a slow disk is never asked for more than the helpers can take; files are named relative to the root's
descriptor, which the helper inherits. A helper in its own process group does not see Ctrl-C: the parent does, and ends
it. A helper whose parent dies finds its input at an end, or its parent changed, and ends itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from wcp_attest.errors import ConfigError, Error, TreeUnsafe
from wcp_attest.tree.hashing import FileProblem
from wcp_attest.tree.helper import ROOT, STAGE, Inbox, pack
from wcp_attest.tree.jobs import Done, Job, as_error, assemble, request, split

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType
    from typing import Self

    from wcp_attest.tree.hashing import Task

_PREFETCH = 2  # jobs a helper has at once: one in hand, one ready
_FREE = 10  # descriptors from here on cannot collide with those that a helper is given
_READ = 1 << 18
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f"""
import sys
for name, path in (("wcp_attest", {_PACKAGE!r}), ("wcp_attest.tree", {os.path.join(_PACKAGE, "tree")!r})):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
from wcp_attest.tree.helper import serve
serve()
"""


def hash_with_helpers(root: int, jobs: Iterator[Job], task: Task, count: int) -> Generator[Done, None, None]:
    """Do jobs in helper processes, and yield what came of them in their order.

    Args:
        root: descriptor of the root.
        jobs: in order; drawn from as helpers are free.
        task: what is asked of every file.
        count: how many helpers to start.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile, or a helper died.
        ConfigError: the staged copy cannot be written, or no helper can be started.
    """
    board = _Board(jobs)
    with _Crew(root, task, count) as crew:
        while True:
            crew.hand_out(board)
            yield from board.finished()
            if board.empty:
                return
            crew.wait(board)


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
        job = next(self._jobs, None)
        if job is None:
            return None
        piece = self._new(job)
        self._order.append(piece)
        return piece

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
        self.busy_with: str | None = None  # the path of a large file, until its job is done
        self._inbox = Inbox()
        setup = (task.algorithm, task.owner, task.stage is not None, os.getpid(), _search_path(task))
        self._outgoing = bytearray(pack(setup))
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            request, self.input = os.pipe()
            theirs.callback(os.close, request)
            ours.callback(os.close, self.input)
            self.output, answer = os.pipe()
            theirs.callback(os.close, answer)
            ours.callback(os.close, self.output)
            os.set_blocking(self.input, False)
            given = [(request, 0), (answer, 1), (root, ROOT)] + ([] if task.stage is None else [(task.stage, STAGE)])
            actions = [(os.POSIX_SPAWN_DUP2, _above(theirs, source), target) for source, target in given]
            self._process = _spawn(actions)
            ours.pop_all()

    @property
    def free(self) -> bool:
        """Whether another job may be given to it."""
        return self.busy_with is None and len(self.pieces) < _PREFETCH

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
                del self._outgoing[: os.write(self.input, self._outgoing)]

    def read(self, board: _Board) -> None:
        """Take what it has to say.

        Raises:
            TreeUnsafe: it has died, or talks nonsense.
        """
        data = os.read(self.output, _READ)
        if not data:
            raise TreeUnsafe(self._obituary())
        self._inbox.feed(data)
        try:
            for message in self._inbox.messages():
                self._hear(message, board)
        except (ValueError, TypeError, EOFError, KeyError, IndexError):
            raise TreeUnsafe("a helper process sent an answer that makes no sense") from None

    def end(self) -> None:
        """Make sure that it is gone."""
        for descriptor in (self.input, self.output):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._process.kill()
        self._process.wait()

    def _hear(self, message: tuple[Any, ...], board: _Board) -> None:
        kind, number, *rest = message
        piece = self.pieces[number]
        if kind == "large":
            part, index = rest
            self.busy_with = piece.job.parts[part].path_of(index)
            board.shorten(piece, part, index)
            return
        del self.pieces[number]
        if kind == "back":
            board.give_back(piece)
            return
        self.busy_with = None
        if kind == "failed":
            path, reason, ours = rest
            piece.result = as_error(FileProblem(path, reason, ours=ours))
        else:
            piece.result = assemble(piece.job, rest[0])

    def _obituary(self) -> str:
        ending = self._process.wait()
        if self.busy_with is not None:
            return f"{self.busy_with!r} cannot be read: the process that read it was ended ({ending})"
        return f"a process that read files was ended ({ending}); nothing was decided about the tree"


class _Crew:
    """All helpers; a context manager that leaves none behind."""

    def __init__(self, root: int, task: Task, count: int) -> None:
        self._root = root
        self._task = task
        self._count = count
        self._helpers: list[_Helper] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._helpers.append(_Helper(self._root, self._task))
        except OSError as problem:
            if not self._helpers:
                raise ConfigError(f"cannot start a helper process: {problem}; use one job") from None
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._helpers:
            self._helpers[-1].end()
            self._helpers.pop()

    def hand_out(self, board: _Board) -> None:
        """Give every helper as much as it may have."""
        while True:
            free = [helper for helper in self._helpers if helper.free]
            piece = board.take() if free else None
            if piece is None:
                return
            min(free, key=lambda helper: len(helper.pieces)).give(piece)

    def wait(self, board: _Board) -> None:
        """Wait until a helper has something to say, and hear it."""
        poll = select.poll()
        by_descriptor: dict[int, _Helper] = {}
        for helper in self._helpers:
            poll.register(helper.output, select.POLLIN)
            by_descriptor[helper.output] = by_descriptor[helper.input] = helper
            if helper.unsent:
                poll.register(helper.input, select.POLLOUT)
        for descriptor, _ in poll.poll():
            helper = by_descriptor[descriptor]
            if descriptor == helper.input:
                helper.write()
            else:
                helper.read(board)


class _Process:
    """A child process, ended by its handle where the system has one, so that a reused id is never hit."""

    def __init__(self, identifier: int) -> None:
        self._identifier = identifier
        self._handle: int | None = None
        with contextlib.suppress(AttributeError, OSError):
            self._handle = os.pidfd_open(identifier)

    def kill(self) -> None:
        """End it at once; what it was doing is of no use to anyone."""
        with contextlib.suppress(OSError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            else:
                os.kill(self._identifier, signal.SIGKILL)

    def wait(self) -> str:
        """Wait for its end and return how it ended, in words."""
        status = None
        with contextlib.suppress(ChildProcessError):  # reaped already, or by somebody who reaps all children
            status = os.waitpid(self._identifier, 0)[1]
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if status is None:
            return "in an unknown way"
        code = os.waitstatus_to_exitcode(status)
        return f"by signal {-code}" if code < 0 else f"with status {code}"


def _spawn(actions: list[tuple[int, int, int]]) -> _Process:
    return _Process(
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _PROGRAM],
            os.environ,
            file_actions=[*actions, (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)],
            setpgroup=0,
            setsigmask=[],
        )
    )


def _above(stack: contextlib.ExitStack, descriptor: int) -> int:
    """Return a copy of a descriptor that is out of the way of those that a helper is given."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE)
    stack.callback(os.close, copy)
    return copy


def _search_path(task: Task) -> list[str]:
    """Return where a helper finds the hash that is not in the standard library."""
    if task.algorithm == "sha256":
        return []
    import blake3

    return [os.path.dirname(os.path.dirname(os.path.abspath(blake3.__file__)))]
