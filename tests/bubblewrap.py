"""Debian's bubblewrap, for the tests that run something in a sandbox."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def bubblewrap(untried: str) -> str:
    """Return the path of `bwrap`; skip loudly where it is absent or may not make namespaces.

    Args:
        untried: What is not tried then, for the reason of the skip.
    """
    found = shutil.which("bwrap")
    if found is None:
        pytest.skip(f"{untried} was NOT tried: no bwrap (Debian: bubblewrap)")
    probe = [found, "--unshare-all", "--uid", "65532", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"{untried} was NOT tried: bubblewrap may not make namespaces here: {done.stderr.strip()}")
    return found
