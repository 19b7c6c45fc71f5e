"""Whoever mends a tree hears of all that is wrong with it, not of one after the other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import ONE, TWO, manifest_of, plant
from wcp_attest.advice.cached_diff import compare_tree
from wcp_attest.base.errors import TreeUnsafe
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.read_tree import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wcp_attest.package.manifest import Manifest

STRICT = ReadOptions(jobs=1, strict_permissions=True)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(TreeUnsafe) as caught:
        read()
    return str(caught.value)


def spoil(root: str) -> None:
    os.mkfifo(f"{root}/a.pipe")
    os.symlink("/etc/passwd", f"{root}/code/b.link")
    os.makedirs(f"{root}/deep/er")
    os.symlink("../../../out", f"{root}/deep/er/c.link")
    os.chmod(f"{root}/code/main.py", 0o4755)
    with open(f"{root}/deep/d\x07", "wb"):
        pass


WRONG = (
    "'a.pipe' is not a file, directory or symbolic link; remove it",
    "the link 'code/b.link' has an absolute target",
    "'code/main.py' has a set-id bit",
    "'deep/d\\x07'",
    "the link 'deep/er/c.link'",
)


@pytest.mark.parametrize("options", [ONE, TWO])
def test_every_entry_that_cannot_be_signed_is_named(tmp_path: Path, options: ReadOptions) -> None:
    root = plant(tmp_path / "pkg", {"code/main.py": b"1", "z": b"2", "Z": b"3"})
    spoil(root)
    said = refusal(lambda: read_tree(root, options=options))
    for problem in (*WRONG, "'Z' and 'z' differ only by case"):
        assert said.count(problem) == 1, problem
    assert said.startswith("'a.pipe'")
    assert "\n" not in said


def test_every_entry_that_cannot_be_verified_is_named(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"code/main.py": b"1"})
    good: Manifest = manifest_of(root)
    spoil(root)
    said = refusal(lambda: check_tree(root, good, options=ONE))
    for problem in WRONG:
        assert said.count(problem) == 1, problem


def test_whoever_looks_with_a_cache_hears_of_all_too(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"code/main.py": b"1"})
    good: Manifest = manifest_of(root)
    spoil(root)
    said = refusal(lambda: compare_tree(root, good, cache=str(tmp_path / "cache"), report=pytest.fail))
    for problem in WRONG:
        assert said.count(problem) == 1, problem


def test_one_that_is_alone_is_named_alone(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1", "b": b"2"})
    os.chmod(f"{root}/b", 0o2644)
    assert refusal(lambda: read_tree(root, options=ONE)) == "'b' has a set-id bit; take it away with `chmod ug-s`"


def test_permissions_are_looked_at_where_they_count(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a/one": b"1", "b/two": b"2", "c": b"3"})
    os.chmod(root, 0o755)
    for path, mode in (("a", 0o755), ("a/one", 0o664), ("b", 0o777), ("b/two", 0o666)):
        os.chmod(f"{root}/{path}", mode)
    said = refusal(lambda: read_tree(root, options=STRICT))
    assert [name for name in ("'a/one'", "'b/'", "'b/two'", "'c'") if name in said] == ["'a/one'", "'b/'", "'b/two'"]
    assert read_tree(root, options=ONE).files == 3


def test_what_was_left_out_is_not_named(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1", "cache/b": b"2", "c": b"3"})
    with open(os.fsencode(root) + b"/cache/\xff\n", "wb"):
        pass
    os.chmod(f"{root}/c", 0o4644)
    said = refusal(lambda: read_tree(root, excludes=("cache/",), options=ONE))
    assert said == "'c' has a set-id bit; take it away with `chmod ug-s`"


def test_a_message_stays_short(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1"})
    for number in range(500):
        os.mkfifo(f"{root}/{'p' * 200}{number:03}")
    said = refusal(lambda: read_tree(root, options=ONE))
    assert said.endswith("; and more")
    assert said.count("remove it") == 9
    assert len(said) < 4000


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("place", [b"\xe9", b"d\xff/\xe9", b"d\xff/x", b"code/\xc3("])
def test_link_whose_name_is_not_utf8_is_refused_by_name(tmp_path: Path, options: ReadOptions, place: bytes) -> None:
    root = plant(tmp_path / "pkg", {"code/main.py": b"1"})
    manifest = manifest_of(root)
    os.makedirs(os.path.dirname(os.fsencode(root) + b"/" + place), exist_ok=True)
    os.symlink(b"main.py", os.fsencode(root) + b"/" + place)
    os.mkfifo(f"{root}/z")
    for said in (
        refusal(lambda: read_tree(root, options=options)),
        refusal(lambda: check_tree(root, manifest, options=options)),
    ):
        assert "is not valid UTF-8; rename it" in said
        assert "'z' is not a file" in said


def test_link_with_a_bad_name_and_a_bad_target_is_refused_for_both(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"code/main.py": b"1", "z\u200bz/a": b"1"})
    os.symlink("/etc/passwd", f"{root}/l\u200b")
    os.symlink("/etc/passwd", f"{root}/z\u200bz/inside")
    os.symlink(b"/etc/passwd", os.fsencode(root) + b"/\xe9")
    said = refusal(lambda: read_tree(root, options=ONE))
    assert said.count("has an absolute target") == 3
    assert said.count("holds U+200B") >= 2
    assert "is not valid UTF-8; rename it" in said
