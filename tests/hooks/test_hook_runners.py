"""The hooks as users have them: installed by pre-commit and by prek from a clone of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.action.conftest import index_settings
from tests.drawn import PROFILE
from tests.hooks.repository import Repository
from tests.hooks.test_check_and_fix import CONFIG

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SOURCES = (
    ".pre-commit-hooks.yaml", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "requirements", "scripts",
    "wcp_attest", "wcp_route",
)  # fmt: skip
RUNNERS = ("pre-commit", "prek")
UNREACHABLE = (
    "Could not find a version",
    "No matching distribution",
    "Connection",
    "Max retries",
    "error sending request",
)
DEADLINE = 600


class Runner:
    """One of the two programs, with a cache of its own for the whole session."""

    def __init__(self, name: str, cache: Path, hooks: Repository) -> None:
        self.program = str(BIN / name)
        self.hooks = hooks
        self.revision = hooks.git("rev-parse", "HEAD").strip()
        self.environment = {
            **index_settings(),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PRE_COMMIT_HOME": str(cache),
            "PREK_HOME": str(cache),
            "PRE_COMMIT_COLOR": "never",
            "PIP_COMPILE": "0",  # what runs is compiled when it runs first
        }

    def configure(self, project: Repository, hook: str) -> None:
        config = f"repos:\n- repo: {self.hooks.path}\n  rev: {self.revision}\n  hooks:\n  - id: {hook}\n"
        project.write(".pre-commit-config.yaml", config)
        project.add(".pre-commit-config.yaml")
        project.environment |= self.environment
        self.run(project, "install", "--install-hooks")

    def run(self, project: Repository, *arguments: str) -> str:
        done = subprocess.run(
            [self.program, *arguments], cwd=project.path, env=project.environment,
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode and any(word in said for word in UNREACHABLE):
            pytest.skip("LOUD SKIP: no package index answers, the hooks are not tested with their runners")
        assert done.returncode == 0, said
        return said


@pytest.fixture(scope="session")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone of this repository as it stands, without tags, as hook runners make it."""
    repository = Repository(tmp_path_factory.mktemp("hooks") / "wcp-attest")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, repository.path / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, repository.path / name)
    repository.add()
    repository.commit()
    return repository


@pytest.fixture(scope="session", params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, hooks: Repository) -> Runner:
    return Runner(request.param, tmp_path_factory.mktemp(request.param), hooks)


@pytest.fixture
def project(tmp_path: Path, runner: Runner) -> Repository:
    """A repository with one package, its manifest committed, and the check installed."""
    project = Repository(tmp_path / "project")
    project.write("wcp-attest.toml", CONFIG)
    project.write("pkg/data", "1\n")
    project.write("pkg/other", "2\n")
    project.add()
    project.environment |= {"PYTHONPATH": str(ROOT)}
    fix(project)
    del project.environment["PYTHONPATH"]
    project.commit()
    runner.configure(project, "wcp-attest-check")
    project.commit()
    return project


def fix(project: Repository) -> None:
    command = [sys.executable, "-m", "wcp_attest", "fix"]
    subprocess.run(command, cwd=project.path, env=project.environment, capture_output=True, check=False)
    project.add("pkg/manifest.json")


