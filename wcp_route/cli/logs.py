"""What the libraries log, on standard error: one line a record, like everything else that is said there."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from wcp_route.cli.failures import DEBUG_VARIABLE, MAX_MESSAGE
from wcp_route.cli.say import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGERS: Final = ("wcp_attest", "wcp_route")


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
