"""A tree is what its manifest says, or every difference is named."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.tree.support import ONE, TWO, manifest_of, plant
from tests.trees import snapshot
from wcp_attest.base.differences import Change
from wcp_attest.base.errors import ConfigError, ManifestMalformed, TreeMismatch, TreeUnsafe, VerificationError
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wcp_attest.base.differences import Difference

MAIN, MODEL = "code/main.py", "data/model.bin"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
PACKAGE: dict[str, bytes | str | None] = {
    "x:bin/run": b"#!/bin/sh\necho hello\n",
    "code/main.py": b"print(1)\nprint(2)\n",
    "code/empty.py": b"",
    "data/model.bin": bytes(range(256)) * 400,
    "latest": "data/model.bin",
    "cache": None,
}


def package(tmp_path: Path) -> tuple[str, Manifest]:
    root = plant(tmp_path / "pkg", PACKAGE)
    return root, manifest_of(root)


def differences(root: str, manifest: Manifest, options: ReadOptions = ONE) -> dict[str, Difference]:
    with pytest.raises(TreeMismatch) as caught:
        check_tree(root, manifest, options=options)
    assert caught.value.total >= len(caught.value.differences) > 0
    assert list(caught.value.differences) == sorted(caught.value.differences, key=lambda found: found.path)
    return {found.path: found for found in caught.value.differences}


def changes(root: str, manifest: Manifest) -> dict[str, Change]:
    return {path: found.change for path, found in differences(root, manifest).items()}


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_an_untouched_tree_passes(tmp_path: Path, options: ReadOptions, algorithm: str) -> None:
    root = plant(tmp_path / "pkg", PACKAGE)
    good = manifest_of(root, algorithm=algorithm)
    check_tree(root, good, options=options)
    check_tree(root, Manifest.parse(good.to_bytes()), options=options)


def test_a_flipped_byte_is_found_anywhere(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    for name in ("bin/run", "code/main.py", "data/model.bin"):
        path = os.path.join(root, name)
        with open(path, "rb") as file:
            before = file.read()
        for at in {0, len(before) // 2, len(before) - 1}:
            with open(path, "wb") as file:
                file.write(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
            assert changes(root, good) == {name: Change.MODIFIED}
        with open(path, "wb") as file:
            file.write(before)
    check_tree(root, good)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: os.unlink(f"{root}/code/main.py"), {"code/main.py": Change.MISSING}),
        (lambda root: os.unlink(f"{root}/latest"), {"latest": Change.MISSING}),
        (lambda root: os.rmdir(f"{root}/cache"), {"cache": Change.MISSING}),
        (lambda root: plant(root, {"added": b""}), {"added": Change.ADDED}),
        (lambda root: plant(root, {"zz/deep/new": None}), {"zz/deep/new": Change.ADDED}),
        (lambda root: plant(root, {"0": "latest"}), {"0": Change.ADDED}),
        (lambda root: plant(root, {"cache/x": b""}), {"cache": Change.MISSING, "cache/x": Change.ADDED}),
        (lambda root: os.chmod(f"{root}/bin/run", 0o644), {"bin/run": Change.MODE}),
        (lambda root: os.chmod(f"{root}/code/empty.py", 0o700), {"code/empty.py": Change.MODE}),
        (lambda root: relink(root, "data/other.bin"), {"latest": Change.LINK}),
        (lambda root: relink(root, None), {"latest": Change.KIND}),
        (lambda root: retype(root, "code/empty.py"), {"code/empty.py": Change.KIND}),
        (lambda root: plant(root, {"code/__pycache__/main.pyc": b"x"}), {"code/__pycache__/main.pyc": Change.BYTECODE}),
        (lambda root: plant(root, {"code/main.pyc": b"x"}), {"code/main.pyc": Change.BYTECODE}),
        (lambda root: plant(root, {"__pycache__": None}), {"__pycache__": Change.BYTECODE}),
        (lambda root: plant(root, {".git/config": b""}), {".git/config": Change.ADDED}),
    ],
)
def test_every_kind_of_difference_is_named(
    tmp_path: Path, spoil: Callable[[str], object], expected: dict[str, Change]
) -> None:
    root, good = package(tmp_path)
    spoil(root)
    assert changes(root, good) == expected


def relink(root: str, target: str | None, content: bytes = b"copied") -> None:
    os.unlink(f"{root}/latest")
    plant(root, {"latest": content if target is None else target})


def retype(root: str, name: str) -> None:
    os.unlink(f"{root}/{name}")
    os.mkdir(f"{root}/{name}")


def test_a_changed_mode_does_not_hide_a_changed_content(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    with open(f"{root}/bin/run", "r+b") as file:
        file.write(b"#!/bin/zz")
    os.chmod(f"{root}/bin/run", 0o644)
    assert changes(root, good) == {"bin/run": Change.MODIFIED}


def test_expected_and_found_are_told(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    with open(f"{root}/code/main.py", "ab") as file:
        file.write(b"evil()\n")
    found = differences(root, good)["code/main.py"]
    assert found.expected.startswith("file, 18 bytes, ")
    assert found.found == "file, 25 bytes"


def rename(root: str, old: str, new: str) -> None:
    os.makedirs(os.path.dirname(f"{root}/{new}"), exist_ok=True)
    os.rename(f"{root}/{old}", f"{root}/{new}")


def rewrite(root: str, name: str, change: Callable[[bytes], bytes]) -> None:
    with open(f"{root}/{name}", "rb") as file:
        before = file.read()
    with open(f"{root}/{name}", "wb") as file:
        file.write(change(before))


@pytest.mark.parametrize(
    ("spoil", "path", "cause"),
    [
        (lambda root: rewrite(root, MAIN, lambda old: old.replace(b"\n", b"\r\n")), MAIN, "to CRLF"),
        (lambda root: rewrite(root, "dos.txt", lambda old: old.replace(b"\r\n", b"\n")), "dos.txt", "to LF"),
        (lambda root: rewrite(root, MAIN, lambda old: b"\xef\xbb\xbf" + old), MAIN, "mark was added"),
        (lambda root: rewrite(root, "bom.txt", lambda old: old[3:]), "bom.txt", "mark was removed"),
        (lambda root: rewrite(root, MAIN, lambda old: old[:-1]), MAIN, "at the end was removed"),
        (lambda root: rewrite(root, MAIN, lambda old: old + b"\n"), MAIN, "newline was added"),
        (lambda root: rewrite(root, MAIN, lambda old: b""), MAIN, "the file is empty"),
        (lambda root: rewrite(root, MODEL, lambda old: old[:99]), MODEL, "shorter than signed by 102301 "),
        (lambda root: rewrite(root, MODEL, lambda old: LFS), MODEL, "Git LFS pointer"),
        (lambda root: os.chmod(f"{root}/bin/run", 0o644), "bin/run", "execute bit was lost"),
        (lambda root: os.chmod(f"{root}/code/main.py", 0o755), MAIN, "execute bit was set"),
        (lambda root: rename(root, MODEL, "data/m.bin"), MODEL, "moved or renamed to 'data/m.bin'"),
        (lambda root: rename(root, MODEL, "x/m.bin"), "x/m.bin", "moved or renamed from 'data/model.bin'"),
        (lambda root: rename(root, MAIN, "code/Main.py"), MAIN, "spelt in other case as 'code/Main.py'"),
        (lambda root: rename(root, "é", unicodedata.normalize("NFD", "é")), "é", "another Unicode form or case as"),
        (lambda root: os.rmdir(f"{root}/cache"), "cache", "do not keep empty directories"),
        (lambda root: relink(root, None), "latest", "a copy stands where a symbolic link was"),
        (lambda root: relink(root, None, b"data/model.bin"), "latest", "checked out without symbolic links"),
        (lambda root: plant(root, {"code/x.pyc": b""}), "code/x.pyc", "wcp-attest clean"),
        (lambda root: plant(root, {".DS_Store": b""}), ".DS_Store", "macOS"),
        (lambda root: plant(root, {"code/main.py~": b""}), "code/main.py~", "editor"),
        (lambda root: plant(root, {".git/HEAD": b""}), ".git/HEAD", "git repository"),
        (lambda root: plant(root, {".f.0123456789abcdef.wcp-tmp": b""}), ".f.0123456789abcdef.wcp-tmp", "interrupted"),
    ],
)
def test_the_likely_cause_is_named(tmp_path: Path, spoil: Callable[[str], object], path: str, cause: str) -> None:
    root = plant(tmp_path / "pkg", {**PACKAGE, "dos.txt": b"a\r\nb\r\n", "bom.txt": b"\xef\xbb\xbfx", "é": b"accent"})
    good = manifest_of(root)
    spoil(root)
    assert cause in differences(root, good)[path].cause


def test_an_unrelated_change_has_no_made_up_cause(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    rewrite(root, "code/main.py", lambda old: old.replace(b"1", b"3"))
    plant(root, {"other": b"something else"})
    assert [found.cause for found in differences(root, good).values()] == ["", ""]


def test_all_differences_are_counted_and_a_thousand_named(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    plant(root, {f"new/{n:05}": b"" for n in range(2500)})
    with pytest.raises(TreeMismatch, match="2500 entries differ") as caught:
        check_tree(root, good)
    assert caught.value.total == 2500
    assert [found.path for found in caught.value.differences] == [f"new/{n:05}" for n in range(1000)]


def test_a_file_of_another_size_is_not_read(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    os.truncate(f"{root}/data/model.bin", 1 << 40)  # a terabyte that takes no room
    plant(root, {"huge": b""})
    os.truncate(f"{root}/huge", 1 << 40)
    assert changes(root, good) == {"data/model.bin": Change.MODIFIED, "huge": Change.ADDED}


def bytes_read() -> int:
    with open("/proc/self/io", encoding="ascii") as file:
        return int(file.readline().split()[1])


def test_many_large_files_are_not_read_in_search_of_one(tmp_path: Path) -> None:
    size = 20 << 20
    root = plant(tmp_path / "pkg", {"f": b"1", "big": bytes(size)})
    good = manifest_of(root)
    os.unlink(f"{root}/big")
    for n in range(40):
        plant(root, {f"decoy{n}": b""})
        os.truncate(f"{root}/decoy{n}", size)
    before = bytes_read()
    changes(root, good)
    assert bytes_read() - before < 5 * size


@pytest.mark.parametrize(
    "shuffle", [lambda lines: lines[::-1], lambda lines: lines[1:] + lines[:1], lambda lines: lines + lines]
)
def test_a_manifest_out_of_order_is_denied(tmp_path: Path, shuffle: Callable[[list[bytes]], list[bytes]]) -> None:
    root, good = package(tmp_path)
    with pytest.raises(ManifestMalformed):
        check_tree(root, dataclasses.replace(good, body=b",\n".join(shuffle(list(good.lines)))))


@pytest.mark.parametrize("at", range(5))
def test_the_line_of_an_empty_directory_stands_in_its_place(tmp_path: Path, at: int) -> None:
    root, good = package(tmp_path)
    line = b'"cache": {"directory":true}'
    others = [other for other in good.lines if other != line]
    moved = (*others[:at], line, *others[at:])
    if moved == good.lines:
        return
    with pytest.raises(ManifestMalformed):
        check_tree(root, dataclasses.replace(good, body=b",\n".join(moved)))


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("stray", [b"\n", b",\n", b",\n,\n", b" ,\n", b",\r\n", b",", b""])
def test_lines_that_are_parted_otherwise_are_refused(tmp_path: Path, stray: bytes, options: ReadOptions) -> None:
    root, good = package(tmp_path)
    places = [at for at in range(len(good.body)) if good.body.startswith(b",\n", at)]
    bodies = [good.body[:at] + stray + good.body[at + 2 :] for at in places if stray != b",\n"]
    bodies += [stray + good.body, good.body + stray] if stray else []
    for body in bodies:
        with pytest.raises((TreeMismatch, ManifestMalformed)):
            check_tree(root, dataclasses.replace(good, body=body), options=options)


def test_the_package_hash_must_be_that_of_the_files(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    with pytest.raises(ManifestMalformed, match="package_hash"):
        check_tree(root, dataclasses.replace(good, package_hash="0" * 64))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'"a": {"sha256":"","size":0}',
        b'"\xff": {"directory":true}',
        b'{"directory":true}',
        b'"a":{"directory":true}',
    ],
)
def test_a_malformed_line_is_denied_whatever_the_tree_holds(tmp_path: Path, line: bytes) -> None:
    root, good = package(tmp_path)
    with pytest.raises((ManifestMalformed, TreeMismatch)):
        check_tree(root, dataclasses.replace(good, body=b",\n".join((line, *good.lines))))


def test_a_manifest_without_files_is_never_satisfied(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"d": None})
    good = manifest_of(plant(tmp_path / "other", {"f": b""}))
    empty = dataclasses.replace(
        good,
        body=b'"d": {"directory":true}',
        package_hash="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )
    with pytest.raises(VerificationError):
        check_tree(root, empty)


def test_excludes_come_from_the_manifest_and_only_from_there(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", "log/a": b"", ".git/x": b""})
    good = manifest_of(root, excludes=["log/"])
    assert good.excludes == ("log/",)
    plant(root, {"log/b": b"", ".wcpignore": b"*\n", ".gitignore": b"*\n"})
    assert changes(root, good) == {".gitignore": Change.ADDED, ".wcpignore": Change.ADDED}


def test_nothing_hides_in_an_excluded_directory_as_bytecode(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", "log/a": b""})
    good = manifest_of(root, excludes=["log/", "*.pyc", "__pycache__/"])
    assert good.excludes == ("log/",)
    check_tree(root, good)
    plant(root, {"log/deep/__pycache__/evil.bin": b"", "log/evil.pyc": b""})
    assert set(changes(root, good).values()) == {Change.BYTECODE}


def test_an_unknown_name_in_an_excluded_directory_is_let_be(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", "log/a": b""})
    good = manifest_of(root, excludes=["log/"])
    with open(os.fsencode(root) + b"/log/\xff\n", "wb"):
        pass
    check_tree(root, good)


@pytest.mark.parametrize("excludes", [["log/"], ["*.x"], ["/log/a/"], ["**/a"]])
@pytest.mark.parametrize("where", ["log/a/", "log/a/b/"])
def test_what_is_excluded_is_still_searched(tmp_path: Path, excludes: list[str], where: str) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", f"{where}q.x": b"", "log/b.x": b"", "log/keep": b""})
    good = manifest_of(root, excludes=excludes)
    check_tree(root, good)
    os.chmod(f"{root}/{where}q.x", 0o4755)
    with pytest.raises(TreeUnsafe, match=r"q\.x' has a set-id bit"):
        check_tree(root, good)
    with pytest.raises(TreeUnsafe, match=r"q\.x' has a set-id bit"):
        read_tree(root, excludes=excludes)
    os.chmod(f"{root}/{where}q.x", 0o644)
    os.mkfifo(f"{root}/{where}pipe.x")
    with pytest.raises(TreeUnsafe, match=r"pipe\.x' is not a file"):
        check_tree(root, good)
    os.unlink(f"{root}/{where}pipe.x")
    plant(root, {f"{where}__pycache__/q.pyc": b""})
    with pytest.raises(TreeMismatch):
        check_tree(root, good)


def test_git_planted_below_the_root_is_a_difference(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", "code/a": b"", ".git/HEAD": b""})
    good = manifest_of(root)
    assert good.excludes == ("/.git",)
    plant(root, {"code/.git/config": b"[core]\nfsmonitor = evil\n"})
    with pytest.raises(TreeMismatch) as caught:
        check_tree(root, good)
    assert [found.path for found in caught.value.differences] == ["code/.git/config"]


def test_an_older_manifest_that_excludes_git_everywhere_is_read(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", ".git/HEAD": b"", "sub/x": b"", "sub/.git/HEAD": b""})
    good = manifest_of(root, excludes=[".git/"])
    assert good.excludes == (".git/",)
    check_tree(root, good)


def test_included_bytecode_is_checked_like_any_file(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", "__pycache__/f.pyc": b"1", "x.pyc": b"2"})
    good = manifest_of(root, options=ReadOptions(bytecode="include"))
    check_tree(root, good)
    rewrite(root, "__pycache__/f.pyc", lambda old: b"3")
    plant(root, {"__pycache__/g.pyc": b""})
    assert changes(root, good) == {"__pycache__/f.pyc": Change.MODIFIED, "__pycache__/g.pyc": Change.BYTECODE}


def test_a_unicode_name_passes_only_in_its_own_form(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"é": b"1"})
    good = manifest_of(root)
    rename(root, "é", unicodedata.normalize("NFD", "é"))
    assert set(changes(root, good).values()) == {Change.MISSING, Change.ADDED}


def test_a_link_where_a_directory_was_is_not_followed(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    os.rename(f"{root}/data", tmp_path / "data")
    os.symlink(str(tmp_path / "data"), f"{root}/data")
    with pytest.raises(TreeUnsafe, match="the link 'data' has an absolute target"):
        check_tree(root, good)
    os.unlink(f"{root}/data")
    os.symlink("code", f"{root}/data")
    assert changes(root, good)["data"] is Change.ADDED


# Whatever is done to a tree, it is not accepted.

CONTENT = st.binary(max_size=20)
SMALL_TREES = st.dictionaries(
    st.sampled_from(["a", "b", "c.py", "d/e", "d/f", "d/g/h", "i j", "k"]), CONTENT, min_size=1, max_size=8
)


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=SMALL_TREES, after=SMALL_TREES, number=st.integers(0, 10**15))
def test_a_tree_passes_exactly_when_it_is_the_same(
    tmp_path: Path, before: dict[str, bytes], after: dict[str, bytes], number: int
) -> None:
    one, other = tmp_path / f"{number}a", tmp_path / f"{number}b"
    if one.exists():
        return
    plant(one, {**before})
    plant(other, {**after})
    good = manifest_of(str(one))
    if before == after:
        check_tree(str(other), good)
        return
    found = changes(str(other), good)
    assert set(found) == {path for path in {*before, *after} if before.get(path) != after.get(path)}


# The copy of what was checked.


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_copy_holds_what_was_checked_with_the_modes_of_the_umask(
    tmp_path: Path, options: ReadOptions, mask: int
) -> None:
    root, good = package(tmp_path)
    before = os.umask(mask)
    try:
        check_tree(root, good, options=options, stage=str(tmp_path / "out"), extra={"manifest.json": b"{}"})
    finally:
        os.umask(before)
    copied = snapshot(tmp_path / "out")
    for kind, _ in copied.values():
        assert stat.S_ISLNK(kind) or kind & mask == 0
    expected = snapshot(root) | {"manifest.json": (0o100666 & ~mask, b"{}")}

    def seen(tree: dict[str, tuple[int, bytes]]) -> dict[str, tuple[bytes, int]]:
        return {path: (content, kind & 0o100) for path, (kind, content) in tree.items()}

    assert seen(copied) == seen(expected)
    assert sorted(os.listdir(tmp_path)) == ["out", "pkg"]
    assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o777 & ~mask
    check_tree(str(tmp_path / "out"), good)


def test_a_large_tree_is_copied_by_helpers(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {f"d{n % 40}/f{n}": str(n).encode() * 9 for n in range(3000)})
    plant(root, {"big": b"x" * 9_000_000})
    good = manifest_of(root)
    check_tree(root, good, options=TWO, stage=str(tmp_path / "out"))
    check_tree(str(tmp_path / "out"), good)


def test_excluded_things_are_not_copied(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"f": b"", ".git/x": b"", "log/x": b""})
    good = manifest_of(root, excludes=[".git/", "log/"])
    check_tree(root, good, stage=str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["f", "log"][:1]


def test_nothing_is_copied_of_a_tree_that_differs(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    plant(root, {"zzz": b""})
    with pytest.raises(TreeMismatch):
        check_tree(root, good, stage=str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["pkg"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "inside", "self", "no parent"])
def test_a_place_that_is_taken_or_unfit_is_refused(tmp_path: Path, kind: str) -> None:
    root, good = package(tmp_path)
    target = str(tmp_path / "out")
    if kind == "file":
        plant(tmp_path, {"out": b""})
    elif kind == "folder":
        os.mkdir(target)
    elif kind == "link":
        os.symlink("nowhere", target)
    elif kind == "inside":
        target = f"{root}/code/out"
    elif kind == "self":
        target = root
    else:
        target = str(tmp_path / "absent" / "out")
    before = snapshot(tmp_path) if kind != "link" else None
    with pytest.raises(ConfigError, match="cannot stage into"):
        check_tree(root, good, stage=target)
    if before is not None:
        assert snapshot(tmp_path) == before


def test_a_package_reached_by_a_link_is_known_to_hold_the_place(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    os.symlink("pkg/code", tmp_path / "way-in")
    with pytest.raises(ConfigError, match="inside the package"):
        check_tree(root, good, stage=str(tmp_path / "way-in" / "out"))


def test_an_extra_file_never_replaces_a_checked_one(tmp_path: Path) -> None:
    root, good = package(tmp_path)
    with pytest.raises(ConfigError, match="file exists; nothing was staged"):
        check_tree(root, good, stage=str(tmp_path / "out"), extra={"latest": b"evil"})
    assert os.listdir(tmp_path) == ["pkg"]


# Replace the first file of a tree in the moment when the last one is opened.
REPLACER = """
import os, sys
new, old = sys.argv[1:3]
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith("zz-last") and os.path.exists(new):
        os.replace(new, old)
from wcp_attest.cli import main
sys.addaudithook(hook)
sys.exit(main(sys.argv[3:]))
"""


def test_a_file_that_is_replaced_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    root = plant(tmp_path / "tree", {"d00/f00": b"1", "d01/zz-last": b"1"})
    os.utime(f"{root}/d00", (1, 1))  # so that the replacement does not fall into the same tick of the clock
    new = tmp_path / "new"
    new.write_bytes(b"2")
    command = [sys.executable, "-c", REPLACER, str(new), f"{root}/d00/f00", "hash", "--jobs", "1", root]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not new.exists(), "it was replaced while the tree was read"
    assert done.returncode == 1, done
    assert "'d00/' changed while it was read" in done.stderr
