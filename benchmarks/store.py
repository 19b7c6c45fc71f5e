"""A start from a store beside `verify` and beside model-signing: `python -m benchmarks.store [--full]`.

Medians of interleaved rounds of the installed wheel, as `make bench` has them. The full corpora are five files, 100,000
files and one file of 4 GiB without holes; else they are a tenth and a sixteenth of that. Run it as root: only an entry
that nobody but root can change is used without being hashed. `make bench-peers` installs model-signing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import tempfile

from benchmarks import commands, corpora, installed
from benchmarks.bars import STORE_BARS
from benchmarks.measure import NOISY, Others, Series, interleave

FULL, SHORT = {"many": 100_000, "large": 4096}, {"many": 10_000, "large": 256}  # files, MiB
SPECIES = ("--species-id", "wrk.bench.x", "--worker-version", "1.0.0", "--quiet")
SLOW_ROUNDS = 3  # of what reads or writes a whole corpus


def main() -> None:
    """Build the trees, sign and add them, measure, and print figures and bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="100,000 files and 4 GiB; needs 25 GB of disk")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--place", default="/var/tmp", help="a directory below which only root may change things")
    parser.add_argument("--python", default=installed.default_interpreter(), help="the interpreter to measure with")
    parser.add_argument("--json", help="where the figures go")
    given = parser.parse_args()
    programs = installed.install(given.python)
    place = tempfile.mkdtemp(prefix="wcp-bench-", dir=given.place)
    os.chmod(place, 0o755)
    try:
        measure(place, commands.Ours.prepare(programs, place), given)
    finally:
        subprocess.run(["chmod", "-R", "u+w", place], check=False)
        shutil.rmtree(place)


def measure(place: str, ours: commands.Ours, given: argparse.Namespace) -> None:
    """Measure in one directory, which is removed afterwards."""
    sizes = FULL if given.full else SHORT
    trees = {name: os.path.join(place, name) for name in ("five", "many", "large")}
    for tree in trees.values():
        os.mkdir(tree)
    corpora.five(trees["five"])
    corpora.growth(trees["many"], sizes["many"])
    corpora.large(trees["large"], sizes["large"])
    peer = installed.model_signing(given.python)
    trust = ["--public-key", f"{ours.key}.pub", "--namespace", "org.bench", "--quiet"]
    store = os.path.join(place, "store")
    series: list[Series] = []
    for name, tree in trees.items():
        if peer is not None:
            subprocess.run(commands.model_signing(peer, tree)[0].command, check=True, stdout=subprocess.DEVNULL)
        worker = f"org.bench.{name}"
        subprocess.run([ours.program, "sign", tree, "--key", ours.key, "--worker-id", worker, *SPECIES], check=True)
        subprocess.run([ours.program, "store", "add", tree, *trust, "--store", store], check=True, capture_output=True)
        most = given.rounds if name == "five" else SLOW_ROUNDS
        series += [
            Series(f"run, {name}", [ours.program, "run", worker, *trust, "--store", store, "--", "true"]),
            Series(f"verify, {name}", [ours.program, "verify", tree, *trust], most=most),
            # `store add` writes the file system back; what others have left to write is none of its time.
            Series(f"cp -r, {name}", _into_a_new(place, ["cp", "-r", tree]), ["sync", "-f", place], most=most),
            Series(
                f"store add, {name}",
                _into_a_new(place, [ours.program, "store", "add", tree, *trust, "--store"]),
                ["sync", "-f", place],
                most=most,
            ),
        ]
        if peer is not None:
            beside = commands.model_signing(peer, tree, rounds=1)[1]
            beside.name, beside.before = f"model-signing verify, {name}", None
            beside.command += ["--ignore-paths", f"{tree}/manifest.json", "--ignore-paths", f"{tree}/manifest.sig"]
            series.append(beside)
    others = Others()
    interleave(series, given.rounds)
    figures = {one.name: {measure: one.figure(measure) for measure in ("wall", "processor")} for one in series}
    # What a bar compares with, when it is no single command.
    for name in trees:
        figures[f"cp -r and verify, {name}"] = {
            measure: figures[f"cp -r, {name}"][measure] + figures[f"verify, {name}"][measure]
            for measure in ("wall", "processor")
        }
    figures["run beyond verify, five"] = {
        measure: figures["run, five"][measure] - figures["verify, five"][measure] for measure in ("wall", "processor")
    }
    print(f"{sizes['many']:,} files in `many`, {sizes['large']:,} MiB in `large`; others took {others.share():.0%}")
    for label, row in figures.items():
        print(f"{label:32} {row['wall']:8.3f} s {row['processor']:8.3f} s of processor time")
    for bar in STORE_BARS:
        print(bar.describe(bar.value({"store": figures})))
    for one in series:
        if one.most > 1 and one.spread > NOISY:
            print(f"note: {one.name} took {one.spread:.1f} times as long in one round as in another")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"sizes": sizes, "figures": figures}, file, indent=1)


def _into_a_new(place: str, command: list[str]) -> list[str]:
    """Return a command that is given a new directory each time, as its last word.

    What was made is removed at the end only: ext4 looks for a while past inodes that were just given back, which makes
    the next copy many times slower.
    """
    return ["sh", "-c", f'exec {shlex.join(command)} "$(mktemp -d {shlex.quote(place)}/copy-XXXXXXXXXX)"']


if __name__ == "__main__":
    main()
