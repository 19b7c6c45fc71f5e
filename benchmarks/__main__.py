"""Measure wcp-attest beside the tools that do a part of its work: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import commands, corpora, installed
from benchmarks.bars import BARS
from benchmarks.measure import NOISY, Others, Series, interleave

BASELINE = {
    "five": "python -c pass",
    "small": "sha256sum -P2",
    "environment": "sha256sum -P2",
    "one": "openssl dgst",
    "eight": "openssl dgst",
    "growth": "sign, 10,000 files",
    "progress": "not shown",
}
CORPORA = (*corpora.CORPORA, "growth", "progress", "library")
BUSY = 0.05  # of the machine; when others take more, figures are disturbed
ENTRIES = 100_000  # of the manifest that is written and read
VERSIONS = {
    "sha256sum": ["sha256sum", "--version"],
    "openssl": ["openssl", "version"],
    "b3sum": ["b3sum", "--version"],
}


@dataclass
class Session:
    """One measuring: where it happens, and what came of it."""

    base: str
    rounds: int
    million: bool
    keep: bool
    ours: commands.Ours
    peer: str | None
    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    record: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def main() -> None:
    """Build the corpora, run everything, print tables and bars, and write every figure."""
    options = arguments()
    if options.install_peers:
        installed.install_peers(options.python)
        return
    started = time.monotonic()
    os.makedirs(options.base, exist_ok=True)
    ours = commands.Ours.prepare(installed.install(options.python), options.base)
    peer = installed.model_signing(options.python) if options.slow else None
    session = Session(options.base, options.rounds, options.million, options.keep, ours, peer)
    session.record = {"machine": machine(ours.python), "peers": versions(session), "load before": os.getloadavg()}
    for name in options.corpus or CORPORA:
        others = Others()
        measure(name, session)
        share = others.share()
        session.record[f"{name}, taken by others"] = share
        if share > BUSY:
            session.notes.append(f"{name}: others took {share:.0%} of the machine meanwhile")
    session.record["load after"] = os.getloadavg()
    conclude(session)
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(session.record, file, indent=1)
    print(f"figures are in {options.json}; {(time.monotonic() - started) / 60:.1f} minutes")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--base", default=os.path.join(tempfile.gettempdir(), "wcp-attest-bench"), help="where the trees are"
    )
    parser.add_argument(
        "--python",
        default=installed.default_interpreter(),
        help="the interpreter to measure with; %(default)s by default",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", action="append", choices=CORPORA, help="only these; may be repeated")
    parser.add_argument(
        "--no-million", dest="million", action="store_false", help="let trees grow to 100,000 files only"
    )
    parser.add_argument("--no-slow", dest="slow", action="store_false", help="leave model-signing out")
    parser.add_argument("--keep", action="store_true", help="keep the tree of a million files, 4 GB of disk")
    parser.add_argument("--install-peers", action="store_true", help="install model-signing below build/, and end")
    parser.add_argument("--json", default="benchmarks.json", help="where the figures go")
    return parser.parse_args()


def machine(python: str) -> dict[str, str]:
    """Say what this was measured on."""
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "python": f"{commands.version([python, '--version'])} ({os.path.realpath(python)})",
        "system": platform.platform(),
    }


def versions(session: Session) -> dict[str, str]:
    """Say what was compared; a peer that is absent has no version."""
    found = {name: commands.version(command) for name, command in VERSIONS.items()}
    if session.peer is None:
        session.notes.append("model-signing was not run; `make bench-peers` installs it")
        return found
    five = corpora.build("five", session.base)
    subprocess.run(commands.unsigned(five), check=True)
    return found | {"model-signing": commands.prove_model_signing(session.peer, five)}


def measure(name: str, session: Session) -> None:
    """Measure on one corpus and leave it as it was built."""
    with ExitStack() as after:
        if name == "library":
            tree = corpora.build("five", session.base)
            after.callback(subprocess.run, commands.unsigned(tree), check=True)
            library(tree, session)
        elif name == "growth":
            sizes = corpora.GROWTH if session.million else corpora.GROWTH[:-1]
            trees = {files: corpora.build_growth(files, session.base) for files in sizes}
            for files, tree in trees.items():
                after.callback(subprocess.run, commands.unsigned(tree), check=True)
                if files == max(corpora.GROWTH) and not session.keep:
                    after.callback(corpora.remove, tree)
            run(name, commands.growth(session.ours, trees), session)
        else:
            tree = corpora.build("small" if name == "progress" else name, session.base)
            after.callback(subprocess.run, commands.unsigned(tree), check=True)
            run(name, series_of(name, tree, session), session)


def series_of(name: str, tree: str, session: Session) -> list[Series]:
    """Return what is run on a tree."""
    if name == "progress":
        return commands.progress(session.ours, tree)
    kinds = {"five": commands.five, "small": commands.many, "environment": commands.many}
    found = kinds.get(name, commands.large)(session.ours, tree)
    if session.peer is not None:
        found[2:2] = commands.model_signing(session.peer, tree)
    return found


def run(name: str, series: list[Series], session: Session) -> None:
    """Measure, show and take down."""
    rounds = {"five": 3 * session.rounds, "progress": max(session.rounds, commands.PROGRESS_ROUNDS)}
    interleave(series, rounds.get(name, session.rounds))
    measures = ("wall", "processor", "memory")
    session.figures[name] = {one.name: {measure: one.figure(measure) for measure in measures} for one in series}
    session.record[name] = [vars(one) for one in series]
    session.notes += [
        f"{name}: {one.name} took {one.spread:.1f} times as long in one round as in another"
        for one in series
        if one.spread > NOISY
    ]
    show(name, series)


def library(tree: str, session: Session) -> None:
    """Measure what a program sees, in the environment of the wheel."""
    script = os.path.join(os.path.dirname(__file__), "library.py")
    said = subprocess.run(
        [session.ours.python, "-I", script, tree, str(ENTRIES)], check=True, capture_output=True
    ).stdout
    samples: dict[str, dict[str, list[float]]] = json.loads(said)
    series = [Series(name, [], wall=one["wall"], memory=one["memory"]) for name, one in samples.items()]
    session.figures["library"] = {one.name: {"wall": one.figure("wall")} for one in series}
    session.record["library"] = samples
    print(f"\n{'library':32} {'ms':>9} {'least':>9}")
    for one in series:
        print(f"{one.name:32} {one.figure('wall') * 1e3:9.3f} {min(one.wall) * 1e3:9.3f}")


def show(name: str, series: list[Series]) -> None:
    """Print one table."""
    base = next(one for one in series if one.name == BASELINE[name])
    print(
        f"\n{name:31} {'wall s':>8} {'ratio':>6} {'from':>7} {'to':>7} {'cpu s':>8} {'ratio':>6} {'MiB':>5} {'all':>5}"
    )
    for one in series:
        wall, processor = one.figure("wall"), one.figure("processor")
        print(
            f"{one.name:31} {wall:8.3f} {wall / base.figure('wall'):6.2f} {min(one.wall):7.3f} {max(one.wall):7.3f}"
            f" {processor:8.3f} {processor / max(base.figure('processor'), 1e-9):6.2f}"
            f" {one.figure('memory'):5.0f} {one.together:5.0f}"
            + (f"  {wall / one.files * 1e6:.1f} µs a file" if one.files else ""),
            flush=True,
        )


def conclude(session: Session) -> None:
    """Print which bars are reached, and what makes the figures doubtful."""
    values = [(bar, bar.value(session.figures)) for bar in BARS]
    session.record["bars"] = [vars(bar) | {"value": value} for bar, value in values]
    session.record["notes"] = session.notes
    print()
    for bar, value in values:
        if bar.corpus in session.figures:
            print(bar.describe(value))
    print()
    for note in session.notes:
        print(f"note: {note}")


if __name__ == "__main__":
    main()
