"""Signed packages, stores, and a directory that nobody but root can change, for tests that need one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import forked
from tests.trees import plant
from wcp_attest import Accept, Namespace, Policy, build_manifest, sign
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

KEY, STRANGER = generate(), generate()
WORKER, SPECIES = "org.acme.summarizer", "wrk.doc.summarizer"
NOW = 1_800_000_000.0
NOBODY, KEEPER = 65_533, 65_532  # ids of ordinary users; neither needs a name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


def policy(*, accept: Accept | None = None, signer: Any = KEY) -> Policy:
    return Policy((Namespace("org.acme", (signer.trusted,)),), accept or Accept())


def make_package(root: Path, version: str = "1.4.0", *, code: str = "print('hello')\n", now: float = NOW) -> Path:
    """Write and sign a package of five entries."""
    files = {"code/worker_logic.py": code.encode(), "x:code/run": b"#!/bin/sh\necho ran\n", "requirements.lock": b""}
    plant(root, {**files, "empty": None, "link": "code/run"})
    resign(root, version, now=now)
    return root


def resign(root: Path, version: str = "1.4.0", *, now: float = NOW, worker: str = WORKER) -> None:
    for name in ("manifest.json", "manifest.sig"):
        (root / name).unlink(missing_ok=True)
    manifest = build_manifest(
        root, worker_id=worker, worker_species_id=SPECIES, worker_version=version, built_at=now - 10
    )
    sign(root, [KEY], manifest=manifest, now=now)


def closed_to_others(path: Path) -> bool:
    """Whether nobody but root could change what lies at a path; worked out apart from the code under test."""
    for folder in (path, *path.parents):
        status = folder.lstat()
        sticky = folder != path and status.st_mode & stat.S_ISVTX
        if status.st_uid != 0 or not stat.S_ISDIR(status.st_mode) or (status.st_mode & 0o022 and not sticky):
            return False
    return True


@contextmanager
def a_root_kept_place() -> Iterator[Path]:
    """A new directory of root's, readable by everyone, below parents that nobody else may change."""
    if os.geteuid() != 0:
        pytest.skip("only root has directories of root's")
    for base in ("/var/tmp", "/var/lib", "/run", "/srv", "/opt", "/mnt"):
        if not os.path.isdir(base) or not os.access(base, os.W_OK):
            continue
        place = Path(tempfile.mkdtemp(prefix="wcp-attest-test-", dir=base))
        place.chmod(0o755)
        try:
            if closed_to_others(place):
                yield place
                return
        finally:
            remove(place)
    pytest.skip("this machine has no directory that nobody but root can change")


def remove(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        with suppress(FileNotFoundError):  # a copy that a command has just removed itself
            os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def as_user(user: int, task: Callable[[], Any], *, group: int | None = None) -> Any:
    """Run a function in a child process as another user, and return what it returns, by JSON."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(out)
            os.setgroups([])
            os.setgid(group if group is not None else user)
            os.setuid(user)
            os.environ["HOME"] = "/nonexistent"
            try:
                answer = {"value": task()}
            except Exception as problem:  # noqa: BLE001  # told to the test
                answer = {"error": f"{type(problem).__name__}: {problem}"}
            os.write(into, json.dumps(answer).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    with open(out, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(data)
    if "error" in answer:
        raise AssertionError(answer["error"])
    return answer["value"]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `wcp-attest` in this directory and environment."""
    return forked.run(arguments, env=os.environ)
