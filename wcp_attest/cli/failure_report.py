"""What a failed command says, and its exit status. The one place that maps exceptions to either.

Each failure is one line on standard error; with `--format json` also an object where the result would have gone, so
that a program never has to parse prose (its schema is `wcp_attest/schemas/error.json`); a usage error always on
standard output. A traceback is printed only when `WCP_ATTEST_DEBUG=1`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from wcp_attest.base.errors import (
    Error,
    MachineError,
    SigningError,
    TreeMismatch,
    VerificationError,
    package_missing,
)
from wcp_attest.cli import difference_text
from wcp_attest.cli.output import Output, Undelivered
from wcp_attest.cli.text import Painter, printable, render

if TYPE_CHECKING:
    from wcp_attest.base.differences import Difference
    from wcp_attest.base.strictjson import JsonObject

REFUSED: Final = 1
UNDECIDED: Final = 2
INTERRUPTED: Final = 130
RUN_FAILED: Final = 125  # of `run`, as of env, nice and timeout (POSIX)
DEBUG_VARIABLE: Final = "WCP_ATTEST_DEBUG"
MAX_MESSAGE = 4000  # characters; a message quotes input, and input may be hostile

Kind = Literal["usage", "config", "signing", "refused", "system", "internal", "interrupted"]


class Failure(NamedTuple):
    """Why a command did not do its work.

    Attributes:
        kind: whose fault it is, for programs.
        message: one line, for people.
        status: the exit status.
        code: of a refusal, the deny code.
        differences: of a tree that is not what its manifest says.
        total: how many differences there are.
    """

    kind: Kind
    message: str
    status: int = UNDECIDED
    code: str | None = None
    differences: tuple[Difference, ...] = ()
    total: int = 0


def report(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong and return the exit status.

    Args:
        error: what the command raised.
        arguments: the command line, for the format that it asks for.
    """
    if os.environ.get(DEBUG_VARIABLE) == "1":
        import traceback

        traceback.print_exception(error)
    output = None
    if isinstance(error, Undelivered):
        output, error = error.output, error.failure
    if isinstance(error, BrokenPipeError):  # the reader closed its end of the pipe
        _discard_output()
        return UNDECIDED
    failure = classify(error)
    if arguments[:1] == ["run"]:  # the statuses below 125 are the command's own
        failure = failure._replace(status=RUN_FAILED)
    return _tell(failure, arguments, output)


def interrupted(arguments: list[str]) -> int:
    """Say that the user interrupted the command and return the exit status."""
    return _tell(Failure("interrupted", "interrupted", INTERRUPTED), arguments)


def classify(error: BaseException) -> Failure:
    """Return what a raised exception means."""
    match error:
        case MachineError():
            return Failure("system", str(error), code=error.code.value)
        case TreeMismatch():
            return Failure("refused", str(error), REFUSED, error.code.value, error.differences, error.total)
        case VerificationError():
            return Failure("refused", str(error), REFUSED, error.code.value)
        case Error():
            return Failure("signing" if isinstance(error, SigningError) else "config", str(error))
        case MemoryError():
            return Failure("system", "out of memory")
        case OSError():
            what = error.strerror or type(error).__name__
            if isinstance(error, FileNotFoundError) and error.filename is None:
                what = "the current directory is not there any more; change to one that is"
            elif isinstance(error.filename, str | bytes):
                what += f": {os.fsdecode(error.filename)!r}"
            return Failure("system", what)
    return _classify_foreign(error)


def _classify_foreign(error: BaseException) -> Failure:
    import click

    match error:
        case click.UsageError():
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "wcp-attest"
            return Failure("usage", f"{_lower(error.format_message())}; see `{command} --help`")
        case click.ClickException():
            return Failure("usage", _lower(error.format_message()))
        case click.Abort() if isinstance(error.__context__, KeyboardInterrupt):
            return Failure("interrupted", "interrupted", INTERRUPTED)
        case click.Abort() | EOFError():
            return Failure("usage", "the input ended before the question was answered")
    missing = package_missing(error)
    if missing is not None:
        return Failure("config", str(missing))
    return Failure(
        "internal",
        f"internal error, please report it: {type(error).__name__}: {error} ({DEBUG_VARIABLE}=1 shows where)",
    )


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]


def _tell(failure: Failure, arguments: list[str], output: Output | None = None) -> int:
    message = printable(" ".join(failure.message.split()))[:MAX_MESSAGE]
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed
        code = f" [{failure.code}]" if failure.code else ""
        if failure.kind == "interrupted":  # on a terminal, below the ^C
            sys.stderr.write("\ninterrupted\n" if sys.stderr.isatty() else "interrupted\n")
        else:
            sys.stderr.write(f"error: {message}{code}\n")
        if failure.differences:
            sys.stderr.write(render(difference_text.as_text(failure.differences, failure.total, Painter(on=False))))
        sys.stderr.flush()
    if wants_json(arguments):
        try:
            _write_json(failure, message, output, aside=arguments[:1] == ["run"])
        except (OSError, ValueError, AttributeError):
            _discard_output()
    return failure.status


def _write_json(failure: Failure, message: str, output: Output | None, *, aside: bool = False) -> None:
    value: JsonObject = {
        "ok": False,
        "exit_status": failure.status,
        "error": failure.kind,
        "code": failure.code,
        "message": message,
        "differences": difference_text.as_json(failure.differences),
        "differences_total": failure.total,
    }
    if output is not None:
        with contextlib.suppress(Error):  # the file cannot be written, which may be what failed
            output.deliver_json("error", value)
            return
    with contextlib.redirect_stdout(sys.stderr if aside else sys.stdout):  # of `run`, it is the command's own
        Output("json").deliver_json("error", value)
        sys.stdout.flush()


def wants_json(arguments: list[str]) -> bool:
    """Tell whether a command line asks for JSON; it may be one that does not parse."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--format=json" or (argument == "--format" and arguments[index + 1 : index + 2] == ["json"]):
            return True
    return False


def _discard_output() -> None:
    """Let what is still buffered for a closed pipe go nowhere, so that the interpreter's last flush is silent."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
