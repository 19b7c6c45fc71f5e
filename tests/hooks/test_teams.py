"""Branches that touch one package: the merge driver, and `fix` where a merge was left in conflict."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.inprocess import wcp
from tests.drawn import examples
from tests.hooks.repository import ONE_PACKAGE, Repository, repository_of_one_package
from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.package.entries import SEPARATOR, File, render_line
from wcp_attest.package.manifest import Manifest, hash_of
from wcp_attest.package.manifest_merge import MergeConflict, Sides, merge_manifests

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = ["ab" * 32, "cd" * 32, "ef" * 32]
Files = dict[str, int]


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with a committed manifest of `w`; commands run in it, in this process."""
    repository = repository_of_one_package(tmp_path / "r", monkeypatch, {"w/f": "1\n"})
    assert wcp("fix", "--add").status == 0
    repository.add()
    repository.commit()
    return repository


def use_driver(repository: Repository) -> None:
    command = shlex.join([sys.executable, "-m", "wcp_attest", "merge-driver"])
    repository.git("config", "merge.wcp-attest.driver", f"{command} %O %A %B %P")
    repository.write(".gitattributes", "manifest.json merge=wcp-attest\n")
    repository.add()
    repository.commit()


def on_branch(repository: Repository, name: str, path: str, content: str) -> None:
    repository.git("checkout", "-q", "-b", name, "main")
    repository.write(path, content)
    repository.add()
    assert wcp("fix", "--add").status == 0
    repository.commit(name)


def test_five_branches_that_touch_one_package_merge_without_a_stop(team: Repository) -> None:
    use_driver(team)
    team.git("tag", "start")
    for number in range(5):
        on_branch(team, f"b{number}", f"w/new{number}", f"{number}\n")
        team.git("checkout", "-q", "main")
    for number in range(5):
        team.git("merge", "-q", "--no-edit", f"b{number}")
        assert wcp("check").status == 0
    manifest = Manifest.from_bytes((team.path / "w/manifest.json").read_bytes())
    assert list(manifest.entries()) == ["f", "new0", "new1", "new2", "new3", "new4"]


def conflict(team: Repository, *, same_file: bool = False) -> None:
    """Leave a merge of two branches in conflict, without the driver."""
    on_branch(team, "theirs", "w/f" if same_file else "w/g", "theirs\n")
    team.git("checkout", "-q", "main")
    team.write("w/f" if same_file else "w/h", "ours\n")
    team.add()
    assert wcp("fix", "--add").status == 0
    team.commit()
    with pytest.raises(AssertionError):
        team.git("merge", "-q", "theirs")


def test_fix_resolves_a_manifest_in_conflict_from_the_index(team: Repository) -> None:
    conflict(team)
    checked = wcp("check")
    assert checked.status == 2
    assert "'w/manifest.json' is not merged yet" in checked.err
    assert "wcp-attest fix" in checked.err
    fixed = wcp("fix")
    assert (fixed.status, fixed.out.splitlines()[-1]) == (1, "  git add w/manifest.json")
    team.add("w/manifest.json")
    assert wcp("check").status == 0
    team.commit()


def test_fix_add_resolves_and_stages_in_one_step(team: Repository) -> None:
    conflict(team)
    assert wcp("fix", "--add").status == 0
    assert team.git("ls-files", "--unmerged") == ""
    assert wcp("check").status == 0
    assert wcp("fix").err == "every manifest is up to date\n"


def test_fix_leaves_other_conflicts_to_people(team: Repository) -> None:
    conflict(team, same_file=True)
    before = (team.path / "w/manifest.json").read_bytes()
    fixed = wcp("fix", "--add")
    assert fixed.status == 2
    assert "'w/f' is not merged yet; resolve it and `git add` it" in fixed.err
    assert (team.path / "w/manifest.json").read_bytes() == before


def test_one_fix_is_enough_for_packages_inside_packages(team: Repository) -> None:
    team.write(
        "wcp-attest.toml", ONE_PACKAGE + ONE_PACKAGE.replace('"w"', '"w/in"') + ONE_PACKAGE.replace('"w"', '"."')
    )
    team.write("w/in/x", "1\n")
    team.add()
    fixed = wcp("fix", "--add")
    assert (fixed.status, fixed.out.count("REWROTE")) == (0, 3)
    assert wcp("check").status == 0


