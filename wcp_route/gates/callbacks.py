"""Calls the operator's code with a deadline: the code may raise, hang or return nonsense, and the Hall continues.

A call runs in a daemon thread, so that a call that never returns does not keep the process alive (the interpreter joins
the threads of `concurrent.futures` at exit). The number of calls that hang is bounded. The caller gets the answer or a
`CallbackFailed`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from wcp_attest.base.errors import Error
from wcp_route.domain.events import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HANGING: Final = 32  # threads given up on; from then on every call is refused at once

_log = logging.getLogger("wcp_route")

T = TypeVar("T")


class CallbackFailed(Error):
    """A callback raised, took too long, or could not be called."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a decision must be made.

    Attributes:
        at: on the clock of `time.monotonic`, seconds.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left, never less than 0."""
        return max(0.0, self.at - time.monotonic())


@dataclass(slots=True, eq=False)
class _Call:
    """A call, and how it ended."""

    run: Callable[[], Any]
    error: BaseException | None = None
    answer: Any = None
    done: threading.Event = field(default_factory=threading.Event)
    abandoned: bool = False


@dataclass(slots=True, eq=False)
class _Threads:
    """Threads of one process, each with its own queue. The threads refer to this object and not to its owner."""

    process: int = field(default_factory=os.getpid)
    idle: SimpleQueue[SimpleQueue[_Call | None]] = field(default_factory=SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    hanging: int = 0
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        while True:
            try:
                self.idle.get_nowait().put(None)
            except Empty:
                return


def _serve(threads: _Threads, inbox: SimpleQueue[_Call | None]) -> None:
    while (call := inbox.get()) is not None:
        try:
            call.answer = call.run()
        except BaseException as error:  # noqa: BLE001  # the thread is ours; the caller would wait for its answer
            call.error = error
        with threads.lock:
            call.done.set()
            threads.hanging -= call.abandoned
        del call  # an idle thread must not keep the request alive
        threads.idle.put(inbox)
        if threads.closed:
            threads.close()


class Callbacks:
    """Threads for callbacks. One is kept for reuse; more are started while calls overlap or hang.

    Args:
        seconds: how long one call may take.

    Attributes:
        seconds: as given; what is set later counts for the calls that begin then.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._threads = _Threads()
        self._finalizer = weakref.finalize(self, _Threads.close, self._threads)
        self._finalizer.atexit = False

    def close(self) -> None:
        """End idle threads now, and busy threads when their calls return. Later calls are refused."""
        self._threads.close()

    def call(self, what: str, run: Callable[[], T], *, seconds: float | None = None, ours: bool = False) -> T:
        """Call `run` and return its answer.

        Args:
            what: what is called, for messages (`policy gate`, `approval store`).
            run: the call.
            seconds: how long it may take, when that is less than usual.
            ours: whether `run` is our own code, so that the caller handles its errors.

        Raises:
            CallbackFailed: `run` did not return in time, too many calls hang already, or `run` raised and is not ours.
            Exception: what `run` raises, when `ours` is set.
        """
        call = self._finished(what, run, seconds)
        if call.error is not None and ours:
            raise call.error
        if call.error is not None:
            _log.error("the %s failed: %s", what, one_line(call.error))
            raise CallbackFailed(f"the {what} failed")
        return cast("T", call.answer)

    def _finished(self, what: str, run: Callable[[], object], seconds: float | None) -> _Call:
        """Make a call in another thread, and return it when it has ended in time."""
        allowed = self.seconds if seconds is None else min(seconds, self.seconds)
        if allowed <= 0:
            raise CallbackFailed(f"the {what} was not asked: the time for this decision is over")
        if os.getpid() != self._threads.process:  # a fork does not copy threads
            self._threads = _Threads()
            self._finalizer = weakref.finalize(self, _Threads.close, self._threads)
            self._finalizer.atexit = False
        threads, call = self._threads, _Call(run)
        with threads.lock:
            if threads.closed:
                raise CallbackFailed(f"the {what} was not asked: the Hall is closed")
            if threads.hanging >= MAX_HANGING:
                raise CallbackFailed(f"the {what} was not asked: {threads.hanging} calls hang already")
        try:
            inbox = threads.idle.get_nowait()
        except Empty:
            inbox = SimpleQueue()
            try:
                threading.Thread(target=_serve, args=(threads, inbox), name="wcp-route-callback", daemon=True).start()
            except RuntimeError:  # the system has no thread left
                raise CallbackFailed(f"the {what} was not asked: no thread could be started") from None
        inbox.put(call)
        if not call.done.wait(allowed):
            with threads.lock:
                call.abandoned = not call.done.is_set()
                threads.hanging += call.abandoned
            if call.abandoned:
                raise CallbackFailed(f"the {what} did not answer within {allowed:.3g} seconds")
        return call
