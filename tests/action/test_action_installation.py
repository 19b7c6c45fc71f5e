"""The first step of the action, for real: what it installs, from where, and what cannot change that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from action import install
from tests.action.conftest import ROOT, Installation, copy_checkout, make_job, skip_when_unreachable
from tests.trees import snapshot

if TYPE_CHECKING:
    import pytest


def test_a_hostile_workspace_changes_nothing(installation: Installation) -> None:
    job, result = installation.job, installation.first
    assert result.ok, result.annotations
    assert "owned" not in result.log
    assert not installation.stolen.exists()
    assert snapshot(job.action.parent) == installation.before, "the action's own checkout stays clean"
    assert result.path_entries == ()
    assert result.variables == {}

    python = result.steps["install"].outputs["python"]
    assert python.startswith(str(job.temp))
    listed = subprocess.run(
        [python, "-I", "-m", "pip", "list", "--format=json"], capture_output=True, check=True, text=True
    )
    names = {item["name"].lower() for item in json.loads(listed.stdout)}
    assert {"wcp-attest", "sigstore", "click"} <= names
    assert "pytest" not in names


def test_one_changed_digit_of_a_hash_stops_it(tmp_path: Path) -> None:
    action = copy_checkout(tmp_path / "checkout")
    requirements = action / "requirements.txt"
    lines = requirements.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("click=="))
    end = next(number for number in range(start + 1, len(lines)) if "--hash" not in lines[number])
    for number in range(start + 1, end):
        digest = lines[number].split("sha256:")[1][:64]
        lines[number] = lines[number].replace(digest, ("0" if digest[0] != "0" else "1") + digest[1:])
    requirements.write_text("\n".join(lines))
    result = make_job(tmp_path, action).run(mode="sign", path="pkg")
    skip_when_unreachable(result)
    assert not result.ok
    assert result.steps["install"].outcome == "failure"
    assert result.steps["run"].outcome == "skipped"
    assert "hash" in result.annotations[0].data.lower()


def test_without_a_python_that_is_new_enough_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    action = copy_checkout(tmp_path / "checkout")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh"):
        (tools / name).symlink_to(f"/bin/{name}")
    for name in ("python3", "python"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    result = make_job(tmp_path, action).run(mode="sign", path="pkg")
    assert not result.ok
    assert "Python 3.11 or newer is needed" in result.annotations[0].data


def test_on_a_runner_that_it_cannot_work_on_it_says_so(tmp_path: Path) -> None:
    action = copy_checkout(tmp_path / "checkout")  # a job cannot say what it runs on, so the executor is left out
    environment = {"PATH": os.environ["PATH"], "GITHUB_ACTION_PATH": str(action), "RUNNER_TEMP": str(tmp_path)}
    done = subprocess.run(
        ["bash", action / "install.sh"],
        env={**environment, "RUNNER_OS": "Windows"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=wcp-attest::this action runs on Linux and macOS only")
    assert [path.name for path in tmp_path.iterdir()] == ["checkout"]
    for missing in ({"RUNNER_TEMP": ""}, {"GITHUB_OUTPUT": ""}):
        step = {**environment, "GITHUB_OUTPUT": str(tmp_path / "out"), **missing}
        done = subprocess.run(["bash", action / "install.sh"], env=step, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, "")
        assert f"it does not set {next(iter(missing))}" in done.stdout


def test_a_job_installs_once_for_each_commit(installation: Installation) -> None:
    second = installation.job.run(mode="none")
    assert second.steps["install"].outputs["python"] == installation.python
    assert second.steps["run"].exit_status == 2, "the environment works"
    home = Path(installation.python).parents[2]
    assert home.stat().st_mode & 0o777 == 0o700


def test_another_commit_or_a_half_made_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def record(home: str) -> str:
        made.append(home)
        return str(Path(home) / "python")

    monkeypatch.setattr(install, "install", record)  # the real one is what the test above runs
    first = install.environment_in(str(tmp_path))
    assert install.environment_in(str(tmp_path)) == first
    assert len(made) == 1
    Path(made[0]).chmod(0o777)  # others could have written it
    assert install.environment_in(str(tmp_path)) != first
    Path(made[0]).chmod(0o700)
    assert install.environment_in(str(tmp_path)) == first
    (Path(made[0]) / install.WHOLE).unlink()
    assert install.environment_in(str(tmp_path)) != first
    copy = copy_checkout(tmp_path / "checkout")
    before = install.fingerprint()
    monkeypatch.setattr(install, "HERE", str(copy))
    assert install.fingerprint() == before, "the same commit elsewhere"
    (copy.parent / "wcp_attest/__init__.py").write_text("# another commit")
    assert install.fingerprint() != before


def test_the_action_of_the_root_does_the_same(tmp_path: Path, installation: Installation) -> None:
    root = copy_checkout(tmp_path / "checkout").parent
    shutil.copy(ROOT / "action.yml", root)
    (root / "action/install.sh").write_text(f'echo "python={installation.python}" >> "$GITHUB_OUTPUT"\n')
    job = make_job(tmp_path, root)
    result = job.run(mode="verify", path="pkg", github_repository="acme/worker", worker_id="org.acme.worker")
    assert (result.ok, result.outputs["verified"]) == (False, "false")
    assert result.outputs["deny-code"] == "ATTEST_MANIFEST_MISSING"
    assert not job.run(mode="sign", path="pkg", worker_id="org.acme.worker").ok  # there is no identity token here


def test_the_action_of_the_root_passes_on_every_input_it_has() -> None:
    inner, outer = (yaml.safe_load((ROOT / name).read_text()) for name in ("action/action.yml", "action.yml"))
    environment = outer["runs"]["steps"][1]["env"]
    for name, field in outer["inputs"].items():
        assert field.get("default", "") == inner["inputs"][name].get("default", "")
        assert environment[f"WCP_INPUT_{name.upper().replace('-', '_')}"] == f"${{{{ inputs.{name} }}}}"
    for name, field in outer["outputs"].items():
        assert field["value"] == inner["outputs"][name]["value"]
    for name, field in inner["inputs"].items():  # what the root leaves out keeps its default
        if name not in outer["inputs"]:
            assert environment.get(f"WCP_INPUT_{name.upper().replace('-', '_')}", "") == field.get("default", "")
