"""Hash batches in this process, in worker processes, or through an executor of the caller.

Threads do not help with small files, because the interpreter's lock is the limit. A worker is an isolated interpreter
that reads one file at a time, so that a slow disk gets no more requests than there are processes. It inherits the
descriptor of the root, and files are named relative to that. It has a process group of its own, so that Ctrl-C reaches
this process only, which then ends the workers.

This process walks the tree, hands out batches, and takes the answers in order. While no worker needs it, it also
hashes, but no large files: the workers would have to wait for it, and it never maps a file.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING

from wcp_attest.base.child_environment import bare_environment
from wcp_attest.base.errors import ConfigError, Error, MachineError, TreeUnsafe
from wcp_attest.disk.batches import BATCH_BYTES, as_error, assemble, do, request, second_looks
from wcp_attest.disk.directory import FileProblem, describe_os_error
from wcp_attest.disk.hashing import Task, Worker
from wcp_attest.disk.options import Progress
from wcp_attest.disk.workers import Inbox, pack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from subprocess import Popen
    from typing import Self

    from wcp_attest.disk.batches import Done, FileBatch
    from wcp_attest.disk.directory import TreeRoot
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.walk import Walk

WORTH_FILES = 1500  # to start a worker takes as long as to hash about so many small files (bar: `five`)
WORTH_BYTES = 24 * 1024 * 1024  # or so many bytes
MAX_JOBS = 256
QUIET_SECONDS = 10  # that one wait for the workers lasts at most
MAX_QUIET = 12  # waits without any answer: a slow disk or a stopped worker gets two minutes
_DEFAULT_JOBS = 8  # with more of them, the disk is nearly always the limit
_PROGRESS_SECONDS = 0.05
_AHEAD_FILES = 512  # that a worker has to do at once, so that it need not wait for this process (bar: `small`)
_AHEAD_BYTES = BATCH_BYTES  # likewise; a larger file is all that its worker has to do
_LEAST_FILES = 32  # a smaller batch counts as so many
_DRAWN = 32  # batches that may wait while the workers start or are busy
_LARGE = 8 * 1024 * 1024  # bytes from which this process leaves a file to the workers
_READ = 1 << 16  # for a larger block the allocator would map new memory at each read
_PIPE_BYTES = 1 << 20  # room for a dozen answers; Linux gives no more without privilege
_FREE = 10  # the first descriptor that cannot be one of the standard streams
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f"""
import sys
for name, path in (("wcp_attest", {_PACKAGE!r}), ("wcp_attest.disk", {os.path.join(_PACKAGE, "disk")!r})):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
from wcp_attest.disk.workers import serve
serve()
"""


def hash_all(
    root: TreeRoot,
    batches: Iterator[FileBatch],
    task: Task,
    options: ReadOptions,
    *,
    walk: Walk,
    many: bool = False,
    totals: tuple[int, int] | None = None,
) -> Generator[Done, None, None]:
    """Do batches, yield their results in order, and at the end look at every directory again.

    Args:
        root: of the tree.
        batches: cut from `walk`.
        task: what is to be done with every file.
        options: how to read.
        walk: from which the batches are cut.
        many: whether at least `WORTH_FILES` are expected, so that workers are started at once.
        totals: how many files and bytes there will be; None when that is not known.

    Yields:
        The results in the order of the batches. Only when the last was taken is the tree known not to have changed.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile.
        MachineError: this machine cannot read it, or a worker died; nothing was decided.
        ConfigError: the verified copy cannot be written, no worker can be started, or `jobs` is out of range.
    """
    files = size = seen = 0
    next_time = 0.0

    def watch(unfinished: int) -> None:
        nonlocal next_time, seen
        seen = max(seen, size + unfinished)  # a file that was just finished is in neither for a moment
        if options.progress is not None and monotonic() >= next_time:
            options.progress(Progress(files, seen, *(totals or ())))
            next_time = monotonic() + _PROGRESS_SECONDS

    if options.progress is not None:
        task.watch = watch
    try:
        for done in _results(root, batches, task, options, walk, many=many):
            yield done
            files += done.files
            size += done.size
            watch(0)
    except TreeUnsafe as refusal:
        from wcp_attest.disk.unsafe import with_others

        raise with_others(refusal, root, walk.rules) from None
    if options.progress is not None:
        options.progress(Progress(files, size, *(totals or ())))


def _results(
    root: TreeRoot, batches: Iterator[FileBatch], task: Task, options: ReadOptions, walk: Walk, *, many: bool
) -> Generator[Done, None, None]:
    """Do batches with workers, an executor, or in this process, whichever is to be used."""
    processes = _processes(options.jobs)
    walk.stat_first = WORTH_FILES if processes > 1 or options.executor is not None else 0
    worth = False
    if options.executor is not None:
        from wcp_attest.disk.remote import hash_with_executor

        yield from hash_with_executor(root, batches, task, options.executor)
        batches = iter(())
    elif processes > 1:
        # 1. Draw batches until it is clear that workers are worth starting, or there are no more.
        begun: list[FileBatch] = []
        worth = many
        while not worth and (batch := next(batches, None)) is not None:
            begun.append(batch)
            worth = walk.files >= WORTH_FILES or walk.size >= WORTH_BYTES
        batches = chain(begun, batches)
    if worth:
        # 2. Have workers do them.
        large = walk.size >= max(WORTH_BYTES, walk.files * _LARGE // 8)
        with _Pool(root.descriptor, task, processes, large=large) as pool:
            yield from pool.work_off(batches)
            for _ in pool.work_off(second_looks(walk.folders)):
                pass
        return
    with closing(Worker(root.descriptor, task)) as worker:
        for batch in batches:
            yield do(worker, batch)
        for batch in second_looks(walk.folders):
            do(worker, batch)


def _processes(jobs: int | None) -> int:
    """Return how many processes are to hash: as many as `jobs` says or, by default, as there are processors.

    One where no worker can be started: workers need a POSIX system, a plain interpreter, and the package in files.
    """
    if jobs is None:
        affinity = getattr(os, "sched_getaffinity", None)
        jobs = min(len(affinity(0)) if affinity is not None else os.cpu_count() or 1, _DEFAULT_JOBS)
    elif not 1 <= jobs <= MAX_JOBS:
        raise ConfigError(f"jobs is {jobs}; give a number from 1 to {MAX_JOBS}")
    python = not getattr(sys, "frozen", False) and os.path.basename(sys.executable or "").startswith(("python", "pypy"))
    can_start = python and os.name == "posix" and os.path.isfile(os.path.join(_PACKAGE, "disk", "workers.py"))
    return jobs if can_start else 1


@dataclass(slots=True)
class _Slot:
    """A batch, its number among all, and its result."""

    number: int
    batch: FileBatch
    large: bool
    result: Done | Error | None = None


class _Queue:
    """Batches drawn from the walk, in order, until their results are yielded.

    Args:
        batches: cut from the walk.

    Attributes:
        waiting: those that nobody does yet.
        more: whether there may be further ones to draw.
    """

    def __init__(self, batches: Iterator[FileBatch]) -> None:
        self._batches = enumerate(batches)
        self._order: deque[_Slot] = deque()  # all whose results are not yet yielded
        self.waiting: deque[_Slot] = deque()
        self.more = True

    def draw(self) -> bool:
        """Draw one more batch from the walk; return whether there was one."""
        drawn = next(self._batches, None)
        if drawn is None:
            self.more = False
            return False
        number, batch = drawn
        slot = _Slot(number, batch, batch.size >= _LARGE)
        self._order.append(slot)
        self.waiting.append(slot)
        return True

    def results(self) -> Iterator[Done]:
        """Yield the results that are next in order; raise the one that is an error."""
        while self._order and (result := self._order[0].result) is not None:
            self._order.popleft()
            if isinstance(result, Error):
                raise result
            yield result

    @property
    def is_done(self) -> bool:
        """Whether every result of what was drawn is yielded."""
        return not self._order


class _Process:
    """One worker process and what it has to do.

    Args:
        root: descriptor of the root of the tree.
        task: what is to be done with every file.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, root: int, task: Task) -> None:
        import fcntl
        import subprocess

        self.slots: dict[int, _Slot] = {}
        self.ahead = [0, 0]  # files and bytes that it has to do
        self._reading: str | None = None  # the path of the last file of many blocks, until its batch is done
        self.unfinished = 0  # how many bytes of it were read
        self._inbox = Inbox()
        given = [
            None if descriptor is None else fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE)
            for descriptor in (root, task.stage)
        ]
        try:
            self._process: Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=bare_environment(os.environ),
                pass_fds=[descriptor for descriptor in given if descriptor is not None],
                process_group=0,
                bufsize=0,
                pipesize=_PIPE_BYTES,
            )
        finally:
            for descriptor in given:
                if descriptor is not None:
                    os.close(descriptor)
        assert self._process.stdin is not None  # noqa: S101  # for mypy: pipes were asked for
        assert self._process.stdout is not None  # noqa: S101
        self.input, self.output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self.input, False)
        search_path: list[str] = []
        if task.algorithm == "blake3":
            import blake3

            search_path.append(os.path.dirname(os.path.dirname(os.path.abspath(blake3.__file__))))
        self.unsent = bytearray(
            pack((task.algorithm, task.owner, task.limits, *given, task.rights, os.getpid(), search_path))
        )

    def give(self, slot: _Slot) -> None:
        """Queue a batch for it."""
        self.slots[slot.number] = slot
        self.ahead[0] += max(slot.batch.files, _LEAST_FILES)
        self.ahead[1] += slot.batch.size
        self.unsent += pack((slot.number, [request(part) for part in slot.batch.parts]))
        self.write()

    def write(self) -> None:
        """Write as much as it takes without waiting."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # if it has ended, `read` finds out
            while self.unsent:
                del self.unsent[: os.write(self.input, self.unsent)]

    def read(self) -> None:
        """Read its answers.

        Raises:
            TreeUnsafe: it was ended because a file was truncated while it was mapped.
            MachineError: it was ended for another reason, or its answer makes no sense.
        """
        data = os.read(self.output, _READ)
        if not data:
            with contextlib.suppress(Exception):
                self._process.wait(timeout=1)  # for its own status, before `end` kills it
            status = self.end()
            ending = f"by signal {-status}" if status < 0 else f"with status {status}"
            if self._reading is None:
                raise MachineError(
                    f"a process that read files was ended ({ending}); nothing was decided about the tree"
                )
            text = f"{self._reading!r} cannot be read: the process that read it was ended ({ending})"
            if status == -signal.SIGBUS:
                raise TreeUnsafe(f"{text}; it was cut short meanwhile, or lies on a broken disk")
            raise MachineError(f"{text}; nothing was decided")
        try:
            for kind, number, *rest in self._inbox.messages(data):
                slot = self.slots[number]
                if kind == "reading":
                    part = slot.batch.parts[rest[0]]
                    self._reading = (part.folder.path if part.folder is not None else "") + part.names[rest[1]]
                    self.unfinished = int(rest[2])
                    continue
                del self.slots[number]
                self._reading, self.unfinished = None, 0
                self.ahead[0] -= max(slot.batch.files, _LEAST_FILES)
                self.ahead[1] -= slot.batch.size
                slot.result = as_error(FileProblem(*rest)) if kind == "failed" else assemble(slot.batch, *rest)
        except (ValueError, TypeError, EOFError, KeyError, IndexError):
            raise MachineError("a worker process sent an answer that makes no sense; nothing was decided") from None

    def end(self) -> int:
        """Make sure that it has ended; return its status, or the negative number of the signal that ended it."""
        self._process.kill()
        status = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        return status


class _TooLarge(Exception):
    """A file that this process should not read itself."""


class _OwnTask(Task):
    """A task that stops at a large file."""

    __slots__ = ()

    def notice(self, index: int, size: int) -> None:  # noqa: ARG002  # whatever its place
        if size >= _LARGE:
            raise _TooLarge


class _Pool:
    """The workers, and this process where it also hashes; a context manager that leaves no worker behind.

    This process does not hash when files are large, nor when a copy is written: it gives a batch with a large file back
    to the workers after it has begun it, and a copy cannot be begun twice.

    Args:
        root: descriptor of the root.
        task: what is to be done with every file.
        count: how many processes hash, with this one where it does.
        large: whether files are large on average.
    """

    def __init__(self, root: int, task: Task, count: int, *, large: bool) -> None:
        self._root, self._task, self._count = root, task, count
        self._workers: list[_Process] = []
        self._by_descriptor: dict[int, _Process] = {}
        self._poll = select.poll()
        self._own = None
        if task.stage is None and not large:
            self._own = Worker(root, _OwnTask(task.algorithm, owner=task.owner, limits=task.limits))

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count - (self._own is not None)):
                self._start()
        except OSError as problem:
            if not self._workers:
                self.__exit__()
                reason = describe_os_error(problem)
                raise ConfigError(
                    f"cannot start a worker process: {reason}; or read with one job: `--jobs 1`"
                ) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        if self._own is not None:
            self._own.close()

    def work_off(self, batches: Iterator[FileBatch]) -> Iterator[Done]:
        """Do all batches, and yield their results in order; raise as `hash_all` does."""
        queue = _Queue(batches)
        while True:
            self._hand_out(queue)
            yield from queue.results()
            if queue.is_done:
                return
            # Read answers. When there are none: draw batches, or else hash one, or else wait.
            if self._listen(0):
                continue
            if queue.more and len(queue.waiting) < _DRAWN:
                queue.draw()
            elif not self._do_one(queue.waiting):
                self._wait()

    def _hand_out(self, queue: _Queue) -> None:
        """Give every worker as much as it may have. Where large files wait, start one more."""
        while True:
            free = [
                worker for worker in self._workers if worker.ahead[0] < _AHEAD_FILES and worker.ahead[1] < _AHEAD_BYTES
            ]
            if free:
                if not queue.waiting and not queue.draw():
                    return
                min(free, key=lambda worker: worker.ahead).give(queue.waiting.popleft())
            elif queue.waiting and queue.waiting[0].large and len(self._workers) < self._count:
                try:
                    self._start()
                except OSError:
                    self._count = len(self._workers)  # those that run do the work
            else:
                return

    def _start(self) -> None:
        worker = _Process(self._root, self._task)
        self._workers.append(worker)
        self._by_descriptor[worker.input] = self._by_descriptor[worker.output] = worker
        self._poll.register(worker.output, select.POLLIN)

    def _listen(self, milliseconds: int) -> bool:
        """Read what the workers have written and write what they can take; return whether there was anything."""
        for worker in self._workers:
            if worker.unsent:
                self._poll.register(worker.input, select.POLLOUT)
        ready = self._poll.poll(milliseconds)
        for descriptor, _ in ready:
            worker = self._by_descriptor[descriptor]
            if descriptor == worker.input:
                worker.write()
                self._poll.unregister(descriptor)
            else:
                worker.read()
        if self._task.watch is not None:
            self._task.watch(sum(worker.unfinished for worker in self._workers))
        return bool(ready)

    def _wait(self) -> None:
        """Wait for a worker, but not without limit: one may have been stopped, or a disk may not answer.

        Waits are counted, not the time, so that this process may itself be stopped for a while.
        """
        for _ in range(MAX_QUIET):
            if self._listen(QUIET_SECONDS * 1000):
                return
        raise MachineError(
            f"no process that reads files has said anything for {MAX_QUIET * QUIET_SECONDS} seconds; nothing was "
            "decided: look whether the disk answers, and whether the processes were stopped"
        )

    def _do_one(self, waiting: deque[_Slot]) -> bool:
        """Do one batch in this process that is not known to be large; return whether there was one."""
        slot = next((slot for slot in waiting if not slot.large), None)
        if self._own is None or slot is None:
            return False
        waiting.remove(slot)
        try:
            slot.result = do(self._own, slot.batch)
        except (TreeUnsafe, ConfigError, MachineError) as problem:
            slot.result = problem
        except _TooLarge:
            slot.large = True
            waiting.appendleft(slot)
        return True
