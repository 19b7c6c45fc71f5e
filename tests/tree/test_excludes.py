"""Excludes are gitignore patterns, exactly as git understands them."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.tree.support import manifest_of, plant
from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.excludes import Excludes, read_ignore_file
from wcp_attest.disk.read_tree import read_tree

if TYPE_CHECKING:
    from pathlib import Path

TREE: dict[str, bytes | str | None] = {
    "certain": b"",
    "a.py": b"",
    "a.log": b"",
    "b": b"",
    "foo/a.py": b"",
    "foo/bar/a.log": b"",
    "foo/bar/b": b"",
    "foo/foo/c d": b"",
    "bar/foo": b"",
    "bar/x/y/z": b"",
    "log/keep.me": b"",
    "log/a.log": b"",
    "Upper/B.txt": b"",
    "[x]": b"",
    "!bang": b"",
    "fooby": b"",
    "foox/by/b": b"",
    "#hash": b"",
    "é.txt": b"",
    "là": b"",  # its last byte looks like a space
    "a b ": b"",
    "a'(+,.-": b"",
}


def kept(root: str, patterns: list[str]) -> set[str]:
    return set(manifest_of(root, excludes=[*patterns, "!/certain"]).entries())


def kept_by_git(root: str, patterns: list[str]) -> set[str]:
    """What git does not ignore; it knows no empty directories, so the files decide."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    git = ["git", "--git-dir", f"{root}.git", "--work-tree", root]
    if not os.path.isdir(f"{root}.git"):
        subprocess.run(["git", "init", "-q", "--bare", f"{root}.git"], check=True, env=environment)
        subprocess.run([*git, "config", "core.bare", "false"], check=True, env=environment)
    with open(f"{root}.git/info/exclude", "w", encoding="utf-8") as file:
        file.write("".join(f"{pattern}\n" for pattern in [*patterns, "!/certain"]))
    done = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "-z"], check=True, capture_output=True, env=environment
    )
    return {name.decode() for name in done.stdout.split(b"\0") if name}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> str:
    return plant(tmp_path_factory.mktemp("excludes") / "pkg", TREE)


@pytest.mark.parametrize(
    "patterns",
    [
        ["*.log"],
        ["foo"],
        ["foo/"],
        ["/foo"],
        ["foo/bar"],
        ["foo/*"],
        ["foo/**"],
        ["**/foo"],
        ["**/bar/"],
        ["bar/**/z"],
        ["bar/**/"],
        ["*"],
        ["*/"],
        ["**/"],
        ["**"],
        ["/*", "!/foo"],
        ["/*", "!/foo/", "/foo/*", "!/foo/bar"],
        ["*", "!*/", "!*.py"],
        ["*.log", "!a.log"],
        ["log/", "!log/keep.me"],
        ["log/*", "!log/keep.me"],
        ["*.log", "!/log/*.log", "a.*"],
        ["\\!bang", "\\#hash"],
        ["[a-c].*"],
        ["?"],
        ["[!a]"],
        ["foo/foo/c d"],
        ["# a comment", "", "  "],
        ["b.txt"],
        ["é*"],
        ["/"],
        ["a.log "],
        ["a.log\\ "],
        ["bar/x/**"],
        ["bar/x/y/"],
        ["/bar/*/y"],
        ["x/y"],
        ["**/x/y"],
        ["/**/"],
        ["foo/**b"],
        ["*[!x]b"],
        ["***/*"],
        ["foo/***"],
        ["foo/****/y", "!foo/***/b.txt"],
        ["***"],
        ["***/"],
        ["*", "!***/", "!***/x"],
        ["foo***"],
        ["?????"],
        ["??????"],
        ["là"],
        ["?à"],
        ["[é]?.txt"],
    ],
)
def test_patterns_mean_what_they_mean_to_git(tree: str, patterns: list[str]) -> None:
    files = {path for path in kept(tree, patterns) if path in TREE}
    assert files == kept_by_git(tree, patterns)


