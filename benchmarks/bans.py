"""Ban lists at size: compile, open, look up, and judge stored manifests. Figures are printed as one JSON object.

    python benchmarks/bans.py                    # ten million bans: about 1.7 GB of disk and some minutes
    python benchmarks/bans.py --bans 100000      # a quick look
    python benchmarks/bans.py --check            # exit status 1 when a bar is missed

Bars (issue and docs/bans.md): one lookup among ten million under 20 microseconds, opening in milliseconds, 10,000
manifests in seconds. The list is written the way `wcp-attest ban` writes it and compiled by the command itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from wcp_attest.build import build_manifest, write_manifest
from wcp_attest.trust.bans.ban import Kind, make_ban
from wcp_attest.trust.bans.compiled import CompiledBans
from wcp_attest.trust.bans.document import Head, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.trust.bans.ban import Ban

WCP = str(Path(sys.executable).with_name("wcp-attest"))
HEAD = Head("benchmark", 1, 1_772_366_400, 4_000_000_000)
REASONS = 1_000  # feeds give a few reasons for very many digests
LOOKUPS = 100_000
MANIFESTS = 10_000


def digest(number: int) -> str:
    return sha256(number.to_bytes(8, "big")).hexdigest()


def write_list(path: Path, count: int) -> None:
    """Write a list of `count` banned packages, sorted, in the written layout."""
    template: Ban = make_ban(
        Kind.PACKAGE, "0" * 64, reason="placeholder", banned_at="2026-03-01T12:00:00Z", source="benchmark"
    )
    start, bans, end = b"".join(layout(HEAD, (template,))).partition(b'{"kind"')
    entry = (bans + end).partition(b"\n]")[0].decode()
    keys = sorted(sha256(number.to_bytes(8, "big")).digest() for number in range(count))
    with path.open("wb", buffering=1 << 20) as stream:
        stream.write(start)
        for number, key in enumerate(keys):
            line = entry.replace("0" * 64, key.hex()).replace("placeholder", f"reason {number % REASONS}")
            stream.write((",\n" if number else "").encode() + line.encode())
        stream.write(b"\n]\n}\n")


def time_lookups(compiled: CompiledBans, count: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Time lookups of present and absent digests, each alone, in random order."""
    chosen = random.Random(7)
    present = [f"sha256:{digest(chosen.randrange(count))}" for _ in range(LOOKUPS)]
    absent = [f"sha256:{digest(count + chosen.randrange(1 << 40))}" for _ in range(LOOKUPS)]
    for name, digests, found in (("absent", absent, False), ("present", present, True)):
        times = []
        processor = time.thread_time_ns()
        for each in digests:
            began = time.perf_counter_ns()
            ban = compiled.find_digest(Kind.PACKAGE, each)
            times.append(time.perf_counter_ns() - began)
            assert (ban is not None) == found
        processor = time.thread_time_ns() - processor
        times.sort()
        yield (
            name,
            {
                "p50_us": round(statistics.median(times) / 1e3, 2),
                "p99_us": round(times[len(times) * 99 // 100] / 1e3, 2),
                "mean_cpu_us": round(processor / len(times) / 1e3, 2),
            },
        )


def time_impact(folder: Path, compiled: Path) -> float:
    """Time the command over stored manifests of five files each."""
    store = folder / "store"
    root = folder / "worker"
    for number in range(5):
        (root / f"d{number}").mkdir(parents=True)
        (root / f"d{number}" / "file.py").write_bytes(b"%d" % number)
    manifest = build_manifest(
        root, worker_id="org.acme.w", worker_species_id="wrk.a.b", worker_version="1.0.0", built_at=0
    )
    write_manifest(root, manifest)
    data = (root / "manifest.json").read_bytes()
    for number in range(MANIFESTS):
        place = store / f"{number // 100}" / f"{number}"
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(data.replace(b"org.acme.w", b"org.acme.w%d" % number))
    began = time.perf_counter()
    arguments = [WCP, "ban", "impact", str(compiled), str(store), "--compiled", "--format", "json"]
    done = subprocess.run(arguments, check=False, capture_output=True)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["judged"] == MANIFESTS
    return seconds


def measure(count: int, folder: Path) -> dict[str, object]:
    source, target = folder / "bans.json", folder / "bans.idx"
    # In a process of its own: a process starts with the peak memory of the one that started it.
    subprocess.run([sys.executable, __file__, "--bans", str(count), "--write", str(source)], check=True)
    began = time.perf_counter()
    process = subprocess.Popen([WCP, "ban", "compile", "-q", str(source), str(target)])
    _, process.returncode, used = os.wait4(process.pid, 0)
    compiling = time.perf_counter() - began
    assert process.returncode == 0
    peak = used.ru_maxrss / 1024
    opening = []
    for _ in range(20):
        began = time.perf_counter()
        CompiledBans.open(str(target)).close()
        opening.append(time.perf_counter() - began)
    with CompiledBans.open(str(target)) as compiled:
        assert len(compiled) == count
        lookups = dict(time_lookups(compiled, count))
    return {
        "bans": count,
        "list_mb": round(source.stat().st_size / 1e6),
        "compiled_mb": round(target.stat().st_size / 1e6),
        "compile_s": round(compiling, 1),
        "compile_peak_rss_mb": round(peak),
        "open_ms": round(statistics.median(opening) * 1e3, 3),
        "lookup": lookups,
        "impact_manifests": MANIFESTS,
        "impact_s": round(time_impact(folder, target), 2),
        "python": sys.version.split()[0],
        "cpus": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bans", type=int, default=10_000_000)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write_list(options.write, options.bans)
        return 0
    with tempfile.TemporaryDirectory(prefix="bans-") as folder:
        found = measure(options.bans, Path(folder))
    print(json.dumps(found, indent=2))
    lookup: dict[str, dict[str, float]] = found["lookup"]  # type: ignore[assignment]
    slow = max(each["p50_us"] for each in lookup.values()) > 20 or float(str(found["open_ms"])) > 10
    return 1 if options.check and (slow or float(str(found["impact_s"])) > 30) else 0


if __name__ == "__main__":
    raise SystemExit(main())
