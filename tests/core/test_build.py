"""Building a manifest: what is recorded, what is left out, and what the caller is told."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.trees import SIMPLE, described_hash, plant
from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.build import MAX_IGNORE_BYTES, build_manifest, exclude_patterns, write_manifest
from wcp_attest.compat import canonical_package_hash
from wcp_attest.disk.options import Progress, ReadOptions
from wcp_attest.disk.placement import PairPlace
from wcp_attest.package.entries import EmptyDirectory, File, Symlink
from wcp_attest.package.manifest import Manifest
from wcp_attest.package.provenance import AiOrigin, SourceOrigin

if TYPE_CHECKING:
    from pathlib import Path

WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
    "built_at": 1_795_356_000.0,
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return plant(tmp_path / "my-worker", SIMPLE)


def listed(manifest: Manifest) -> list[str]:
    return list(Manifest.from_bytes(manifest.to_bytes()).entries())


def test_every_kind_of_entry_is_recorded(package: Path) -> None:
    (package / "code/bootstrap.py").chmod(0o744)
    (package / "cache/deep").mkdir(parents=True)
    (package / "model.bin").symlink_to("requirements.lock")
    manifest = build_manifest(package, **WHO)
    entries = Manifest.from_bytes(manifest.to_bytes()).entries()
    assert list(entries) == sorted([*SIMPLE, "cache/deep", "model.bin"], key=str.encode)
    bootstrap = entries["code/bootstrap.py"]
    assert isinstance(bootstrap, File)
    assert bootstrap.executable
    assert bootstrap.size == len(SIMPLE["code/bootstrap.py"])
    assert entries["cache/deep"] == EmptyDirectory()
    assert entries["model.bin"] == Symlink("requirements.lock")
    assert manifest.package_hash == described_hash(SIMPLE)
    assert manifest.excludes == ()
    assert manifest.built_at_utc == "2026-11-22T14:00:00Z"


def test_metadata_is_recorded(package: Path) -> None:
    ai, source = AiOrigin(generated=True, model="m"), SourceOrigin(commit="9f" * 20)
    manifest = build_manifest(package, **WHO, build_source="agent", algorithm="blake3", ai=ai, source=source)
    assert (manifest.build_source, manifest.hash_algorithm, manifest.ai, manifest.source) == (
        "agent",
        "blake3",
        ai,
        source,
    )
    entry = manifest.entries()["config.schema.json"]
    assert isinstance(entry, File)
    assert entry.digest == blake3(b"{}\n").hexdigest()


def test_the_same_tree_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    other = plant(tmp_path / "elsewhere/copy", dict(reversed(SIMPLE.items())))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o640)
    assert build_manifest(package, **WHO).to_bytes() == build_manifest(other, **WHO).to_bytes()
    assert build_manifest(package, **WHO).to_bytes() == build_manifest(str(package) + "/", **WHO).to_bytes()


def test_the_manifest_itself_is_no_part_of_the_package_but_a_nested_one_is(package: Path) -> None:
    before = build_manifest(package, **WHO)
    write_manifest(package, before)
    (package / "manifest.sig").write_bytes(b"")
    assert build_manifest(package, **WHO) == before
    plant(package, {"nested/manifest.json": b"{}", "nested/manifest.sig": b""})
    assert {"nested/manifest.json", "nested/manifest.sig"} <= set(listed(build_manifest(package, **WHO)))


_NAMES = st.text("abz.-_ \u00e9\U0001f600", min_size=1, max_size=5).filter(lambda name: name.strip("."))
_TREES = st.dictionaries(
    st.builds("/".join, st.lists(_NAMES, min_size=1, max_size=3)), st.binary(max_size=40), min_size=1, max_size=6
)


@given(_TREES)
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_package_hash_is_the_one_described(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, bytes]
) -> None:
    files = {
        path: data
        for path, data in drawn.items()
        if not any(other.startswith(path + "/") for other in drawn) and path != "manifest.json"
    }
    root = plant(tmp_path_factory.mktemp("tree") / "p", files)
    options = ReadOptions(allow_twins=True)
    manifest = build_manifest(root, **WHO, excludes=["!.git/"], options=options)
    assert manifest.package_hash == described_hash(files)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert [path for path, entry in manifest.entries().items() if isinstance(entry, File)] == sorted(
        files, key=str.encode
    )


class TestExcludes:
    def test_git_is_left_out_and_recorded_when_it_is_there(self, package: Path) -> None:
        plain = build_manifest(package, **WHO)
        plant(package, {".git/config": b"x"})
        manifest = build_manifest(package, **WHO)
        assert manifest.excludes == ("/.git",)
        assert manifest.package_hash == plain.package_hash

    def test_git_below_the_root_is_listed_like_anything_else(self, package: Path) -> None:
        plant(package, {"sub/.git/config": b"y"})
        manifest = build_manifest(package, **WHO)
        assert manifest.excludes == ()
        assert "sub/.git/config" in listed(manifest)

    def test_the_git_file_of_a_worktree_is_left_out_like_the_folder(self, package: Path) -> None:
        plain = build_manifest(package, **WHO)
        plant(package, {".git": b"gitdir: /elsewhere"})
        manifest = build_manifest(package, **WHO)
        assert manifest.excludes == ("/.git",)
        assert manifest.package_hash == plain.package_hash

    def test_git_can_be_taken_back_in(self, package: Path) -> None:
        plant(package, {".git/config": b"x"})
        manifest = build_manifest(package, **WHO, excludes=["!.git/"])
        assert ".git/config" in listed(manifest)
        assert manifest.excludes == ()  # nothing was taken out, so nothing is recorded

    def test_only_patterns_that_decided_something_are_recorded(self, package: Path) -> None:
        plant(package, {"a.log": b"", "keep.log": b"", "tmp/x": b""})
        manifest = build_manifest(package, **WHO, excludes=["*.log", "*.bak", "!keep.log", "!other.log", "tmp/"])
        assert manifest.excludes == ("*.log", "!keep.log", "tmp/")
        assert set(listed(manifest)) == {*SIMPLE, "keep.log"}

    def test_what_is_recorded_decides_the_same_again(self, package: Path) -> None:
        plant(package, {"a.log": b"", "keep.log": b"", "tmp/x": b"", ".git/x": b""})
        first = build_manifest(package, **WHO, excludes=["*.log", "x", "!keep.log", "tmp/"])
        assert build_manifest(package, **WHO, excludes=first.excludes) == first

    def test_wcpignore_comes_before_the_callers_and_is_an_ordinary_file(self, package: Path) -> None:
        ignore = b"# what tests leave behind\n\n*.log\r\n*.tmp   \nspace\\ \n\\#odd\n"
        plant(package, {".wcpignore": ignore, "a.log": b"", "b.tmp": b"", "space ": b"", "#odd": b"", "keep.log": b""})
        manifest = build_manifest(package, **WHO, excludes=["!keep.log"])
        assert set(listed(manifest)) == {*SIMPLE, ".wcpignore", "keep.log"}
        assert manifest.excludes == ("*.log", "*.tmp", "space\\ ", "\\#odd", "!keep.log")

    def test_wcpignore_below_the_root_is_not_read(self, package: Path) -> None:
        plant(package, {"docs/.wcpignore": b"*\n"})
        assert set(listed(build_manifest(package, **WHO))) == {*SIMPLE, "docs/.wcpignore"}

    def test_the_last_of_equal_patterns_counts(self, package: Path) -> None:
        assert exclude_patterns(str(package), ["*.log", "!a.log", "*.log"]) == ("/.git", "!a.log", "*.log")

    @pytest.mark.parametrize("pattern", ["", "  ", "#comment", "a\x1bb", "x" * 513, "[a", "[[:none:]]", "a\\"])
    def test_patterns_that_cannot_be_meant_are_refused(self, package: Path, pattern: str) -> None:
        with pytest.raises(ConfigError):
            build_manifest(package, **WHO, excludes=[pattern])

    def test_too_many_patterns_are_refused(self, package: Path) -> None:
        with pytest.raises(ConfigError, match="more than 1000"):
            build_manifest(package, **WHO, excludes=[f"p{number}" for number in range(1001)])

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"\xff\n", "not valid UTF-8"), (b"a\x00b\n", "unprintable"), (b"#" * (MAX_IGNORE_BYTES + 1), "larger than")],
    )
    def test_a_bad_wcpignore_is_the_callers_mistake(self, package: Path, content: bytes, reason: str) -> None:
        (package / ".wcpignore").write_bytes(content)
        with pytest.raises(ConfigError, match=reason):
            build_manifest(package, **WHO)

    def test_a_wcpignore_that_is_a_link_or_directory_is_refused(self, package: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").write_text("*\n")
        (package / ".wcpignore").symlink_to(tmp_path / "outside")
        with pytest.raises(ConfigError, match="symbolic link"):
            build_manifest(package, **WHO)
        (package / ".wcpignore").unlink()
        (package / ".wcpignore").mkdir()
        with pytest.raises(ConfigError, match="not a regular file"):
            build_manifest(package, **WHO)

    def test_bytecode_cannot_be_excluded(self, package: Path) -> None:
        plain = build_manifest(package, **WHO)
        plant(package, {"code/__pycache__/x.cpython-311.pyc": b"", "y.pyc": b""})
        manifest = build_manifest(package, **WHO, excludes=["__pycache__/", "*.pyc"])
        assert manifest == plain
        included = build_manifest(package, **WHO, options=ReadOptions(bytecode="include"))
        assert {"code/__pycache__/x.cpython-311.pyc", "y.pyc"} <= set(listed(included))


class TestMistakes:
    @pytest.mark.parametrize(
        ("wrong", "say"),
        [
            ({"worker_id": "summarizer"}, "org.acme.summarizer"),
            ({"worker_id": "org.acme"}, "fewer than 3 segments"),
            ({"worker_id": "wrk.acme.summarizer"}, "no namespace"),
            ({"worker_id": "org.Acme.Summarizer"}, "org.acme.summarizer"),
            ({"worker_id": "x" * 500}, "longer than 128"),
            ({"worker_species_id": ""}, "wrk.doc.summarizer"),
            ({"worker_version": "1 0"}, "1.4.0"),
            ({"build_source": "laptop"}, "local, ci, agent"),
            ({"built_at": -1.0}, "outside the years"),
            ({"algorithm": "md5"}, "sha256, blake3"),
        ],
        ids=str,
    )
    def test_metadata(self, package: Path, wrong: dict[str, Any], say: str) -> None:
        with pytest.raises(ConfigError) as problem:
            build_manifest(package, **{**WHO, **wrong})
        assert say in str(problem.value)
        assert len(str(problem.value)) < 400

    def test_metadata_is_checked_before_anything_is_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="worker id"):
            build_manifest(tmp_path / "absent", **{**WHO, "worker_id": "bad"})

    def test_an_empty_tree_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="holds no file"):
            build_manifest(tmp_path, **WHO)
        (tmp_path / "directory").mkdir()
        (tmp_path / "manifest.json").write_bytes(b"{}")
        with pytest.raises(ConfigError, match="holds no file"):
            build_manifest(tmp_path, **WHO)
        (tmp_path / "a.log").write_bytes(b"")
        with pytest.raises(ConfigError, match="holds no file"):
            build_manifest(tmp_path, **WHO, excludes=["*"])

    def test_a_root_that_is_absent_a_file_or_a_link_is_an_error(self, package: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(package)
        for root in (tmp_path / "absent", package / "requirements.lock", tmp_path / "link"):
            with pytest.raises(ConfigError):
                build_manifest(root, **WHO)

    def test_what_cannot_be_signed_is_refused(self, package: Path) -> None:
        os.mkfifo(package / "fifo")
        with pytest.raises(TreeUnsafe, match="fifo"):
            build_manifest(package, **WHO)
        (package / "fifo").unlink()
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(package / "s"))
            with pytest.raises(TreeUnsafe, match="'s'"):
                build_manifest(package, **WHO)
        (package / "s").unlink()
        (package / "out").symlink_to("../outside")
        with pytest.raises(TreeUnsafe, match="out"):
            build_manifest(package, **WHO)

    def test_twins_are_refused_unless_allowed(self, package: Path) -> None:
        plant(package, {"README": b"", "readme": b""})
        with pytest.raises(TreeUnsafe, match="differ only by case"):
            build_manifest(package, **WHO)
        assert {"README", "readme"} <= set(
            listed(build_manifest(package, **WHO, options=ReadOptions(allow_twins=True)))
        )


def test_the_clock_is_taken_when_no_time_is_given(package: Path) -> None:
    built = build_manifest(package, **{**WHO, "built_at": None})
    assert built.built_at_utc > "2026"


def test_progress_is_reported(package: Path) -> None:
    seen: list[Progress] = []
    build_manifest(package, **WHO, options=ReadOptions(progress=seen.append))
    assert seen[-1].files_done == len(SIMPLE)


def test_writing_replaces_the_old_manifest_whole(package: Path) -> None:
    manifest = build_manifest(package, **WHO)
    (package / "manifest.json").write_bytes(b'{"schema_version": "awp.v2", "worker_id": "org.acme.older"}')
    assert write_manifest(package, manifest) == str(package / "manifest.json")
    assert (package / "manifest.json").read_bytes() == manifest.to_bytes()
    assert sorted(path.name for path in package.iterdir() if "tmp" in path.name) == []


def test_writing_over_another_programs_file_is_refused(package: Path) -> None:
    manifest = build_manifest(package, **WHO)
    (package / "manifest.json").write_bytes(b'{"manifest_version": 3, "name": "an extension"}')
    with pytest.raises(ConfigError, match="is not a manifest of wcp-attest, so it is not overwritten"):
        write_manifest(package, manifest, place=PairPlace("beside", str(package)))
    assert write_manifest(package, manifest) == str(package / ".wcp" / "manifest.json")
    assert b"an extension" in (package / "manifest.json").read_bytes()


def test_writing_over_a_link_or_into_nowhere_is_refused(package: Path, tmp_path: Path) -> None:
    manifest = build_manifest(package, **WHO)
    (tmp_path / "outside").write_bytes(b"precious")
    (package / "manifest.json").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError):
        write_manifest(package, manifest, place=PairPlace("beside", str(package)))
    assert (tmp_path / "outside").read_bytes() == b"precious"
    with pytest.raises(ConfigError):
        write_manifest(tmp_path / "absent", manifest)


def test_the_hash_alone_is_the_one_that_is_built(package: Path) -> None:
    plant(package, {".git/x": b"", ".wcpignore": b"*.log\n", "a.log": b"", "b.pyc": b""})
    assert build_manifest(package, **WHO).package_hash == described_hash({**SIMPLE, ".wcpignore": b"*.log\n"})
    for name in (".git/x", "b.pyc"):
        (package / name).unlink()
    (package / ".git").rmdir()
    # A comparison must not be steered by the tree: the hash for comparing takes no pattern from it.
    assert canonical_package_hash(package) == described_hash({**SIMPLE, ".wcpignore": b"*.log\n", "a.log": b""})
