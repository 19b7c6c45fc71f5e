"""Calls into code that is not ours, with a deadline: it may raise, hang or answer nonsense, and the Hall goes on.

A call runs in a thread of its own kind: a daemon, so that one which never returns does not keep the process alive, and
one of a bounded number, so that calls which hang cannot pile up. Whoever waits gets the answer or a `CallbackFailed`.
"""

from __future__ import annotations

import logging
import os
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from wcp_attest.base.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

MAX_HANGING = 32  # threads given up on; from then on every call is refused at once

_log = logging.getLogger("wcp_route")

T = TypeVar("T")


class CallbackFailed(Error):
    """A callback raised, took too long, or could not be called."""


class Caught:
    """Keeps what a block of foreign code raised, so that it becomes a refusal and never passes unseen.

    Args:
        kinds: what is kept. By default `KeyboardInterrupt` and `SystemExit` go through: they are meant for the thread
            that runs the block.

    Attributes:
        error: what was raised; none when nothing was.
    """

    __slots__ = ("_kinds", "error")

    def __init__(self, kinds: type[BaseException] = Exception) -> None:
        self.error: BaseException | None = None
        self._kinds = kinds

    def __enter__(self) -> Self:
        """Return the keeper."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Keep what is of the kinds; let everything else pass."""
        self.error = error
        return isinstance(error, self._kinds)


class _Call(Generic[T]):
    __slots__ = ("abandoned", "answer", "caught", "done", "run")

    def __init__(self, run: Callable[[], T]) -> None:
        self.run = run
        self.caught = Caught(BaseException)  # the thread is ours, and an end of it would leave the caller waiting
        self.answer: list[T] = []
        self.done = threading.Event()
        self.abandoned = False


class Callbacks:
    """Threads for callbacks. One is kept for reuse; more are started while calls overlap or hang.

    Args:
        seconds: how long one call may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._idle: SimpleQueue[SimpleQueue[_Call[object]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._hanging = 0

    def call(self, what: str, run: Callable[[], T]) -> T:
        """Call `run` and return its answer.

        Args:
            what: what is called, for messages (`policy gate`).
            run: the call.

        Raises:
            CallbackFailed: it raised, or did not return in time, or too many calls hang already.
        """
        call = _Call(run)
        self._hand_over(what, call)
        if not call.done.wait(self._seconds):
            self._abandon(call)
            raise CallbackFailed(f"the {what} did not answer within {self._seconds:g} seconds")
        if call.caught.error is not None:
            _log.error("the %s failed", what, exc_info=call.caught.error)
            raise CallbackFailed(f"the {what} failed")
        return call.answer[0]

    def _abandon(self, call: _Call[T]) -> None:
        with self._lock:
            call.abandoned = not call.done.is_set()
            self._hanging += call.abandoned

    def _hand_over(self, what: str, call: _Call[T]) -> None:
        if os.getpid() != self._process:  # a fork takes no threads along
            self._begin()
        with self._lock:
            if self._hanging >= MAX_HANGING:
                raise CallbackFailed(f"the {what} was not asked: {self._hanging} calls hang already")
        try:
            inbox = self._idle.get_nowait()
        except Empty:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="wcp-route-callback", daemon=True).start()
        inbox.put(call)  # type: ignore[arg-type]  # the queue carries calls of every answer

    def _serve(self, inbox: SimpleQueue[_Call[object]]) -> None:
        while True:
            call = inbox.get()
            with call.caught:
                call.answer.append(call.run())
            call.done.set()
            with self._lock:
                self._hanging -= call.abandoned
            self._idle.put(inbox)