def test_the_repair_line_fits_the_index_of_commit_a(team: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    team.write("w/f", "2\n")
    monkeypatch.setenv("GIT_INDEX_FILE", str(team.path / ".git/index.lock"))
    team.git("read-tree", "HEAD", GIT_INDEX_FILE=str(team.path / ".git/index.lock"))
    team.git("add", "-u", GIT_INDEX_FILE=str(team.path / ".git/index.lock"))
    checked = wcp("check")
    assert (checked.status, checked.out.splitlines()[-1]) == (
        1, "  git add -u w; wcp-attest fix w; git add w/manifest.json",
    )  # fmt: skip


def test_fix_names_edits_that_are_not_staged(team: Repository) -> None:
    team.write("w/f", "2\n")
    fixed = wcp("fix")
    assert fixed.status == 0
    assert "1 file with edits that are not staged (f); to include them, `git add -u w` first" in fixed.err


def test_an_ignored_manifest_is_added_by_force(team: Repository) -> None:
    team.git("rm", "-q", "--cached", "w/manifest.json")
    team.write(".gitignore", "manifest.json\n")
    assert wcp("check").out.splitlines()[-1] == "  wcp-attest fix w; git add -f w/manifest.json"
    fixed = wcp("fix")
    assert fixed.out.splitlines()[-1] == "  git add -f w/manifest.json"
    team.git("add", "-f", "w/manifest.json")
    assert wcp("check").status == 0


def test_fix_never_replaces_another_programs_manifest(team: Repository) -> None:
    mine = '{"manifest_version": 3, "name": "never committed"}'
    team.git("rm", "-q", "--cached", "w/manifest.json")
    team.write("w/manifest.json", mine)
    assert wcp("fix").status == 2
    team.git("add", "w/manifest.json")
    checked = wcp("check")
    assert (checked.status, "wcp-attest fix" in checked.out) == (1, False)
    assert "another program's file" in checked.out
    assert wcp("fix", "--add").status == 0
    assert (team.path / "w/manifest.json").read_text() == mine
    assert (team.path / "w/.wcp/manifest.json").exists()
    assert wcp("check").status == 0


# the merge itself


def manifest_of(files: Files, **fields: object) -> Manifest:
    entries = {path: File(DIGESTS[content], content) for path, content in sorted(files.items())}
    values = {
        "worker_id": "org.acme.w",
        "worker_species_id": "wrk.doc.w",
        "worker_version": "1.0.0",
        "built_at_utc": "2026-11-28T00:00:00Z",
        "build_source": "local",
        **fields,
    }
    body = SEPARATOR.join(render_line(path, entry, "sha256") for path, entry in entries.items())
    return Manifest(package_hash=hash_of(entries, "sha256"), body=body, **values)  # type: ignore[arg-type]


trees = st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e", "f"]), st.integers(0, 2), min_size=1)


@settings(max_examples=examples(150))
@given(trees, trees, trees)
def test_merges_each_path_from_the_side_that_changed_it(base: Files, ours: Files, theirs: Files) -> None:
    expected: Files = {}
    clash = False
    for path in base.keys() | ours.keys() | theirs.keys():
        before, mine, other = base.get(path), ours.get(path), theirs.get(path)
        result = other if mine == before else mine
        clash |= mine != before and other not in (before, mine)
        if result is not None:
            expected[path] = result
    sides = Sides(manifest_of(base), manifest_of(ours, built_at_utc="2026-11-28T00:00:02Z"), manifest_of(theirs))
    if clash or not expected:
        with pytest.raises((ConfigError, VerificationError)):
            merge_manifests(sides)
        return
    merged = merge_manifests(sides)
    assert merged.entries() == manifest_of(expected).entries()
    assert merged.package_hash == manifest_of(expected).package_hash
    assert merged.built_at_utc in ("2026-11-28T00:00:02Z", "2026-11-28T00:00:00Z")


def test_merges_fields_from_the_side_that_changed_them() -> None:
    base = manifest_of({"a": 0})
    ours = manifest_of({"a": 0, "b": 1}, worker_version="2.0.0")
    theirs = manifest_of({"a": 0, "c": 1}, excludes=("*.log",))
    merged = merge_manifests(Sides(base, ours, theirs))
    assert (merged.worker_version, merged.excludes, list(merged.entries())) == ("2.0.0", ("*.log",), ["a", "b", "c"])
    with pytest.raises(MergeConflict, match=r"`worker_version` is 2\.0\.0 on our side and 3\.0\.0 on the other"):
        merge_manifests(Sides(base, ours, manifest_of({"a": 0, "c": 1}, worker_version="3.0.0")))
    with pytest.raises(MergeConflict, match="both sides changed 'a'"):
        merge_manifests(Sides(base, manifest_of({"a": 1}), manifest_of({"a": 2})))


def test_a_file_inside_a_file_is_a_conflict() -> None:
    with pytest.raises((ConfigError, VerificationError)):
        merge_manifests(Sides(manifest_of({"a": 0}), manifest_of({"a": 0, "f": 1}), manifest_of({"a": 0, "f/g": 1})))


def test_the_driver_leaves_a_binary_file_of_another_program_and_does_not_call_it_merged(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("base", "ours", "theirs")]
    for number, file in enumerate(files):
        file.write_bytes(b"\0%d\n" % number)
    ran = wcp("merge-driver", *files, "w/manifest.json")
    assert (ran.status, files[1].read_bytes()) == (1, b"\x001\n")
    assert "another program's file; git cannot merge it line by line; it is left as it is" in ran.err


@pytest.mark.parametrize("which", ["base", "ours", "theirs"])
@pytest.mark.parametrize(
    "hostile", [b"", b"{}", b"<<<<<<< ours\n", b"\xff" * 100, b'{"schema_version": "awp.v1"}', None]
)
def test_the_driver_leaves_hostile_input_in_conflict(tmp_path: Path, which: str, hostile: bytes | None) -> None:
    for number, name in enumerate(("base", "ours", "theirs")):
        (tmp_path / name).write_bytes(manifest_of({"a": 0, f"n{number}": 1}).to_bytes())
    if hostile is None:
        data = (tmp_path / which).read_bytes()
        hostile = data.replace(b'"size":1', b'"size":2')  # does not fit its package hash
    (tmp_path / which).write_bytes(hostile)
    before = (tmp_path / "ours").read_bytes()
    ran = wcp("merge-driver", *(tmp_path / name for name in ("base", "ours", "theirs")), "w/manifest.json")
    if which == "base" and not hostile:  # both sides added the package
        assert ran.status == 0
        return
    assert ran.status == 1
    assert "w/manifest.json is left in conflict" in ran.err
    assert (tmp_path / "ours").read_bytes() == before
