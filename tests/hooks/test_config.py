"""The configuration file: strict, bounded, found where one would look for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.advice.project_config import PackageConfig, find_config, load_config, parse_config
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FULL = b"""
[[package]]
path = "workers/a/"
worker_id = "org.acme.a"
species_id = "wrk.a"
worker_version = "1"
exclude = ["x", "y"]
algorithm = "blake3"
bytecode = "include"
[[package]]
path = "."
"""


def test_everything_that_can_be_said() -> None:
    assert parse_config(FULL, name="wcp-attest.toml") == (
        PackageConfig("workers/a", "org.acme.a", "wrk.a", "1", ("x", "y"), "blake3", "include"),
        PackageConfig("."),
    )


def test_only_its_own_table_of_a_pyproject_counts() -> None:
    assert parse_config(b'[project]\nname = "x"', name="pyproject.toml") is None
    assert parse_config(b"[tool.other]", name="pyproject.toml") is None
    nested = FULL.replace(b"[[package]]", b"[[tool.wcp-attest.package]]")
    assert parse_config(nested, name="pyproject.toml") == parse_config(FULL, name="wcp-attest.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "expected one or more"),
        (b"package = []", "found 0"),
        (b"package = " + b"1" * 5000, "too many digits"),
        (b"package = 1", "expected one or more"),
        (b"package = [1]", "not a table"),
        (b'other = 1\n[[package]]\npath = "a"', "nothing else"),
        (b"[[package]]", "`path` is not a text"),
        (b'[[package]]\npath = ""', "`path` is not a text"),
        (b'[[package]]\npath = "/a"', "absolute"),
        (b'[[package]]\npath = "../a"', "`..`"),
        (b'[[package]]\npath = "a\\\\b"', "backslash"),
        (b'[[package]]\npath = "a"\npolicy = "p"', "unknown key `policy`"),
        (b'[[package]]\npath = "a"\nalgorithm = "md5"', "sha256, blake3"),
        (b'[[package]]\npath = "a"\nbytecode = true', "leave, include"),
        (b'[[package]]\npath = "a"\nexclude = "x"', "list of patterns"),
        (b'[[package]]\npath = "a"\nexclude = [""]', "list of patterns"),
        (b'[[package]]\npath = "a"\nworker_id = 1', "`worker_id` is not a text"),
        (b'[[package]]\npath = "a"\n[[package]]\npath = "a/"', "configured twice"),
        (b"\xff", "UTF-8"),
        (b"x = ", "not TOML"),
        (b"x = " + b"[" * 5000, "TOML|deep"),
        (b'[[package]]\npath = "a"\n' * 1001, "1 to 1000"),
    ],
)
def test_everything_else_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(text, name="wcp-attest.toml")


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for name in ("wcp-attest.toml", "pyproject.toml"):
        try:
            parse_config(data, name=name)
        except ConfigError as problem:
            assert str(problem).startswith(name)  # noqa: PT017  # whatever else is raised fails the test


def test_it_is_looked_for_up_to_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "wcp-attest.toml").write_bytes(FULL)
    top = tmp_path / "repository"
    deep = top / "a/b"
    deep.mkdir(parents=True)
    (top / ".git").mkdir()
    assert find_config(str(deep)) is None
    (top / "pyproject.toml").write_text("[tool.other]\n")
    assert find_config(str(deep)) is None
    (top / "pyproject.toml").write_bytes(FULL.replace(b"[[package]]", b"[[tool.wcp-attest.package]]"))
    found = find_config(str(deep))
    assert found is not None
    assert found.file == str(top / "pyproject.toml")
    (top / "a/wcp-attest.toml").write_bytes(FULL)
    found = find_config(str(deep))
    assert found is not None
    assert found.file == str(top / "a/wcp-attest.toml")
    assert found.place(found.packages[0]) == str(top / "a/workers/a")
    assert found.package(str(top / "a/workers/../workers/a")) == found.packages[0]
    assert found.package(str(top)) is None


def test_a_file_that_cannot_be_used_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "wcp-attest.toml").mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        find_config(str(tmp_path))
    (tmp_path / "wcp-attest.toml").rmdir()
    (tmp_path / "wcp-attest.toml").symlink_to("absent")
    with pytest.raises(ConfigError, match="cannot read"):
        find_config(str(tmp_path))
    (tmp_path / "wcp-attest.toml").unlink()
    (tmp_path / "wcp-attest.toml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        find_config(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(str(tmp_path / "pipe.toml"))
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ConfigError, match="no table"):
        load_config(str(tmp_path / "pyproject.toml"))
