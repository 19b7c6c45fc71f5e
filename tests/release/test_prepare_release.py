"""The script that makes a tree ready for a release, on a copy of this one; and what else a release has beside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks; of an unpacked sdist there is none."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    place = tmp_path_factory.mktemp("tree") / "tree"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/vectors/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name, follow_symlinks=False)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=place, check=True)
    return place


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "tree", symlinks=True)
    return tmp_path / "tree"


def prepare(tree: Path, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, tree / "scripts" / "prepare_release.py", *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def ready(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that can be released, for tests that put back what they change."""
    tree = tmp_path_factory.mktemp("ready") / "tree"
    shutil.copytree(original, tree, symlinks=True)
    assert prepare(tree, "owner", "acme")[0] == 0
    assert prepare(tree, "index")[0] == 0
    dated(tree)
    return tree


def dated(tree: Path) -> None:
    changes = tree / "CHANGELOG.md"
    changes.write_text(re.sub(r"^## 0\.1\.0\b.*$", "## 0.1.0, 2026-12-01", changes.read_text(), flags=re.MULTILINE))


def test_with_an_owner_and_a_date_the_tree_can_be_released(tree: Path) -> None:
    assert prepare(tree, "check", "v0.1.0")[0] == 1
    assert prepare(tree, "owner", "acme-labs")[0] == 0
    assert prepare(tree, "index") == (0, ["changed 3 pages"])
    dated(tree)
    assert prepare(tree, "check", "v0.1.0") == (0, ["v0.1.0 can be released"])
    assert "github.com/acme-labs/wcp-attest" in (tree / "pyproject.toml").read_text()
    assert "https://acme-labs.github.io/wcp-attest/" in (tree / "wcp_attest" / "base" / "site.py").read_text()
    assert '"acme-labs/wcp-attest"' in (tree / ".github" / "release-policy.toml").read_text()
    assert "\npip install wcp-attest\n" in (tree / "docs" / "quickstart.md").read_text()
    assert "**Status:** 0.1.0. Python 3.11" in (tree / "README.md").read_text()
    assert "OWNER/NAME" in (tree / "docs" / "cli.md").read_text()  # a metavar is no placeholder


def test_the_commit_of_the_release_takes_its_place_on_the_pages(tree: Path) -> None:
    assert prepare(tree, "owner", "acme")[0] == prepare(tree, "commit", COMMIT)[0] == 0
    page = (tree / "docs" / "howto" / "github.md").read_text()
    assert f"uses: acme/wcp-attest@{COMMIT} # v0.1.0" in page
    assert f"rev: {COMMIT} # v0.1.0" in (tree / "docs" / "howto" / "pre-commit.md").read_text()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.1.1"', "the tag is v0.1.0"),
        ("wcp_attest/__init__.py", '"0.1.0"', '"0.2.0"', "wcp_attest/__init__.py"),
        ("CHANGELOG.md", "## 0.1.0, 2026-12-01", "## 0.1.0, soon", "CHANGELOG.md"),
        ("vex.json", "wcp-attest@0.1.0", "wcp-attest@0.0.9", "vex.json"),
        ("README.md", "https://github.com/acme/", "https://github.com/OWNER/", "README.md:"),
        ("docs/quickstart.md", "pip install wcp-attest", "pip install . # not on the package index yet", "quickstart"),
    ],
)
def test_whatever_is_not_ready_is_named(file: str, old: str, new: str, said: str, ready: Path) -> None:
    path = ready / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    status, lines = prepare(ready, "check", "v0.1.0")
    path.write_text(before)
    assert status == 1
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    "arguments",
    [[], ["owner"], ["owner", "a/b"], ["owner", "-x"], ["commit", "main"], ["commit", COMMIT[:12]], ["x", "y"]],
)
def test_a_mistake_changes_nothing(arguments: list[str], original: Path) -> None:
    assert prepare(original, *arguments)[0] == 2
    changed = subprocess.run(["git", "diff", "--stat"], cwd=original, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


def test_the_vex_document_speaks_of_packages_that_the_lock_names() -> None:
    vex = json.loads((ROOT / "vex.json").read_text())
    assert vex["@context"] == "https://openvex.dev/ns/v0.2.0"
    lock = (ROOT / "requirements" / "run.txt").read_text()
    for statement in vex["statements"]:
        assert statement["status"] in {"not_affected", "affected", "fixed", "under_investigation"}
        assert (statement["status"] == "not_affected") is ("justification" in statement)
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}", statement["vulnerability"]["name"])
        for product in statement["products"]:
            for part in product["subcomponents"]:
                assert re.search(rf"^{part['@id'].removeprefix('pkg:pypi/')}==", lock, re.MULTILINE)


VARIABLES = {
    "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/wcp-attest", "GITHUB_REF": "refs/tags/v1",
    "GITHUB_WORKFLOW_REF": "acme/wcp-attest/.github/workflows/release.yml@refs/tags/v1", "GITHUB_SHA": COMMIT,
    "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_EVENT_NAME": "release",
}  # fmt: skip


def test_the_provenance_is_that_of_the_job_and_of_a_job_only() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "provenance.py")]
    done = subprocess.run(command, env=VARIABLES, capture_output=True, text=True, check=True)
    value: Any = json.loads(done.stdout)
    assert value["buildDefinition"]["externalParameters"]["workflow"] == {
        "ref": "refs/tags/v1",
        "repository": "https://github.com/acme/wcp-attest",
        "path": ".github/workflows/release.yml",
    }
    assert value["buildDefinition"]["resolvedDependencies"][0]["digest"] == {"gitCommit": COMMIT}
    assert value["runDetails"]["builder"]["id"].startswith("https://github.com/acme/wcp-attest/.github/workflows/")
    for name in VARIABLES:
        less = {key: text for key, text in VARIABLES.items() if key != name}
        assert subprocess.run(command, env=less, capture_output=True, check=False).returncode == 1


def test_by_hand_the_release_workflow_signs_and_publishes_nothing() -> None:
    jobs: Any = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    may_write = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert may_write == {"provenance", "assets", "sign", "publish"}
    released = {name for name in may_write if jobs[name].get("if") == "github.event_name == 'release'"}
    for name in may_write - released:
        assert set(jobs[name]["needs"]) & released, f"{name} would run by hand"
