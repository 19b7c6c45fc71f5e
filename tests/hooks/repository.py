"""A scratch repository for the tests of the index and of the hooks."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """Real git in a fresh folder, with a configuration that owes nothing to the machine."""

    def __init__(self, path: Path, *, object_format: str = "sha1") -> None:
        self.path = path
        path.mkdir()
        home = path.parent / f"{path.name}-home"
        home.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "LANG": "C.UTF-8",
        }
        self.git("init", "-q", "-b", "main", f"--object-format={object_format}")
        for name, value in (("user.name", "t"), ("user.email", "t@t"), ("commit.gpgsign", "false")):
            self.git("config", name, value)

    def git(self, *arguments: str | bytes, given: bytes | None = None, **environment: str) -> str:
        """Run git and return its output; it must succeed."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**self.environment, **environment},
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="surrogateescape")

    def write(self, name: str, content: str | bytes = "", *, executable: bool = False) -> Path:
        """Write a file of the work tree."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if executable else 0o644)
        return path

    def add(self, *names: str) -> None:
        """Stage paths as they are in the work tree."""
        self.git("add", "-A", "--", *(names or (".",)))

    def stage_blob(self, name: bytes, content: bytes, mode: str = "100644") -> None:
        """Put a path into the index that the work tree does not have."""
        object_id = self.git("hash-object", "-w", "--stdin", given=content).strip()
        self.git("update-index", "-z", "--index-info", given=f"{mode} {object_id}\t".encode() + name + b"\0")

    def commit(self, message: str = "m") -> None:
        """Commit what is staged, without hooks."""
        self.git("commit", "-q", "--no-verify", "-m", message)
