"""What a failed command says, and its exit status. The one place that maps exceptions to either."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

from wcp_attest.base.errors import Error
from wcp_route.cli.say import printable

REFUSED: Final = 1
UNDECIDED: Final = 2
DEBUG_VARIABLE: Final = "WCP_ATTEST_DEBUG"
MAX_MESSAGE: Final = 4000  # characters; a message quotes input, and input may be hostile


def report(error: Exception) -> int:
    """Say what went wrong in one line and return the exit status.

    Args:
        error: what the command raised.
    """
    if os.environ.get(DEBUG_VARIABLE) == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError, ValueError):
            # What is still buffered for the closed pipe goes nowhere, so that the interpreter's last flush is silent.
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return UNDECIDED
    message, status = _classify(error)
    with contextlib.suppress(OSError, ValueError):  # there is no one left to tell
        sys.stderr.write(f"error: {printable(' '.join(message.split()))[:MAX_MESSAGE]}\n")
        sys.stderr.flush()
    return status


def _classify(error: Exception) -> tuple[str, int]:
    import click

    from wcp_route.storage.receipts import ReceiptsBroken

    match error:
        case ReceiptsBroken():
            return str(error), REFUSED
        case Error():
            return str(error), UNDECIDED
        case click.UsageError():
            command = error.ctx.command_path if error.ctx is not None else "wcp-route"
            return f"{_lower(error.format_message())}; see `{command} --help`", UNDECIDED
        case click.ClickException():
            return _lower(error.format_message()), UNDECIDED
        case click.Abort():
            return "interrupted", 130
        case OSError():
            where = "" if error.filename is None else f": {error.filename!r}"
            return f"{(error.strerror or type(error).__name__).lower()}{where}", UNDECIDED
    return f"internal error, please report it: {type(error).__name__} ({DEBUG_VARIABLE}=1 shows where)", UNDECIDED


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]