PIECES = [*"abxy?", "*", "**", "***", "foo", "bar", ".py", "/", "/", "log", "[a-f]", "[!x]", "keep.me", "é", "à"]
PATTERNS = st.lists(
    st.builds(
        lambda bang, pieces: bang + "".join(pieces),
        st.sampled_from(["", "", "!"]),
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patterns=PATTERNS)
def test_any_patterns_mean_what_they_mean_to_git(tree: str, patterns: list[str]) -> None:
    try:
        files = {path for path in kept(tree, patterns) if path in TREE}
    except ConfigError:  # refused: a lone `!/`, too many `*`
        reject()
    assert files == kept_by_git(tree, patterns), patterns


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patterns=PATTERNS)
def test_the_recorded_patterns_alone_decide_the_same(tree: str, patterns: list[str]) -> None:
    try:
        good = manifest_of(tree, excludes=[*patterns, "!/certain"])
    except ConfigError:
        reject()
    again = manifest_of(tree, excludes=good.excludes)
    assert again.lines == good.lines
    check_tree(tree, good)


def test_only_deciding_patterns_are_recorded_in_their_order(tree: str) -> None:
    patterns = ["*.none", "*.log", "foo/", "!nothing", "!/a.log", "/a.log", "bar/nothing"]
    assert read_tree(tree, excludes=patterns).excluded == ("*.log", "foo/", "/a.log")


def test_a_pattern_that_takes_back_is_recorded_when_it_did(tree: str) -> None:
    assert read_tree(tree, excludes=["*.log", "!a.log"]).excluded == ()  # all that matched was taken back
    assert read_tree(tree, excludes=["!.git/", "!*.log"]).excluded == ()
    assert read_tree(tree, excludes=["foo/bar", "*.log", "!/a.log"]).excluded == ("foo/bar", "*.log", "!/a.log")


def test_a_pattern_given_twice_is_recorded_once(tree: str) -> None:
    assert read_tree(tree, excludes=["*.log", "b", "*.log"]).excluded == ("b", "*.log")


def test_patterns_that_match_nothing_are_told_apart(tree: str) -> None:
    patterns = ["*.log", "./b", "tree/b", "/nothing", "b  # a comment", "!none", "*.pyc"]
    assert read_tree(tree, excludes=patterns).unmatched == tuple(patterns[1:])


HARD = [
    ("**/a/" * 6 + "b", "a/" * 100 + "c"),
    ("**/a/" * 40 + "b", "a/" * 100 + "c"),
    ("*a*a*/*a*a*b", "a" * 250 + "/" + "a" * 250),
    ("*a" * 120 + "b", "a" * 250),
    ("*[ab]" * 90 + "c", "ab" * 125),
    ("?*" * 200 + "x", "a" * 250),
    ("**/" * 150 + "x", "a/" * 150 + "y"),
    ("**/*a*a*a*b/" * 30 + "x", "aaaaaaaa/" * 150 + "y"),
    ("[[:alpha:]]*" * 40 + "9", "a" * 250),
]


@pytest.mark.parametrize(("pattern", "path"), HARD)
def test_hostile_pattern_and_path_cost_linear_time(pattern: str, path: str) -> None:
    rules = Excludes([pattern[:512]] * 10)
    started = time.process_time()
    for _ in range(10):
        rules.leave_out(path, folder=False)
    assert time.process_time() - started < 20  # by backtracking it takes minutes to years; this takes milliseconds


def worst_patterns(count: int) -> list[str]:
    """Patterns that each reach many parts of a path of `aa` and look through a long name again and again."""
    return [f"{'**/[a][a]/' * 10}**/*{'[a]' * 40}[b]*{number}" for number in range(count)]


def test_rejects_many_hostile_patterns_with_many_entries_before_they_take_long() -> None:
    rules = Excludes(worst_patterns(1000))

    def decide_many() -> None:
        for number in range(1_000_000):
            rules.leave_out(f"{'aa/' * 100}{'a' * 240}{number}", folder=False)

    with pytest.raises(TreeUnsafe, match="too long to match"):
        decide_many()


