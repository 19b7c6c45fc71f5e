"""Changes a ledger in every way, again and again, and is killed before its first, second, third … statement.

python killed_writer.py ADDRESS [FIRST STEP]

Each run is a forked child that the database kills by SIGKILL; what was acknowledged before goes to standard output. The
last line is the number of runs, the last of which was not killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.state_worlds import START_MS, a_hold, a_record, some_evidence
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
MAX_RUNS = 400
PSYCOPG = f"{os.sep}psycopg{os.sep}"
SQLITE_CALLS = {f"{one}.{call}" for one in ("Connection", "Cursor") for call in ("execute", "commit")}


def run(address: str, run_number: int, limit: int) -> None:
    """Change everything once; each acknowledged number goes out as a line of its own."""
    done = 0

    def count(frame: FrameType, what: str, function: object) -> None:
        nonlocal done
        if what == "c_call":
            asked = getattr(function, "__qualname__", "") in SQLITE_CALLS
        else:
            asked = (
                what == "call" and frame.f_code.co_name in {"execute", "commit"} and PSYCOPG in frame.f_code.co_filename
            )
        done += asked
        if asked and done == limit:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_state(address, signer=SIGNER) as state:
        threading.setprofile(count)  # for the thread that writes, which begins with the first change
        sys.setprofile(count)
        base = run_number * 10
        worker = f"org.acme.w{run_number}"
        hold = a_hold(base, worker_id=worker, pending_id=f"hold-{base}", expires_at_ms=START_MS + 10**9)
        steps: tuple[Callable[[], object], ...] = (
            lambda: state.registry.enroll(a_record(worker), by="carol"),
            lambda: state.ledger.append([some_evidence(base + 1), some_evidence(base + 2, stream="globex")]),
            lambda: state.approvals.hold(hold),
            lambda: state.approvals.resolve(f"hold-{base}", "approve", by="ada", at_ms=START_MS + 10**6),
            lambda: state.registry.quarantine(worker, "by hand", by="ada", at_ms=START_MS),
            lambda: state.ledger.activate("dev", {"run": run_number}),
        )
        for number, step in enumerate(steps):
            step()
            os.write(1, b"%d %d\n" % (run_number, number))
        sys.setprofile(None)


def main(address: str, first: int = 1, step: int = 1) -> None:
    for number in range(first, MAX_RUNS, step):
        child = os.fork()
        if child == 0:
            try:
                run(address, number, number)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            os.write(1, b"runs %d %d\n" % (number, os.WEXITSTATUS(status)))
            return


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
