"""A start from a store beside `verify` of five files: `python -m benchmarks.store [--files N] [--megabytes N]`.

Ratios of medians of interleaved runs. The bars: 1.5 for the second start of an entry that root keeps, whatever its
size, and 20 ms for `run` over `verify`. Run it as root; elsewhere no entry is kept, and everything is hashed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = str(Path(sys.executable).with_name("wcp-attest"))
IDENTITY = ("--species-id", "wrk.bench.x", "--worker-version", "1.0.0")


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--place", default="/var/tmp", help="a directory below which only root may change things")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="wcp-bench-", dir=given.place))
    place.chmod(0o755)
    try:
        subprocess.run([SCRIPT, "keygen", place / "k", "--no-passphrase", "-q"], check=True)
        trust = ["--public-key", str(place / "k.pub"), "--namespace", "org.bench", "-q"]
        store = ["--store", str(place / "store")]
        ratios: dict[str, float] = {}
        for name, files, size in (("five", 5, 100), ("many", given.files, 100), ("large", 1, given.megabytes << 20)):
            root = place / name
            for number in range(files):
                path = root / str(number // 1000) / f"{number}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(number.to_bytes(4, "big") * (size // 4))
            worker = f"org.bench.{name}"
            subprocess.run(
                [SCRIPT, "sign", root, "--key", place / "k", "--worker-id", worker, *IDENTITY, "-q"], check=True
            )
            copied = timed(["cp", "-r", str(root), str(place / f"{name}-copy")])
            checked = timed([SCRIPT, "verify", str(root), *trust])
            ratios[f"store add {name} / (cp -r + verify)"] = timed(
                [SCRIPT, "store", "add", str(root), *trust, *store]
            ) / (copied + checked)
        commands = {"verify": [SCRIPT, "verify", str(place / "five"), *trust]}
        for name in ("five", "many", "large"):
            commands[name] = [SCRIPT, "run", f"org.bench.{name}", *trust, *store, "--", "true"]
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                taken[name].append(timed(command))
        base = statistics.median(taken["verify"])
        print(f"verify of five files: {base * 1000:.0f} ms")
        for name in ("five", "many", "large"):
            middle = statistics.median(taken[name])
            print(f"second start, {name}: {middle / base:.2f} of it ({(middle - base) * 1000:+.0f} ms)")
        for label, ratio in ratios.items():
            print(f"{label}: {ratio:.2f}")
    finally:
        subprocess.run(["chmod", "-R", "u+w", place], check=False)
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
