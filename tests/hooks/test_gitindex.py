"""The git index as a source of packages: real git, hostile repositories, surroundings of hooks."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests.hooks.repository import Repository
from wcp_attest.advice.git_command import environment
from wcp_attest.advice.git_index import GitIndex
from wcp_attest.base.errors import ConfigError
from wcp_attest.package.entries import File, Symlink

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path / "repo")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(made.path)
    return made


def hashed(content: bytes) -> str:
    return sha256(content).hexdigest()


def entries(package: str) -> dict[str, object]:
    with GitIndex.open(package) as index:
        index.conversions()
        return {path: index.entry(path, "sha256") for path in index.files}


def test_files_modes_and_links_come_from_the_index(repository: Repository) -> None:
    repository.write("pkg/code/run.py", "print()\n", executable=True)
    repository.write("pkg/empty")
    repository.write("pkg-other/x", "not in the package")
    (repository.path / "pkg/link").symlink_to("code/run.py")
    repository.add()
    expected = {
        "code/run.py": File(hashed(b"print()\n"), 8, executable=True),
        "empty": File(hashed(b""), 0),
        "link": Symlink("code/run.py"),
    }
    assert entries("pkg") == expected
    repository.write("pkg/code/run.py", "edited, unstaged\n")
    repository.write("pkg/untracked", "x")
    (repository.path / "pkg/link").unlink()
    assert entries("pkg") == expected


def test_deleted_renamed_and_absent_in_the_work_tree(repository: Repository) -> None:
    for name in ("a", "b", "c"):
        repository.write(f"pkg/{name}", name)
    repository.add()
    repository.commit()
    repository.git("rm", "-q", "pkg/a")
    repository.git("mv", "pkg/b", "pkg/renamed")
    assert list(entries("pkg")) == ["c", "renamed"]
    for name in ("c", "renamed"):
        (repository.path / "pkg" / name).unlink()
    (repository.path / "pkg").rmdir()
    assert list(entries("pkg")) == ["c", "renamed"]


def test_an_intention_to_add_is_not_an_addition(repository: Repository) -> None:
    repository.write("pkg/kept")
    repository.add()
    repository.write("pkg/intended", "not yet")
    repository.git("add", "--intent-to-add", "pkg/intended")
    assert list(entries("pkg")) == ["kept"]


def test_the_whole_repository_is_a_package_too(repository: Repository) -> None:
    repository.write("x/y", "z")
    repository.add()
    assert entries(".") == {"x/y": File(hashed(b"z"), 1)}
    assert entries(str(repository.path)) == entries(".")


def test_from_a_folder_below_and_through_a_link(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write("a/pkg/f", "1")
    repository.add()
    monkeypatch.chdir(repository.path / "a")
    assert list(entries("pkg")) == ["f"]
    monkeypatch.chdir(repository.path.parent)
    assert list(entries("repo/a/pkg")) == ["f"]
    (repository.path.parent / "linked").symlink_to(repository.path)
    assert list(entries("linked/a/pkg")) == ["f"]


def test_sha256_repositories(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = Repository(tmp_path / "newer", object_format="sha256")
    newer.write("pkg/f", "1")
    newer.add()
    monkeypatch.chdir(newer.path)
    with GitIndex.open("pkg") as index:
        assert len(index.files["f"].object_id) == 64
        assert index.entry("f", "sha256") == File(hashed(b"1"), 1)


def test_crlf_in_the_work_tree_is_not_what_is_hashed(repository: Repository) -> None:
    repository.git("config", "core.autocrlf", "true")
    repository.write("pkg/text", b"one\r\ntwo\r\n")
    repository.add()
    assert entries("pkg") == {"text": File(hashed(b"one\ntwo\n"), 8)}
    with GitIndex.open("pkg") as index:
        assert index.converts_line_endings_here()


def test_attributes_that_convert_on_checkout_are_named(repository: Repository) -> None:
    repository.write(
        "pkg/.gitattributes",
        "*.bat eol=crlf\n*.txt text\n*.auto text=auto\n*.lf text eol=lf\n*.id ident\n*.f filter=mine\n"
        "*.w working-tree-encoding=UTF-16\n*.bin -text eol=crlf\n*.odd filter=lfs\n",
    )
    for suffix in ("bat", "txt", "auto", "lf", "id", "f", "bin", "plain", "odd"):
        repository.stage_blob(f"pkg/x.{suffix}".encode(), b"1\n")
    repository.stage_blob(b"pkg/x.w", "1".encode("utf-16"))
    repository.add("pkg/.gitattributes")
    with GitIndex.open("pkg") as index:
        assert index.conversions() == {
            "x.auto": "text=auto",
            "x.bat": "eol=crlf",
            "x.f": "filter=mine",
            "x.id": "ident",
            "x.txt": "text",
            "x.w": "working-tree-encoding=UTF-16",
        }
        assert not index.converts_line_endings_here()
        with pytest.raises(ConfigError, match="no Git LFS pointer"):
            index.entry("x.odd", "sha256")


def test_a_git_lfs_pointer_states_what_a_checkout_holds(repository: Repository) -> None:
    content = b"weights"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashed(content)}\nsize {len(content)}\n"
    repository.write("pkg/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repository.add()
    repository.stage_blob(b"pkg/model.bin", pointer.encode(), "100755")
    assert entries("pkg")["model.bin"] == File(hashed(content), 7, executable=True)
    with GitIndex.open("pkg") as index:
        index.conversions()
        with pytest.raises(ConfigError, match="only its SHA-256"):
            index.entry("model.bin", "blake3")


def test_submodules_and_unfinished_merges_are_refused(repository: Repository) -> None:
    repository.write("pkg/f", "1")
    repository.add()
    repository.commit()
    head = repository.git("rev-parse", "HEAD").strip()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},pkg/module")
    with GitIndex.open("pkg") as index, pytest.raises(ConfigError, match="submodule"):
        index.entry("module", "sha256")
    with pytest.raises(ConfigError, match="not a directory of tracked files"):
        GitIndex.open("pkg/module")
    repository.git("rm", "-q", "--cached", "pkg/module")
    blob = repository.git("rev-parse", "HEAD:pkg/f").strip()
    repository.git("update-index", "--index-info", given=f"0 {'0' * 40}\tpkg/f\n100644 {blob} 2\tpkg/f\n".encode())
    with pytest.raises(ConfigError, match="not merged"):
        GitIndex.open("pkg")


def test_hostile_names_and_targets(repository: Repository) -> None:
    repository.write("pkg/f", "1")
    repository.add()
    for name in (b"pkg/\xff", b"pkg/new\nline", b"pkg/\xe2\x80\xae.py", b"pkg/ a\tb", b"pkg/--help"):
        repository.stage_blob(name, b"x")
    repository.stage_blob(b"pkg/far", b"x" * 5000, "120000")
    repository.stage_blob(b"pkg/raw", b"\xff", "120000")
    with GitIndex.open("pkg") as index:
        assert {"\udcff", "new\nline", "\u202e.py", " a\tb", "--help"} <= set(index.files)
        assert index.entry("new\nline", "sha256") == File(hashed(b"x"), 1)
        with pytest.raises(ConfigError, match="at most 4096"):
            index.entry("far", "sha256")
        with pytest.raises(ConfigError, match="not UTF-8"):
            index.entry("raw", "sha256")
        assert index.entry("f", "sha256") == File(hashed(b"1"), 1)


def test_a_pathspec_is_a_name_and_no_pattern(repository: Repository) -> None:
    for name in ("*/f", "ab/f", ":(top)x/f", "-n/f"):
        repository.write(name, name)
    repository.add()
    for package in ("*", "ab", ":(top)x", "-n"):
        assert entries(package) == {"f": File(hashed(f"{package}/f".encode()), len(package) + 2)}


def test_nothing_tracked_no_repository_and_outside(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("pkg/f")
    with pytest.raises(ConfigError, match="tracks nothing"):
        GitIndex.open("pkg")
    (tmp_path / "plain").mkdir()
    with pytest.raises(ConfigError, match="not a git repository"):
        GitIndex.open(str(tmp_path / "plain"))
    monkeypatch.setenv("GIT_DIR", str(repository.path / ".git"))
    with pytest.raises(ConfigError, match="not in the repository"):
        GitIndex.open(str(tmp_path / "plain"))
    monkeypatch.setenv("PATH", str(tmp_path / "plain"))
    with pytest.raises(ConfigError, match="git cannot be started"):
        GitIndex.open("pkg")


def test_a_missing_object_is_an_error_and_no_empty_file(repository: Repository) -> None:
    repository.write("pkg/f", "1")
    repository.add()
    blob = repository.git("rev-parse", ":pkg/f").strip()
    (repository.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with GitIndex.open("pkg") as index, pytest.raises(ConfigError, match="not in the object store"):
        index.entry("f", "sha256")


def test_a_replacement_of_an_object_is_not_believed(repository: Repository) -> None:
    repository.write("pkg/f", "committed")
    repository.add()
    blob = repository.git("rev-parse", ":pkg/f").strip()
    other = repository.git("hash-object", "-w", "--stdin", given=b"replaced").strip()
    repository.git("replace", blob, other)
    assert entries("pkg") == {"f": File(hashed(b"committed"), 9)}


def test_the_index_and_the_repository_that_a_hook_names(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("pkg/f", "1")
    repository.add()
    repository.commit()
    repository.write("pkg/g", "2")
    repository.git("add", "pkg/g", GIT_INDEX_FILE=str(tmp_path / "partial"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "partial"))
    assert list(entries("pkg")) == ["g"]
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert list(entries("pkg")) == ["f"]
    monkeypatch.delenv("GIT_INDEX_FILE")
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"))
    (tmp_path / "tree/pkg/h").write_text("3")
    repository.git("-C", str(tmp_path / "tree"), "add", ".")
    monkeypatch.chdir(tmp_path / "tree")
    assert list(entries("pkg")) == ["f", "h"]
    monkeypatch.setenv("GIT_DIR", str(repository.path / ".git/worktrees/tree"))
    assert list(entries("pkg")) == ["f", "h"]


def test_settings_of_a_repository_start_no_program(repository: Repository) -> None:
    marker = repository.path / "started"
    program = repository.write("evil.sh", f"#!/bin/sh\ntouch {marker}\n", executable=True)
    repository.write("pkg/.gitattributes", "* filter=evil diff=evil\n")
    repository.write("pkg/f", "1")
    repository.add()
    marker.unlink(missing_ok=True)
    for name in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "diff.external"):
        repository.git("config", name, str(program))
    marker.unlink(missing_ok=True)
    assert list(entries("pkg")) == [".gitattributes", "f"]
    assert not marker.exists()


def test_the_environment_of_git() -> None:
    made = environment({"PATH": "p", "GIT_TRACE2": "1", "GIT_LITERAL_PATHSPECS": "1", "GIT_INDEX_FILE": "i"})
    assert made["GIT_INDEX_FILE"] == "i"
    assert made["GIT_NO_LAZY_FETCH"] == "1"
    assert not {"GIT_TRACE2", "GIT_LITERAL_PATHSPECS"} & set(made)


def test_memory_stays_bounded_for_a_large_blob(repository: Repository) -> None:
    size = 64 * 1024 * 1024
    with (repository.path / "zeros").open("wb") as file:
        file.truncate(size)
    (repository.path / "pkg").mkdir()
    (repository.path / "zeros").rename(repository.path / "pkg/zeros")
    repository.add()
    import tracemalloc

    tracemalloc.start()
    found = entries("pkg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"zeros": File(hashed(bytes(size)), size)}
    assert peak < 8 * 1024 * 1024


def test_a_listing_without_end_is_refused(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        repository.write(f"pkg/{number}", "1")
    repository.add()
    monkeypatch.setattr("wcp_attest.advice.git_command.MAX_OUTPUT", 200)
    with pytest.raises(ConfigError, match="git lists more than 200 bytes; the package has too many files"):
        GitIndex.open("pkg")
