"""`check` and `fix` understand a repository as git does: attributes, odd files, missing objects, settings, archives."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.inprocess import ok, wcp
from tests.hooks.repository import ONE_PACKAGE, Repository, repository_of_one_package
from wcp_attest import HmacSecret, sign
from wcp_attest.advice.git_command import environment
from wcp_attest.cli.manifest_plan import note_lfs_pointers
from wcp_attest.cli.output import Output
from wcp_attest.package.entries import SEPARATOR, File, render_line
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with a package `w` that is staged and has no manifest yet; commands run in this process."""
    return repository_of_one_package(tmp_path / "r", monkeypatch, {"w/f.txt": "1\n", "w/sub/g.txt": "1\n"})


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        (".gitattributes", "*.txt"),
        (".gitattributes", "w/*.txt"),
        (".gitattributes", "/w/f.txt"),
        (".gitattributes", "w/sub/*"),
        (".gitattributes", "w/**"),
        ("w/.gitattributes", "/f.txt"),
        ("w/.gitattributes", "sub/g.txt"),
        ("w/sub/.gitattributes", "g.txt"),
    ],
)
@pytest.mark.parametrize("cwd", [".", "w", "w/sub", ".git/.."])
def test_refuses_what_every_checkout_converts(project: Repository, file: str, pattern: str, cwd: str) -> None:
    project.write(file, f"{pattern} eol=crlf\n")
    project.add()
    ran = wcp("check", os.path.relpath(project.path / "w", project.path / cwd), cwd=project.path / cwd)
    assert ran.status == 1
    assert "is converted on every checkout by the attribute `eol=crlf`" in ran.out


def test_attributes_of_another_folder_do_not_count(project: Repository) -> None:
    project.write(".gitattributes", "other/*.txt eol=crlf\n/f.txt eol=crlf\n")
    project.add()
    ok("fix", "--add")
    ok("check")


@pytest.mark.parametrize("name", ["info/attributes", "info/exclude", "packed-refs", "shallow", "config.worktree"])
def test_a_fifo_that_git_would_read_is_named_at_once(project: Repository, name: str) -> None:
    path = project.path / ".git" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    ran = wcp("check")
    assert ran.status == 2
    assert f"/.git/{name}', which is not a regular file; remove it" in ran.err


def test_a_fifo_as_configured_attributes_is_named_at_once(project: Repository) -> None:
    os.mkfifo(project.path.parent / "attributes")
    project.git("config", "core.attributesFile", str(project.path.parent / "attributes"))
    ran = wcp("check")
    assert ran.status == 2
    assert "core.attributesFile" in ran.err


def test_git_gets_no_secret_and_no_transport() -> None:
    given = {
        "WCP_ATTEST_HMAC_KEY": "s",
        "WCP_ATTEST_KEY_PASSPHRASE": "s",
        "SIGSTORE_ID_TOKEN": "s",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "s",
        "GIT_TRACE": "/tmp/x",
        "GIT_ALLOW_PROTOCOL": "ext:file",
        "GIT_DIR": "/r/.git",
        "PATH": "/bin",
    }
    passed = environment(given)
    assert (passed["GIT_ALLOW_PROTOCOL"], passed["GIT_DIR"], passed["PATH"]) == ("", "/r/.git", "/bin")
    assert not any(value == "s" for value in passed.values())
    assert "GIT_TRACE" not in passed


def test_a_hostile_promisor_runs_nothing(project: Repository) -> None:
    ok("fix", "--add")
    project.commit()
    mark = project.path.parent / "ran"
    script = project.write("../evil", f"#!{sys.executable}\nopen({str(mark)!r}, 'w')\n", executable=True)
    blob = project.git("rev-parse", "HEAD:w/f.txt").strip()
    (project.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for name, value in (
        ("extensions.partialClone", "evil"),
        ("core.repositoryformatversion", "1"),
        ("remote.evil.url", f"ext::{script}"),
        ("remote.evil.promisor", "true"),
        ("protocol.ext.allow", "always"),
    ):
        project.git("config", name, value)
    ran = wcp("check")
    assert (ran.status, mark.exists()) == (2, False) or "cannot be described" in ran.out
    assert not mark.exists()


def test_a_partial_clone_is_named_with_its_remedy(project: Repository) -> None:
    ok("fix", "--add")
    project.commit()
    project.git("config", "uploadpack.allowFilter", "true")
    clone = project.path.parent / "c"
    project.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{project.path}", str(clone))
    project.git("-C", str(clone), "read-tree", "HEAD")
    ran = wcp("check", "w", cwd=clone)
    assert ran.status == 2
    assert "this is a partial clone; get what is missing with `git fetch --refetch --no-filter`" in ran.err
    project.git("-C", str(clone), "fetch", "-q", "--refetch", "--no-filter")
    assert wcp("check", "w", cwd=clone).status in (0, 1)


@pytest.mark.parametrize("pattern", ["*.log", "logs/*", "logs/**", "/logs/deep/", "!x"])
def test_a_folder_that_excludes_empty_is_listed_as_in_a_clone(project: Repository, pattern: str) -> None:
    project.write("wcp-attest.toml", f'{ONE_PACKAGE}exclude = ["{pattern}"]\n')
    project.write("w/logs/a.log", "1\n")
    project.write("w/logs/deep/b.log", "1\n")
    project.write("w/sub/c.log", "1\n")
    project.add()
    ok("fix", "--add")
    ok("check")
    project.commit()
    clone = project.path.parent / "clone"
    project.git("clone", "-q", str(project.path), str(clone))
    sign(clone / "w", [HmacSecret(b"correct horse battery staple")])


def test_twins_that_somebody_signed_pass_and_others_are_refused_with_the_setting(project: Repository) -> None:
    project.stage_blob(b"w/xt_DSCP.h", b"1")
    project.stage_blob(b"w/xt_dscp.h", b"2")
    ran = wcp("check")
    assert ran.status == 1
    assert "`allow_twins = true` in wcp-attest.toml" in ran.out
    assert "--allow-twins" not in ran.out
    project.write("wcp-attest.toml", f"{ONE_PACKAGE}allow_twins = true\n")
    ok("fix", "--add")
    ok("check")
    project.write("wcp-attest.toml", ONE_PACKAGE)
    ok("check")


@pytest.mark.parametrize("attribute", ["export-subst", "export-ignore"])
def test_notes_what_git_archive_changes(project: Repository, attribute: str) -> None:
    project.write("w/.gitattributes", f"f.txt {attribute}\n")
    project.add()
    ok("fix", "--add")
    assert "`git archive` changes or leaves out 1 files, first 'f.txt'" in ok("check").err


def test_lfs_pointers_are_named_when_they_are_signed(project: Repository) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 63}1\nsize 7516192768\n"
    project.write("w/model.safetensors", pointer)
    project.write("w/not-a-pointer", "x" * len(pointer))
    ran = ok("build", "w")
    assert "1 of the files are Git LFS pointers, first 'model.safetensors'" in ran.err


