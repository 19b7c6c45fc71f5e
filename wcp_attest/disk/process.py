"""Start an isolated interpreter as a child process, talk to it through two pipes, and make sure that it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIPE_BYTES = 1 << 20  # a dozen answers of full jobs; the most that Linux gives without privilege
_FREE = 10  # descriptors from here on cannot collide with those that a child is given


class Process:
    """A child process.

    Attributes:
        input: descriptor of its standard input; writing to it does not wait.
        output: descriptor of its standard output.
    """

    def __init__(self) -> None:
        self.input = self.output = -1
        self._descriptors = contextlib.ExitStack()
        self._identifier: int | None = None
        self._handle: int | None = None
        self._ending = "before it began"

    def start(self, program: str, given: Mapping[int, int]) -> None:
        """Start it.

        `posix_spawn` is safe in a program with threads. The child has a process group of its own, so that Ctrl-C in a
        terminal reaches the parent only, and no search path but that of the standard library.

        Args:
            program: Python source.
            given: further descriptors, by the numbers that the child shall know them by.

        Raises:
            OSError: it cannot be started.
        """
        with contextlib.ExitStack() as theirs:
            request, self.input = os.pipe()
            theirs.callback(os.close, request)
            self._descriptors.callback(os.close, self.input)
            self.output, answer = os.pipe()
            theirs.callback(os.close, answer)
            self._descriptors.callback(os.close, self.output)
            os.set_blocking(self.input, False)  # its signature
            for pipe in (self.input, self.output):
                _widen(pipe)
            all_given = {0: request, 1: answer, **given}
            self._identifier = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", program],
                os.environ,
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, _above(theirs, source), target) for target, source in all_given.items()),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
                setsigmask=[],
            )
        with contextlib.suppress(AttributeError, OSError):  # where there are such handles, a reused id is never hit
            self._handle = os.pidfd_open(self._identifier)
            self._descriptors.callback(os.close, self._handle)

    def end(self) -> str:
        """Make sure that it has ended; what it was doing is of no use to anyone.

        Returns:
            How it ended, in words.
        """
        identifier, self._identifier = self._identifier, None
        if identifier is not None:
            self._ending = self._kill(identifier)
        self._descriptors.close()
        return self._ending

    def _kill(self, identifier: int) -> str:
        with contextlib.suppress(OSError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            else:
                os.kill(identifier, signal.SIGKILL)
        try:
            status = os.waitpid(identifier, 0)[1]
        except ChildProcessError:  # reaped by a program that reaps all children
            return "in an unknown way"
        code = os.waitstatus_to_exitcode(status)
        return f"by signal {-code}" if code < 0 else f"with status {code}"


def _widen(pipe: int) -> None:
    """Let a pipe hold more, where that can be set, so that neither side waits for the other to get a processor."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _above(stack: contextlib.ExitStack, descriptor: int) -> int:
    """Return a copy of a descriptor that is out of the way of those that a child is given."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE)
    stack.callback(os.close, copy)
    return copy
