"""Events as CloudEvents 1.0, one JSON object a line, to stdout, to a file or to a callable.

    {"specversion":"1.0","id":"<decision id>/0","source":"urn:wcp:hall:acme","type":"evt.os.task.routed",
     "subject":"<decision id>","time":"2026-01-31T08:00:00.123Z","datacontenttype":"application/json",
     "data":{"event_id":"evt.os.task.routed", … }}

A decision never waits for its events: `emit` puts them into a queue of `MAX_WAITING` decisions, and one thread writes.
When the queue is full, or writing fails, events are dropped and counted (`dropped`). Receipts are the evidence; events
only inform.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import sys
import threading
from logging.handlers import RotatingFileHandler
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json
from wcp_route.domain.closing import Closing
from wcp_route.domain.events import events, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import TextIOWrapper

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import RouteDecision
    from wcp_route.domain.events import Event

MAX_WAITING: Final = 10_000  # decisions; about 20 MB
MAX_AT_ONCE: Final = 256  # decisions written together
MAX_FILE_BYTES: Final = 64 << 20  # then the file is renamed and a new one begins
KEPT_FILES: Final = 4  # renamed files that stay; older ones are removed
CLOSE_SECONDS: Final = 5.0

_START: Final = b'{"data":'  # of every event in canonical JSON
_SOURCE: Final = re.compile(r"[!-~]{1,256}\Z")  # a URI reference, CloudEvents 1.0 section 3.1
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")

_log = logging.getLogger("wcp_route")

Target: TypeAlias = "Callable[[Sequence[JsonObject]], None]"


class Telemetry(Closing):
    """A sink that writes CloudEvents.

    Args:
        source: the sender, a URI reference such as `urn:wcp:hall:acme`.
        target: takes some events at a time; `to_stdout()`, `to_file(path)`, `to_callable(function)` or your own. It is
            called in one thread; what it raises is logged and counted.
        traceparent: returns the W3C trace context of the calling thread, or an empty string.

    Attributes:
        dropped: how many decisions' events were not written.

    Raises:
        ConfigError: the source is empty or no URI reference.
    """

    def __init__(self, source: str, target: Target, *, traceparent: Callable[[], str] | None = None) -> None:
        if _SOURCE.match(source) is None:
            raise ConfigError(f"{source[:80]!r} cannot be the source of events; use a URI such as urn:wcp:hall:acme")
        self._source, self._target, self._traceparent = source, target, traceparent
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Start to write, in this process."""
        self._process, self.dropped = os.getpid(), 0
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="wcp-route-events", daemon=True)
        self._thread.start()

    never_waits: Final = True  # `emit` puts events into a queue

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:  # noqa: ARG002  # events carry no duration
        """Put the events of a decision into the queue; drop them when it is full or closed.

        Args:
            decision: what was decided.
            elapsed_ns: how long it took, nanoseconds.
        """
        if os.getpid() != self._process and not self._closed:  # a fork copies the queue, and no thread that empties it
            self._begin()
        if self._closed or self._queue.qsize() >= MAX_WAITING:
            self._drop(1)
            return
        parent = ""
        if self._traceparent is not None:
            try:
                parent = self._traceparent()
            except Exception as error:  # noqa: BLE001  # foreign code; the event goes out without a trace
                _log.error("the trace context could not be read: %s", one_line(error))
        self._queue.put(_Waiting(decision, parent))

    def close(self) -> None:
        """Write the events that wait, for at most `CLOSE_SECONDS`. The rest is dropped."""
        closed, self._closed = self._closed, True
        if not closed and os.getpid() == self._process:
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)

    def _drop(self, count: int) -> None:
        with self._lock:
            if not self.dropped:
                _log.warning("events are dropped; they come faster than they can be written, or writing fails")
            self.dropped += count

    def _run(self) -> None:
        more = True
        while more:
            taken = [self._queue.get()]
            with contextlib.suppress(Empty):
                while len(taken) < MAX_AT_ONCE:
                    taken.append(self._queue.get_nowait())
            more = None not in taken
            waiting = [one for one in taken if one is not None]
            try:
                told = [
                    cloud_event(event, one.decision, source=self._source)
                    | ({"traceparent": one.traceparent} if _TRACEPARENT.match(one.traceparent) else {})
                    for one in waiting
                    for event in events(one.decision)
                ]
                if told:
                    self._target(told)
            except Exception as error:  # noqa: BLE001  # the target is foreign code, and this thread must go on
                _log.error("events could not be written: %s", one_line(error))
                self._drop(len(waiting))


class _Waiting(NamedTuple):
    decision: RouteDecision
    traceparent: str


def cloud_event(event: Event, decision: RouteDecision, *, source: str) -> JsonObject:
    """Return an event in the JSON format of CloudEvents 1.0.

    Args:
        event: one of `events(decision)`.
        decision: the decision of the event. Its id is the subject; its id and the event's number are the event's id.
        source: the sender, a URI reference.
    """
    return {
        "specversion": "1.0",
        "id": f"{decision.decision_id}/{event.number}",
        "source": source,
        "type": event.event_id,
        "subject": decision.decision_id,
        "time": event.fields["timestamp"],
        "datacontenttype": "application/json",
        "data": event.to_dict(),
    }


def to_stdout() -> Target:
    """Return a target that writes JSON Lines to standard output."""

    def write(told: Sequence[JsonObject]) -> None:
        sys.stdout.buffer.write(b"".join([canonical_json(event) + b"\n" for event in told]))
        sys.stdout.buffer.flush()

    return write


def to_callable(function: Callable[[JsonObject], object]) -> Target:
    """Return a target that hands over one event at a time.

    Args:
        function: takes one event, a CloudEvents object.
    """

    def write(told: Sequence[JsonObject]) -> None:
        for event in told:
            function(event)

    return write


def to_file(path: str, *, max_bytes: int = MAX_FILE_BYTES, keep: int = KEPT_FILES) -> Target:
    """Return a target that appends JSON Lines to a file for its owner alone (mode 0600).

    A file that would grow beyond `max_bytes` becomes `path.1`, `path.1` becomes `path.2`, and so on up to `keep`.

    Args:
        path: the file; a link or a special file is refused.
        max_bytes: the largest size of one file, bytes.
        keep: how many older files stay.

    Raises:
        ConfigError: the file cannot be opened, or holds something other than events.
    """
    try:
        os.close(_open(path))
        with open(path, "rb") as file:
            start = file.read(len(_START))
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot write events to `{path}`: {problem}") from None
    if start and start != _START:
        raise ConfigError(f"`{path}` holds something other than events; name a file for them alone")

    handler = _EventFile(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8", delay=True)

    def write(told: Sequence[JsonObject]) -> None:
        handler.handle(logging.makeLogRecord({"msg": b"\n".join(map(canonical_json, told)).decode()}))

    return write


class _EventFile(RotatingFileHandler):
    """Rotates as the standard library does. Opens the file for each write, not through a link, for its owner alone."""

    def _open(self) -> TextIOWrapper:
        return open(_open(self.baseFilename), "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write and close the file, so that other programs may rename it too."""
        try:
            super().emit(record)
        finally:
            if self.stream is not None:
                self.stream.close()
                self.stream = None  # as with delay=True

    def doRollover(self) -> None:  # noqa: N802  # the name of the standard library
        """Rename the full file; when no older file is to stay, remove it."""
        super().doRollover()
        if self.backupCount == 0:
            os.unlink(self.baseFilename)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Raise the current error, so that it is counted."""
        del record
        raise  # noqa: PLE0704  # called while it is handled


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return descriptor
