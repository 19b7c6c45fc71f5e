"""`python -m tests.fuzz --minutes 10`: the mutation fuzz for as long as you like. Exit status 1: it found something."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutations import run


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), seed=given.seed, go_on=lambda _: time.monotonic() < until)
    print(f"seed {given.seed}: {counts}")
    return 1 if counts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
