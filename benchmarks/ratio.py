"""Compare two states of the source on one machine, in interleaved rounds: is this one slower than that one?

    git worktree add /tmp/before COMMIT
    .venv/bin/python -m benchmarks.ratio /tmp/before --rounds 15

Only ratios count: both states run in the same minute, by the same interpreter and libraries, in turn. Where others use
the machine, processor time is the better figure, and the least of many rounds is the better one of each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[1]
ID = ["--worker-id", "org.acme.w", "--species-id", "wrk.doc.w", "--worker-version", "1.0.0"]


class Sample(NamedTuple):
    """Seconds of one run."""

    wall: float
    processor: float


def plant(name: str, root: Path) -> None:
    """Make a corpus.

    Args:
        name: `five`, `small`, `environment` or `large`.
        root: where; it does not exist.
    """
    content = random.Random(1)  # the same bytes everywhere
    if name == "environment":
        shutil.copytree(
            sysconfig.get_path("purelib"), root, symlinks=False, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
        return
    count, size, folder = {"five": (5, 2000, 5), "small": (20_000, 4096, 100), "large": (4, 256 << 20, 4)}[name]
    for number in range(count):
        place = root / f"d{number // folder:04}"
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"f{number:06}").open("wb") as file:
            for _ in range(max(size >> 24, 1)):
                file.write(content.randbytes(min(size, 1 << 24)))


def run(source: Path | str, arguments: list[str], request: Path | None = None) -> Sample:
    """Run a command by one state of the source, or a bare interpreter when the source is empty.

    Args:
        source: the folder with the `wcp_attest` to run.
        arguments: of the command.
        request: the file to read from standard input.
    """
    command = [sys.executable, "-m", "wcp_attest", *arguments] if source else [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(source)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or each run would compile the source again
    started = time.perf_counter()
    with (request or Path(os.devnull)).open("rb") as given:
        process = subprocess.Popen(
            command, env=environment, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
        )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"{command} failed: {process.stderr.read().decode() if process.stderr else ''}")
    process.stderr.close() if process.stderr else None
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def compare(name: str, before: Path, rounds: int, folder: Path) -> None:
    """Measure one corpus, and print the ratios of this state to the one before."""
    trees = {}
    for label, source in (("before", before), ("now", HERE)):  # each state signs and verifies a tree of its own
        trees[label] = folder / name / label
        plant(name, trees[label])  # not a copy: its pages lie otherwise in memory, which costs 8 % in large files
        run(source, ["sign", str(trees[label]), "--key", str(folder / "k"), *ID, "--quiet"])
    policy, request = folder / "policy.toml", folder / "request.json"
    policy.write_text('version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "k.pub"\n')
    request.write_text(json.dumps({"version": 1, "path": str(trees["now"])}))
    series: dict[tuple[str, str], list[Sample]] = {}
    for turn in range(rounds):
        order = [("before", before), ("now", HERE)]
        for label, source in order if turn % 2 else reversed(order):
            key = ["--public-key", f"{folder / 'k'}.pub", "--worker-id", "org.acme.w"]
            verify = run(source, ["verify", str(trees[label]), *key])
            series.setdefault((label, "verify"), []).append(verify)
            series.setdefault((label, "hash"), []).append(run(source, ["hash", str(trees[label])]))
            if name == "five":
                series.setdefault((label, "click"), []).append(run("", ["-c", "import click"]))
        if name == "five":
            gate = ["gate", "--host", "json", "--policy", str(policy)]
            series.setdefault(("now", "gate"), []).append(run(HERE, gate, request))
    for command in ("verify", "hash"):
        for measure in ("wall", "processor"):
            now, old = ([getattr(sample, measure) for sample in series[label, command]] for label in ("now", "before"))
            least, median = min(now) / min(old), statistics.median(now) / statistics.median(old)
            seconds = f"{min(old):.3f} to {min(now):.3f} s"
            print(f"{name} {command} {measure}: least {least:.3f}, median {median:.3f} ({seconds})")
    if name == "five":
        for measure in ("wall", "processor"):
            for label, command in (("before", "verify"), ("now", "verify"), ("now", "gate")):
                least = [min(getattr(sample, measure) for sample in series[label, what]) for what in (command, "click")]
                print(f"five {command} {label} to `import click` {measure}: {least[0] / least[1]:.2f}")


def main() -> None:
    """Measure the corpora that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a folder with the `wcp_attest` to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--corpus", nargs="+", default=["five", "small", "environment", "large"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run(HERE, ["keygen", str(folder / "k"), "--no-passphrase", "--quiet"])
        for name in options.corpus:
            compare(name, options.before.resolve(), options.rounds, folder)
            shutil.rmtree(folder / name)


main()
