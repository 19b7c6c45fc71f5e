"""The file of remembered digests: who may write it, what is in it, how it grows; and who can never reach it."""

from __future__ import annotations

import ast
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.test_house import ROOT, imported, modules
from tests.tree.support import run_python
from wcp_attest.advice import digest_cache as rules
from wcp_attest.advice.digest_cache import DigestCache, KnownDigest

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

NOW = float(int(time.time()))
SUBJECT = ("tree", "sha256", "/src/worker")
DIGEST = "9f" * 32
keys = st.binary(min_size=40, max_size=40)
knowns = st.builds(KnownDigest, st.binary(min_size=32, max_size=32).map(bytes.hex), st.integers(0, 2**64 - 1))


class Place:
    """A directory of caches, and what was said of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []

    def open(self, *, now: float = NOW, subject: tuple[str, ...] = SUBJECT) -> DigestCache:
        return DigestCache(str(self.path), subject, report=self.said.append, now=now)

    def keep(self, *names: str, now: float = NOW, subject: tuple[str, ...] = SUBJECT) -> None:
        cache = self.open(now=now, subject=subject)
        for name in names:
            cache.put(name.encode(), DIGEST, len(name))
        cache.save()

    def knows(self, name: str, *, now: float = NOW, subject: tuple[str, ...] = SUBJECT) -> bool:
        return self.open(now=now, subject=subject).get(name.encode()) == KnownDigest(DIGEST, len(name))

    @property
    def file(self) -> Path:
        (file,) = self.path.glob("*.digests")
        return file


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "cache")


@given(st.dictionaries(keys, knowns, max_size=20))
@settings(max_examples=examples(50))
def test_what_is_put_in_comes_back(tmp_path_factory: pytest.TempPathFactory, content: dict[bytes, KnownDigest]) -> None:
    place = Place(tmp_path_factory.mktemp("round") / "cache")
    cache = place.open()
    for key, known in content.items():
        cache.put(key, known.digest, known.size)
    cache.save()
    again = place.open()
    assert {key: again.get(key) for key in content} == content
    assert again.get(b"\xff" * 7) is None
    assert place.said == []


def test_only_the_owner_can_read_or_write_it(place: Place) -> None:
    before = os.umask(0)
    try:
        place.keep("a")
    finally:
        os.umask(before)
    assert place.path.stat().st_mode & 0o7777 == 0o700
    assert place.file.stat().st_mode & 0o7777 == 0o600
    assert [entry.name for entry in place.path.iterdir()] == [place.file.name]


def test_a_file_that_is_not_whole_is_no_file(place: Place) -> None:
    place.keep("a", "b")
    good = place.file.read_bytes()
    for bad in (*(good[:length] for length in range(len(good))), good + b"\0", good * 2, b"\0" * 400, b"x" * 256):
        place.file.write_bytes(bad)
        assert not place.knows("a"), bad
    for position in range(len(good)):
        place.file.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert not place.knows("a"), position
    place.file.write_bytes(good)
    assert place.knows("a")
    assert place.said == [], "a damaged cache is an empty one, and nobody's business"


@given(st.binary(max_size=400))
@settings(max_examples=examples(100))
def test_garbage_is_an_empty_cache(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    place = Place(tmp_path_factory.mktemp("garbage") / "cache")
    place.keep("a")
    place.file.write_bytes(garbage)
    assert place.open().get(b"a") is None
    place.keep("b")
    assert place.knows("b")


def test_a_huge_file_is_not_read(place: Place) -> None:
    place.keep("a")
    os.truncate(place.file, 1 << 40)
    assert not place.knows("a")
    place.keep("a")
    assert place.file.stat().st_size < 1000
    assert place.knows("a")


def test_another_subject_has_another_file_and_cannot_take_this_one(place: Place) -> None:
    place.keep("a")
    mine = place.file
    for subject in (("blobs", *SUBJECT[1:]), ("tree", "blake3", SUBJECT[2]), ("tree", "sha256", "/src/other")):
        assert not place.knows("a", subject=subject)
        place.keep("x", subject=subject)
        for other in set(place.path.iterdir()) - {mine}:
            other.write_bytes(mine.read_bytes())
            assert not place.knows("a", subject=subject)
            other.unlink()


def untrusted_file(change: str, place: Place) -> str:
    file = place.file
    if change == "others may write":
        file.chmod(0o602)
    elif change == "the group may write":
        file.chmod(0o620)
    elif change == "a link":
        os.rename(file, place.path / "elsewhere")
        file.symlink_to("elsewhere")
        return "symbolic links"
    elif change == "a FIFO":
        file.unlink()
        os.mkfifo(file, 0o600)
        return "not a regular file"
    elif change == "a directory":
        file.unlink()
        file.mkdir(0o700)
        return "not a regular file"
    elif change == "another's":
        os.chown(file, 12345, -1)
        return "belongs to the user 12345"
    return "can be written by others"


def untrusted_directory(change: str, place: Place) -> str:
    if change == "others may write to the directory":
        place.path.chmod(0o777)
        return "can be written by others"
    if change == "the directory is a link":
        os.rename(place.path, place.path.with_name("elsewhere"))
        place.path.symlink_to("elsewhere")
        return "symbolic link"
    if change == "the directory is another's":
        os.chown(place.path, 12345, -1)
        return "belongs to the user 12345"
    for entry in place.path.iterdir():
        entry.unlink()
    place.path.rmdir()
    place.path.write_bytes(b"")
    return "exists"


FILES = ("others may write", "the group may write", "a link", "a FIFO", "a directory", "another's")
DIRECTORIES = (
    "others may write to the directory",
    "the directory is a link",
    "the directory is another's",
    "the directory is a file",
)


@pytest.mark.parametrize("change", [*FILES, *DIRECTORIES])
def test_what_others_may_have_written_is_neither_read_nor_written_and_said_once(place: Place, change: str) -> None:
    if "another's" in change and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    place.keep("a")
    words = (untrusted_file if change in FILES else untrusted_directory)(change, place)

    def snapshot() -> list[tuple[str, int, int]]:
        return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in place.path.rglob("*"))

    before = snapshot()
    cache = place.open()
    assert cache.get(b"a") is None
    cache.put(b"b", DIGEST, 1)
    cache.save()
    cache.save()
    (said,) = place.said
    assert words in said
    assert "\n" not in said
    assert repr(str(place.path)) in said
    assert snapshot() == before


def test_a_directory_that_cannot_be_written_is_said_and_no_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = """
        import sys
        from wcp_attest.advice.digest_cache import DigestCache
        said = []
        cache = DigestCache(sys.argv[1] + "/cache", ("tree", "sha256", "/x"), report=said.append, now=1.0)
        cache.put(b"a", "00" * 32, 1)
        cache.save()
        print(len(said), "permission denied" in said[0], cache.get(b"a"))
    """
    done = run_python(code, str(tmp_path), unprivileged=True)
    assert done.stdout == "1 True None\n", done.stderr


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(place: Place) -> None:
    place.keep("a")
    code = """
        import resource, signal, sys
        from wcp_attest.advice.digest_cache import DigestCache
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        said = []
        cache = DigestCache(sys.argv[1], ("tree", "sha256", "/src/worker"), report=said.append, now=float(sys.argv[2]))
        for number in range(100):
            cache.put(b"%d" % number, "00" * 32, 1)
        cache.save()
        print(len(said), "cannot be written" in said[0])
    """
    done = run_python(code, str(place.path), str(NOW))
    assert done.stdout == "1 True\n", done.stderr
    assert place.knows("a")
    assert len(list(place.path.iterdir())) == 1


def test_two_runs_at_once_leave_a_whole_file_and_the_later_keeps_what_the_earlier_learnt(place: Place) -> None:
    first, second = place.open(), place.open()
    first.put(b"a", DIGEST, 1)
    second.put(b"b", DIGEST, 1)
    second.save()
    first.save()
    assert place.knows("a")
    assert place.knows("b")


def test_many_runs_at_once_never_leave_a_broken_file(place: Place) -> None:
    code = """
        import sys
        from wcp_attest.advice.digest_cache import DigestCache
        for turn in range(30):
            cache = DigestCache(sys.argv[1], ("tree", "sha256", "/src/worker"), report=sys.exit, now=float(sys.argv[3]))
            assert turn == 0 or cache.get(b"always") is not None, "a broken file was taken for an empty one"
            for number in range(500):
                cache.put(b"%s-%d-%d" % (sys.argv[2].encode(), turn, number), "00" * 32, 1)
            cache.put(b"always", "9f" * 32, 6)
            cache.save()
    """
    place.keep("always")
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda name=name: results.append(run_python(code, str(place.path), name, str(NOW))))
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in results] == [0, 0, 0], [done.stderr for done in results]
    assert place.knows("always")
    assert len(list(place.path.iterdir())) == 1


def test_a_digest_is_made_anew_after_a_month_and_when_the_clock_went_back(place: Place) -> None:
    place.keep("a")
    assert place.knows("a", now=NOW + rules.MAX_AGE)
    assert not place.knows("a", now=NOW + rules.MAX_AGE + 1)
    assert not place.knows("a", now=NOW - 1)


def test_of_what_was_not_used_no_more_is_kept_than_was_used(place: Place) -> None:
    place.keep(*(f"old {number}" for number in range(100)))
    place.keep(*(f"new {number}" for number in range(10)))
    names = [f"{age} {number}" for age in ("old", "new") for number in range(100)]
    assert sum(place.knows(name) for name in names) == 20
    assert all(place.knows(f"new {number}") for number in range(10))


def test_there_is_no_room_for_more_than_the_limit(place: Place) -> None:
    place.keep(*(f"{number}" for number in range(rules.MAX_RECORDS + 1000)))
    cache = place.open()
    known = sum(cache.get(b"%d" % number) is not None for number in range(rules.MAX_RECORDS + 1000))
    assert known == rules.MAX_RECORDS
    assert place.file.stat().st_size < 90 * rules.MAX_RECORDS


def test_a_run_that_learnt_nothing_writes_nothing(place: Place) -> None:
    place.keep("a")
    before = place.file.stat()
    cache = place.open()
    assert cache.get(b"a") is not None
    cache.save()
    after = place.file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_old_and_surplus_caches_go_and_nothing_else_does(place: Place) -> None:
    place.path.mkdir(0o700)
    for number in range(rules.MAX_CACHES + 20):
        file = place.path / f"{number:064x}.digests"
        file.write_bytes(b"")
        os.utime(file, (NOW - number, NOW - number))
    tomorrow = place.path / f"{'e' * 64}.digests"
    ancient, dead, alive = (place.path / name for name in (f"{'f' * 64}.digests", f".x.{'0' * 16}.wcp-tmp",
                                                           f".x.{'1' * 16}.wcp-tmp"))  # fmt: skip
    for file, age in ((ancient, rules.MAX_AGE + 1), (tomorrow, -86400), (dead, 7200), (alive, 60)):
        file.write_bytes(b"")
        os.utime(file, (NOW - age, NOW - age))
    (place.path / "notes.txt").write_text("mine")
    (place.path / "folder").mkdir()
    place.keep("a", now=NOW)
    left = {path.name for path in place.path.iterdir()}
    assert len([name for name in left if name.endswith(".digests")]) == rules.MAX_CACHES
    assert {"notes.txt", "folder", alive.name} <= left
    assert not {ancient.name, tomorrow.name, dead.name} & left
    assert place.knows("a")


# Who can reach the cache. Imports within functions count; those for type checkers do not run.

CACHE = {"advice.digest_cache", "advice.cached_diff", "advice.git_blobs", "cli.cache_option"}
LOOKERS = {"cli.diff_command", "cli.check_command", "cli.fix_command", "cli.staged_manifests"}
DECIDERS = {
    "verification", "recheck", "verdict", "build", "sign_package", "compat", "legacy_tree",
    "cli.verify_command", "cli.sign_command", "cli.build_command", "cli.hash_command", "disk",
    "disk.check_tree", "disk.quick_check", "disk.read_tree", "disk.verified_copy", "disk.explain_differences",
    "disk.hashing", "disk.workers",
}  # fmt: skip


def graph() -> dict[str, set[str]]:
    """Who imports whom in `wcp_attest`, by names without it; a module's packages are imported before it."""
    found = {}
    names = {name for name, _ in modules("wcp_attest")}
    for name, path in modules("wcp_attest"):
        targets = {target.removeprefix("wcp_attest.") for target in imported(ast.parse(path.read_text()))}
        targets |= {
            ".".join(target.split(".")[:length]) for target in targets for length in range(1, target.count("."))
        }
        found[name] = targets & names
    return found


