"""Build the trees that the measurements run on; always the same bytes."""

from __future__ import annotations

import math
import os
import random
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
CORPORA = ("five", "small", "environment", "one", "eight")
GROWTH = (10_000, 100_000, 1_000_000)


def build(name: str, base: str) -> str:
    """Build a corpus below `base` unless it stands already, and return the path of its tree."""
    return _built(os.path.join(base, name), _BUILDERS[name])


def build_growth(files: int, base: str) -> str:
    """Build the tree of that many files unless it stands already, and return its path."""
    return _built(os.path.join(base, f"growth-{files}"), lambda tree: growth(tree, files))


def remove(tree: str) -> None:
    """Take a tree away again."""
    if os.path.exists(tree + ".done"):
        os.unlink(tree + ".done")
    shutil.rmtree(tree)


def _built(tree: str, builder: Callable[[str], None]) -> str:
    if not os.path.exists(tree + ".done"):
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(tree)
        builder(tree)
        with open(tree + ".done", "w", encoding="utf-8"):
            pass
    return tree


def small(tree: str, files: int = 100_000, folders: int = 1000) -> None:
    """Many small files: log-normal sizes of 4 KiB on average."""
    rng = random.Random(1)
    sigma = 1.0
    median = 4096 / math.exp(sigma * sigma / 2)
    noise = rng.randbytes(MIB)
    for index in range(files):
        folder = os.path.join(tree, f"group{index % folders % 40:02}", f"folder{index % folders:04}")
        if index < folders:
            os.makedirs(folder, exist_ok=True)
        size = min(int(rng.lognormvariate(math.log(median), sigma)), MIB // 2)
        _write(os.path.join(folder, f"file{index:07}.txt"), _piece(rng, noise, size))


def growth(tree: str, files: int) -> None:
    """The same however many they are: log-normal sizes of 1 KiB on average, 100 files a folder, 25 folders a group."""
    rng = random.Random(files)
    median = 1024 / math.exp(0.5)
    noise = rng.randbytes(MIB)
    for index in range(files):
        folder = os.path.join(tree, f"group{index // 2500:04}", f"folder{index // 100:05}")
        if index % 100 == 0:
            os.makedirs(folder)
        size = min(int(rng.lognormvariate(math.log(median), 1.0)), MIB // 2)
        _write(os.path.join(folder, f"file{index:07}.txt"), _piece(rng, noise, size))


def environment(tree: str) -> None:
    """What an installed Python environment looks like: 40,000 files, 700 MB, a few of them libraries of many MB."""
    rng = random.Random(2)
    sigma, wanted = 2.0, 40_000
    median = 16_400 / math.exp(sigma * sigma / 2)
    noise = rng.randbytes(32 * MIB)
    made = 0
    while made < wanted:
        package = os.path.join(tree, "lib", "site-packages", f"package{made:05}")
        folders = [package] + [os.path.join(package, f"part{n}") for n in range(rng.randrange(8))]
        for folder in folders:
            os.makedirs(folder)
            for n in range(min(rng.randrange(1, 20), wanted - made)):
                size = min(int(rng.lognormvariate(math.log(median), sigma)), 20 * MIB)
                _write(os.path.join(folder, f"module_{n}.py"), _piece(rng, noise, size))
                made += 1
        if rng.random() < 0.02:
            _write(os.path.join(package, "native.so"), _piece(rng, noise, rng.randrange(MIB, 4 * MIB)))
            made += 1


def one(tree: str) -> None:
    """One model of 4 GiB."""
    large(tree, 4096)


def large(tree: str, mebibytes: int) -> None:
    """One file of that many MiB, a multiple of 16, without holes."""
    _large(os.path.join(tree, "model.bin"), mebibytes, 3)


def eight(tree: str) -> None:
    """A model in eight shards of 512 MiB."""
    for index in range(8):
        _large(os.path.join(tree, f"model-{index + 1}-of-8.bin"), 512, 4 + index)


def five(tree: str) -> None:
    """A worker package as `wcp-attest init` makes it."""
    os.makedirs(os.path.join(tree, "code"))
    for name in ("code/bootstrap.py", "code/worker_logic.py", "requirements.lock", "config.schema.json", "README.md"):
        _write(os.path.join(tree, name), random.Random(name).randbytes(4000).hex().encode()[:4000])


def _large(path: str, mebibytes: int, seed: int) -> None:
    block = random.Random(seed).randbytes(16 * MIB)
    with open(path, "wb") as file:
        file.writelines(block for _ in range(mebibytes // 16))


def _piece(rng: random.Random, noise: bytes, size: int) -> bytes:
    start = rng.randrange(max(len(noise) - size, 1))
    return noise[start : start + size]


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


_BUILDERS = {"five": five, "small": small, "environment": environment, "one": one, "eight": eight}
