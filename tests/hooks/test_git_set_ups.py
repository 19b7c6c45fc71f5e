"""`check` and `fix` in repositories as people set them up: other work trees, sparse ones, attributes, filters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from tests.cli.inprocess import ID, ok, wcp
from tests.hooks.repository import Repository, repository_of_one_package
from wcp_attest.advice.git_index import GitIndex
from wcp_attest.base.digest import sha256_hex

if TYPE_CHECKING:
    from pathlib import Path

EDITS = "with edits that are not staged"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository whose package `w` has a committed manifest; commands run in it, in this process."""
    repository = repository_of_one_package(tmp_path / "r", monkeypatch, {"w/f.txt": "1\n", "w/sub/g.txt": "1\n"})
    ok("fix", "--add")
    repository.commit()
    return repository


def stale_and_repaired(where: Path) -> None:
    """Stage an edit of `w/f.txt` below a work tree, see it refused, repair it, and see it accepted."""
    assert wcp("check", cwd=where).status == 1
    ok("fix", "--add", cwd=where)
    ok("check", cwd=where)


def test_a_linked_work_tree_has_an_index_of_its_own_also_through_a_symbolic_link(project: Repository) -> None:
    tree, link = project.path.parent / "tree", project.path.parent / "link"
    project.git("worktree", "add", "-q", str(tree), "-b", "side")
    link.symlink_to(tree)
    (tree / "w/f.txt").write_text("2\n")
    project.git("-C", str(tree), "add", "-A")
    stale_and_repaired(link)
    ok("check", link / "w")
    ok("check")


def test_a_package_in_a_submodule_is_judged_there_and_refused_outside(project: Repository) -> None:
    outer = Repository(project.path.parent / "outer")
    outer.write("wcp-attest.toml", (project.path / "wcp-attest.toml").read_text())
    outer.write("w/own", "1\n")
    outer.add()
    module = outer.add_submodule(project.path, "w/mod")
    (module / "w/f.txt").write_text("2\n")
    outer.git("-C", str(module), "add", "-A")
    stale_and_repaired(module)
    ran = wcp("check", cwd=outer.path)
    assert (ran.status, "'mod' is a submodule, whose files are not in this index; exclude it" in ran.out) == (1, True)
    with (outer.path / "wcp-attest.toml").open("a") as file:
        file.write('exclude = ["mod/"]\n')
    ok("fix", "--add", cwd=outer.path)
    ok("check", cwd=outer.path)


@pytest.mark.parametrize("sparse_index", ["--sparse-index", "--no-sparse-index"])
def test_a_sparse_checkout_is_no_edit_and_says_how_to_get_the_rest(project: Repository, sparse_index: str) -> None:
    project.git("sparse-checkout", "set", "--cone", sparse_index, "other")
    assert not (project.path / "w").exists()
    ok("check")
    assert ok("fix").err == "every manifest is up to date\n"
    project.stage_blob(b"w/new", b"1")
    ran = wcp("fix", "--add")
    assert ran.status == 2
    assert "restore it first: `git restore w`, or `git sparse-checkout add` in a sparse checkout" in ran.err
    project.git("sparse-checkout", "set", "w/sub")
    ok("fix", "--add")
    ok("check")


@pytest.mark.parametrize("where", [".", "w", "w/sub"])
@pytest.mark.parametrize("set_up", ["bare", "separate", "core.worktree"])
def test_a_repository_beside_the_work_tree(
    project: Repository, monkeypatch: pytest.MonkeyPatch, set_up: str, where: str
) -> None:
    git_dir, tree = project.path.parent / "elsewhere.git", project.path.parent / "tree"
    if set_up == "separate":
        project.git("clone", "-q", f"--separate-git-dir={git_dir}", str(project.path), str(tree))
    else:
        project.git("clone", "-q", "--bare", str(project.path), str(git_dir))
        tree.mkdir()
        if set_up == "core.worktree":
            project.git(f"--git-dir={git_dir}", "config", "core.bare", "false")
            project.git(f"--git-dir={git_dir}", "config", "core.worktree", str(tree))
        project.git(f"--git-dir={git_dir}", f"--work-tree={tree}", "checkout", "-q", "-f", "main")
        monkeypatch.setenv("GIT_DIR", str(git_dir))
        if set_up == "bare":
            monkeypatch.setenv("GIT_WORK_TREE", str(tree))
    (tree / "w/f.txt").write_text("2\n")
    project.git(f"--git-dir={git_dir}", f"--work-tree={tree}", "add", "-A", str(tree))
    stale_and_repaired(tree / where)


