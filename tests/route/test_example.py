"""The complete worker of `examples/hello_worker` works from signing to refusal, and its files are what they claim."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from wcp_route import read_record, read_rules

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello_worker"
PATH = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"


def run(directory: Path, path: str = PATH) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WCP_")}
    return subprocess.run(
        ["sh", EXAMPLE / "run.sh", directory / "hello"],
        env={**environment, "PATH": path, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=directory,
    )


def test_it_runs_from_signing_to_refusal(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"Hello, Ada!"' in done.stdout
    assert "DENY_WORKER_TAMPERED" in done.stdout
    assert "5 receipts in 2 streams hold" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["hello"]


def test_it_touches_no_directory_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "mine").write_text("mine")
    done = run(tmp_path)
    assert (done.returncode, "was not made by this script" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in (tmp_path / "hello").iterdir()] == ["mine"]


def test_it_fails_where_the_changed_worker_is_not_refused(tmp_path: Path) -> None:
    blind = tmp_path / "bin"
    blind.mkdir()
    real = shutil.which("wcp-route", path=PATH)
    (blind / "wcp-route").write_text(f'#!/bin/sh\n{real} "$@"\n[ "$1 $#" = "decide 2" ] && exit 0\ntrue\n')
    (blind / "wcp-route").chmod(0o755)
    done = run(tmp_path, f"{blind}:{PATH}")
    assert done.returncode == 1
    assert "FAILED" in done.stdout


def test_its_files_are_valid() -> None:
    assert read_record((EXAMPLE / "record.json").read_bytes()).worker_id == "org.example.hello-worker"
    assert read_rules((EXAMPLE / "rules.json").read_bytes()).shadows == ()
    request = json.loads((EXAMPLE / "request.json").read_text())
    command = [sys.executable, str(EXAMPLE / "package" / "code" / "bootstrap.py")]
    for arguments, given in (([json.dumps(request)], None), (["--stdio"], json.dumps(request))):
        done = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["result"] == {"text": "Hello, Ada!"}
    request["request"]["language"] = "tlh"
    assert subprocess.run([*command, json.dumps(request)], capture_output=True, check=False).returncode == 1
    assert not list(EXAMPLE.rglob("__pycache__"))
