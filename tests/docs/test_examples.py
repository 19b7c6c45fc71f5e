"""The examples work, and leave nothing behind where they should not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"


def test_the_library_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "library_use.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Package attested by namespace org.acme at " in done.stdout
    assert "ATTEST_HASH_MISMATCH" in done.stdout
    assert "modified: code/worker_logic.py" in done.stdout


def run_demo(folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    (folder / "examples").mkdir()
    shutil.copy(EXAMPLES / "demo.sh", folder / "examples")
    return subprocess.run(
        ["sh", folder / "examples/demo.sh"],
        env={**os.environ, "PATH": path, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_demo_shows_the_refusal_and_writes_only_where_it_says(tmp_path: Path) -> None:
    done = run_demo(tmp_path, PATH)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED" in done.stdout
    assert "DENIED" in done.stdout
    assert "core.py" in done.stdout
    assert "lines of core.py, from" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [".demo", "examples"]


def test_the_demo_fails_where_a_changed_package_is_not_refused(tmp_path: Path) -> None:
    blind = tmp_path / "bin"
    blind.mkdir()
    (blind / "wcp-attest").write_text("#!/bin/sh\nexit 0\n")
    (blind / "wcp-attest").chmod(0o755)
    done = run_demo(tmp_path, f"{blind}:{PATH}")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
