"""The action as a caller's job would have it: a checkout of its commit, and a workspace that owes it nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.composite_action import Result, run_action
from tests.trees import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.composite_action.values import Value

ROOT = Path(__file__).parents[2]
SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "wcp_attest",
    "wcp_route",
    "action",
    "hatch_build.py",
    "scripts",
    "requirements",
)
REACHING_AN_INDEX = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CERT")
UNREACHABLE = ("Could not find a version", "No matching distribution", "Connection", "Max retries", "timed out")


def index_settings() -> dict[str, str]:
    """What a job of this machine would be given to reach a package index."""
    return {name: os.environ[name] for name in REACHING_AN_INDEX if name in os.environ}


def copy_checkout(target: Path) -> Path:
    """Copy what a checkout of the action's repository holds that matters to it; return the action's folder."""
    target.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    return target / "action"


@dataclass(frozen=True)
class Job:
    """A job that uses the action; `run` may be called several times, as by several steps."""

    action: Path
    workspace: Path
    temp: Path
    github: Mapping[str, Value] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def under(self, *, github: Mapping[str, Value] | None = None, environment: Mapping[str, str] | None = None) -> Job:
        """The same job with more in its `github` context or environment."""
        return replace(
            self,
            github={**self.github, **(github or {})},
            environment={**self.environment, **(environment or {})},
        )

    def run(self, **inputs: str) -> Result:
        """Run the action with inputs whose names have `_` for `-`."""
        return run_action(
            self.action,
            workspace=self.workspace,
            temp=self.temp,
            inputs={name.replace("_", "-"): value for name, value in inputs.items()},
            github=self.github,
            environment={**index_settings(), **self.environment},
        )


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


@dataclass(frozen=True)
class Installation:
    """A job that signed in a hostile workspace, with an environment that the action's own first step made."""

    job: Job
    stolen: Path
    before: Mapping[str, object]
    first: Result

    @property
    def python(self) -> str:
        return self.first.steps["install"].outputs["python"]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Install once for all tests; where that goes wrong because of the workspace, all of them fail."""
    base = tmp_path_factory.mktemp("installed")
    job = make_job(base, copy_checkout(base / "checkout"))
    for name, content in HOSTILE.items():
        (job.workspace / name).write_text(content)
        (job.workspace / name).chmod(0o755)
    caller = {"PYTHONPATH": str(job.workspace), "PYTHONSTARTUP": "click.py", "PIP_TARGET": str(base / "stolen"),
              "PIP_REQUIRE_VIRTUALENV": "1", "PIP_USER": "1", "PYTHONHOME": "/nonexistent"}  # fmt: skip
    before = snapshot(base / "checkout")
    first = job.under(environment=caller).run(
        mode="sign", path="pkg", signing="hmac", hmac_key="correct horse battery", worker_id="org.acme.w",
        species_id="wrk.w", worker_version="1",
    )  # fmt: skip
    skip_when_unreachable(first)
    assert first.steps["install"].outcome == "success", first.annotations
    return Installation(job, base / "stolen", before, first)


def skip_when_unreachable(result: Result) -> None:
    """Skip, and say so, where the locked dependencies cannot be had."""
    said = " ".join(issue.data for issue in result.annotations)
    if result.steps["install"].outcome != "success" and any(word in said for word in UNREACHABLE):
        pytest.skip("LOUD SKIP: no package index answers, the action's installation is not tested")


@pytest.fixture(scope="session")
def quick_action(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> Path:
    """The action, with a first step that hands over the environment made before instead of making one."""
    action = copy_checkout(tmp_path_factory.mktemp("quick") / "checkout")
    (action / "install.sh").write_text(f'echo "python={installation.python}" >> "$GITHUB_OUTPUT"\n')
    return action


@pytest.fixture
def job(tmp_path: Path, quick_action: Path) -> Job:
    """A job on a workspace with one package, ready to be signed."""
    return make_job(tmp_path, quick_action)


def make_job(base: Path, action: Path) -> Job:
    """Make a workspace with one package and a runner's temporary folder."""
    workspace, temp = base / "workspace", base / "temp"
    temp.mkdir()
    package = workspace / "pkg"
    (package / "code").mkdir(parents=True)
    (package / "code/run.py").write_text("print()\n")
    (package / "data file.txt").write_text("1\n")
    return Job(action, workspace, temp)


@dataclass(frozen=True)
class StepRun:
    """What the second step of the action said and left, run by itself."""

    status: int
    log: str
    summary: str
    outputs: Mapping[str, str]

    @property
    def errors(self) -> str:
        return "\n".join(line for line in self.log.splitlines() if line.startswith("::error"))


@dataclass(frozen=True)
class Step:
    """The second step of the action under this Python: as the executor runs it, without a new environment."""

    workspace: Path
    temp: Path

    def __call__(self, changed: Mapping[str, str | None] | None = None, /, **inputs: str) -> StepRun:
        defaults = {"path": "pkg", "on_missing_token": "fail", "fail_on_deny": "true", "summary": "true"}
        names = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        files = {name: self.temp / f"{name}-{os.urandom(4).hex()}" for name in names}
        given: dict[str, str | None] = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "RUNNER_TEMP": str(self.temp),
            **{name: str(path) for name, path in files.items()},
            **{f"WCP_INPUT_{name.upper()}": value for name, value in {**defaults, **inputs}.items()},
            **(changed or {}),
        }
        done = subprocess.run(
            [sys.executable, "-I", ROOT / "action/main.py"],
            cwd=self.workspace,
            env={name: value for name, value in given.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        kept = {name: path.read_text() if path.exists() else "" for name, path in files.items()}
        outputs = dict(re.findall(r"^([a-z-]+)<<(?:.+)\n((?:.*\n)*?)end-", kept["GITHUB_OUTPUT"], re.MULTILINE))
        return StepRun(
            done.returncode,
            done.stdout + done.stderr,
            kept["GITHUB_STEP_SUMMARY"],
            {name: value.removesuffix("\n") for name, value in outputs.items()},
        )


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """A workspace with one package, and the step that signs or verifies it."""
    job = make_job(tmp_path, ROOT / "action")
    return Step(job.workspace, job.temp)
