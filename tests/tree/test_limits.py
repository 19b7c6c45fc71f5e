"""What a hostile tree may cost, and what an accident of the machine says about it: nothing."""

from __future__ import annotations

import os
import struct
import time
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from tests.tree.support import ONE, TWO, manifest_of, plant, run_python
from wcp_attest.base.errors import ConfigError, TreeMismatch, TreeUnsafe
from wcp_attest.base.toml_table import loads
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.directory import open_root
from wcp_attest.disk.hashing import Task, Worker
from wcp_attest.disk.options import Progress, ReadOptions
from wcp_attest.disk.quick_check import is_exact
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package.entries import SEPARATOR, File, render_line
from wcp_attest.package.manifest import hash_of

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def hole(root: str, name: str, size: int) -> None:
    plant(root, {name: b""})
    os.truncate(f"{root}/{name}", size)


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("size", [5 * GIB, 1 << 40, 8 << 40])
def test_refuses_file_of_holes_at_once_where_sizes_are_unsigned(
    tmp_path: Path, options: ReadOptions, size: int
) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1"})
    hole(root, "b", size)
    started = time.process_time()
    with pytest.raises(TreeUnsafe, match="holes: more than the limits"):
        read_tree(root, options=options)
    assert time.process_time() - started < 5


def test_refuses_many_files_of_holes_together(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1"})
    for number in range(20):
        hole(root, f"b{number}", 1 << 20)
    read_tree(root, options=ReadOptions(max_hole_bytes=20 << 20))
    with pytest.raises(TreeUnsafe, match=r"the tree would take .* holes: more than the limits"):
        read_tree(root, options=ReadOptions(max_hole_bytes=10 << 20))


def test_refuses_more_bytes_than_the_limit(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {f"f{n}": bytes(1000) for n in range(20)})
    read_tree(root, options=ReadOptions(max_bytes=20_000))
    with pytest.raises(TreeUnsafe, match="would take"):
        read_tree(root, options=ReadOptions(max_bytes=19_999))


def test_explaining_a_missing_file_reads_no_hole(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1"})
    digest = sha256(b"1").hexdigest()
    entries = {"a": File(digest, 1), "big": File(digest, 4 * GIB)}  # its digest does not matter: it is not there
    body = SEPARATOR.join(render_line(path, entry, "sha256") for path, entry in entries.items())
    good = replace(manifest_of(root), body=body, package_hash=hash_of(entries, "sha256"))
    for number in range(4):
        hole(root, f"x{number}", 4 * GIB)
    started = time.process_time()
    with pytest.raises(TreeMismatch) as caught:
        check_tree(root, good, options=ONE)
    assert time.process_time() - started < 2
    assert caught.value.total == 5


def test_quick_check_of_a_deep_tree_is_quick(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 150)
    root = plant(tmp_path / "pkg", {f"{deep}/f{n}": b"1" for n in range(400)} | {"e/e": None})
    good = manifest_of(root)
    plant(root, {"manifest.json": b"", "manifest.sig": b""})
    started = time.process_time()
    assert is_exact(root, good, "beside", ReadOptions())
    assert time.process_time() - started < 1
    plant(root, {f"{deep}/g": b""})
    assert not is_exact(root, good, "beside", ReadOptions())


@pytest.mark.parametrize(
    "text",
    [
        b"a." * 15_000 + b"a = 1",
        b"[" + b"a." * 200 + b"a]",
        b'"a" . ' * 150 + b"a = 1",
        b"x = {" + b"a." * 150 + b"a=1}",
    ],
)
def test_rejects_key_of_many_parts_before_it_is_parsed(text: bytes) -> None:
    with pytest.raises(ConfigError, match="dotted key"):
        loads(text, "wcp-attest.toml")


@pytest.mark.parametrize(
    "text",
    [
        b"x = '" + b"." * 500 + b"'",
        b'x = """\n' + b"a.b." * 500 + b'\n"""',
        b"x = '''" + b"." * 500 + b"'''",
        b"# " + b"." * 500,
        b"x = [" + b"1.5, " * 500 + b"]",
        b"x.y.z = 1\n" * 1 + b"".join(b"a%d.b = 1\n" % n for n in range(300)),
    ],
)
def test_accepts_dots_that_are_no_key(text: bytes) -> None:
    assert loads(text, "wcp-attest.toml") is not None


@pytest.mark.parametrize("text", [b'"""' + b'\\"""' * 50_000, b"'''" + b"x''" * 50_000, b'"' * 100_001, b"." * 500_000])
def test_rejects_odd_strings_in_linear_time(text: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError):
        loads(text, "x")
    assert time.process_time() - started < 5


NESTED = "/".join(["d"] * 150)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_out_of_descriptors_is_no_refusal(tmp_path: Path, jobs: str) -> None:
    root = plant(tmp_path / "pkg", {f"{NESTED}/f": b"1"})
    code = """
        import resource, sys
        from wcp_attest.base.errors import MachineError
        from wcp_attest.disk.options import ReadOptions
        from wcp_attest.disk.read_tree import read_tree
        from wcp_attest.verdict import judge
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        verdict = judge(lambda: read_tree(sys.argv[1], options=ReadOptions(jobs=int(sys.argv[2]))))
        print(verdict.code, verdict.decided, verdict.message)
    """
    done = run_python(code, root, jobs)
    assert done.stdout.startswith("ATTEST_INTERNAL_ERROR False "), done
    assert "too many open files" in done.stdout
    assert "ulimit -n" in done.stdout


def test_out_of_descriptors_while_a_manifest_is_opened_is_no_missing_manifest(tmp_path: Path) -> None:
    plant(tmp_path, {"manifest.json": b"{}"})
    code = """
        import os, resource, sys
        from wcp_attest.base.errors import MachineError, ManifestMissing
        from wcp_attest.disk.files import read_bounded
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        kept = []
        try:
            while True: kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        try:
            read_bounded(sys.argv[1], limit=10, what="manifest", missing=ManifestMissing)
        except MachineError as problem:
            os.close(kept.pop()); print("machine", problem)
    """
    assert run_python(code, str(tmp_path / "manifest.json")).stdout.startswith("machine cannot read manifest")


def test_root_given_through_a_link_with_a_dot_is_refused(tmp_path: Path) -> None:
    plant(tmp_path / "pkg", {"a": b"1"})
    os.symlink("pkg", tmp_path / "link")
    for end in ("", "/", "/.", "/./", "//.//", "/././."):
        with pytest.raises(ConfigError, match="is a symbolic link"):
            read_tree(f"{tmp_path}/link{end}")
        assert read_tree(f"{tmp_path}/pkg{end}").files == 1


@pytest.mark.parametrize("options", [ReadOptions(jobs=1), ReadOptions(jobs=2)])
def test_file_moved_to_and_fro_is_noticed(tmp_path: Path, options: ReadOptions) -> None:
    root = plant(tmp_path, {f"{folder}/f{n:05}": b"1" for folder in "amz" for n in range(700)})
    moved: list[bool] = []

    def meddle(_: Progress) -> None:
        if not moved:
            moved.append(True)
            plant(root, {"a/new": b"evil"})
            os.unlink(f"{root}/a/new")

    time.sleep(0.02)  # a change within the tick of the clock that made the tree has the same time
    with pytest.raises(TreeUnsafe, match="changed while it was read"):
        read_tree(root, options=ReadOptions(jobs=options.jobs, progress=meddle))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file capabilities")
def test_file_with_capabilities_is_refused_when_permissions_are_strict(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"x:run": b"#!", "b": b""})
    os.chmod(root, 0o755)
    strict: Any = ReadOptions(jobs=1, strict_permissions=True)
    good = manifest_of(root)
    check_tree(root, good, options=strict)
    try:
        os.setxattr(f"{root}/run", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0))
    except OSError:
        pytest.skip("no capabilities on this file system")
    check_tree(root, good, options=ONE)
    with pytest.raises(TreeUnsafe, match="'run' has file capabilities"):
        check_tree(root, good, options=strict)


class Announced(Task):
    """A task that notes what it is told."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__("sha256")
        self.told: list[tuple[str, int]] = []

    def notice(self, index: int, size: int) -> None:
        self.told.append(("announced", size))

    def between_blocks(self, done: int) -> None:
        self.told.append(("read", done))


def test_only_a_file_that_was_announced_reports_how_much_of_it_was_read(tmp_path: Path) -> None:
    plant(tmp_path / "pkg", {"a": bytes(1 << 20), "b": bytes(300_000), "c": bytes(70_000), "d": b"x"})
    task = Announced()
    with closing(open_root(f"{tmp_path}/pkg")) as root, closing(Worker(root.descriptor, task)) as worker:
        worker.hash("", None, ["a", "b", "c", "d"], None)
    assert task.told[0] == ("announced", 1 << 20)
    assert task.told[-1] == ("read", 1 << 20)
    assert [told for told, _ in task.told].count("announced") == 1
