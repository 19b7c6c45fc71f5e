"""Trees as data: written to disk for a test, and hashed by a second implementation from the description alone."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIMPLE = {
    "code/bootstrap.py": b"#!/usr/bin/env python3\nprint('up')\n",
    "code/worker_logic.py": b"def execute(request, context):\n    return request\n",
    "requirements.lock": b"",
    "config.schema.json": b"{}\n",
    "docs/a b \u00e9.md": b"\r\n\xff",
}


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, and the directories they need, below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def described_hash(files: Mapping[str, bytes], *, by_parts: bool = False) -> str:
    """Return the package hash as its description says, sharing no code with the package."""
    total = hashlib.sha256()
    ordered = sorted(files, key=lambda name: name.split("/")) if by_parts else sorted(files, key=os.fsencode)
    for path in ordered:
        data = files[path]
        for line in (path, str(len(data)), hashlib.sha256(data).hexdigest()):
            total.update(line.encode("utf-8") + b"\n")
    return total.hexdigest()
