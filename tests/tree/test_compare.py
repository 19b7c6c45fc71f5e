"""Looking again with remembered digests: what it must still see, and what it must not remember.

A change time cannot be set, so these tests say that it is two minutes later than it is: what was just written has then
settled. Whether a file was read is told by the progress.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import manifest_of, plant
from wcp_attest.advice.cached_diff import compare_tree, identity_of
from wcp_attest.advice.digest_cache import DigestCache
from wcp_attest.base.errors import TreeMismatch, TreeUnsafe
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wcp_attest.base.differences import Difference
    from wcp_attest.disk.options import Progress
    from wcp_attest.package.manifest import Manifest

FILES: dict[str, bytes | str | None] = {
    "x:run": b"#!/bin/sh\n",
    "a": b"aaaa",
    "b": b"bbbb",
    "deep/er/model": b"m" * 100_000,
    "deep/empty": b"",
    "deep/link": "er/model",
    'quo"te/ä': b"name",
    "none": None,
}
COUNT = 6
SETTLED = 120.0


class Look:
    """A tree, its manifest and a cache, to be looked at."""

    def __init__(self, tmp_path: Path, files: dict[str, bytes | str | None] = FILES) -> None:
        self.root = tmp_path / "tree"
        plant(self.root, files)
        self.manifest: Manifest = manifest_of(str(self.root))
        self.cache = tmp_path / "cache"
        self.said: list[str] = []
        self.read = 0

    def __call__(
        self, *, later: float = SETTLED, jobs: int = 1, during: Callable[[Progress], None] | None = None
    ) -> tuple[Difference, ...]:
        """Return the differences; `read` says how many files were read."""

        def progress(state: Progress) -> None:
            self.read = state.files_done
            if during is not None:
                during(state)

        self.read = 0
        try:
            compare_tree(
                str(self.root),
                self.manifest,
                cache=str(self.cache),
                report=self.said.append,
                now=time.time() + later,
                options=ReadOptions(jobs=jobs, progress=progress),
            )
        except TreeMismatch as mismatch:
            return mismatch.differences
        return ()

    def plainly(self) -> tuple[Difference, ...]:
        """Return the differences that `check_tree` finds, which knows no cache."""
        try:
            check_tree(str(self.root), self.manifest)
        except TreeMismatch as mismatch:
            return mismatch.differences
        return ()

    def changed(self, *, later: float = SETTLED) -> list[str]:
        return [difference.path for difference in self(later=later)]

    def overwrite(self, name: str, content: bytes) -> None:
        """Write other content of the same size and set the modification time back."""
        path = self.root / name
        before = path.stat()
        assert before.st_size == len(content)
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns

    def poison(self, name: str, digest: str, *, larger: int = 0) -> None:
        """Make the cache say that a file, as it is now, has this digest, and leave the others as they are."""
        subject = ("tree", "sha256", os.path.realpath(self.root))
        cache = DigestCache(str(self.cache), subject, report=self.said.append, now=time.time() + SETTLED)
        for path in self.root.rglob("*"):
            identity = identity_of(path.lstat())
            assert identity is not None
            cache.get(identity)
        status = (self.root / name).stat()
        identity = identity_of(status)
        assert identity is not None
        cache.put(identity, digest, status.st_size + larger)
        cache.save()


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


@pytest.fixture
def known(look: Look) -> Look:
    """The same, looked at once."""
    assert look() == ()
    assert look.read >= COUNT
    return look


def test_every_file_is_remembered_under_its_own_digest(tmp_path: Path) -> None:
    """Helpers answer out of turn; links and files that were known already lie in between."""
    files: dict[str, bytes | str | None] = {f"d{n % 7}/f{n:04}": b"%d" % (n // 2) for n in range(2500)}
    files |= {f"d{n}/f0100-link": "f0007" for n in range(7)} | {"d3/large": b"l" * 3_000_000}
    look = Look(tmp_path, files)
    assert look(jobs=2) == ()
    plant(look.root, {f"d{n}/new{n}": b"new %d" % n for n in range(7)})
    for number in range(0, 2500, 9):
        look.overwrite(f"d{number % 7}/f{number:04}", (b"%d" % (number // 2))[::-1])
    look.manifest = manifest_of(str(look.root))
    assert look(jobs=2) == ()
    assert 0 < look.read < 600
    subject = ("tree", "sha256", os.path.realpath(look.root))
    cache = DigestCache(str(look.cache), subject, report=look.said.append, now=time.time() + SETTLED)
    for path in look.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            identity = identity_of(path.stat())
            assert identity is not None
            content = path.read_bytes()
            assert cache.get(identity) == (sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_known_is_not_read_again(known: Look, jobs: int) -> None:
    assert known(jobs=jobs) == ()
    assert known.read == 0
    assert known.said == []


def test_only_what_changed_is_read(known: Look) -> None:
    known.overwrite("a", b"AAAA")
    assert known.changed() == ["a"]
    assert known.read == 1


def test_a_difference_that_stays_is_read_once(known: Look) -> None:
    """The new content is remembered, too: it is known to be another one."""
    known.overwrite("deep/er/model", b"M" * 100_000)
    first = known()
    assert [difference.path for difference in first] == ["deep/er/model"]
    assert known() == first == known.plainly()
    assert known.read == 0


def edit(look: Look) -> None:
    look.overwrite("a", b"AAAA")


def rename_over(look: Look) -> None:
    """Another file takes the place, of the same size and times."""
    old = look.root / "a"
    status = old.stat()
    new = look.root.parent / "new"
    new.write_bytes(b"AAAA")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(old)


def through_a_hard_link(look: Look) -> None:
    other = look.root.parent / "other name"
    other.hardlink_to(look.root / "a")
    status = other.stat()
    with other.open("r+b") as file:
        file.write(b"AAAA")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.unlink()


def swap(look: Look) -> None:
    (look.root / "a").rename(look.root / "c")
    (look.root / "b").rename(look.root / "a")
    (look.root / "c").rename(look.root / "b")


def swap_folders(look: Look) -> None:
    (look.root / "deep").rename(look.root.parent / "old")
    plant(look.root, {"deep/er/model": b"X" * 100_000, "deep/empty": b"", "deep/link": "er/model"})


def shorten(look: Look) -> None:
    os.truncate(look.root / "a", 3)


def a_link_instead(look: Look) -> None:
    (look.root / "a").unlink()
    (look.root / "a").symlink_to("b")


def a_link_elsewhere(look: Look) -> None:
    (look.root / "deep/link").unlink()
    (look.root / "deep/link").symlink_to("empty")


CHANGES: dict[str, tuple[Callable[[Look], object], list[str]]] = {
    "edited, time set back": (edit, ["a"]),
    "replaced by a rename": (rename_over, ["a"]),
    "edited through a hard link": (through_a_hard_link, ["a"]),
    "two files swapped": (swap, ["a", "b"]),
    "a folder swapped": (swap_folders, ["deep/er/model"]),
    "cut short": (shorten, ["a"]),
    "made executable": (lambda look: (look.root / "a").chmod(0o755), ["a"]),
    "no longer executable": (lambda look: (look.root / "run").chmod(0o644), ["run"]),
    "removed": (lambda look: (look.root / "a").unlink(), ["a"]),
    "added": (lambda look: plant(look.root, {"new": b"aaaa"}), ["new"]),
    "a copy added": (lambda look: (look.root / "a2").hardlink_to(look.root / "a"), ["a2"]),
    "a link instead": (a_link_instead, ["a"]),
    "a link led elsewhere": (a_link_elsewhere, ["deep/link"]),
    "moved": (lambda look: (look.root / "a").rename(look.root / "z"), ["a", "z"]),
    "bytecode": (lambda look: plant(look.root, {"__pycache__/a.pyc": b"evil"}), ["__pycache__/a.pyc"]),
    "an empty directory": (lambda look: (look.root / "none").rmdir(), ["none"]),
}


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen_and_told_as_without_a_cache(known: Look, change: str, jobs: int) -> None:
    make, paths = CHANGES[change]
    make(known)
    expected = known.plainly()
    assert sorted(difference.path for difference in expected) == paths
    assert known(jobs=jobs) == expected
    assert known(jobs=jobs) == expected, "and again, with what was learnt"


@pytest.mark.parametrize("kind", ["a FIFO", "a set-id bit", "a name that hides"])
def test_what_cannot_be_read_safely_is_refused_although_it_was_known(known: Look, kind: str) -> None:
    path = known.root / "a"
    if kind == "a FIFO":
        path.unlink()
        os.mkfifo(path)
    elif kind == "a set-id bit":
        path.chmod(0o4644)
        known.poison("a", "00" * 32)
    else:
        os.symlink("x" * 200, known.root / "\x01")
    with pytest.raises(TreeUnsafe):
        known()


def test_another_manifest_of_the_same_tree_is_compared_as_without_a_cache(known: Look, tmp_path: Path) -> None:
    """Nothing in the tree changes, so everything is known, and must not be taken for what the manifest says."""
    other = {**FILES, "x:a": b"aaaa", "b": b"bbbbb", "deep/empty": "er/model", "x:new": b""}
    del other["a"], other["x:run"]
    other["run"] = b"#!/bin/sh\n"
    known.manifest = manifest_of(plant(tmp_path / "other", other))
    expected = known.plainly()
    assert [difference.path for difference in expected] == ["a", "b", "deep/empty", "new", "run"]
    assert known() == expected
    assert known() == expected


@pytest.mark.parametrize("field", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_files_that_differ_in_one_thing_are_not_the_same(field: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    status = path.stat()
    values = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}

    def changed(by: int) -> bytes | None:
        sequence = list(status)
        if field in values:
            return identity_of(os.stat_result(sequence, {**values, field: values[field] + by}))
        sequence[{"st_ino": 1, "st_dev": 2, "st_size": 6}[field]] += by
        return identity_of(os.stat_result(sequence, values))

    assert changed(0) == identity_of(status) is not None
    assert changed(1) != identity_of(status)


def test_what_changed_within_the_last_minute_is_not_remembered(look: Look) -> None:
    """Or a second change within the same tick of the clock, or to a page that is mapped, would never be seen."""
    assert look(later=0) == ()
    assert look(later=0) == ()
    assert look.read >= COUNT
    look.overwrite("a", b"AAAA")
    assert look.changed(later=0) == ["a"]
    assert not list(look.cache.glob("*.digests"))


def test_a_time_that_has_yet_to_come_is_not_trusted(look: Look) -> None:
    future = time.time() + 86400
    os.utime(look.root / "a", (future, future))
    assert look() == look() == ()
    assert look.read == 1
    look.overwrite("a", b"AAAA")
    assert look.changed() == ["a"]


def test_a_clock_that_was_set_back_makes_everything_be_read(look: Look) -> None:
    assert look(later=3600) == ()
    assert look(later=SETTLED) == ()
    assert look.read >= COUNT
    assert look(later=SETTLED) == ()
    assert look.read == 0


def test_what_changes_while_it_is_looked_at_is_not_remembered(tmp_path: Path) -> None:
    """`f299` had been looked up already when it changes, and is read afterwards."""
    look = Look(tmp_path, {f"f{number:03}": b"old" for number in range(300)})

    def meddle(state: Progress) -> None:
        if state.files_done < 300 and (look.root / "f299").read_bytes() == b"old":
            look.overwrite("f299", b"new")

    assert [difference.path for difference in look(during=meddle)] == ["f299"]
    (file,) = look.cache.iterdir()
    assert file.stat().st_size == 80 + 299 * 88
    look.overwrite("f299", b"old")
    assert look() == ()
    assert look.read == 1


def test_hard_links_share_what_is_known_of_them(tmp_path: Path) -> None:
    look = Look(tmp_path, {"a": b"one"})
    (look.root / "b").hardlink_to(look.root / "a")
    look.manifest = manifest_of(str(look.root))
    assert look() == look() == ()
    assert look.read == 0


def test_packages_do_not_push_each_other_out(known: Look, tmp_path: Path) -> None:
    other = Look(tmp_path / "other", {"a": b"else"})
    other.cache = known.cache
    assert other() == other() == ()
    assert other.read == 0
    assert known() == ()
    assert known.read == 0


def test_algorithms_are_kept_apart(known: Look) -> None:
    sha256 = known.manifest
    known.manifest = manifest_of(str(known.root), algorithm="blake3")
    assert known() == ()
    assert known.read >= COUNT
    assert known() == ()
    assert known.read == 0
    known.manifest = sha256
    assert known() == ()
    assert known.read == 0


def test_a_cache_that_cannot_be_trusted_costs_time_only(known: Look) -> None:
    known.cache.chmod(0o777)
    known.overwrite("a", b"AAAA")
    assert known.changed() == ["a"]
    assert known.read >= COUNT
    assert len(known.said) == 1


def test_a_poisoned_cache_deceives_the_look_and_not_the_check(known: Look) -> None:
    """Why there is none for `verify`: whoever can write the file decides what is seen."""
    digest = next(line for line in known.manifest.lines if line.startswith(b'"a"')).split(b'"')[5].decode()
    known.overwrite("a", b"AAAA")
    known.poison("a", digest)
    assert known() == ()
    assert [difference.path for difference in known.plainly()] == ["a"]


def test_a_digest_of_a_content_of_another_size_is_not_taken(known: Look) -> None:
    known.poison("a", "00" * 32, larger=1)
    assert known() == ()
    assert known.read == 1


def test_times_past_reckoning_are_not_remembered(look: Look) -> None:
    try:
        os.utime(look.root / "a", (2**34 - 1, 2**34 - 1))
    except OverflowError:
        pytest.skip("this system has no such times")
    assert look() == look() == ()
    assert look.read == 1