# attributes and filters


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("*.txt crlf eol=crlf", "eol=crlf"),
        ("*.txt crlf", "text"),
        ("*.txt crlf=auto", "text=auto"),
        ("*.txt crlf=input", None),
        ("*.txt text=input", None),
        ("*.txt -crlf", None),
        ("*.txt -text crlf eol=crlf", None),
        ("*.txt text=unknown crlf eol=crlf", "eol=crlf"),
        ("[attr]dos text eol=crlf\n*.txt dos", "eol=crlf"),
        ("*.txt eol=crlf\n*.txt binary", None),
        ("*.txt eol=crlf\nw/*.txt !eol", None),
    ],
)
def test_older_names_and_macros_of_attributes_count_as_git_counts_them(
    project: Repository, line: str, found: str | None
) -> None:
    project.write(".gitattributes", f"{line}\n")
    project.add()
    with GitIndex.open("w") as index:
        assert index.conversions().get("f.txt") == found
    (project.path / "w/f.txt").unlink()
    project.git("-c", "core.eol=crlf", "checkout", "--", "w/f.txt")
    converted = (project.path / "w/f.txt").read_bytes() == b"1\r\n"
    assert converted == (found is not None)  # as git does on a machine whose line ending is CRLF


def test_attributes_of_this_clone_alone_are_named_and_the_advice_goes_there(project: Repository) -> None:
    project.write(".git/info/attributes", "# a merge driver converts nothing\nmanifest.json merge=wcp-attest\n")
    assert "no other clone has that file" not in ok("check").err
    place = project.write(".git/info/attributes", "*.txt filter=nbstripout\n")
    ran = wcp("check")
    assert ran.status == 1
    assert f"by the attribute `filter=nbstripout`; set `-filter` for it in {place}" in ran.out
    project.write(".gitattributes", "*.txt eol=crlf\n")
    project.write(".git/info/attributes", "*.txt -text\n")
    project.add()
    assert f"note: w: {place} says what git converts in this clone, and no other clone has that file" in ok("check").err


def test_attributes_that_a_setting_takes_from_another_tree_are_named(project: Repository) -> None:
    project.write("other/.gitattributes", "*.txt eol=crlf\n")
    project.add()
    tree = project.git("write-tree").strip()
    assert "attr.tree" not in ok("check").err
    project.git("config", "attr.tree", f"{tree}:other")
    assert "note: w: git on this machine converts files by the attributes of the tree" in ok("check").err


