"""Trees as data: written to disk for a test, and hashed by a second implementation from the description alone."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SIMPLE = {
    "code/bootstrap.py": b"#!/usr/bin/env python3\nprint('up')\n",
    "code/worker_logic.py": b"def execute(request, context):\n    return request\n",
    "requirements.lock": b"",
    "config.schema.json": b"{}\n",
    "docs/a b \u00e9.md": b"\r\n\xff",
}


def plant(root: str | os.PathLike[str], entries: Mapping[str, bytes | str | None]) -> Path:
    """Make a tree: bytes are files, texts are links, None is an empty directory; `x:` makes a file executable."""
    base = Path(root)
    base.mkdir(parents=True, exist_ok=True)
    for name, content in entries.items():
        path = base / name.removeprefix("x:")
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
            continue
        path.write_bytes(content)
        path.chmod(0o755 if name.startswith("x:") else 0o644)
    return base


def snapshot(root: str | os.PathLike[str]) -> dict[str, tuple[int, bytes]]:
    """Return the kind and mode of everything below a directory, with what files hold and links name."""
    found: dict[str, tuple[int, bytes]] = {}
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            content = b"" if stat.S_ISDIR(mode) else os.fsencode(os.readlink(path)) if path.is_symlink() else None
            found[path.relative_to(root).as_posix()] = (mode, path.read_bytes() if content is None else content)
    return found


def described_hash(files: Mapping[str, bytes], *, by_parts: bool = False) -> str:
    """Return the package hash as its description says, sharing no code with the package."""
    total = hashlib.sha256()
    ordered = sorted(files, key=lambda name: name.split("/")) if by_parts else sorted(files, key=os.fsencode)
    for path in ordered:
        data = files[path]
        for line in (path, str(len(data)), hashlib.sha256(data).hexdigest()):
            total.update(line.encode("utf-8") + b"\n")
    return total.hexdigest()
