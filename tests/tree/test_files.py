"""Single files: read bounded, replaced whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import run_python
from wcp_attest.base.errors import ConfigError, ManifestMissing
from wcp_attest.disk.files import is_leftover, read_bounded, write_atomic

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)
    assert read_bounded(str(path), limit=100_000, what="policy") == b"x" * 100_000


def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 101)
    with pytest.raises(ConfigError, match=r"policy .* is larger than 100 bytes"):
        read_bounded(str(path), limit=100, what="policy")


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert read_bounded(str(tmp_path / "f"), limit=0, what="key") == b""


def test_a_file_that_lies_about_its_size_is_bounded() -> None:
    assert b"Name" in read_bounded("/proc/self/status", limit=1 << 16, what="status")
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        read_bounded("/proc/self/status", limit=10, what="status")


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo", "socket", "link", "null"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "f")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(tmp_path)
            server.bind("f")
    elif kind == "link":
        (tmp_path / "real").write_bytes(b"1")
        os.symlink("real", path)
    elif kind == "null":
        path = "/dev/zero"
    with pytest.raises(ManifestMissing) as caught:
        read_bounded(path, limit=10, what="manifest", missing=ManifestMissing)
    assert str(caught.value).startswith(f"cannot read manifest {path!r}: ")
    assert "\n" not in str(caught.value)


def test_a_name_with_a_null_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="null"):
        read_bounded("a\0b", limit=10, what="policy")


def test_a_link_is_followed_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"1")
    os.symlink("real", tmp_path / "link")
    assert read_bounded(str(tmp_path / "link"), limit=10, what="policy", follow=True) == b"1"
    with pytest.raises(ConfigError, match="symbolic link"):
        read_bounded(str(tmp_path / "link"), limit=10, what="policy")


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_atomic(str(path), b"one")
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_the_mode_is_as_asked(tmp_path: Path) -> None:
    write_atomic(str(tmp_path / "key"), b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_relative_name_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomic("f", b"1")
    assert (tmp_path / "f").read_bytes() == b"1"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "é" * 127):
        write_atomic(str(tmp_path / name), b"1")
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "f")
    if kind == "link":
        os.symlink("elsewhere", path)
    elif kind == "folder":
        os.mkdir(path)
    else:
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        write_atomic(path, b"1")
    assert os.listdir(tmp_path) == ["f"]


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory"):
        write_atomic(str(tmp_path / "absent" / "f"), b"1")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")
    code = """
        import resource, signal, sys
        from wcp_attest.errors import ConfigError
        from wcp_attest.disk.files import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomic(sys.argv[1], b"x" * 5000)
        except ConfigError as error:
            print(error)
    """
    done = run_python(code, str(path))
    assert "cannot write" in done.stdout, done
    assert "nothing was changed" in done.stdout
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["f"]


def test_a_read_only_directory_loses_nothing(tmp_path: Path) -> None:
    code = """
        import os, sys
        os.umask(0)
        os.chdir(sys.argv[1])
        os.mkdir("d"); open("d/f", "w").write("before"); os.chmod("d", 0o555)
        from wcp_attest.errors import ConfigError
        from wcp_attest.disk.files import write_atomic
        try:
            write_atomic("d/f", b"after")
        except ConfigError as error:
            print(error)
        print(open("d/f").read(), os.listdir("d"))
    """
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o777)
    done = run_python(code, str(tmp_path), unprivileged=True)
    assert "permission denied; nothing was changed" in done.stdout, done
    assert "before ['f']" in done.stdout


def test_an_interrupt_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"a" * 3_000_000)
    code = """
        import sys
        from wcp_attest.disk.files import write_atomic
        print("ready", flush=True)
        while True:
            for letter in b"ab":
                write_atomic(sys.argv[1], bytes([letter]) * 3_000_000)
    """
    import textwrap

    for pause in (0.0, 0.003, 0.01, 0.02, 0.05):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(pause)
        writer.send_signal(signal.SIGINT)
        writer.wait(30)
        writer.stdout.close()
        content = path.read_bytes()
        assert content in {b"a" * 3_000_000, b"b" * 3_000_000}
        assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_killed_writer_leaves_a_recognisable_name(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        import wcp_attest.disk.files as files
        real = os.fsync
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        files.write_atomic(sys.argv[1], b"1")
    """
    run_python(code, str(tmp_path / "manifest.json"))
    (left,) = os.listdir(tmp_path)
    assert is_leftover(left)


def test_ordinary_names_are_no_leftovers() -> None:
    assert not any(map(is_leftover, ["manifest.json", ".git", "a.wcp-tmp", ".x.0123456789abcdef.wcp-tmp.gz"]))


def test_limits_of_this_process_are_left_alone() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