def commit(project: Repository, *arguments: str) -> tuple[bool, str]:
    """Commit with hooks; return whether it went through, and what was said."""
    done = subprocess.run(
        ["git", "commit", "-m", "m", *arguments], cwd=project.path, env=project.environment,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    return done.returncode == 0, done.stdout + done.stderr


def test_all_files_pass_when_the_manifest_is_up_to_date(project: Repository, runner: Runner) -> None:
    said = runner.run(project, "run", "--all-files", "--verbose")
    assert "UP TO DATE  pkg" in said
    assert "Passed" in said


@pytest.mark.skipif(PROFILE != "nightly", reason="installs everything a second time; `make nightly` does")
def test_try_repo_passes(project: Repository, hooks: Repository, tmp_path: Path) -> None:
    said = Runner("pre-commit", tmp_path, hooks).run(project, "try-repo", str(hooks.path), "wcp-attest-check", "-v")
    assert "UP TO DATE  pkg" in said
    assert "Passed" in said


def test_a_stale_manifest_stops_the_commit_and_the_message_repairs_it(project: Repository) -> None:
    project.write("pkg/data", "changed\n")
    project.add()
    ok, said = commit(project)
    assert not ok
    assert "! modified  data" in said
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    assert lines[-1] == "wcp-attest fix pkg; git add pkg/manifest.json"
    subprocess.run(["sh", "-c", lines[-1]], cwd=project.path, env=project.environment, check=True, capture_output=True)
    assert commit(project)[0]


def test_a_commit_that_only_deletes_is_checked(project: Repository) -> None:
    project.git("rm", "-q", "pkg/other")
    ok, said = commit(project)
    assert not ok
    assert "missing  other" in said


def test_a_rename_and_a_mode_are_checked(project: Repository) -> None:
    project.git("mv", "pkg/other", "pkg/renamed")
    assert not commit(project)[0]
    project.git("mv", "pkg/renamed", "pkg/other")
    project.git("update-index", "--chmod=+x", "pkg/other")
    ok, said = commit(project)
    assert not ok
    assert "mode  other" in said


def test_unstaged_edits_and_untracked_files_do_not_count(project: Repository) -> None:
    project.write("unrelated", "x")
    project.add("unrelated")
    project.write("pkg/data", "edited, not staged\n")
    project.write("pkg/untracked", "x")
    ok, said = commit(project)
    assert ok, said
    assert (project.path / "pkg/data").read_text() == "edited, not staged\n"


def test_a_staged_change_under_an_unstaged_one_counts(project: Repository) -> None:
    project.write("pkg/data", "staged\n")
    project.add()
    project.write("pkg/data", "1\n")
    assert not commit(project)[0]


def test_commit_all_and_partial_commits_use_an_index_of_their_own(project: Repository) -> None:
    project.write("pkg/data", "changed\n")
    assert not commit(project, "--all")[0]
    project.write("free", "x")
    project.add("free")
    assert not commit(project, "pkg/data")[0]
    ok, said = commit(project, "free")
    assert ok, said


def test_a_linked_work_tree(project: Repository, tmp_path: Path) -> None:
    project.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = Repository.__new__(Repository)
    side.path, side.environment = tmp_path / "side", project.environment
    side.write("unrelated", "x")
    side.add()
    ok, said = commit(side)
    assert ok, said
    side.write("pkg/data", "changed\n")
    side.add()
    assert not commit(side)[0]


def test_windows_line_endings_in_the_work_tree_do_not_count(project: Repository) -> None:
    project.git("config", "core.autocrlf", "true")
    for name in ("data", "other"):
        (project.path / "pkg" / name).unlink()
    project.git("checkout", "-q", "--", "pkg")
    assert (project.path / "pkg/data").read_bytes() == b"1\r\n"
    project.write("unrelated", "x\n")
    project.add()
    ok, said = commit(project)
    assert ok, said


def test_the_fixing_hook_rewrites_and_wants_the_file_added(project: Repository, runner: Runner) -> None:
    runner.configure(project, "wcp-attest-fix")
    project.write("pkg/data", "changed\n")
    project.add()
    ok, said = commit(project)
    assert not ok
    assert "REWROTE  pkg/manifest.json" in said
    assert "git add pkg/manifest.json" in said
    project.add("pkg/manifest.json")
    ok, said = commit(project)
    assert ok, said
    assert commit(project, "--allow-empty")[0]


def test_a_clean_merge_that_makes_the_manifest_stale_is_stopped(project: Repository, runner: Runner) -> None:
    config = project.path / ".pre-commit-config.yaml"
    config.write_text("default_install_hook_types: [pre-commit, pre-merge-commit]\n" + config.read_text())
    project.add()
    project.commit()
    runner.run(project, "install", "--install-hooks")
    project.git("checkout", "-q", "-b", "theirs")
    project.write("pkg/new", "1\n")
    project.add()
    project.commit()  # without hooks, and without its manifest
    project.git("checkout", "-q", "main")
    project.write("unrelated", "1\n")
    project.add()
    project.commit()
    with pytest.raises(AssertionError):
        project.git("merge", "-q", "--no-edit", "theirs")
    assert project.git("rev-parse", "-q", "--verify", "MERGE_HEAD")
    ok, said = commit(project)
    assert (ok, "+ added  new" in said) == (False, True)
    fix(project)
    assert commit(project)[0]
    assert project.git("rev-list", "--count", "--merges", "HEAD").strip() == "1"
    assert "Passed" in runner.run(project, "run", "--all-files")
