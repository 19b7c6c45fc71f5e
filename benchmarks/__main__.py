"""Measure wcp-attest beside the tools that do a part of its work: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile

from benchmarks import corpora
from benchmarks.measure import Series, interleave

OURS = [sys.executable, "-m", "wcp_attest"]
IDENTITY = ["--worker-id", "org.acme.bench", "--species-id", "wrk.doc.bench", "--worker-version", "1"]
SECRET = {"WCP_ATTEST_HMAC_KEY": "a secret of the benchmark only"}
BASELINE = {
    "five": "python -c pass",
    "small": "sha256sum -P2",
    "environment": "sha256sum -P2",
    "one": "openssl dgst",
    "eight": "openssl dgst",
}


def main() -> None:
    """Build the corpora, run everything, print a table and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--base", default=os.path.join(tempfile.gettempdir(), "wcp-attest-bench"), help="where the trees are"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", action="append", choices=corpora.CORPORA, help="only these; may be repeated")
    parser.add_argument("--json", default="benchmarks.json", help="where the figures go")
    options = parser.parse_args()
    os.makedirs(options.base, exist_ok=True)
    figures: dict[str, object] = {"machine": machine()}
    for name in options.corpus or corpora.CORPORA:
        tree = corpora.build(name, options.base)
        series = [*peers(name, tree), *ours(name, tree, options.base)]
        interleave(series, options.rounds)
        figures[name] = [one.summary() for one in series]
        show(name, series)
        remove_signature(tree)
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=1)
    print(f"figures are in {options.json}")


def machine() -> dict[str, str]:
    """Say what this was measured on."""
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def peers(name: str, tree: str) -> list[Series]:
    """Return the tools that are installed, doing the nearest thing they do."""
    files = f"find {shlex.quote(tree)} -type f -print0 | xargs -0"
    if name == "five":
        found = [Series("python -c pass", [sys.executable, "-c", "pass"]), shell("sha256sum", f"{files} sha256sum")]
    else:
        found = [
            shell("sha256sum -P2", f"{files} -P2 sha256sum"),
            shell("openssl dgst", f"{files} openssl dgst -sha256"),
        ]
    if shutil.which("b3sum"):
        found.append(shell("b3sum", f"{files} b3sum"))
    peer = os.environ.get("MODEL_SIGNING")  # path of a model-signing program in an environment of its own
    if peer and name != "eight":
        found += model_signing(peer, tree)
    return found


def model_signing(program: str, tree: str) -> list[Series]:
    """Return the nearest peer, signing and verifying with a key."""
    key = f"{tree}.p256.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", f"{key}.pub"], check=True, capture_output=True)
    signature = ["--signature", f"{tree}.model.sig"]
    return [
        Series("model-signing sign", [program, "sign", "key", tree, *signature, "--private-key", key]),
        Series("model-signing verify", [program, "verify", "key", tree, *signature, "--public-key", f"{key}.pub"]),
    ]


def ours(name: str, tree: str, base: str) -> list[Series]:
    """Return our own commands: sign with the build it takes, and verify."""
    key = os.path.join(base, "bench.key")
    if not os.path.exists(key):
        subprocess.run([*OURS, "keygen", key, "--no-passphrase", "-q"], check=True)
    verify = [*OURS, "verify", tree, "-q", "--no-progress", "--worker-id", "org.acme.bench"]
    clean = ["rm", "-f", f"{tree}/manifest.json", f"{tree}/manifest.sig"]
    sign = [*OURS, "sign", tree, "-q", "--no-progress", "--key", key, *IDENTITY]
    found = [
        Series("wcp-attest sign", sign, before=clean),
        Series("wcp-attest verify", [*verify, "--public-key", public_key(key)]),
    ]
    if name == "five":
        found.append(Series("wcp-attest sign --hmac", [*sign[:6], "--hmac", *IDENTITY], clean, SECRET))
        found.append(Series("wcp-attest verify --hmac", [*verify, "--hmac"], None, SECRET))
        found += [Series(f"wcp-attest {flag}", [*OURS, flag]) for flag in ("--help", "--version")]
    else:
        found.append(Series("wcp-attest hash", [*OURS, "hash", tree]))
        found.append(Series("wcp-attest hash, one process", [*OURS, "hash", tree, "--jobs", "1"]))
        found.append(Series("wcp-attest hash, BLAKE3", [*OURS, "hash", tree, "--algorithm", "blake3"]))
    return found


def public_key(key: str) -> str:
    """Return where `keygen` put the public half."""
    return next(path for path in (f"{key}.pub", f"{key.removesuffix('.key')}.pub") if os.path.exists(path))


def remove_signature(tree: str) -> None:
    """Leave the corpus as it was built."""
    for name in ("manifest.json", "manifest.sig"):
        if os.path.exists(os.path.join(tree, name)):
            os.unlink(os.path.join(tree, name))


def shell(name: str, command: str) -> Series:
    """Return a series of a pipeline."""
    return Series(name, ["sh", "-c", command])


def show(name: str, series: list[Series]) -> None:
    """Print one table."""
    rows = [one.summary() for one in series]
    base = next(row for row in rows if row["name"] == BASELINE[name])
    print(f"\n{name:31} {'wall s':>8} {'ratio':>6} {'cpu s':>8} {'ratio':>6} {'MiB':>6}   ratios to {base['name']}")
    for row in rows:
        wall = float(row["wall"]) / float(base["wall"])
        processor = float(row["processor_least"]) / max(float(base["processor_least"]), 1e-9)
        print(
            f"{row['name']:31} {row['wall']:8.3f} {wall:6.2f} {row['processor_least']:8.3f} {processor:6.2f}"
            f" {row['memory']:6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
