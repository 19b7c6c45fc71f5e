"""Bounds connections: a request's head has a deadline, and the connection that has waited longest makes room.

uvicorn closes a connection that is idle after a request, but sets no time for the first one, nor for a head that comes
byte by byte. Here every connection without a request in progress has `head_seconds` for the next whole head, and for
each part of an answer that the client is slow to take. When there are `connections` of them, a new one takes the place
of the one that has waited longest for its client. A request in progress is not cut off for that.

A client that sends requests and takes no answers gets no further ones: the next request is read when the answers before
it are sent.
"""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from wcp_route.service.settings import ServiceModel

MAX_HELD: Final = 64 << 10  # bytes of answers that are sent together
SPARE_FILES: Final = 256  # descriptors for everything that is no connection: state, logs, lists, threads


class _Joining:
    """A transport that sends together what is written in one turn of the loop: an answer's head and body.

    Each call to the system gives the interpreter's lock away, and getting it back may take as long as a decision.
    """

    def __init__(self, transport: Any, loop: Any) -> None:
        self._transport, self._loop = transport, loop
        self._held = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data and not self._held:
            self._loop.call_soon(self._send)
        self._held += data
        if len(self._held) > MAX_HELD:
            self._send()

    def get_write_buffer_size(self) -> int:
        size: int = self._transport.get_write_buffer_size()
        return size + len(self._held)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._held:
            held, self._held = self._held, bytearray()
            self._transport.write(held)


def connection_limit(wanted: int) -> int:
    """Return how many connections this process can keep, after asking the system for as many as that takes.

    Args:
        wanted: how many the settings allow.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - SPARE_FILES))


class _Clients:
    """The connections that wait for their clients, the one that has waited longest first.

    Args:
        limit: how many connections there may be.
        seconds: for a head, or for a part of an answer that is to be taken.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self._seconds = limit, seconds
        self._found: dict[BoundedConnection, None] = {}

    def remove(self, one: BoundedConnection) -> None:
        self._found.pop(one, None)
        if one.deadline is not None:
            one.deadline.cancel()
            one.deadline = None

    def add(self, one: BoundedConnection) -> None:
        self.remove(one)
        self._found[one] = None
        one.unsent = one.transport.get_write_buffer_size()
        one.deadline = one.loop.call_later(self._seconds, self._end_or_wait, one)

    def end_oldest(self) -> BoundedConnection | None:
        """Make room; None when no connection waits for its client."""
        oldest = next(iter(self._found), None)
        if oldest is not None:
            oldest.transport.abort()
            self.remove(oldest)
        return oldest

    def _end_or_wait(self, one: BoundedConnection) -> None:
        """End a connection whose client did nothing for the time; one that took a part of its answer may go on."""
        before, one.unsent = one.unsent, one.transport.get_write_buffer_size()
        if one.unsent < before:
            one.deadline = one.loop.call_later(self._seconds, self._end_or_wait, one)
        else:
            one.transport.abort()


class BoundedConnection(H11Protocol):
    """A connection whose client has a time for each head and for taking its answers."""

    clients: _Clients  # one for all connections of a server
    deadline: asyncio.TimerHandle | None = None
    unsent = 0  # bytes of answers, when the deadline was set

    def connection_made(self, transport: Any) -> None:  # noqa: D102  # of asyncio, as those below
        transport = _Joining(transport, self.loop)
        if len(self.connections) >= self.clients.limit:
            # The callback of the one that ends comes later, and a flood must not outrun it.
            self.connections.discard(self.clients.end_oldest())
        super().connection_made(transport)
        self.clients.add(self)
        if len(self.connections) > self.clients.limit:
            transport.abort()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        super().data_received(data)
        self._note_work()

    def handle_events(self) -> None:  # noqa: D102
        if self.flow.write_paused:
            self.flow.pause_reading()
        elif not self.transport.is_closing():
            super().handle_events()

    def pause_writing(self) -> None:  # noqa: D102
        super().pause_writing()
        self.clients.add(self)

    def resume_writing(self) -> None:  # noqa: D102
        super().resume_writing()
        self.flow.resume_reading()
        self.handle_events()
        self._note_work()

    def on_response_complete(self) -> None:  # noqa: D102
        super().on_response_complete()
        if not self._note_work():
            self.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.clients.remove(self)
        super().connection_lost(exc)

    def _note_work(self) -> bool:
        """Set no deadline while a request is in progress, and tell whether one is."""
        cycle: Any = self.cycle  # none before the first request
        working = cycle is not None and not cycle.response_complete and not self.flow.write_paused
        if working:
            self.clients.remove(self)
        return working


def bounded_protocol(service: ServiceModel) -> type[asyncio.Protocol]:
    """Return the protocol of one server's connections.

    Args:
        service: its settings.
    """
    clients = _Clients(connection_limit(service.connections), service.head_seconds)
    return type("BoundedConnectionOfServer", (BoundedConnection,), {"clients": clients})
