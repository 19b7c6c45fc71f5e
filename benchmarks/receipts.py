"""Durable receipts: how many a second, how long a caller waits, how fast they verify. One JSON object is printed.

    python benchmarks/receipts.py                 # about a minute
    python benchmarks/receipts.py --check         # exit status 1 when the bar is missed
    python benchmarks/receipts.py --fill 1000000  # appending to a file that holds a million already

The bar (issue 5, docs/route/receipts.md): 20,000 receipts a second, each on disk (`synchronous=FULL`) before it is
acknowledged, chained and signed. Rates are medians over rounds. The floor beside them is the machine's own: the same
number of bytes written and flushed in the same transactions, without SQLite, hashing or signing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' worlds make the evidence

from tests.route.state_worlds import some_evidence
from tests.route.stores import SqliteReceipts
from wcp_route.storage.receipts import KeyFileSigner, verify
from wcp_route.storage.receipts.body import draft
from wcp_route.storage.receipts.chain import link
from wcp_route.storage.receipts.receipt import ReceiptHead

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_route.domain.decision import Evidence
    from wcp_route.storage.receipts.store import Waitable

BAR = 20_000  # receipts a second
SIGNER = KeyFileSigner(Ed25519PrivateKey.generate())


def rate(seconds: float, rounds: int, append: Callable[[], int]) -> float:
    """Median over rounds of how many receipts a second `append` makes durable."""
    rates = []
    for _ in range(rounds):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            count += append()
        rates.append(count / elapsed)
    return statistics.median(rates)


def chunks(store: SqliteReceipts, evidence: list[Evidence], size: int) -> Callable[[], int]:
    part = evidence[:size]

    def append() -> int:
        store.append(part)
        return size

    return append


def submitted(store: SqliteReceipts, evidence: list[Evidence], size: int, ahead: int = 8) -> Callable[[], int]:
    """One thread that goes on while the disk works: each list is waited for when `ahead` others have followed it."""
    part, waiting = evidence[:size], deque["Waitable"]()

    def append() -> int:
        waiting.append(store.submit(part))
        if len(waiting) <= ahead:
            return 0
        waiting.popleft().wait()
        return size

    return append


def crowd(store: SqliteReceipts, evidence: list[Evidence], threads: int, seconds: float) -> dict[str, float]:
    """Many threads, each waiting for its own single receipts: the rate, and how long one waits."""
    counts, waits = [0] * threads, []
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        while (start := time.perf_counter()) < stop:
            store.append(evidence[number : number + 1])
            counts[number] += 1
            waits.append(time.perf_counter() - start)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    waits.sort()
    return {
        "per_second": round(sum(counts) / (time.perf_counter() - start)),
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 2),
    }


def floor(folder: str, size: int, count: int, seconds: float, rounds: int) -> float:
    """What the disk gives: `count` times `size` bytes appended and flushed, per second."""
    data = os.urandom(size * count)
    with open(os.path.join(folder, "floor"), "wb", buffering=0) as file:

        def append() -> int:
            if file.tell() > 1 << 28:
                file.seek(0)
            file.write(data)
            os.fdatasync(file.fileno())
            return count

        return rate(seconds, rounds, append)


def processor_time(evidence: list[Evidence]) -> dict[str, float]:
    """Microseconds of processor time for one receipt, before the database."""
    figures: dict[str, list[float]] = {"write": [], "link": []}
    for _ in range(5):
        start = time.thread_time()
        made = [draft(one) for one in evidence]
        figures["write"].append(time.thread_time() - start)
        start = time.thread_time()
        [link(one, ReceiptHead(), 1) for one in made]
        figures["link"].append(time.thread_time() - start)
    return {name: round(min(found) / len(evidence) * 1e6, 1) for name, found in figures.items()}


def fill(store: SqliteReceipts, evidence: list[Evidence], count: int) -> None:
    for _ in range(0, count, len(evidence)):
        store.append(evidence)


def measure(folder: str, options: argparse.Namespace) -> dict[str, object]:
    path = os.path.join(folder, "hall.db")
    evidence = [some_evidence(number, stream=f"tenant-{number % options.tenants}") for number in range(1000)]
    size = len(link(draft(evidence[0]), ReceiptHead(), 1)[0].body)
    result: dict[str, object] = {"receipt_bytes": size, "tenants": options.tenants, "filled": options.fill}
    with SqliteReceipts(path, signer=SIGNER) as store:
        fill(store, evidence, options.fill)
        result["per_second"] = {
            str(chunk): round(rate(options.seconds, options.rounds, chunks(store, evidence, chunk)))
            for chunk in (1, 10, 100, 1000)
        }
        result["submitted_per_second"] = round(rate(options.seconds, options.rounds, submitted(store, evidence, 128)))
        result["threads"] = {str(threads): crowd(store, evidence, threads, options.seconds) for threads in (1, 8, 64)}
    result["floor_per_second"] = {
        str(chunk): round(floor(folder, size, chunk, options.seconds, options.rounds)) for chunk in (1, 100, 1000)
    }
    result["processor_us"] = processor_time(evidence)
    start = time.perf_counter()
    checked = verify(path, keys=[SIGNER.public])
    result["verified"] = checked.receipts
    result["verified_per_second"] = round(checked.receipts / (time.perf_counter() - start))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tenants", type=int, default=3)
    parser.add_argument("--fill", type=int, default=0, help="receipts in the file before anything is measured")
    parser.add_argument("--folder", help="where to put the file; a disk, not memory")
    parser.add_argument("--check", action="store_true", help="fail when the bar is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(folder, options)
    print(json.dumps(result, indent=2))
    rates = result["per_second"]
    assert isinstance(rates, dict)
    pipelined = result["submitted_per_second"]
    assert isinstance(pipelined, int)
    best = max(*rates.values(), pipelined)
    if options.check and best < BAR:
        print(f"missed: {best} receipts a second, and the bar is {BAR}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
