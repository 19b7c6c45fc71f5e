"""A process that writes receipts until it is killed, and says on stdout which ones were acknowledged.

python receipt_writer.py STATE_FILE FIRST_NUMBER THREADS
"""

from __future__ import annotations

import os
import sys
import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.state_worlds import some_evidence
from tests.route.stores import SqliteReceipts
from wcp_route.storage.receipts import KeyFileSigner

SIZE = 7  # receipts in one append: both streams, several seqs, one transaction


def main(path: str, first: int, threads: int) -> None:
    receipts = SqliteReceipts(path, signer=KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)))

    def write(thread: int) -> None:
        number = first + thread
        while True:
            numbers = [number * SIZE + index for index in range(SIZE)]
            receipts.append([some_evidence(one, stream=("acme", "globex")[one % 2]) for one in numbers])
            os.write(1, b"".join(b"%d\n" % one for one in numbers))  # one write, so that lines are whole
            number += threads

    workers = [threading.Thread(target=write, args=(thread,), daemon=True) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
