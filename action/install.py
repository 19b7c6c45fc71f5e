"""First step of the action: install the code of this very commit into a virtual environment of its own.

Runs under the caller's Python, isolated (`-I`), with nothing but the standard library. The environment lies in a folder
under the runner's temporary one, which the runner empties for each job: `PATH` and the caller's Python stay as they
are. Further steps of the job use it again when they run the same code under the same Python (docs/adr/0063).

Dependencies come by hash; with them pinned, an index of the operator's choice is safe to use, so pip's own settings for
reaching one are kept and all its other settings are not. The lock is whole, so nothing is resolved (`--no-deps`): pip
before 23.3 looks past a lock for the newest `package[extra]`, and fails once there is one.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from typing import Final

HERE: Final = os.path.dirname(os.path.abspath(__file__))
DEADLINE: Final = 900.0  # seconds for one pip; a slow mirror takes minutes
TAIL: Final = 4000  # characters of pip's words that are shown when it fails

WHOLE: Final = "whole"  # stands beside an environment that was made to its end

_KEPT: Final = frozenset(
    f"PIP_{name}"
    for name in (
        *("INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX", "FIND_LINKS", "TRUSTED_HOST", "CERT", "CLIENT_CERT"),
        *("PROXY", "CONFIG_FILE", "CACHE_DIR", "TIMEOUT", "DEFAULT_TIMEOUT", "RETRIES"),
    )
)
_PIP: Final = ("-I", "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet")


class InstallError(Exception):
    """A step of the installation failed."""


def environment(base: dict[str, str]) -> dict[str, str]:
    """Return the environment for pip: no Python settings, and of pip's own only how to reach an index."""
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA")) and (not name.startswith("PIP_") or name in _KEPT)
    }
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def fingerprint() -> str:
    """Return what an environment depends on: this Python, and every byte of this commit that goes into it."""
    digest = hashlib.sha256(f"{sys.executable}\n{sys.version}\n".encode())
    root = os.path.dirname(HERE)
    names = ["pyproject.toml", "action/requirements.txt", "action/install.py"]
    for package in ("wcp_attest", "wcp_route"):
        for folder, _, files in os.walk(os.path.join(root, package)):
            names += [os.path.relpath(os.path.join(folder, name), root) for name in files if not name.endswith(".pyc")]
    for name in sorted(names):
        with open(os.path.join(root, name), "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
        digest.update(f"{content} {name}\n".encode())
    return digest.hexdigest()


def environment_in(temp: str) -> str:
    """Return the path of the Python of this commit's environment, which is made when there is none.

    Args:
        temp: the runner's temporary folder.

    Raises:
        InstallError: a step failed.
    """
    home = os.path.join(temp, f"wcp-attest-{fingerprint()}")
    python = os.path.join(home, "venv", "bin", "python")
    try:
        os.mkdir(home, 0o700)
    except FileExistsError:
        # Made by an earlier step, whole and by this very user; else one of our own, beside it.
        status = os.lstat(home)
        own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
        if own and os.path.exists(os.path.join(home, WHOLE)):
            return python
        return install(tempfile.mkdtemp(prefix="wcp-attest-", dir=temp))
    install(home)
    with open(os.path.join(home, WHOLE), "x", encoding="utf-8"):
        return python


def install(home: str) -> str:
    """Make the environment and return the path of its Python.

    Args:
        home: an empty directory of ours.

    Raises:
        InstallError: a step failed.
    """
    venv = os.path.join(home, "venv")
    python = os.path.join(venv, "bin", "python")
    requirements = os.path.join(HERE, "requirements.txt")
    _run([sys.executable, "-I", "-m", "venv", venv], home, "make a virtual environment")
    hashed = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", requirements)
    _run([python, *_PIP, *hashed], home, "install the locked dependencies")
    own = ("--no-index", "--no-deps", "--no-build-isolation", os.path.dirname(HERE))
    _run([python, *_PIP, *own], home, "install the action's own commit")
    _run([python, "-I", "-m", "pip", "check"], home, "find every dependency in the lock")
    return python


def _run(command: list[str], home: str, what: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=home,  # never the workspace, whose files are the caller's
            env=environment(dict(os.environ)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"cannot {what}: {error}") from error
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()[-TAIL:]
        raise InstallError(f"cannot {what} (status {done.returncode}): {said}")


def main() -> int:
    """Install, and hand the path of Python on to the next step."""
    missing = [name for name in ("RUNNER_TEMP", "GITHUB_OUTPUT") if not os.environ.get(name)]
    if missing:
        return _fail(f"cannot work on this runner: it does not set {' and '.join(missing)}")
    try:
        python = environment_in(os.environ["RUNNER_TEMP"])
        with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file:
            file.write(f"python={python}\n")
    except (InstallError, OSError) as error:
        return _fail(str(error))
    return 0


def _fail(text: str) -> int:
    """Make an annotation of the error, and return the exit status of the step."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::error title=wcp-attest::{escaped}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
