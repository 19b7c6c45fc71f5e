"""What a tree holds is described, entry by entry."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.tree.support import DEFAULT, ONE, TWO, manifest_of, plant, run_python
from wcp_attest.base.characters import refused_character
from wcp_attest.base.digest import package_hash
from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import Progress, ReadOptions
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package.entries import EmptyDirectory, Entry, File, Symlink, render_line
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path


def lines(root: Path, **options: Any) -> list[str]:
    return [line.decode() for line in read_tree(str(root), **options).lines]


def paths(root: Path, **options: Any) -> list[str]:
    return list(manifest_of(str(root), **options).entries())


def test_every_kind_of_entry_has_its_line(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b"hello", "x:bin/run": b"#!", "empty": None, "link": "bin/run", 'q"uote': b""})
    digest = hashlib.sha256
    assert lines(tmp_path) == [
        f'"a": {{"sha256":"{digest(b"hello").hexdigest()}","size":5}}',
        f'"bin/run": {{"sha256":"{digest(b"#!").hexdigest()}","size":2,"executable":true}}',
        '"empty": {"directory":true}',
        '"link": {"symlink":"bin/run"}',
        f'"q\\"uote": {{"sha256":"{digest(b"").hexdigest()}","size":0}}',
    ]


def test_the_reading_counts(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b"12345", "b/c": b"123", "l": "a", "e": None})
    reading = read_tree(str(tmp_path))
    assert (reading.files, reading.size, len(reading.lines)) == (2, 8, 4)
    assert reading.excluded == reading.bytecode_left == ()


def test_paths_stand_in_byte_order_of_the_whole_path(tmp_path: Path) -> None:
    names = ["a", "a b", "a-b", "a.d/x", "a/x", "a/y/z", "a0", "B", "é", "ﬁ", "😀", "zz"]
    plant(tmp_path, {name + ("/f" if name == "a" else ""): b"" for name in names})
    found = paths(tmp_path)
    assert found == sorted(found, key=str.encode)


@pytest.mark.parametrize("sibling", ["d!", "d.txt", "d-1", "d", "d0", "d/x"])
def test_empty_directories_stand_in_order_too(tmp_path: Path, sibling: str) -> None:
    plant(
        tmp_path, {"d": None} if sibling == "d" else {"d" if not sibling.startswith("d/") else "c": None, sibling: b""}
    )
    plant(tmp_path, {"z": b""})
    found = paths(tmp_path)
    assert found == sorted(found, key=str.encode)
    check_tree(str(tmp_path), manifest_of(str(tmp_path)))


def test_a_directory_of_empty_directories_is_not_empty_itself(tmp_path: Path) -> None:
    plant(tmp_path, {"a/b": None, "a/c/d": None, "f": b""})
    assert paths(tmp_path) == ["a/b", "a/c/d", "f"]


@pytest.mark.parametrize("bits", [0o100, 0o010, 0o001])
def test_any_execute_bit_makes_an_executable(tmp_path: Path, bits: int) -> None:
    plant(tmp_path, {"f": b""})
    os.chmod(tmp_path / "f", 0o600 | bits)
    assert manifest_of(str(tmp_path)).entries()["f"] == File(hashlib.sha256(b"").hexdigest(), 0, executable=True)


def test_modes_times_and_owners_do_not_count(tmp_path: Path) -> None:
    plant(tmp_path, {"f": b"1"})
    before = read_tree(str(tmp_path))
    os.chmod(tmp_path / "f", 0o600)
    os.utime(tmp_path / "f", (1, 1))
    if os.geteuid() == 0:
        os.chown(tmp_path / "f", 12345, 12345)
    assert read_tree(str(tmp_path)) == before


def test_blake3_is_another_algorithm_for_files_and_package(tmp_path: Path) -> None:
    plant(tmp_path, {"f": b"1" * 100_000})
    reading = read_tree(str(tmp_path), algorithm="blake3")
    digest = blake3(b"1" * 100_000).hexdigest()
    assert reading.lines == (f'"f": {{"blake3":"{digest}","size":100000}}'.encode(),)
    assert reading.package_hash == blake3(f"f\n100000\n{digest}\n".encode()).hexdigest()


def test_manifest_and_signatures_are_skipped_at_the_root_only(tmp_path: Path) -> None:
    plant(tmp_path, {"manifest.json": b"{}", "manifest.sig": b"", "sub/manifest.json": b"{}", "sub/manifest.sig": b""})
    assert paths(tmp_path) == ["sub/manifest.json", "sub/manifest.sig"]


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_the_reserved_names_hide_nothing(tmp_path: Path, name: str, kind: str) -> None:
    plant(tmp_path, {"f": b"1"})
    good = manifest_of(str(tmp_path))
    if kind == "folder":
        plant(tmp_path, {f"{name}/evil.py": b"evil"})
    elif kind == "link":
        os.symlink("f", tmp_path / name)
    else:
        os.mkfifo(tmp_path / name)
    with pytest.raises(TreeUnsafe, match=f"'{name}' at the root is not a regular file"):
        read_tree(str(tmp_path))
    with pytest.raises(TreeUnsafe, match=f"'{name}' at the root is not a regular file"):
        check_tree(str(tmp_path), good)


def test_links_are_read_and_never_followed(tmp_path: Path) -> None:
    plant(tmp_path / "pkg", {"f": b"1", "a": "f", "loop": "loop", "b": "absent", "sub/up": "../f", "self": "."})
    entries = manifest_of(str(tmp_path / "pkg")).entries()
    assert entries["loop"] == Symlink("loop")
    assert entries["b"] == Symlink("absent")
    assert entries["sub/up"] == Symlink("../f")
    assert entries["self"] == Symlink(".")


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "sub/../../x", "a//b", "a\nb", "a\\b"])
def test_links_that_lead_out_or_cannot_be_told_are_refused(tmp_path: Path, target: str) -> None:
    plant(tmp_path, {"f": b"1", "link": target})
    with pytest.raises(TreeUnsafe, match="the link 'link' has"):
        read_tree(str(tmp_path))


def test_bytecode_is_left_out_and_named(tmp_path: Path) -> None:
    plant(tmp_path, {"m.py": b"", "__pycache__/m.pyc": b"", "a/b.pyc": b"", "a/__pycache__/deep/x": b"", "A.PYC": b""})
    reading = read_tree(str(tmp_path))
    assert paths(tmp_path) == ["a", "m.py"]
    assert reading.bytecode_left == ("A.PYC", "__pycache__", "a/__pycache__", "a/b.pyc")


def test_bytecode_is_included_when_asked_whatever_the_excludes_say(tmp_path: Path) -> None:
    plant(
        tmp_path, {"m.py": b"", "__pycache__/m.pyc": b"", "out/x.pyc": b"", "out/x.txt": b"", "__pycache__/.git/h": b""}
    )
    reading = read_tree(str(tmp_path), options=ReadOptions(bytecode="include"), excludes=[".git/", "*.pyc", "out/"])
    found = [line.split(b'"')[1].decode() for line in reading.lines]
    assert found == ["__pycache__/.git/h", "__pycache__/m.pyc", "m.py", "out/x.pyc"]
    assert reading.excluded == ("out/",)


def test_git_is_excluded_by_default_and_recorded_only_when_there(tmp_path: Path) -> None:
    plant(tmp_path, {"f": b""})
    assert read_tree(str(tmp_path)).excluded == ()
    plant(tmp_path, {".git/HEAD": b"x", "sub/.git/HEAD": b"x", "other/.git": b"of a submodule"})
    reading = read_tree(str(tmp_path))
    assert reading.excluded == ("/.git",)
    assert paths(tmp_path) == ["f", "other/.git", "sub/.git/HEAD"]


def test_twins_are_refused_unless_allowed(tmp_path: Path) -> None:
    plant(tmp_path, {"README": b"", "readme": b""})
    with pytest.raises(TreeUnsafe, match="'README' and 'readme' differ only by case"):
        read_tree(str(tmp_path))
    assert len(read_tree(str(tmp_path), options=ReadOptions(allow_twins=True)).lines) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("é", unicodedata.normalize("NFD", "é")), ("straße", "STRASSE"), ("sub/ﬀ", "sub/FF"), ("d/x", "D/y"), ("Σ", "ς")],
)
def test_unicode_twins_are_refused(tmp_path: Path, one: str, other: str) -> None:
    plant(tmp_path, {one: b"", other: b""})
    with pytest.raises(TreeUnsafe, match="differ only by case or Unicode form"):
        read_tree(str(tmp_path))


def test_names_that_only_look_alike_across_directories_are_no_twins(tmp_path: Path) -> None:
    plant(tmp_path, {"a/X": b"", "b/x": b"", "é": b"", "e": b""})
    assert len(paths(tmp_path)) == 4


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\\b", b"\xff\xfe", "\u202egpj.exe".encode(), b"tab\t", b"\x7f", "\u200f".encode()]
)
@pytest.mark.parametrize("where", [b"", b"sub/"])
def test_names_that_cannot_be_told_are_refused_and_quoted(tmp_path: Path, name: bytes, where: bytes) -> None:
    plant(tmp_path, {"f": b"", "sub/f": b""})
    with open(os.fsencode(tmp_path) + b"/" + where + name, "wb"):
        pass
    reason = "is not valid UTF-8" if name == b"\xff\xfe" else r"holds (a backslash|U\+[0-9A-F]{4}, a control)"
    with pytest.raises(TreeUnsafe, match=reason) as caught:
        read_tree(str(tmp_path))
    str(caught.value).encode()
    assert str(caught.value).isprintable()


def test_a_name_of_a_directory_is_refused_too(tmp_path: Path) -> None:
    plant(tmp_path, {"f": b""})
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(TreeUnsafe, match=r"'\\udcff' is not valid UTF-8"):
        read_tree(str(tmp_path))


def test_names_are_bytes_whatever_the_locale_says(tmp_path: Path) -> None:
    plant(tmp_path, {"é/ü": b"1", "f": b""})
    expected = paths(tmp_path)
    code = """
        import sys
        from wcp_attest.disk.read_tree import read_tree
        assert sys.getfilesystemencoding() != "utf-8", sys.getfilesystemencoding()
        for line in read_tree(sys.argv[1]).lines: print(ascii(line.split(b'"')[1].decode()))
    """
    os.environ["LC_ALL"] = "C"
    try:
        done = run_python("import subprocess, sys, os\n" + _LATIN.format(code=code), str(tmp_path))
    finally:
        del os.environ["LC_ALL"]
    if "no such locale" in done.stdout:
        pytest.skip("no locale with another encoding here")
    assert done.stdout.split() == [ascii(path) for path in expected], done.stderr


_LATIN = """
import textwrap
names = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
odd = [name for name in names if "iso" in name.lower()]
if not odd:
    print("no such locale")