def test_git_is_run_as_often_for_forty_converted_files_as_for_one(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, counted = tmp_path / "log", tmp_path / "bin/git"
    counted.parent.mkdir()
    counted.write_text(f'#!/bin/sh\necho run >>{log}\nexec {shutil.which("git")} "$@"\n')
    counted.chmod(0o755)
    monkeypatch.setenv("PATH", f"{counted.parent}:{os.environ['PATH']}")
    project.write(".gitattributes", "*.md ident\n")
    runs = []
    for files in (1, 40):
        for number in range(files):
            project.write(f"w/{number}.md", "1\n")
        project.add()
        log.write_text("")
        ran = wcp("check")
        assert (ran.status, ran.out.count("by the attribute `ident`")) == (1, files)
        runs.append(len(log.read_text().splitlines()))
    assert runs[0] == runs[1] > 0


@pytest.mark.parametrize(
    ("file", "line", "count"),
    [
        ("w/.gitattributes", "sub/ export-ignore", 1),
        ("w/.gitattributes", "sub export-ignore", 1),
        (".gitattributes", "/w/sub/** export-ignore", 1),
        (".gitattributes", "*.txt export-subst", 2),
        (".gitattributes", "manifest.json export-ignore", 1),
    ],
)
def test_notes_files_below_a_directory_that_git_archive_leaves_out(
    project: Repository, file: str, line: str, count: int
) -> None:
    project.write(file, f"{line}\n")
    project.add()
    ok("fix", "--add")
    assert f"`git archive` changes or leaves out {count} files" in ok("check").err


def test_a_repository_that_folds_case_matches_attributes_as_git_does(project: Repository) -> None:
    project.write(".gitattributes", "*.TXT eol=crlf\n")
    project.add()
    ok("check")
    project.git("config", "core.ignorecase", "true")
    assert "converted on every checkout" in wcp("check").out


def test_git_lfs_passes_an_empty_file_and_names_what_is_no_pointer(project: Repository) -> None:
    project.write(".gitattributes", "*.bin filter=lfs\n")
    project.write("w/empty.bin")
    (project.path / "w/link.bin").symlink_to("f.txt")
    project.add()
    ok("fix", "--add")
    ok("check")
    for content in (b"no pointer", b"x" * 5000):
        project.stage_blob(b"w/model.bin", content)
        assert "'w/model.bin' has `filter=lfs` but is no Git LFS pointer; run `git lfs migrate`" in wcp("check").out


# what `fix` notes as edits that are not staged


def test_line_endings_that_git_converted_are_no_edits(project: Repository) -> None:
    project.git("config", "core.autocrlf", "true")
    project.write("w/f.txt", "1\r\n")
    assert EDITS not in ok("fix").err
    project.write("w/f.txt", "2\r\n")
    assert f"1 file {EDITS} (f.txt)" in ok("fix").err


def test_a_line_ending_that_nobody_converts_is_an_edit(project: Repository) -> None:
    project.write("w/f.txt", "1\r\n")
    assert f"1 file {EDITS} (f.txt)" in ok("fix").err


def test_the_file_of_a_git_lfs_pointer_is_no_edit(project: Repository) -> None:
    content = b"weights"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256_hex(content)}\nsize {len(content)}\n"
    project.write(".gitattributes", "*.bin filter=lfs\n")
    project.add()
    project.stage_blob(b"w/model.bin", pointer.encode())
    project.write("w/model.bin", content)
    ok("fix", "--add")
    assert EDITS not in ok("fix").err
    project.write("w/model.bin", b"others!")
    assert f"1 file {EDITS} (model.bin)" in ok("fix").err


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_looks_away_from_is_no_edit(project: Repository, flag: str) -> None:
    project.git("update-index", flag, "w/f.txt")
    project.write("w/f.txt", "2\n")
    assert EDITS not in ok("fix").err
    project.write("w/sub/g.txt", "2\n")
    assert f"1 file {EDITS} (sub/g.txt)" in ok("fix").err


def test_an_unstaged_change_of_the_pair_is_no_edit_wherever_it_lies(project: Repository) -> None:
    project.git("mv", "w/manifest.json", "w/kept")
    project.write("w/manifest.json", '{"name": "an extension"}')
    project.add()
    ok("fix", "--add")
    assert (project.path / "w/.wcp/manifest.json").exists()
    project.write("w/.wcp/manifest.json", b"not staged")
    assert EDITS not in ok("fix").err


# merges and what is like them


def branch(project: Repository, name: str, start: str = "main") -> None:
    project.git("checkout", "-q", "-b", name, start)


def commit(project: Repository, path: str, content: str) -> None:
    """Commit one change with a manifest that fits."""
    project.write(path, content)
    project.add()
    ok("fix", "--add")
    project.commit()


def git_fails(project: Repository, *arguments: str) -> str:
    with pytest.raises(AssertionError) as stopped:
        project.git(*arguments)
    return str(stopped.value)


def resolved(project: Repository) -> None:
    """Resolve a manifest in conflict with `fix --add`, and see it accepted."""
    assert wcp("check").status == 2
    ok("fix", "--add")
    ok("check")


def test_both_branches_add_the_package(project: Repository) -> None:
    project.git("rm", "-qr", "w")
    project.git("commit", "-q", "--no-verify", "-m", "none")
    branch(project, "theirs")
    commit(project, "w/theirs", "1\n")
    project.git("checkout", "-q", "main")
    commit(project, "w/ours", "1\n")
    git_fails(project, "merge", "-q", "theirs")
    resolved(project)
    assert project.git("ls-files", "w").split() == ["w/manifest.json", "w/ours", "w/theirs"]


