"""The first step of the action, for real: what it installs, from where, and what cannot change that."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.action.conftest import copy_checkout, make_job, skip_when_unreachable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("action")

HOSTILE = {
    "click.py": "raise SystemExit('owned: click of the workspace')",
    "wcp_attest.py": "raise SystemExit('owned: wcp_attest of the workspace')",
    "action.py": "raise SystemExit('owned: action of the workspace')",
    "sitecustomize.py": "raise SystemExit('owned: sitecustomize of the workspace')",
    "json.py": "raise SystemExit('owned: json of the workspace')",
    "pip.conf": "[global]\nindex-url = http://127.0.0.1:9/owned\n",
    "setup.cfg": "[install]\nprefix = /nonexistent\n",
    "pyproject.toml": '[tool.uv]\nindex-url = "http://127.0.0.1:9/owned"\n[build-system]\nrequires = ["owned"]\n',
    "requirements.txt": "owned==1.0\n",
    "python3": "#!/bin/sh\necho owned python3\n",
    ".env": "PYTHONPATH=.\n",
}


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_hostile_workspace_changes_nothing(tmp_path: Path) -> None:
    action = copy_checkout(tmp_path / "checkout")
    job = make_job(tmp_path, action)
    for name, content in HOSTILE.items():
        (job.workspace / name).write_text(content)
        (job.workspace / name).chmod(0o755)
    caller = {"PYTHONPATH": str(job.workspace), "PYTHONSTARTUP": "click.py", "PIP_TARGET": str(tmp_path / "stolen"),
              "PIP_REQUIRE_VIRTUALENV": "1", "PIP_USER": "1", "PYTHONHOME": "/nonexistent"}  # fmt: skip
    before = snapshot(tmp_path / "checkout")
    result = job.under(environment=caller).run(
        mode="sign", path="pkg", signing="hmac", hmac_key="correct horse battery", worker_id="org.acme.w",
        species_id="wrk.w", worker_version="1",
    )  # fmt: skip
    skip_when_unreachable(result)
    assert result.ok, result.annotations
    assert "owned" not in result.log
    assert not (tmp_path / "stolen").exists()
    assert snapshot(tmp_path / "checkout") == before, "the action's own checkout stays clean"
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
