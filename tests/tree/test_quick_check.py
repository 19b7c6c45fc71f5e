"""The quick check of a small tree says yes only where `check_tree` does, whatever stands in the tree."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.tree.support import manifest_of, plant
from wcp_attest.disk.options import Progress, ReadOptions
from wcp_attest.disk.quick_check import MAX_BYTES, is_exact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TREE: dict[str, bytes | str | None] = {
    "code/a.py": b"print(1)\n",
    "x:run": b"#!/bin/sh\n",
    "link": "code/a.py",
    "empty": None,
    "zz/b.py": b"",
}


def listen(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def relink(path: str, target: str) -> None:
    os.unlink(path)
    os.symlink(target, path)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return plant(tmp_path / "p", TREE)


def test_agrees_with_an_untouched_tree_and_tells_progress_once(root: str) -> None:
    good = manifest_of(root)
    plant(root, {"manifest.json": b"", "manifest.sig": b""})
    told: list[Progress] = []
    assert is_exact(root, good, "beside", ReadOptions(progress=told.append))
    assert told == [Progress(3, 19, 3)]
    assert is_exact(root + "/", good, "beside", ReadOptions(jobs=1))


SPOILT: dict[str, Callable[[str], object]] = {
    "a fifo beside": lambda root: os.mkfifo(root + "/fifo"),
    "a socket beside": lambda root: listen(root + "/s"),
    "a link to a device": lambda root: relink(root + "/run", "/dev/null"),
    "a set-id bit": lambda root: os.chmod(root + "/run", 0o4755),
    "a further empty directory": lambda root: os.mkdir(root + "/code/d"),
    "a directory in a pair file's place": lambda root: os.makedirs(root + "/manifest.sig/hidden"),
    "a link in a pair file's place": lambda root: os.symlink("run", root + "/manifest.json"),
    "a link that leads out": lambda root: relink(root + "/link", "../out"),
    "a name that is not UTF-8": lambda root: open(os.fsencode(root) + b"/\xff", "wb").close(),
    "a pair in the folder, too": lambda root: plant(root, {".wcp/manifest.json": b"", ".wcp/manifest.sig": b""}),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_does_not_agree_with_a_spoilt_tree(root: str, what: str) -> None:
    good = manifest_of(root)
    SPOILT[what](root)
    assert not is_exact(root, good, "beside", ReadOptions())


def test_takes_the_pair_out_of_its_own_folder_alone(root: str) -> None:
    good = manifest_of(root)
    plant(root, {".wcp/manifest.json": b"", ".wcp/manifest.sig": b""})
    assert is_exact(root, good, "folder", ReadOptions())
    assert not is_exact(root, good, "detached", ReadOptions())
    plant(root, {".wcp/more": b""})
    assert not is_exact(root, good, "folder", ReadOptions())


def test_does_not_follow_a_link_to_the_root(root: str, tmp_path: Path) -> None:
    good = manifest_of(root)
    os.symlink(root, tmp_path / "link")
    for path in ("link", "link/", "link/."):
        assert not is_exact(f"{tmp_path}/{path}", good, "beside", ReadOptions())


def test_leaves_a_tree_of_many_bytes_alone(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", {"a": bytes(MAX_BYTES // 2), "b": bytes(MAX_BYTES // 2 + 1)})
    assert not is_exact(root, manifest_of(root), "beside", ReadOptions())


def test_sees_what_comes_into_a_directory_behind_its_back(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = manifest_of(root)
    read = os.read
    seen: list[bytes] = []

    def late(descriptor: int, size: int) -> Any:
        data = read(descriptor, size)
        seen.append(data)
        if len(seen) == 3:  # every directory was listed by now
            plant(root, {"code/late.py": b"", "zz/late.py": b"", "late.py": b""})
        return data

    monkeypatch.setattr(os, "read", late)
    assert not is_exact(root, good, "beside", ReadOptions())
    assert len(seen) == 3