def test_one_branch_deletes_the_package(project: Repository) -> None:
    branch(project, "theirs")
    project.git("rm", "-qr", "w")
    project.git("commit", "-q", "--no-verify", "-m", "none")
    project.git("checkout", "-q", "main")
    toml = (project.path / "wcp-attest.toml").read_text()
    commit(project, "wcp-attest.toml", toml.replace("1.0.0", "1.0.1"))
    git_fails(project, "merge", "-q", "theirs")
    ran = wcp("fix")
    assert ran.status == 2
    assert "nothing but the manifest is left of 'w'; remove it as well, with `git rm`" in ran.err
    project.git("rm", "-q", "w/manifest.json")
    project.commit()


def test_one_branch_renames_a_file_that_the_other_edits(project: Repository) -> None:
    commit(project, "w/long", "".join(f"{number}\n" for number in range(100)))
    branch(project, "theirs")
    project.git("mv", "w/long", "w/renamed")
    ok("fix", "--add")
    project.commit()
    project.git("checkout", "-q", "main")
    commit(project, "w/long", "".join(f"{number}\n" for number in range(101)))
    git_fails(project, "merge", "-q", "theirs")
    resolved(project)
    assert (project.path / "w/renamed").read_text().endswith("100\n")


def test_an_octopus_merge_stops_by_itself_and_changes_nothing(project: Repository) -> None:
    for name in ("x", "y", "z"):
        branch(project, name)
        commit(project, f"w/{name}", "1\n")
    project.git("checkout", "-q", "main")
    git_fails(project, "merge", "-q", "x", "y", "z")
    ok("check")
    for name in ("x", "y", "z"):
        with nullcontext() if name == "x" else pytest.raises(AssertionError):
            project.git("merge", "-q", "--no-edit", name)
        ok("fix", "--add")
        ok("check")
        if name != "x":
            project.commit()


@pytest.mark.parametrize("command", ["rebase", "cherry-pick", "revert", "stash"])
def test_what_stops_at_the_manifest_goes_on_after_fix(project: Repository, command: str) -> None:
    branch(project, "side")
    commit(project, "w/side", "1\n")
    project.git("checkout", "-q", "main")
    commit(project, "w/main", "1\n")
    go_on = ["-c", "core.editor=true", command, "--continue"]
    match command:
        case "rebase":
            project.git("checkout", "-q", "side")
            git_fails(project, "rebase", "-q", "main")
        case "cherry-pick":
            git_fails(project, "cherry-pick", "side")
        case "revert":
            commit(project, "w/last", "1\n")
            git_fails(project, "revert", "--no-edit", "HEAD~1")
        case _:
            project.write("w/kept", "1\n")
            project.add()
            ok("fix", "--add")
            project.git("stash", "-q")
            commit(project, "w/last", "1\n")
            git_fails(project, "stash", "pop")
            go_on = ["stash", "drop"]
    resolved(project)
    project.git(*go_on)
    ok("check")


def test_signatures_in_conflict_are_named_with_what_removes_them(project: Repository) -> None:
    for name in ("ours", "theirs"):
        blob = project.git("hash-object", "-w", "--stdin", given=name.encode()).strip()
        stage = 2 if name == "ours" else 3
        project.git("update-index", "--index-info", given=f"100644 {blob} {stage}\tw/manifest.sig\n".encode())
    ran = wcp("check")
    assert ran.status == 2
    assert "'w/manifest.sig' is not merged yet; signatures are not merged: remove it with `git rm`" in ran.err
    project.git("rm", "-q", "--cached", "w/manifest.sig")
    ok("check")


