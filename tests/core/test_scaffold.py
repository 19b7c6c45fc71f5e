"""A scaffolded worker runs, keeps the worker's contract, and passes the checks of this house."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wcp_attest.base.errors import ConfigError
from wcp_attest.build import build_manifest
from wcp_attest.scaffold import FILES, MAX_LOGIC_BYTES, scaffold_package

WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
}
ASK = {"correlation_id": "c-1", "tenant_id": "t-1", "capability_id": "cap.doc.count", "text": "one two three"}
CONFIGURATION = str(Path(__file__).parents[2] / "pyproject.toml")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    scaffold_package(tmp_path / "my-worker", **WHO)
    return tmp_path / "my-worker"


def run(package: Path, *arguments: str, given: str = "") -> tuple[int, Any]:
    """Run the worker as a dispatcher would, from another directory."""
    program = [sys.executable, str(package / "code/bootstrap.py"), *arguments]
    done = subprocess.run(program, input=given, capture_output=True, text=True, timeout=60, cwd="/", check=False)
    assert done.stdout.endswith("\n")
    assert done.stdout.count("\n") == 1
    return done.returncode, json.loads(done.stdout)


def with_logic(root: Path, logic: str) -> Path:
    scaffold_package(root, **WHO, logic=logic.encode(), force=True)
    return root


def test_the_layout_is_complete(package: Path) -> None:
    found = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    assert found == sorted(FILES)
    assert stat.S_IMODE((package / "code/bootstrap.py").stat().st_mode) & 0o100
    assert not stat.S_IMODE((package / "code/worker_logic.py").stat().st_mode) & 0o111
    schema = json.loads((package / "config.schema.json").read_bytes())
    assert schema["additionalProperties"] is False


def test_the_paths_written_are_returned(tmp_path: Path) -> None:
    written = scaffold_package(tmp_path, **WHO)
    assert written == tuple(str(tmp_path / name) for name in FILES)


def test_the_worker_answers_on_the_command_line_and_on_standard_input(package: Path) -> None:
    status, answer = run(package, json.dumps(ASK))
    assert status == 0
    assert answer == {
        "status": "ok",
        "result": {"words": 3, "tenant_id": "t-1"},
        "telemetry": [
            {
                "event_id": "evt.worker.executed",
                "correlation_id": "c-1",
                "tenant_id": "t-1",
                "capability_id": "cap.doc.count",
                "worker_id": "org.acme.summarizer",
                "worker_species_id": "wrk.doc.summarizer",
                "worker_version": "1.4.0",
                "status": "ok",
            }
        ],
        "evidence": [],
        "deny_reason": None,
    }
    assert run(package, "--stdio", given=json.dumps(ASK)) == (0, answer)


def test_the_bootstrap_can_be_executed_itself(package: Path) -> None:
    environment = {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]}
    program = [str(package / "code/bootstrap.py"), json.dumps(ASK)]
    done = subprocess.run(program, capture_output=True, env=environment, timeout=60, check=True)
    assert json.loads(done.stdout)["status"] == "ok"


def test_running_leaves_nothing_behind_that_would_break_the_signature(package: Path) -> None:
    who = {"worker_id": "org.acme.w", "worker_species_id": "wrk.doc.w", "worker_version": "1", "built_at": 0.0}
    before = build_manifest(package, **who)  # type: ignore[arg-type]
    run(package, json.dumps(ASK))
    assert build_manifest(package, **who) == before  # type: ignore[arg-type]
    assert not list(package.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], ""),
        (["--stdio"], ""),
        (["--stdio"], "{"),
        (["{", "}"], ""),
        (["[]"], ""),
        (["null"], ""),
        (["[" * 100_000], ""),
        (["{}"], ""),
        ([json.dumps({**ASK, "tenant_id": ""})], ""),
        ([json.dumps({**ASK, "correlation_id": 7})], ""),
        ([json.dumps({**ASK, "env": None})], ""),
        (["--stdio"], json.dumps({**ASK, "text": "x" * (1024 * 1024)})),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_request_gets_one_answer_and_no_traceback(package: Path, arguments: list[str], given: str) -> None:
    status, answer = run(package, *arguments, given=given)
    assert status == 1
    assert answer["status"] == "error"
    assert answer["deny_reason"]["code"] == "BAD_REQUEST"
    assert answer["telemetry"] == []


def test_a_denial_of_the_logic_is_passed_on(package: Path) -> None:
    status, answer = run(package, json.dumps({**ASK, "text": 5}))
    assert (status, answer["status"], answer["deny_reason"]["code"]) == (1, "denied", "TEXT_MISSING")
    assert answer["telemetry"][0]["status"] == "denied"


def test_what_a_request_does_not_say_is_read_strictly(tmp_path: Path) -> None:
    logic = (
        "from bootstrap import WorkerResult\n"
        "def execute(request, context):\n"
        "    return WorkerResult('ok', vars(context))\n"
    )
    _, answer = run(with_logic(tmp_path, logic), json.dumps(ASK))
    assert answer["result"] == {
        "correlation_id": "c-1",
        "tenant_id": "t-1",
        "capability_id": "cap.doc.count",
        "env": "prod",
        "data_label": "RESTRICTED",
        "qos_class": "P3",
        "policy_version": "",
    }


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('the secret is hunter2')",
        "raise SystemExit(0)",
        "return None",
        "return {1: object()}",
        "import absent",
    ],
)
def test_failing_logic_still_gets_an_answer_that_gives_nothing_away(tmp_path: Path, body: str) -> None:
    package = with_logic(tmp_path, f"def execute(request, context):\n    {body}\n")
    status, answer = run(package, json.dumps(ASK))
    assert status == 1
    assert answer["deny_reason"]["code"] == "WORKER_FAILED"
    assert "hunter2" not in json.dumps(answer)


def test_logic_that_prints_does_not_break_the_answer(tmp_path: Path) -> None:
    logic = (
        "from bootstrap import WorkerResult\n"
        "def execute(request, context):\n"
        "    print('chatter')\n"
        "    return WorkerResult('ok')\n"
    )
    assert run(with_logic(tmp_path, logic), json.dumps(ASK))[0] == 0


def test_ones_own_logic_is_taken_as_it_is(tmp_path: Path) -> None:
    logic = b"# mine\r\ndef execute(request, context=None):\n    ...\n"
    scaffold_package(tmp_path, **WHO, logic=logic)
    assert (tmp_path / "code/worker_logic.py").read_bytes() == logic


@pytest.mark.parametrize(
    ("logic", "reason"),
    [
        (b"", "defines no function `execute"),
        (b"def run(): ...\n", "defines no function `execute"),
        (b"def execute(:\n", "is not Python: .* in line 1"),
        (b"\xff\xfe", "is not Python"),
        (b"x = '\x00'", "is not Python"),
        (b"(" * 5000, "is not Python"),
        (b"x = " + b"-" * 200_000 + b"1\n", "is not Python"),
        (b"#" * (MAX_LOGIC_BYTES + 1), "is larger than"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_logic_that_could_never_run_is_refused_and_nothing_written(tmp_path: Path, logic: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        scaffold_package(tmp_path / "w", **WHO, logic=logic)
    assert not (tmp_path / "w").exists()


def test_execute_may_be_imported(tmp_path: Path) -> None:
    scaffold_package(tmp_path, **WHO, logic=b"from elsewhere import main as execute\n")


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(ConfigError, match=f"already holds {name}"):
        scaffold_package(tmp_path, **WHO)
    assert (tmp_path / name).read_bytes() == b"precious"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1
    scaffold_package(tmp_path, **WHO, force=True)
    assert (tmp_path / name).read_bytes() != b"precious"


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"mine")
    scaffold_package(tmp_path, **WHO)
    assert (tmp_path / "README.md").read_bytes() == b"mine"


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "w"
    root.mkdir()
    (root / "code").symlink_to(outside)
    (tmp_path / "link").symlink_to(outside)
    for target in (root, tmp_path / "link"):
        with pytest.raises(ConfigError, match="is not a directory"):
            scaffold_package(target, **WHO, force=True)
    (root / "code").unlink()
    (root / "requirements.lock").symlink_to(outside / "new")
    with pytest.raises(ConfigError):
        scaffold_package(root, **WHO, force=True)
    assert list(outside.iterdir()) == []


def test_a_place_that_cannot_be_is_the_callers_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file", tmp_path / "file/below", tmp_path / ("n" * 300), tmp_path / "nul\0"):
        with pytest.raises(ConfigError):
            scaffold_package(target, **WHO)


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_id": 'org.acme.x"; import os'},
        {"worker_species_id": "W"},
        {"worker_version": '"'},
        {"worker_id": ""},
        {"worker_species_id": ""},
        {"worker_version": ""},
    ],
)
def test_ids_are_checked_before_they_go_into_code(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        scaffold_package(tmp_path / "w", **{**WHO, **wrong})
    assert not (tmp_path / "w").exists()


def test_the_scaffold_is_typed_and_clean(package: Path) -> None:
    files = ["code/bootstrap.py", "code/worker_logic.py"]
    caches = ["--cache-dir", os.devnull]
    for tool in (
        ["mypy", "--strict", *caches, *files],
        ["ruff", "check", "--no-cache", "--config", CONFIGURATION, "--ignore", "INP001", "."],
        ["ruff", "format", "--no-cache", "--config", CONFIGURATION, "--check", "."],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=package, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