else:
    done = subprocess.run([sys.executable, "-X", "utf8=0", "-c", textwrap.dedent('''{code}'''), sys.argv[1]],
                          env=os.environ | {{"LC_ALL": odd[0]}}, capture_output=True, text=True)
    print(done.stdout); print(done.stderr, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["absent", "file", "link", "slashed link", "nothing"])
def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path, kind: str) -> None:
    plant(tmp_path, {"pkg/f": b"1", "file": b"", "link": "pkg"})
    good = manifest_of(str(tmp_path / "pkg"))
    root = {"absent": "absent", "file": "file", "link": "link", "slashed link": "link//", "nothing": None}[kind]
    path = "" if root is None else f"{tmp_path}/{root}"
    for read in (lambda: read_tree(path), lambda: check_tree(path, good)):
        with pytest.raises(ConfigError, match="cannot read the package"):
            read()


def test_a_root_with_a_slash_behind_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, {"f": b"1"})
    expected = read_tree(str(tmp_path))
    assert read_tree(str(tmp_path) + "/") == expected
    monkeypatch.chdir(tmp_path)
    assert read_tree(".") == expected


@pytest.mark.parametrize("entries", [{}, {"d": None}, {"l": "x"}, {"manifest.json": b"{}"}, {"x.pyc": b""}])
def test_a_tree_without_files_is_an_error(tmp_path: Path, entries: dict[str, bytes | str | None]) -> None:
    plant(tmp_path, entries)
    with pytest.raises(ConfigError, match="holds no file"):
        read_tree(str(tmp_path))


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_special_files_are_refused_and_never_waited_for(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, {"f": b"1"})
    good = manifest_of(str(tmp_path))
    if kind == "fifo":
        os.mkfifo(tmp_path / "special")
    elif kind == "socket":
        import socket

        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("special")
    else:
        if os.geteuid() != 0:
            pytest.skip("only root makes devices")
        os.mknod(tmp_path / "special", 0o020644, os.makedev(1, 5))
    with pytest.raises(TreeUnsafe, match="'special' is not a file, directory or symbolic link"):
        read_tree(str(tmp_path))
    with pytest.raises(TreeUnsafe, match="'special' is not a file, directory or symbolic link"):
        check_tree(str(tmp_path), good)


