"""Decisions for the event loop: a few threads judge, and the loop answers once the receipts are durable.

A request waits for a thread that judges it, and then for the disk; only the first occupies a thread. While one
transaction of receipts is being written, the threads judge the next requests. Requests whose receipts become durable
together wake the loop once.

Threads of one interpreter take turns, so two of them judge as much as twenty. There are more only while some of them
wait for a slow gate and requests queue up behind these.
"""

from __future__ import annotations

import contextlib
import threading
import time
from asyncio import get_running_loop
from collections import deque
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Iterator

    from wcp_route.domain.decision import RouteDecision
    from wcp_route.hall import Begun, Hall

USUAL_THREADS: Final = 2
SWEEP_SECONDS: Final = 0.02  # between two looks for requests that wait for a thread, or whose deadline has come
IDLE_SECONDS: Final = 2.0  # after which a thread ends that is not needed any more
JOIN_SECONDS: Final = 2.0  # for threads that are still at work when the service ends


class _Job:
    """One request on its way.

    Attributes:
        request: the arguments of `Hall.begin`.
        future: the answer, for the task that waits.
        variables: of that task; a trace is among them.
        since: when it was last brought to the threads, seconds on the monotonic clock.
        taken: whether a thread has taken it since.
        begun: the decision, while its receipt is on its way.
        settled: whether it is known what became of the receipt.
        finishing: whether somebody makes the answer already.
        answer: the decision, or what failed.
    """

    __slots__ = ("answer", "begun", "finishing", "future", "request", "settled", "since", "taken", "variables")

    def __init__(self, request: dict[str, Any], future: Future[RouteDecision]) -> None:
        self.request, self.future, self.variables = request, future, copy_context()
        self.since, self.taken, self.settled, self.finishing = 0.0, False, False, False
        self.begun: Begun | None = None
        self.answer: RouteDecision | BaseException | None = None


class Decider:
    """Asks a Hall without stopping the event loop.

    Args:
        hall: decides.
        threads: how many requests may be judged at the same time at most.
    """

    def __init__(self, hall: Hall, threads: int) -> None:
        self._hall, self._most = hall, threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._open: dict[_Job, None] = {}  # brought and not answered, oldest first; of the loop's thread alone
        self._settled: deque[_Job] = deque()
        self._woken = self._sweeping = False  # whether an `_answer`, or a `_sweep`, is on its way
        self._threads: set[threading.Thread] = set()
        self._loop: AbstractEventLoop | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Judge requests of the running loop until the block ends."""
        self._loop, self._sweeping = get_running_loop(), False
        for _ in range(min(USUAL_THREADS, self._most)):
            self._start_thread(None)
        try:
            yield
        finally:
            threads, end = [*self._threads], time.monotonic() + JOIN_SECONDS
            for _ in threads:
                self._jobs.put(None)
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    async def decide(self, request: dict[str, Any], *, grant: str, principal: str) -> RouteDecision:
        """Return the Hall's decision once its receipt is durable, as `Hall.route` does.

        Args:
            request: the parsed request.
            grant: the approval grant that came along; empty for none.
            principal: the tenant that was authenticated.
        """
        loop = get_running_loop()
        job = _Job({"request": request, "grant": grant, "principal": principal}, loop.create_future())
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_SECONDS, self._sweep)
        self._open[job] = None
        self._bring(job)
        try:
            return await job.future
        finally:
            del self._open[job]

    def _bring(self, job: _Job) -> None:
        """Have a thread judge or finish a job; `_sweep` starts one when it waits for too long."""
        job.since, job.taken = time.monotonic(), False
        self._jobs.put(job)

    def _start_thread(self, idle_seconds: float | None) -> None:
        """Start a thread; one that is needed only now ends when it has been idle for so long."""
        thread = threading.Thread(target=self._work, args=(idle_seconds,), name="wcp-decider", daemon=True)
        thread.start()
        self._threads.add(thread)

    def _work(self, idle_seconds: float | None) -> None:
        with contextlib.suppress(Empty):
            while (job := self._jobs.get(timeout=idle_seconds)) is not None:
                self._judge(job)
        self._threads.discard(threading.current_thread())

    def _judge(self, job: _Job) -> None:
        """Judge a request, or finish one that would make the loop wait."""
        job.taken = True
        try:
            if job.begun is None:
                begin = partial(self._hall.begin, told=partial(self._settle, job), **job.request)
                job.begun = job.variables.run(begin)
                if not job.settled:  # else it was settled before there was anything to finish
                    return
            else:
                job.answer = job.variables.run(job.begun.finish)
        except BaseException as problem:  # noqa: BLE001  # raised where the answer is waited for
            job.answer = problem
        self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Have the loop look at a job; called in any thread."""
        job.settled = True
        self._settled.append(job)
        if not self._woken and self._loop is not None:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """Answer all whose receipts are settled by now."""
        self._woken = False  # before the queue is emptied: what comes later wakes the loop again
        while self._settled:
            job = self._settled.popleft()
            if job.answer is None:
                if job.finishing or job.begun is None:
                    continue
                job.finishing = True
                if not job.begun.is_at_hand():
                    self._bring(job)
                    continue
                job.answer = job.variables.run(job.begun.finish)
            if job.future.done():  # its task was cancelled
                continue
            if isinstance(job.answer, BaseException):
                job.future.set_exception(job.answer)
            else:
                job.future.set_result(job.answer)

    def _sweep(self) -> None:
        """Look after requests behind a slow one, and after receipts that do not come in time."""
        self._sweeping = bool(self._open)  # else the next request begins it again
        if not self._open:
            return
        now, queued = time.monotonic(), 0
        for job in self._open:
            queued += not job.taken and now - job.since > SWEEP_SECONDS
            if job.begun is not None and not job.finishing and job.begun.is_late():
                job.finishing = True
                self._bring(job)
        with contextlib.suppress(RuntimeError):  # the system has no thread left; those that are there go on
            for _ in range(min(queued, self._most - len(self._threads))):
                self._start_thread(IDLE_SECONDS)
        get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
