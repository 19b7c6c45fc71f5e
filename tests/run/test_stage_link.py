"""`verify --stage-link` works on every start, and never leaves the link without a good copy."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

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
