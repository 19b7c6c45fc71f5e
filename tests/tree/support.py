"""Trees to read, and manifests of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from tests import trees
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = ReadOptions()
ONE = ReadOptions(jobs=1)
TWO = ReadOptions(jobs=2)


def plant(root: str | os.PathLike[str], entries: Mapping[str, bytes | str | None]) -> str:
    """Plant a tree as `tests.trees` does, and return its path as the functions of this room take it."""
    return os.fspath(trees.plant(root, entries))


def manifest_of(root: str, **options: Any) -> Manifest:
    """Read a tree and put its manifest together."""
    algorithm = options.get("algorithm", "sha256")
    reading = read_tree(root, **options)
    return Manifest(
        worker_id="org.acme.test",
        worker_species_id="wrk.doc.test",
        worker_version="1",
        built_at_utc="2026-11-22T14:00:00Z",
        build_source="local",
        package_hash=reading.package_hash,
        body=reading.body,
        hash_algorithm=algorithm,
        excludes=reading.excluded,
    )


def run_python(
    code: str, *arguments: str, unprivileged: bool = False, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own, as a user for whom permissions count when asked."""
    program = textwrap.dedent(code)
    if unprivileged and os.geteuid() == 0:
        program = _GIVE_UP_ROOT + program
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"},
    )


_GIVE_UP_ROOT = """
import os, contextlib, traceback
import shutil, wcp_attest.advice.digest_cache, wcp_attest.disk.files
import wcp_attest.package.manifest, wcp_attest.disk.parallel, wcp_attest.disk.verified_copy
os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""
