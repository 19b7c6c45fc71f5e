"""What a program sees that uses the library: run in the environment of the wheel, prints one JSON object.

Nothing here tunes the interpreter: a router that calls `verify` for each dispatch has its usual garbage collection.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from hashlib import sha256
from typing import TYPE_CHECKING

from wcp_attest import KeySigner, Manifest, Namespace, Policy, build_manifest, sign, verify
from wcp_attest.package.entries import SEPARATOR, File, render_line
from wcp_attest.package.manifest import hash_of
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.package.entries import Entry

CALLS = 400
ROUNDS = 7
WORKER, SPECIES, VERSION = "org.acme.bench", "wrk.doc.bench", "1"


def main(tree: str, entries: int) -> None:
    """Measure both, and print every sample, seconds."""
    samples = {**dispatch(tree), **listing(entries)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({name: {"wall": values, "memory": [memory]} for name, values in samples.items()}))


def dispatch(tree: str) -> dict[str, list[float]]:
    """Verify a small package again and again, and do nothing but its reads in between."""
    signer: KeySigner = generate()
    policy = Policy((Namespace("org.acme", (signer.trusted,)),))
    manifest = build_manifest(tree, worker_id=WORKER, worker_species_id=SPECIES, worker_version=VERSION)
    sign(tree, [signer], manifest=manifest)
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]
    if not verify(tree, policy):
        raise SystemExit("the package was not verified")
    calls: dict[str, list[float]] = {"verify": [], "its reads": [], "verify beyond its reads": []}
    for _ in range(CALLS):
        whole, reads = timed(lambda: verify(tree, policy)), timed(lambda: read(paths))
        for name, seconds in zip(calls, (whole, reads, whole - reads), strict=True):
            calls[name].append(seconds)
    return calls


def read(paths: list[str]) -> None:
    """Do to each file what cannot be done without: open, look, read, hash, look again."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fstat(descriptor)
        sha256(os.read(descriptor, 65536)).digest()
        os.fstat(descriptor)
        os.close(descriptor)


def listing(count: int) -> dict[str, list[float]]:
    """Write a manifest of many entries, from values to bytes, and read it, from bytes to values, with every check."""
    rng = random.Random(count)
    paths = sorted(f"group{n % 1000 % 40:02}/folder{n % 1000:04}/file{n:07}.txt" for n in range(count))
    listed: dict[str, Entry] = {path: File(rng.randbytes(32).hex(), rng.randrange(8192)) for path in paths}
    data = write(listed)
    if Manifest.parse(data).entries() != listed:
        raise SystemExit("what was read is not what was written")
    return {
        f"manifest of {count:,} written": [timed(lambda: write(listed)) for _ in range(ROUNDS)],
        f"manifest of {count:,} read": [timed(lambda: Manifest.parse(data).entries()) for _ in range(ROUNDS)],
    }


def write(listed: dict[str, Entry]) -> bytes:
    """Return the manifest of entries."""
    return Manifest(
        WORKER,
        SPECIES,
        VERSION,
        built_at_utc="2026-11-22T14:00:00Z",
        build_source="local",
        package_hash=hash_of(listed, "sha256"),
        body=SEPARATOR.join([render_line(path, entry, "sha256") for path, entry in listed.items()]),
    ).to_bytes()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