def test_a_manifest_with_crlf_is_named_by_every_command(project: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WCP_ATTEST_HMAC_KEY", "correct horse battery staple")
    ok("sign", "w", "--hmac")
    manifest = project.path / "w/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"\n", b"\r\n"))
    for command in (("verify", "w", "--hmac", "--namespace", "org.acme"), ("diff", "w"), ("sign", "w", "--hmac")):
        ran = wcp(*command)
        assert ran.status != 0
        assert "line endings were converted to CRLF" in ran.out + ran.err


@pytest.mark.parametrize(
    "setting",
    [
        "diff.relative=true",
        "color.ui=always",
        "core.abbrev=4",
        "diff.ignoreSubmodules=all",
        "core.quotePath=true",
        "diff.noprefix=true",
        "core.ignorecase=true",
        "diff.external=/bin/false",
        "core.fileMode=false",
        "core.symlinks=false",
        "feature.manyFiles=true",
        "diff.renames=copies",
        "status.relativePaths=true",
    ],
)
def test_settings_of_git_change_no_answer(project: Repository, setting: str) -> None:
    ok("fix", "--add")
    project.git("config", *setting.split("=", 1))
    ok("check")
    project.write("w/n\u00e9w", "1\n")
    project.add()
    ran = wcp("check")
    assert (ran.status, "added  n\u00e9w" in ran.out) == (1, True)


@pytest.mark.parametrize(
    "state",
    [
        ("update-index", "--split-index"),
        ("update-index", "--assume-unchanged", "w/f.txt"),
        ("update-index", "--skip-worktree", "w/f.txt"),
        ("add", "-N", "w/later"),
        ("sparse-checkout", "set", "--cone", "other"),
    ],
)
def test_states_of_the_index_change_no_answer(project: Repository, state: tuple[str, ...]) -> None:
    ok("fix", "--add")
    project.commit()
    project.write("w/later", "1\n")
    project.git(*state)
    ok("check")
    project.stage_blob(b"w/staged", b"1")
    assert wcp("check").status == 1


def test_a_commit_of_some_paths_is_judged_by_its_own_index(project: Repository) -> None:
    ok("fix", "--add")
    project.commit()
    hook = project.write(
        ".git/hooks/pre-commit", f'#!/bin/sh\nexec "{sys.executable}" -m wcp_attest check\n', executable=True
    )
    assert hook.exists()
    project.write("w/f.txt", "2\n")
    with pytest.raises(AssertionError, match="STALE"):
        project.git("commit", "--only", "w/f.txt", "-qm", "stale")
    project.add()
    assert wcp("fix").status == 1
    project.git("commit", "--only", "w/f.txt", "w/manifest.json", "-qm", "true")


def test_pointers_are_looked_for_in_linear_time(tmp_path: Path) -> None:
    deep = "/".join(["d" * 250] * 150)  # with a search that goes back at each character, each line takes a second
    entries = {f"{deep}/{number}": File("0" * 64, 5000) for number in range(1000)}
    body = SEPARATOR.join(render_line(path, entry, "sha256") for path, entry in sorted(entries.items()))
    manifest = Manifest("org.acme.w", "wrk.doc.w", "1", "2026-11-22T14:00:00Z", "ci", "0" * 64, body)
    started = time.process_time()
    note_lfs_pointers(str(tmp_path), manifest, Output("text"))
    assert time.process_time() - started < 20  # this takes milliseconds
