"""A scratch repository for the tests of the index and of the hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ONE_PACKAGE = '[[package]]\npath = "w"\nworker_id = "org.acme.w"\nspecies_id = "wrk.doc.w"\nworker_version = "1.0.0"\n'


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

    def add_submodule(self, source: Path, name: str) -> Path:
        """Add another repository as a submodule and return its work tree."""
        self.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), name)
        return self.path / name

    def commit(self, message: str = "m") -> None:
        """Commit what is staged, without hooks."""
        self.git("commit", "-q", "--no-verify", "-m", message)

    def shell(self, command: str) -> None:
        """Run a command line as it was printed, with our own command on the path; it must succeed."""
        path = os.pathsep.join([os.path.dirname(sys.executable), self.environment["PATH"]])
        subprocess.run(["sh", "-c", command], cwd=self.path, env={**self.environment, "PATH": path}, check=True)

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let commands that run in this process run in this repository, as if this machine had no other git."""
        for name in ("GIT_DIR", "GIT_INDEX_FILE", "WCP_ATTEST_CACHE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(self.path)


def repository_of_one_package(path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> Repository:
    """Make and enter a repository whose package `w` is staged and has no manifest yet."""
    repository = Repository(path)
    repository.enter(monkeypatch)
    repository.write("wcp-attest.toml", ONE_PACKAGE)
    for name, content in files.items():
        repository.write(name, content)
    repository.add()
    return repository