def test_rejects_hostile_patterns_in_a_tree_that_is_signed_or_verified(tmp_path: Path) -> None:
    deep = plant(tmp_path / "pkg", {"a": b"", **{f"{'aa/' * 90}{'a' * 240}{number}": b"" for number in range(30)}})
    with pytest.raises(TreeUnsafe, match="too long to match"):
        read_tree(deep, excludes=worst_patterns(900))
    manifest = replace(manifest_of(deep), excludes=tuple(worst_patterns(900)))
    with pytest.raises(TreeUnsafe, match="too long to match"):
        check_tree(deep, manifest)


def test_accepts_many_ordinary_patterns_with_many_entries() -> None:
    rules = Excludes([f"**/target-{number}/*.py[cod]" if number % 5 else f"*.{number}" for number in range(400)])
    assert not any(rules.leave_out(f"src/{n // 100}/module-{n}.py", folder=False) for n in range(3000))


def test_directories_above_an_entry_are_matched_once() -> None:
    rules = Excludes(["**/a/" * 80 + "b"] * 20)  # from the root again for each entry, these would take too long
    assert not any(rules.leave_out(f"{'a/' * 190}{number}", folder=False) for number in range(400))


@settings(max_examples=examples(100))
@given(patterns=PATTERNS, paths=st.lists(st.sampled_from(sorted(TREE)), min_size=2, max_size=8))
def test_entries_are_decided_alike_in_any_order(patterns: list[str], paths: list[str]) -> None:
    try:
        rules = Excludes(patterns)
    except ConfigError:
        reject()
    ways = [(way, folder) for path in paths for way, folder in ((path, False), (path.rpartition("/")[0], True)) if way]
    for way, folder in ways:
        assert rules.leave_out(way, folder=folder) is Excludes(patterns).leave_out(way, folder=folder), (way, patterns)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("[a", "without its `]`"),
        ("x[!]", "without its `]`"),
        ("[[:digits:]]", "unknown class"),
        ("a\\", "backslash"),
        ("a\\/b", "backslash"),
        ("[a\\", "without its `]`"),
    ],
)
def test_rejects_pattern_that_git_would_never_match(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        Excludes([pattern])


NAMES_OF_CLASSES = {f"{letter}.c": b"" for letter in "aZ5_-! ~]^[." if letter != "."}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    return plant(tmp_path_factory.mktemp("letters") / "pkg", {"certain": b"", **NAMES_OF_CLASSES})


WORDS = "alnum alpha blank cntrl digit graph lower print punct space upper xdigit"
CLASSES = [f"[:{name}:]" for name in WORDS.split()]
BRACKETS = st.builds(
    lambda start, inside: f"[{start}{''.join(inside)}].c",
    st.sampled_from(["", "", "!", "^", "]", "!]"]),
    st.lists(
        st.sampled_from(
            [*"aZ5_-!~]^[", "a-z", "A-Z", "0-9", "z-a", "!-~", "\\]", "\\-", "a-\\z", *CLASSES, "[:", ":]"]
        ),
        min_size=1,
        max_size=4,
    ),
)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=BRACKETS)
def test_brackets_mean_what_they_mean_to_git_or_are_refused(letters: str, pattern: str) -> None:
    try:
        files = kept(letters, [pattern])
    except ConfigError:
        reject()
    assert files == kept_by_git(letters, [pattern]), pattern


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        (b"\xef\xbb\xbfsecret/\n", ["secret/"]),
        (b"bar\\ \n", ["bar\\ "]),
        (b"bar\\  \n", ["bar\\ "]),
        (b"bar\\\\ \n", ["bar\\\\"]),
        (b"bar   \r\n", ["bar"]),
        (b"  bar\t\n\n#x\n\\#y", ["  bar\t", "\\#y"]),
    ],
)
def test_ignore_file_is_read_as_git_reads_it(text: bytes, patterns: list[str]) -> None:
    assert read_ignore_file(text, ".wcpignore") == patterns


def test_rejects_ignore_file_that_is_not_utf8() -> None:
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        read_ignore_file(b"\xff\xfea\x00", ".wcpignore")


def test_too_many_patterns_are_refused(tree: str) -> None:
    with pytest.raises(ConfigError, match="more than 1000 exclude patterns"):
        read_tree(tree, excludes=[f"x{n}" for n in range(1001)])
