"""A one-line counter on standard error for work that takes longer than a second."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

from wcp_attest.cli.text import human_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from wcp_attest.disk.options import Progress

FIRST_AFTER = 1.0  # seconds; shorter work needs no counter
ON_TERMINAL_EVERY = 0.1
IN_LOG_EVERY = 10.0  # a log keeps every line

option = click.option(
    "--progress/--no-progress",
    default=None,
    help="Count on standard error while work lasts; by default when it is a terminal.",
)


class Counter:
    """Shows how far the reading of a tree has come; use it as a context, and hand `callback` to the reader.

    Args:
        wanted: what the user said; None decides by whether standard error is a terminal.
        quiet: whether the user wants no talk.
    """

    def __init__(self, wanted: bool | None, *, quiet: bool) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._on = wanted if wanted is not None else self._terminal and not quiet
        self._start = time.monotonic()
        self._next = self._start + FIRST_AFTER
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown and self._terminal:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()

    @property
    def callback(self) -> Callable[[Progress], None] | None:
        """What the reader calls; None when nothing is to be shown, so that it need not call at all."""
        return self.update if self._on and sys.stderr is not None else None

    def update(self, progress: Progress) -> None:
        """Show the state, if the last time was long enough ago."""
        now = time.monotonic()
        if now < self._next:
            return
        text = _line(progress, now - self._start)
        if self._terminal:
            self._next = now + ON_TERMINAL_EVERY
            sys.stderr.write("\r" + text.ljust(self._shown))
            self._shown = len(text)
        else:
            self._next = now + IN_LOG_EVERY
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _line(progress: Progress, seconds: float) -> str:
    total = "" if progress.files_total is None else f" of {progress.files_total}"
    speed = human_size(int(progress.bytes_done / seconds)) if seconds > 0 else "0 bytes"
    return f"{progress.files_done}{total} files, {human_size(progress.bytes_done)}, {speed}/s"
