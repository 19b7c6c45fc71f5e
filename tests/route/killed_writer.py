"""Changes a ledger in every way, again and again, and is killed before its first, second, third … statement.

python killed_writer.py ADDRESS [FIRST STEP]

Each run is a forked child that the database kills by SIGKILL; what was acknowledged before goes to standard output. The
last line is the number of runs, the last of which was not killed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event

from tests.route.state_worlds import START_MS, a_hold, a_record, some_evidence
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
MAX_RUNS = 400


def run(address: str, run_number: int, limit: int) -> None:
    """Change everything once; each acknowledged number goes out as a line of its own."""
    with open_state(address, signer=SIGNER) as state:
        done = 0

        def count(*_: object) -> None:
            nonlocal done
            done += 1
            if done == limit:
                os.kill(os.getpid(), signal.SIGKILL)

        for moment in ("before_cursor_execute", "commit"):
            event.listen(state.ledger.database._engine, moment, count)
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