@pytest.mark.parametrize("bit", [0o4000, 0o2000])
def test_set_id_bits_are_refused(tmp_path: Path, bit: int) -> None:
    plant(tmp_path, {"f": b"1", "d/g": b""})
    good = manifest_of(str(tmp_path))
    os.chmod(tmp_path / "f", 0o755 | bit)
    with pytest.raises(TreeUnsafe, match="'f' has a set-id bit"):
        read_tree(str(tmp_path))
    os.chmod(tmp_path / "f", 0o644 | bit)
    with pytest.raises(TreeUnsafe, match="'f' has a set-id bit"):
        check_tree(str(tmp_path), good)


def test_a_directory_that_hands_down_its_group_is_let_be(tmp_path: Path) -> None:
    plant(tmp_path, {"d/f": b"1"})
    os.chmod(tmp_path / "d", 0o2755)
    assert paths(tmp_path) == ["d/f"]


@pytest.mark.parametrize("what", ["f", "d"])
def test_what_cannot_be_read_is_refused_and_never_empty(tmp_path: Path, what: str) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o777)
    code = """
        import os, sys
        os.chdir(sys.argv[1])
        os.makedirs("pkg/d"); open("pkg/d/x", "w").close(); open("pkg/f", "w").close()
        os.chmod("pkg/" + sys.argv[2], 0)
        from wcp_attest.errors import TreeUnsafe
        from wcp_attest.disk.read_tree import read_tree
        try:
            print(read_tree("pkg"))
        except TreeUnsafe as error:
            print("refused:", error)
        finally:
            os.chmod("pkg/" + sys.argv[2], 0o700)
    """
    done = run_python(code, str(tmp_path), what, unprivileged=True)
    assert done.stdout.startswith("refused:"), done
    assert "cannot be read: permission denied" in done.stdout


