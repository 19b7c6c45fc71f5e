"""The command line; the only place with exit codes.

    0    verified, or done
    1    checked and refused
    2    could not decide: usage, input, network, a missing piece, a crash
    130  interrupted

Nothing is imported here before `main` runs, so that an interrupt during start-up is answered like any other and a
command pays only for what it uses.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

# Objects made between two looks for garbage. What a command imports and reads is kept to its end anyway, and looking
# through it time and again costs a tenth of its start-up.
GARBAGE_THRESHOLD = 100_000


class _Ended(BaseException):
    """Somebody ended the process by a signal; raised so that what is half done is removed on the way out."""


def program() -> NoReturn:
    """Run as a process of its own: `main`, and then out, without taking a hundred modules to pieces first."""
    import gc

    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        import signal

        # The signals of a supervisor or a closed terminal end the program as Ctrl-C does, where they are not ignored:
        # otherwise a large, half-made copy would stay where nobody looks for it.
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end)
        status = main()
    except KeyboardInterrupt:  # before the command had begun
        status = 130
    except _Ended as ended:
        # Die of the signal after all, so that the sender sees that it worked.
        signal.signal(ended.args[0], signal.SIG_DFL)
        os.kill(os.getpid(), ended.args[0])
        os._exit(128 + ended.args[0])  # not reached, except where the signal is blocked
    _leave(status)


def _end(number: int, frame: object) -> NoReturn:
    import signal

    del frame
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the program at once
    raise _Ended(number)


def _leave(status: int) -> NoReturn:
    """End the process as `sys.exit` does, callbacks and flushes included, but leave its memory to the system."""
    import atexit
    import contextlib

    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(status)
    try:
        atexit._run_exitfuncs()  # noqa: SLF001  # what the interpreter itself calls at its end
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):  # nobody is left to read it; `main` has said what had to be said
        status = status or 2
    with contextlib.suppress(OSError, ValueError):  # a message that cannot be written changes no status
        if sys.stderr is not None:
            sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; nothing is raised.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        from wcp_attest.cli.failure_report import interrupted

        return interrupted(arguments)


def _run(arguments: list[str]) -> int:
    try:
        from wcp_attest.cli.command_table import run

        if not os.environ.keys().isdisjoint(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")):
            from wcp_attest.net.authorities import own_authorities

            os.environ.update(own_authorities(os.environ))
        return run(arguments)
    except Exception as error:  # noqa: BLE001  # the rim of the program: every failure becomes one line and a status
        from wcp_attest.cli.failure_report import report

        return report(error, arguments)
