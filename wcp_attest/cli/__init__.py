"""The command line; the only place with exit codes.

    0    verified, or done
    1    checked and refused
    2    could not decide: usage, input, network, a missing piece, a crash
    130  interrupted

Nothing is imported here before `main` runs, so that an interrupt during start-up is answered like any other and a
command pays only for what it uses.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; nothing is raised.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        from wcp_attest.cli.failures import interrupted

        return interrupted(arguments)


def _run(arguments: list[str]) -> int:
    try:
        from wcp_attest.cli.root import run

        return run(arguments)
    except Exception as error:  # noqa: BLE001  # the rim of the program: whatever comes is one line and a status
        from wcp_attest.cli.failures import report

        return report(error, arguments)
