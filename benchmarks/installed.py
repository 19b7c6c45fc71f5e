"""What is measured is what users run: the wheel, in an environment of its own, with compiled bytecode.

Peers that are Python programs get another one, when somebody asks for it: `make bench-peers`.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "bench")
LOCK = os.path.join(ROOT, "requirements", "run.txt")
SYSTEM = "/usr/bin/python3"
PEERS = ("model-signing==1.1.1", "pyOpenSSL")  # the first imports the second without saying so


def default_interpreter() -> str:
    """Return the interpreter of the distribution, compiled as users have it, where it is new enough; else our own."""
    test = [SYSTEM, "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]
    fits = os.path.exists(SYSTEM) and subprocess.run(test, check=False, capture_output=True).returncode == 0
    return SYSTEM if fits else sys.executable


def install(interpreter: str) -> str:
    """Build the wheel, install it with the locked requirements, and return the directory of its programs.

    Args:
        interpreter: path of the Python that is to run it.
    """
    programs = _environment("ours", interpreter)
    stamp = os.path.join(programs, ".lock")
    if not (os.path.exists(stamp) and _read(stamp) == _read(LOCK)):
        _pip(programs, "install", "--quiet", "--no-deps", "--require-hashes", "-r", LOCK)
        shutil.copy(LOCK, stamp)
    wheels = os.path.join(BUILD, "wheel")
    shutil.rmtree(wheels, ignore_errors=True)
    options = ["--quiet", "--no-deps", "--no-index"]
    _run([sys.executable, "-m", "pip", "wheel", *options, "--no-build-isolation", "-w", wheels, ROOT])
    (wheel,) = glob.glob(os.path.join(wheels, "*.whl"))
    _pip(programs, "install", *options, "--force-reinstall", wheel)
    return programs


def install_peers(interpreter: str) -> None:
    """Install the peers that are Python programs, to be run by the same interpreter."""
    _pip(_environment("peers", interpreter), "install", "--quiet", *PEERS)


def model_signing(interpreter: str) -> str | None:
    """Return the program of that peer, when it is installed for this interpreter."""
    program = os.path.join(_programs("peers", interpreter), "model_signing")
    return program if os.path.exists(program) else None


def _environment(name: str, interpreter: str) -> str:
    programs = _programs(name, interpreter)
    if not os.path.exists(os.path.join(programs, "python")):
        # Debian's brings no pip for it
        _run([interpreter, "-m", "venv", "--without-pip", "--clear", os.path.dirname(programs)])
    return programs


def _programs(name: str, interpreter: str) -> str:
    return os.path.join(BUILD, name, os.path.realpath(interpreter).strip("/").replace("/", "-"), "bin")


def _pip(programs: str, *arguments: str) -> None:
    """Run this environment's pip on another."""
    _run([sys.executable, "-m", "pip", "--python", os.path.join(programs, "python"), *arguments])


def _run(command: list[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(command, check=True, cwd=ROOT, env=kept)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
