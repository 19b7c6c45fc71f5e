"""Bounds connections: a request's head has a deadline, and the connection that has waited longest makes room.

uvicorn closes a connection that is idle after a request, but sets no time for the first one, nor for a head that comes
byte by byte. Here every connection without a request in progress has `head_seconds` for the next whole head. When
there are `connections` of them, a new one takes the place of the one that has waited longest. A request in progress is
not cut off for that.
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


def bounded_protocol(service: ServiceModel) -> type[asyncio.Protocol]:
    """Return the protocol of one server's connections.

    Args:
        service: its settings.
    """
    limit, head_seconds = connection_limit(service.connections), service.head_seconds
    waiting: dict[asyncio.Protocol, None] = {}  # without a request in progress, longest first

    def set_busy(one: Any) -> None:
        waiting.pop(one, None)
        if one.deadline is not None:
            one.deadline.cancel()
            one.deadline = None

    def set_waiting(one: Any) -> None:
        set_busy(one)
        waiting[one] = None
        one.deadline = one.loop.call_later(head_seconds, one.transport.abort)

    class BoundedConnection(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            transport = _Joining(transport, self.loop)
            if len(self.connections) >= limit and waiting:
                oldest: Any = next(iter(waiting))
                oldest.transport.abort()
                self.connections.discard(oldest)  # its own callback comes later, and a flood must not outrun it
                set_busy(oldest)
            super().connection_made(transport)
            set_waiting(self)
            if len(self.connections) > limit:
                transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle: Any = self.cycle  # none before the first request
            if cycle is not None and not cycle.response_complete:
                set_busy(self)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete:
                set_waiting(self)

        def connection_lost(self, exc: Exception | None) -> None:
            set_busy(self)
            super().connection_lost(exc)

    return BoundedConnection