@pytest.mark.parametrize("same_line", [False, True])
def test_the_merge_driver_merges_another_programs_manifest_line_by_line(project: Repository, same_line: bool) -> None:
    lines = [f'"k{number}": 1' for number in range(20)]

    def manifest(line: int, value: int) -> str:
        return "{\n" + ",\n".join([*lines[:line], f'"k{line}": {value}', *lines[line + 1 :]]) + "\n}\n"

    driver = shlex.join([sys.executable, "-m", "wcp_attest", "merge-driver"])
    project.git("config", "merge.wcp-attest.driver", f"{driver} %O %A %B %P")
    project.write(".gitattributes", "manifest.json merge=wcp-attest\n")
    commit(project, "extension/manifest.json", manifest(0, 1))
    branch(project, "theirs")
    commit(project, "extension/manifest.json", manifest(2, 2))
    project.git("checkout", "-q", "main")
    commit(project, "extension/manifest.json", manifest(2 if same_line else 18, 3))
    merged = project.path / "extension/manifest.json"
    if same_line:
        assert "is another program's file; git merged it line by line" in git_fails(project, "merge", "theirs")
        assert merged.read_text().count("<<<<<<< ours") == 1
        assert ('"k2": 2' in merged.read_text(), '"k2": 3' in merged.read_text()) == (True, True)
    else:
        project.git("merge", "-q", "--no-edit", "theirs")
        assert ('"k2": 2' in merged.read_text(), '"k18": 3' in merged.read_text()) == (True, True)


def test_a_signed_repository_verifies_as_clone_submodule_and_linked_work_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = repository_of_one_package(tmp_path / "r", monkeypatch, {"f": "1\n"})
    monkeypatch.setenv("WCP_ATTEST_HMAC_KEY", "correct horse battery staple")
    ok("sign", ".", "--hmac", *ID)
    repository.add()
    repository.commit()
    repository.git("clone", "-q", str(repository.path), str(tmp_path / "clone"))
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "side")
    dependency = Repository(tmp_path / "outer").add_submodule(repository.path, "dep")
    for place in (repository.path, tmp_path / "clone", tmp_path / "tree", dependency):
        ok("verify", place, "--hmac", "--namespace", "org.acme")


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"<<<<<<< HEAD\n"])
def test_a_damaged_manifest_is_still_ours_and_fix_writes_it_anew(project: Repository, mark: bytes) -> None:
    good = (project.path / "w/manifest.json").read_bytes()
    project.write("w/manifest.json", mark + good)
    project.add()
    ran = wcp("check")
    assert (ran.status, "another program" in ran.out, "manifest.json is not JSON" in ran.out) == (1, False, True)
    ok("fix", "--add")
    ok("check")
    assert not (project.path / "w/.wcp").exists()


def test_branches_that_give_the_package_different_ids_leave_a_conflict_that_fix_resolves(project: Repository) -> None:
    toml = (project.path / "wcp-attest.toml").read_text()
    for name in ("theirs", "ours"):
        branch(project, name)
        commit(project, "wcp-attest.toml", toml.replace("org.acme.w", f"org.acme.{name}"))
    git_fails(project, "merge", "-q", "theirs")
    assert b"<<<<<<<" in (project.path / "w/manifest.json").read_bytes()
    project.write("wcp-attest.toml", toml.replace("org.acme.w", "org.acme.ours"))
    project.git("add", "wcp-attest.toml")
    resolved(project)
    assert b'"worker_id":"org.acme.ours"' in (project.path / "w/manifest.json").read_bytes()


@pytest.mark.parametrize("set_up", ["submodule", "beside"])
def test_a_hook_judges_the_repository_that_git_runs_it_for(project: Repository, set_up: str) -> None:
    outer = project.path.parent / "outer"
    if set_up == "submodule":
        tree = Repository(outer).add_submodule(project.path, "dep")
        git, git_dir = ["-C", str(tree)], outer / ".git/modules/dep"
    else:
        tree, git_dir = outer, project.path.parent / "bare.git"
        project.git("clone", "-q", "--bare", str(project.path), str(git_dir))
        outer.mkdir()
        git = [f"--git-dir={git_dir}", f"--work-tree={tree}"]
        project.git(*git, "checkout", "-q", "-f", "main")
    project.git(*git, "config", "user.name", "t")
    project.git(*git, "config", "user.email", "t@t")
    hook = git_dir / "hooks/pre-commit"
    hook.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wcp_attest check\n')
    hook.chmod(0o755)
    (tree / "w/f.txt").write_text("2\n")
    assert "STALE  w" in git_fails(project, *git, "commit", "-qam", "stale")
    (tree / "w/f.txt").write_text("1\n")
    project.git(*git, "commit", "-q", "--allow-empty", "-m", "true")
