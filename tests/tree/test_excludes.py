"""Excludes are gitignore patterns, exactly as git understands them."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from tests.tree.support import manifest_of, plant
from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.read import read_tree

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


# Git takes the literal start of a pattern off before it matches, so that to it `b**/y` is `b` and `**/y`. Its own
# documentation, and this project, say that such asterisks are ordinary ones.
ODD_IN_GIT = re.compile(r"!?/?[^*?\[\\]*[^*?\[\\/]\*{2,}/")


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patterns=PATTERNS)
def test_any_patterns_mean_what_they_mean_to_git(tree: str, patterns: list[str]) -> None:
    assume(not any(map(ODD_IN_GIT.match, patterns)))
    try:
        files = {path for path in kept(tree, patterns) if path in TREE}
    except ConfigError:  # refused: a lone `!/`, too many `*`
        reject()
    assert files == kept_by_git(tree, patterns), patterns


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert read_tree(tree, excludes=["*.log", "!a.log"]).excluded == ("!a.log",)
    assert read_tree(tree, excludes=["foo/bar", "*.log", "!/a.log"]).excluded == ("foo/bar", "*.log", "!/a.log")


def test_a_pattern_given_twice_is_recorded_once(tree: str) -> None:
    assert read_tree(tree, excludes=["*.log", "b", "*.log"]).excluded == ("b", "*.log")


@pytest.mark.parametrize("pattern", ["*a*b*c*d*e", "x/" + "*a" * 9])
def test_a_pattern_that_could_cost_hours_is_refused(tmp_path: Path, pattern: str) -> None:
    root = plant(tmp_path, {"a" * 200: b""})
    with pytest.raises(ConfigError, match="more than 4"):
        read_tree(root, excludes=[pattern])


def test_too_many_patterns_are_refused(tree: str) -> None:
    with pytest.raises(ConfigError, match="more than 1000 exclude patterns"):
        read_tree(tree, excludes=[f"x{n}" for n in range(1001)])


def test_the_default_needs_no_pattern_library(tmp_path: Path) -> None:
    from tests.tree.support import run_python

    root = plant(tmp_path, {"f": b"", ".git/x": b"", "sub/.git/y": b""})
    code = """
        import sys
        from wcp_attest.disk.read import read_tree
        print(read_tree(sys.argv[1]).excluded, "pathspec" in sys.modules)
    """
    assert run_python(code, root).stdout == "('.git/',) False\n"
