"""`verify --stage-link` works on every start, and never leaves the link without a good copy."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.forked import SCRIPT
from tests.store.worlds import KEY, make_package, resign
from wcp_attest.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "acme.pub").write_bytes(KEY.public_pem())
    return make_package(tmp_path / "worker", now=time.time())


def start(package: Path, *more: str) -> int:
    trust = ["--public-key", str(package.parent / "acme.pub"), "--namespace", "org.acme"]
    return main(["verify", str(package), "-q", *trust, "--stage-link", str(package.parent / "current"), *more])


def test_each_start_has_a_copy_of_its_own_and_the_link_names_the_last(package: Path) -> None:
    link = package.parent / "current"
    for number in (1, 2, 3):
        assert start(package) == 0
        assert os.readlink(link) == f"current.{number}"
    (package / "code" / "worker_logic.py").write_text("print('next')\n")
    resign(package, "1.5.0", now=time.time())
    assert start(package) == 0
    assert (link / "code" / "worker_logic.py").read_text() == "print('next')\n"
    assert (package.parent / "current.3/code/worker_logic.py").read_text() == "print('hello')\n"


def test_a_refused_package_leaves_the_link_and_no_copy(package: Path) -> None:
    start(package)
    (package / "more").write_text("x")
    assert start(package) == 1
    assert os.readlink(package.parent / "current") == "current.1"
    assert not (package.parent / "current.2").exists()


def test_what_is_no_link_is_never_replaced(package: Path) -> None:
    (package.parent / "current").write_text("mine")
    assert start(package) == 2
    assert (package.parent / "current").read_text() == "mine"
    assert start(package, "--stage", str(package.parent / "other")) == 2


def test_starts_at_once_get_a_copy_each_and_the_link_names_one(package: Path) -> None:
    command = [SCRIPT, "verify", package, "-q", "--public-key", package.parent / "acme.pub", "--namespace", "org.acme"]
    command += ["--stage-link", package.parent / "current"]
    starts = [subprocess.Popen([str(word) for word in command]) for _ in range(6)]
    assert [start.wait(60) for start in starts] == [0] * 6
    copies = {f"current.{number}" for number in range(1, 7)}
    assert {path.name for path in package.parent.glob("current.*")} == copies
    assert os.readlink(package.parent / "current") in copies
    assert not list(package.parent.glob(".current*"))
    assert all((package.parent / name / "manifest.json").exists() for name in copies)


def test_a_number_that_a_file_has_is_passed_over(package: Path) -> None:
    (package.parent / "current.1").write_text("mine")
    (package.parent / "current.02").write_text("mine")
    assert start(package) == 0
    assert os.readlink(package.parent / "current") == "current.2"
    assert (package.parent / "current.1").read_text() == "mine"