def test_strict_permissions(tmp_path: Path) -> None:
    plant(tmp_path / "pkg", {"f": b"1", "d/g": b"2", "l": "f"})
    root = str(tmp_path / "pkg")
    strict = ReadOptions(strict_permissions=True)
    good = manifest_of(root, options=strict)
    check_tree(root, good, options=strict)
    for name, mode in {"f": 0o664, "d": 0o777, "d/g": 0o646, ".": 0o775}.items():
        path = os.path.join(root, name)
        before = os.stat(path).st_mode
        os.chmod(path, mode)
        with pytest.raises(TreeUnsafe, match="writable by its group or by everyone"):
            check_tree(root, good, options=strict)
        check_tree(root, good)
        os.chmod(path, before)
    os.link(os.path.join(root, "f"), tmp_path / "outside")
    with pytest.raises(TreeUnsafe, match="'f' has further hard links"):
        check_tree(root, good, options=strict)
    os.unlink(tmp_path / "outside")
    if os.geteuid() == 0:
        for name in ("f", "d", "l"):
            os.chown(os.path.join(root, name), 12345, 0, follow_symlinks=False)
            with pytest.raises(TreeUnsafe, match="belongs to the user 12345"):
                check_tree(root, good, options=strict)
            os.chown(os.path.join(root, name), 0, 0, follow_symlinks=False)
    check_tree(root, good, options=strict)


def test_depth_has_a_limit(tmp_path: Path) -> None:
    deep = tmp_path
    plant(tmp_path, {"f": b""})
    for _ in range(199):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"")
    assert paths(tmp_path)[0].count("/") == 199
    (deep / "e").mkdir()
    with pytest.raises(TreeUnsafe, match="nested more than 200 levels deep"):
        read_tree(str(tmp_path))


