"""What the libraries log, on standard error: one line a record, like everything else that is said there."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from wcp_route.cli.failures import DEBUG_VARIABLE, MAX_MESSAGE
from wcp_route.cli.say import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGERS: Final = ("wcp_attest", "wcp_route")
MAX_HELD: Final = 1 << 20  # bytes of lines that nobody takes


class _Line(logging.Handler):
    """Says what a record says and what was raised; where it was raised only who debugs is told."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage() if error is None else f"{record.getMessage()}: {str(error) or type(error).__name__}"
        sys.stderr.write(f"{record.levelname.lower()}: {printable(' '.join(said.split()))[:MAX_MESSAGE]}\n")
        if error is not None and os.environ.get(DEBUG_VARIABLE) == "1":
            import traceback

            traceback.print_exception(error)


@contextmanager
def logs_in_lines() -> Iterator[None]:
    """Say what is logged during the block."""
    line = _Line(logging.WARNING)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(line)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(line)


class _Unwaiting(logging.Handler):
    """Writes to a descriptor and waits for nobody who reads there: a reader that hangs must not stop a service.

    Lines that a pipe does not take are held back, up to `MAX_HELD` bytes; those beyond are counted and left out.

    Args:
        descriptor: where to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._held: deque[bytes] = deque()
        self._size = self._lost = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        self._hold(self.format(record))
        while self._held and self._poll.poll(0):
            line = self._held.popleft()
            try:  # a pipe that takes anything takes this many bytes at once (POSIX, write)
                rest = line[os.write(self._descriptor, line[: select.PIPE_BUF]) :]
            except OSError:  # nobody reads here any more, or the disk is full
                rest = b""
            self._size -= len(line) - len(rest)
            if rest:
                self._held.appendleft(rest)
            elif not self._held and self._lost:
                lost, self._lost = self._lost, 0
                self._hold(f"{lost} lines of the log are left out: nobody took them in time")

    def _hold(self, text: str) -> None:
        line = f"{text}\n".encode(errors="backslashreplace")
        if self._size + len(line) > MAX_HELD:
            self._lost += line.count(b"\n")
        else:
            self._held.append(line)
            self._size += len(line)


def log_as_a_service() -> None:
    """Write what is logged on standard error until this process ends, each record as it is, and wait for no reader."""
    for name in LOGGERS:
        logging.getLogger(name).handlers.clear()
    try:
        handler: logging.Handler = _Unwaiting(sys.stderr.fileno())
    except (OSError, ValueError):  # standard error is no descriptor
        handler = logging.StreamHandler()
    logging.basicConfig(handlers=[handler], format="%(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
