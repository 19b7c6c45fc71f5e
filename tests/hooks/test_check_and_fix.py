"""`wcp-attest check` and `fix` as programs, in real repositories."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests import forked
from tests.hooks.repository import Repository
from wcp_attest.package.entries import File, Symlink
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = """
[[package]]
path = "pkg"
worker_id = "org.acme.worker"
species_id = "wrk.doc.worker"
worker_version = "1.0.0"
exclude = ["*.log"]
"""
ROOT = Path(__file__).parents[2]


class Project(Repository):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.write("wcp-attest.toml", CONFIG)
        self.write("pkg/code/run.py", "print()\n", executable=True)
        self.write("pkg/data", "1\n")
        self.add()

    def wcp(self, *arguments: str, cwd: str = ".") -> subprocess.CompletedProcess[str]:
        return forked.run(arguments, cwd=self.path / cwd, env=self.environment)

    def fix(self) -> None:
        done = self.wcp("fix")
        assert done.returncode in (0, 1), done.stderr
        self.add("pkg/manifest.json")

    def manifest(self, name: str = "pkg/manifest.json") -> Manifest:
        return Manifest.from_bytes((self.path / name).read_bytes())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "repo")


@pytest.fixture
def fixed(project: Project) -> Project:
    project.fix()
    project.commit()
    return project


def test_the_message_ends_with_the_command_that_repairs(project: Project) -> None:
    done = project.wcp("check")
    assert done.returncode == 1
    command = done.stdout.splitlines()[-1].strip()
    assert command == "wcp-attest fix pkg; git add pkg/manifest.json"
    wrapper = project.write("../bin/wcp-attest", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m wcp_attest "$@"\n')
    wrapper.chmod(0o755)
    environment = {**project.environment, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{wrapper.parent}:{environment['PATH']}"
    subprocess.run(["sh", "-c", command], cwd=project.path, env=environment, check=True, capture_output=True)
    assert project.wcp("check").returncode == 0


def test_fix_writes_what_is_staged_and_says_what_to_add(project: Project) -> None:
    project.write("pkg/unstaged", "not added")
    project.write("pkg/data", "edited, not staged\n")
    done = project.wcp("fix")
    assert (done.returncode, done.stdout) == (
        1,
        "REWROTE  pkg/manifest.json\nto commit them:\n  git add pkg/manifest.json\n",
    )
    manifest = project.manifest()
    assert manifest.worker_id == "org.acme.worker"
    assert list(manifest.entries()) == ["code/run.py", "data"]
    digest = sha256(b"print()\n").hexdigest()
    assert manifest.entries()["code/run.py"] == File(digest, 8, executable=True)
    assert project.wcp("check").returncode == 1, "it is written but not staged yet"
    project.add("pkg/manifest.json")
    assert project.wcp("check").returncode == 0
    assert project.wcp("fix").returncode == 0


def test_the_manifest_is_that_of_a_clone(fixed: Project, tmp_path: Path) -> None:
    """What `fix` writes from the index is what `build` writes from a checkout, time aside."""
    (fixed.path / "pkg/link").symlink_to("data")
    fixed.write("pkg/x.log", "excluded, tracked")
    fixed.add()
    fixed.fix()
    fixed.commit()
    fixed.git("clone", "-q", str(fixed.path), str(tmp_path / "clone"))
    clone = str(tmp_path / "clone/pkg")
    done = fixed.wcp("build", clone, "--exclude", "*.log", "--fresh", "--worker-id=org.acme.worker",
                     "--species-id=wrk.doc.worker", "--worker-version=1.0.0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    built = Manifest.from_bytes((tmp_path / "clone/pkg/manifest.json").read_bytes())
    committed = fixed.manifest()
    assert (built.lines, built.package_hash, built.excludes) == (
        committed.lines,
        committed.package_hash,
        committed.excludes,
    )
    assert committed.entries()["link"] == Symlink("data")
    assert committed.excludes == ("*.log",)


def link(project: Project) -> None:
    (project.path / "pkg/data").unlink()
    (project.path / "pkg/data").symlink_to("code/run.py")


CHANGES: dict[str, Callable[[Project], object]] = {
    "edited": lambda p: p.write("pkg/data", "2\n"),
    "added": lambda p: p.write("pkg/new"),
    "made executable": lambda p: (p.path / "pkg/data").chmod(0o755),
    "linked": link,
    "renamed": lambda p: (p.path / "pkg/data").rename(p.path / "pkg/other"),
    "deleted": lambda p: (p.path / "pkg/data").unlink(),
    "manifest deleted": lambda p: (p.path / "pkg/manifest.json").unlink(),
    "manifest edited": lambda p: p.write("pkg/manifest.json", "{}"),
    "version raised": lambda p: p.write("wcp-attest.toml", CONFIG.replace("1.0.0", "1.0.1")),
    "excludes changed": lambda p: p.write("wcp-attest.toml", CONFIG.replace("*.log", "data")),
    "ignore file added": lambda p: p.write("pkg/.wcpignore", "data\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_staged_change_is_noticed_and_repaired(fixed: Project, change: str) -> None:
    assert fixed.wcp("check").returncode == 0
    CHANGES[change](fixed)
    fixed.add()
    assert fixed.wcp("check").returncode == 1
    fixed.fix()
    done = fixed.wcp("check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("change", ["edited", "added", "made executable", "deleted", "renamed"])
def test_no_unstaged_change_is_noticed(fixed: Project, change: str) -> None:
    CHANGES[change](fixed)
    assert fixed.wcp("check").returncode == 0
    assert fixed.wcp("fix").returncode == 0


def test_every_difference_is_named(fixed: Project) -> None:
    CHANGES["edited"](fixed)
    CHANGES["added"](fixed)
    (fixed.path / "pkg/code/run.py").unlink()
    fixed.add()
    found = json.loads(fixed.wcp("check", "--format", "json").stdout)
    jsonschema.validate(found, json.loads((ROOT / "wcp_attest/schemas/check-result.json").read_text()))
    assert found["ok"] is False
    assert found["repair"].startswith("wcp-attest fix pkg")
    assert [(item["path"], item["change"]) for item in found["packages"][0]["differences"]] == [
        ("code/run.py", "missing"),
        ("data", "modified"),
        ("new", "added"),
    ]
    sarif = json.loads(fixed.wcp("check", "--format", "sarif").stdout)
    jsonschema.validate(sarif, json.loads((ROOT / "tests/formats/sarif-subset.schema.json").read_text()))
    assert len(sarif["runs"][0]["results"]) == 3
    assert fixed.wcp("check", "--format", "github").stdout.count("::error file=pkg/") == 3


def test_only_the_time_and_the_commit_are_renewed(fixed: Project) -> None:
    done = fixed.wcp("build", "pkg", "--ai-generated", "--ai-model", "m", "--source-repository", "https://x/y",
                     "--source-commit", "a" * 40, "--build-source", "ci", "--exclude", "*.log")  # fmt: skip
    assert done.returncode == 0, done.stderr
    fixed.add()
    assert fixed.wcp("check").returncode == 0, "who built it, from where and with what is not the hook's business"
    CHANGES["edited"](fixed)
    fixed.add()
    fixed.fix()
    manifest = fixed.manifest()
    assert manifest.ai is not None
    assert manifest.ai.model == "m"
    assert manifest.source is not None
    assert (manifest.source.repository, manifest.source.commit) == ("https://x/y", None)
    assert manifest.build_source == "local"


REFUSED = {
    "bytecode": (b"pkg/__pycache__/run.cpython-311.pyc", "100644", "git rm --cached"),
    "control character": (b"pkg/a\nb", "100644", "rename it"),
    "not UTF-8": (b"pkg/\xff", "100644", "rename it"),
    "link that leaves": (b"pkg/away", "120000", "outside"),
    "twin": (b"pkg/DATA", "100644", "differ only by case"),
    "converted": (b"pkg/run.bat", "100644", "set `-text`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_manifest_can_describe_is_named(fixed: Project, case: str) -> None:
    name, mode, words = REFUSED[case]
    fixed.write("pkg/.gitattributes", "*.bat eol=crlf\n")
    fixed.add()
    fixed.stage_blob(name, b"../../x", mode)
    done = fixed.wcp("check")
    assert done.returncode == 1
    assert words in done.stdout
    assert "to repair" not in done.stdout
    fix = fixed.wcp("fix")
    assert fix.returncode == 2
    assert words in fix.stderr


def test_submodules_are_refused_unless_excluded(fixed: Project) -> None:
    head = fixed.git("rev-parse", "HEAD").strip()
    fixed.git("update-index", "--add", "--cacheinfo", f"160000,{head},pkg/module")
    done = fixed.wcp("check")
    assert done.returncode == 1
    assert "submodule" in done.stdout
    fixed.write("wcp-attest.toml", CONFIG.replace('["*.log"]', '["*.log", "module/"]'))
    fixed.add("wcp-attest.toml")
    fixed.fix()
    assert fixed.wcp("check").returncode == 0
    assert fixed.manifest().excludes == ("module/",)


def test_line_endings_that_this_machine_converts_are_noted(fixed: Project) -> None:
    fixed.git("config", "core.autocrlf", "true")
    done = fixed.wcp("check")
    assert done.returncode == 0
    assert "CRLF" in done.stderr
    fixed.git("config", "core.autocrlf", "false")
    assert fixed.wcp("check").stderr == ""
    fixed.write(".gitattributes", "* text=auto\n")
    fixed.add()
    assert "on some machines" in fixed.wcp("check").stderr


def test_a_signature_over_an_earlier_manifest_is_noted(fixed: Project) -> None:
    assert fixed.wcp("keygen", "key", "--no-passphrase").returncode == 0
    done = fixed.wcp("sign", "pkg", "--key", "key")
    assert done.returncode == 0, done.stderr
    fixed.add("pkg/manifest.sig", "pkg/manifest.json")
    assert fixed.wcp("check").stderr == ""
    CHANGES["edited"](fixed)
    fixed.add("pkg/data")
    fixed.fix()
    done = fixed.wcp("check")
    assert done.returncode == 0
    assert "sign again" in done.stderr


def test_a_package_that_is_the_repository_leaves_git_out(tmp_path: Path) -> None:
    project = Project(tmp_path / "whole")
    project.write("wcp-attest.toml", CONFIG.replace('"pkg"', '"."'))
    project.add()
    assert project.wcp("fix").returncode == 1
    project.add("manifest.json")
    assert project.wcp("check").returncode == 0
    assert project.manifest("manifest.json").excludes == ("/.git",)
    diff = project.wcp("diff", ".")
    assert diff.returncode == 0, diff.stdout + diff.stderr


def test_several_packages_by_configuration_or_by_name(fixed: Project) -> None:
    second = CONFIG.replace('"pkg"', '"deep/second one"').replace("acme.worker", "acme.second")
    fixed.write("wcp-attest.toml", CONFIG + second)
    fixed.write("deep/second one/f", "x")
    fixed.add()
    done = fixed.wcp("check")
    assert done.returncode == 1
    assert "UP TO DATE  pkg\n" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == (
        "wcp-attest fix 'deep/second one'; git add 'deep/second one/manifest.json'"
    )
    assert fixed.wcp("check", "pkg").returncode == 0
    assert fixed.wcp("check", "../pkg", cwd="deep").returncode == 0
    assert fixed.wcp("fix", cwd="deep").returncode == 1
    assert fixed.manifest("deep/second one/manifest.json").worker_id == "org.acme.second"


def test_configuration_in_pyproject(fixed: Project) -> None:
    table = CONFIG.replace("[[package]]", "[[tool.wcp-attest.package]]")
    fixed.write("pyproject.toml", f'[project]\nname = "x"\n{table.replace("1.0.0", "2.0.0")}')
    fixed.add()
    assert fixed.wcp("check").returncode == 0, "wcp-attest.toml comes first"
    fixed.git("rm", "-q", "-f", "wcp-attest.toml")
    done = fixed.wcp("check")
    assert done.returncode == 1
    assert "says worker_version 1.0.0; it is 2.0.0" in done.stdout


def test_what_is_configured_is_left_out_and_nothing_else(fixed: Project) -> None:
    fixed.write("pkg/x.log", "log")
    fixed.add()
    fixed.fix()
    assert fixed.manifest().excludes == ("*.log",)
    fixed.write("wcp-attest.toml", CONFIG.replace('exclude = ["*.log"]', ""))
    fixed.add()
    fixed.fix()
    assert "x.log" in fixed.manifest().entries()
    built = fixed.wcp("build", "pkg")
    assert "UP TO DATE" in built.stdout, "build reads the same configuration the same way"


def test_many_differences_are_counted_and_not_all_named(fixed: Project) -> None:
    for number in range(1100):
        fixed.write(f"pkg/many/{number}", str(number))
    fixed.add()
    done = fixed.wcp("check", "--format", "json")
    package = json.loads(done.stdout)["packages"][0]
    assert (len(package["differences"]), package["differences_total"]) == (1000, 1100)
    text = fixed.wcp("check").stdout
    assert text.count("  + added  ") < 1100
    assert "more" in text


def test_without_configuration_the_manifest_says_who_it_is(fixed: Project) -> None:
    fixed.git("rm", "-q", "-f", "wcp-attest.toml")
    CHANGES["edited"](fixed)
    fixed.add()
    assert fixed.wcp("check", "pkg").returncode == 1
    assert fixed.wcp("fix", "pkg").returncode == 1
    assert fixed.manifest().worker_id == "org.acme.worker"


@pytest.mark.parametrize(
    ("arguments", "prepare", "words"),
    [
        ((), lambda p: p.git("rm", "-q", "-f", "wcp-attest.toml"), "nothing to check"),
        (("--config", "absent.toml"), None, "cannot read"),
        (("absent",), None, "tracks nothing"),
        ((), lambda p: p.write("wcp-attest.toml", "x = 1"), "[[package]]"),
        ((), lambda p: p.write("wcp-attest.toml", CONFIG + 'key = "k"'), "unknown key"),
        ((), lambda p: p.write("wcp-attest.toml", CONFIG.replace("org.acme.worker", "Acme")), "worker_id"),
        ((), lambda p: p.write("wcp-attest.toml", '[[package]]\npath = "../x"'), "`..`"),
        ((), lambda p: p.git("config", "core.repositoryformatversion", "99"), "failed"),
    ],
)
def test_what_cannot_be_decided_is_status_2_and_one_line(
    fixed: Project, arguments: tuple[str, ...], prepare: Callable[[Project], object] | None, words: str
) -> None:
    if prepare is not None:
        prepare(fixed)
    for command in ("check", "fix"):
        done = fixed.wcp(command, *arguments)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_check_writes_nothing_at_all(fixed: Project) -> None:
    def snapshot() -> dict[str, tuple[int, int]]:
        paths = sorted(fixed.path.rglob("*"))
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths}

    CHANGES["edited"](fixed)
    fixed.add()
    before = snapshot()
    assert fixed.wcp("check").returncode == 1
    assert snapshot() == before


def test_a_pair_in_the_folder_is_checked_and_fixed_there(project: Project) -> None:
    foreign = '{"manifest_version": 3, "name": "an extension"}\n'
    project.write("pkg/manifest.json", foreign)
    ids = ("--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1")
    assert project.wcp("build", "pkg", "--placement", "folder", *ids).returncode == 0
    project.git("add", "pkg")
    assert project.wcp("check", "pkg").returncode in {0, 1}
    project.write("pkg/manifest.json", foreign + " ")
    project.git("add", "pkg")
    stale = project.wcp("check", "pkg")
    assert stale.returncode == 1
    assert stale.stdout.splitlines()[-1].strip() == "wcp-attest fix pkg; git add pkg/.wcp/manifest.json"
    assert project.wcp("fix", "--add", "pkg").returncode == 0
    assert project.wcp("check", "pkg").returncode == 0
    assert (project.path / "pkg/manifest.json").read_text() == foreign + " "


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_the_printed_command_puts_the_pair_where_another_program_leaves_room(project: Project, name: str) -> None:
    foreign = '{"manifest_version": 3, "name": "an extension"}\n'
    project.write(f"pkg/{name}", foreign)
    project.git("add", "pkg")
    stale = project.wcp("check")
    assert stale.returncode == 1
    command = stale.stdout.splitlines()[-1].strip()
    assert "fix" not in command
    project.shell(command)
    assert project.wcp("check").returncode == 0
    assert (project.path / "pkg" / name).read_text() == foreign
    assert not (project.path / "pkg" / ({"manifest.json", "manifest.sig"} - {name}).pop()).exists()