def test_a_path_longer_than_the_system_takes_is_no_problem(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 255, dir_fd=descriptor)
        below = os.open("n" * 255, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    good = manifest_of(str(tmp_path))
    (path,) = good.entries()
    assert len(path) == 30 * 256 + 1
    check_tree(str(tmp_path), good)


def test_the_leftover_of_an_interrupted_write_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, {"f": b"", ".manifest.json.0123456789abcdef.wcp-tmp": b""})
    with pytest.raises(TreeUnsafe, match="left behind by an interrupted write"):
        read_tree(str(tmp_path))


def test_descriptors_are_closed_on_success_and_on_failure(tmp_path: Path) -> None:
    plant(tmp_path, {f"a/b{n}/c": b"" for n in range(20)})
    read_tree(str(tmp_path))
    before = os.listdir("/proc/self/fd")
    good = manifest_of(str(tmp_path))
    check_tree(str(tmp_path), good)
    os.mkfifo(tmp_path / "a" / "b7" / "fifo")
    for _ in range(3):
        with pytest.raises(TreeUnsafe):
            read_tree(str(tmp_path))
        with pytest.raises(TreeUnsafe):
            check_tree(str(tmp_path), good, options=TWO)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_progress_is_told_and_ends_with_everything(tmp_path: Path) -> None:
    plant(tmp_path, {f"f{n:04}": b"12" for n in range(1000)})
    told: list[Progress] = []
    good = manifest_of(str(tmp_path), options=ReadOptions(progress=told.append))
    assert told[-1] == Progress(1000, 2000, None)
    assert told == sorted(told, key=lambda progress: progress.files_done)
    check_tree(str(tmp_path), good, options=ReadOptions(progress=told.append))
    assert told[-1] == Progress(1000, 2000, 1000, 2000)


@pytest.mark.parametrize("jobs", [0, -1, 10_000])
def test_jobs_out_of_range_are_refused(tmp_path: Path, jobs: int) -> None:
    plant(tmp_path, {"f": b""})
    with pytest.raises(ConfigError, match="jobs is"):
        read_tree(str(tmp_path), options=ReadOptions(jobs=jobs))


# Against a second, much simpler description of the same tree.

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")),
    min_size=1,
    max_size=8,
).filter(lambda name: refused_character(name) is None and name not in {".", ".."} and len(name.encode()) < 60)
TREES = st.recursive(
    st.one_of(st.binary(max_size=70), st.just(None), st.sampled_from(["x", "a/b", "."])),
    lambda children: st.dictionaries(NAMES, children, max_size=5),
    max_leaves=25,
)


def grow(base: Path, tree: object) -> None:
    if isinstance(tree, dict):
        base.mkdir()
        for name, child in tree.items():
            grow(base / name, child)
    elif tree is None:
        base.mkdir()
    elif isinstance(tree, str):
        os.symlink(tree, base)
    elif isinstance(tree, bytes):
        base.write_bytes(tree)


def plain_lines(root: Path) -> list[bytes]:
    entries: dict[str, Entry] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            entries[name] = Symlink(os.readlink(path))
        elif path.is_dir():
            if not any(path.iterdir()):
                entries[name] = EmptyDirectory()
        else:
            entries[name] = File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    return [render_line(name, entries[name], "sha256") for name in sorted(entries, key=str.encode)]


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(NAMES, TREES, min_size=1, max_size=6), number=st.integers(0, 10**12))
def test_any_tree_reads_as_a_simple_program_reads_it(tmp_path: Path, tree: dict[str, object], number: int) -> None:
    root = tmp_path / str(number)
    if root.exists():
        return
    grow(root, {**tree, "certain": b"1"})
    options = ReadOptions(allow_twins=True, bytecode="include")
    good = manifest_of(str(root), options=options, excludes=())
    assert list(good.lines) == plain_lines(root)
    assert Manifest.from_bytes(good.to_bytes()) == good
    files = [(path, entry.size, entry.digest) for path, entry in good.entries().items() if isinstance(entry, File)]
    assert good.package_hash == package_hash(files)
    for choice in (ONE, DEFAULT):
        check_tree(str(root), good, options=choice)