def test_nothing_that_decides_can_reach_the_cache() -> None:
    edges = graph()
    reaching = set(CACHE)
    while more := {name for name, targets in edges.items() if targets & reaching} - reaching:
        reaching |= more
    assert reaching == CACHE | LOOKERS
    assert edges.keys() >= DECIDERS
    assert not reaching & DECIDERS


def test_nothing_names_the_cache_in_a_text_to_be_imported() -> None:
    words = ("digest_cache", "cached_diff", "git_blobs", "cli.caching", "DigestCache", "WCP_ATTEST_CACHE")
    for package in ("wcp_attest", "wcp_route", "action"):
        for name, path in modules(package):
            known = package == "wcp_attest" and name in CACHE | LOOKERS | {"disk.explain_differences"}
            assert known or not [word for word in words if word in path.read_text()], path
    text = (ROOT / "wcp_attest/disk/explain_differences.py").read_text()
    assert "wcp_attest.advice.cached_diff" not in set(imported(ast.parse(text)))


def test_the_library_does_not_load_it() -> None:
    code = """
        import sys, wcp_attest
        [getattr(wcp_attest, name) for name in wcp_attest.__all__]
        print([name for name in sys.modules if name.endswith(("digest_cache", "cached_diff", "git_blobs"))])
    """
    assert run_python(code).stdout == "[]\n"
