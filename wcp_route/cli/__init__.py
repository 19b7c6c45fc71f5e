"""The command line of the router; the only place with exit codes.

0    dispatch, or done
1    denied; or checked and found wrong
2    could not decide: usage, a missing piece, a crash
3    held for a human
130  interrupted
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; nothing is raised.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    if sys.stderr is None:  # the program that started us closed it; the exit status still tells
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # as long as the process
    try:
        from wcp_route.cli.root import run

        return run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001  # the rim of the program: whatever comes is one line and a status
        from wcp_route.cli.failures import report

        return report(error)
