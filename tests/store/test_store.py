"""Entries: what gets in, whole or not at all; what comes out, judged anew; how it goes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.worlds import (
    KEY,
    NOBODY,
    NOW,
    STRANGER,
    WORKER,
    as_user,
    make_package,
    needs_root,
    policy,
    remove,
    resign,
)
from tests.trees import snapshot
from wcp_attest import Accept, ConfigError, Manifest
from wcp_attest.base.errors import (
    Banned,
    BansUnusable,
    Expired,
    ManifestMalformed,
    NotAcceptable,
    SignerUntrusted,
    TreeMismatch,
)
from wcp_attest.disk import store_directory
from wcp_attest.disk.files import temporary_name
from wcp_attest.store import PackageStore
from wcp_attest.store_entries import split_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def store(own_place: Path) -> PackageStore:
    return PackageStore(own_place / "store")


def add(store: PackageStore, package: Path, **how: Any) -> str:
    with store.add(package, policy(), now=NOW, **how) as added:
        return added.entry


def inside(store: PackageStore, name: str) -> Path:
    return Path(store.path, name, "package")


def spoil(store: PackageStore, name: str, path: str = "code/worker_logic.py") -> None:
    target = inside(store, name) / path
    for folder in (target.parent, target):
        folder.chmod(0o755)
    target.write_text("import os\n")


class Bans:
    """A ban list in memory, as other programs write one."""

    def __init__(self, *versions: str, unusable: bool = False) -> None:
        self.versions, self.unusable = versions, unusable

    def check_before(self, facts: Any) -> None:
        if self.unusable:
            raise BansUnusable("the list is stale")
        if facts.worker_version in self.versions:
            raise Banned(f"{facts.worker_version} is banned")

    def check_files(self, files: Any, algorithm: str) -> None:
        pass


# --- what an entry is ----------------------------------------------------------------------------------------------


def test_an_entry_holds_the_package_closed_to_writing_and_the_pair_beside_it(
    store: PackageStore, package: Path
) -> None:
    name = add(store, package)
    entry = Path(store.path, name)
    assert sorted(path.name for path in entry.iterdir()) == ["manifest.json", "manifest.sig", "package", "record.json"]
    for file in ("manifest.json", "manifest.sig"):
        assert (entry / file).read_bytes() == (package / file).read_bytes()
    held = snapshot(entry)
    assert held["package/code/worker_logic.py"] == (stat.S_IFREG | 0o444, b"print('hello')\n")
    assert stat.S_IMODE(held["package/code/run"][0]) == 0o555
    assert (inside(store, name) / "link").readlink() == Path("code/run")
    for path, (mode, _) in held.items():
        assert stat.S_ISLNK(mode) or not mode & 0o222, path
    assert stat.S_IMODE(entry.stat().st_mode) == 0o555
    assert set(held) - {"manifest.json", "manifest.sig", "record.json", "package"} == {
        f"package/{path}" for path in ("code", "code/run", "code/worker_logic.py", "empty", "link", "requirements.lock")
    }


def test_the_record_says_when_by_what_under_which_policy_and_from_where(store: PackageStore, package: Path) -> None:
    record = json.loads(Path(store.path, add(store, package), "record.json").read_text())
    assert record["added_at_utc"] == "2027-01-15T08:00:00Z"
    assert record["added_from"] == str(package)
    assert record["added_by"].startswith("wcp-attest ")
    assert record["policy_sha256"] is None


def test_a_record_decides_nothing(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    record = Path(store.path, name, "record.json")
    for text in ('{"worker_id": "org.evil.x", "worker_version": "99"}', "[]", "{", '"\\ud800"', "[" * 100_000):
        record.chmod(0o644)
        record.write_text(text)
        with store.newest(WORKER, None, policy(), now=NOW) as held:
            assert held.entry == name
        assert [entry.worker_id for entry in store.entries()] == [WORKER]


@needs_root
def test_a_group_alone_may_read_a_store_for_a_group(own_place: Path, package: Path) -> None:
    store = PackageStore(own_place / "store", group=NOBODY)
    name = add(store, package)
    held = snapshot(Path(store.path, name))
    assert {stat.S_IMODE(mode) for mode, _ in held.values() if not stat.S_ISLNK(mode)} == {0o550, 0o440}

    def read() -> list[str]:
        with store.open(name, policy(), now=NOW) as opened:
            return [opened.content, (inside(store, name) / "code" / "worker_logic.py").read_text()]

    assert as_user(NOBODY, read) == ["hashed", "print('hello')\n"]
    with pytest.raises(AssertionError, match="ermission"):
        as_user(1234, read)
    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(NOBODY, lambda: (inside(store, name) / "code" / "worker_logic.py").write_text("x"))


# --- getting in ----------------------------------------------------------------------------------------------------


def test_the_same_package_twice_is_one_entry_and_another_release_is_another(
    store: PackageStore, package: Path, tmp_path: Path
) -> None:
    first = add(store, package)
    assert add(store, package) == first
    assert add(store, make_package(tmp_path / "next", "1.5.0")) != first
    assert len(store.names()) == 2


@pytest.mark.parametrize(
    "attack",
    [
        lambda root: (root / "code" / "worker_logic.py").write_text("print('HELLO')\n"),
        lambda root: (root / "code" / "more.py").write_text(""),
        lambda root: (root / "requirements.lock").unlink(),
        lambda root: (root / "code" / "run").chmod(0o644),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_package_that_changed_is_refused_and_nothing_is_added(
    attack: Callable[[Path], object], again: bool, store: PackageStore, package: Path
) -> None:
    names = [add(store, package)] if again else []
    attack(package)
    with pytest.raises(TreeMismatch):
        add(store, package)
    assert (os.listdir(store.path) if os.path.isdir(store.path) else []) == names


def test_a_package_by_a_stranger_does_not_even_make_the_store(store: PackageStore, package: Path) -> None:
    with pytest.raises(SignerUntrusted):
        store.add(package, policy(signer=STRANGER), now=NOW)
    assert not os.path.exists(store.path)


def test_a_store_inside_the_package_is_refused_before_anything_is_written(package: Path) -> None:
    before = snapshot(package)
    with pytest.raises(ConfigError, match="inside the package"):
        PackageStore(package / "code" / "store").add(package, policy(), now=NOW)
    assert snapshot(package) == before


def test_a_spoilt_entry_is_set_aside_and_made_anew(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    spoil(store, name)
    with pytest.raises(TreeMismatch):
        store.check(name)
    assert add(store, package) == name
    store.check(name)
    assert [entry for entry in os.listdir(store.path) if entry.startswith(name + ".spoilt-")]
    assert store.names() == [name]
    assert store.collect() == 1
    assert os.listdir(store.path) == [name]


@pytest.mark.parametrize("lost", ["manifest.json", "manifest.sig", "package"])
def test_an_entry_that_lost_a_part_is_refused_and_made_anew(lost: str, store: PackageStore, package: Path) -> None:
    name = add(store, package)
    entry = Path(store.path, name)
    entry.chmod(0o755)
    (entry / lost).rename(entry / "gone")
    with pytest.raises(Exception, match=r"cannot read|no package"):
        store.open(name, policy(), now=NOW)
    assert add(store, package) == name
    store.check(name)


def _kill_at(step: int, place: Path, package: Path) -> int:
    """Add in a child that kills itself at its n-th look at or change of the file system; return its wait status."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, _: object) -> None:
            nonlocal seen
            if event.startswith(("os.", "open", "shutil.", "fcntl.")):
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        with suppress(BaseException):
            sys.addaudithook(count)
            add(PackageStore(place / "store"), package)
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1]


def test_killed_at_any_moment_nothing_half_made_is_found_and_leftovers_go(own_place: Path, package: Path) -> None:
    store = PackageStore(own_place / "store")
    good = add(store, package)
    store.remove(good)
    killed = 0
    for step in range(1, 2000):
        status = _kill_at(step, own_place, package)
        for name in store.names():
            store.check(name)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        killed += 1
        for name in store.names():
            assert store.remove(name)
    assert killed > 40
    assert store.names() == [good]
    store.collect()
    assert os.listdir(store.path) == [good]


def test_the_next_command_collects_what_a_killed_one_left(own_place: Path, package: Path, tmp_path: Path) -> None:
    store = PackageStore(own_place / "store")
    add(store, package)
    left = Path(store.path, temporary_name("ab" * 32))
    (left / "package").mkdir(parents=True, mode=0o555)
    left.chmod(0o555)
    add(store, make_package(tmp_path / "next", "1.5.0"))
    assert not left.exists()


def test_what_a_living_writer_works_on_is_left_alone(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    with store_directory.NewEntry(store.path, "cd" * 32) as entry:
        entry.write("manifest.json", b"{}")
        assert store.collect() == 0
        assert os.path.exists(entry.path)
    assert os.listdir(store.path) == [name]


def _add_in_a_process(path: str, package: str, answers: Any) -> None:
    try:
        answers.put(add(PackageStore(path), Path(package)))
    except BaseException as problem:  # noqa: BLE001  # told to the test
        answers.put(repr(problem))


def test_two_who_add_the_same_package_at_once_both_succeed(store: PackageStore, package: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        answers: Any = context.Queue()
        adders = [context.Process(target=_add_in_a_process, args=(store.path, str(package), answers)) for _ in range(3)]
        for adder in adders:
            adder.start()
        found = {answers.get(timeout=60) for _ in adders}
        for adder in adders:
            adder.join()
        (name,) = found
        store.check(name)
        assert os.listdir(store.path) == [name]
        assert store.remove(name)


@needs_root
def test_a_full_disk_adds_nothing_and_says_so(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        package = make_package(tmp_path / "large", code="#" * 400_000)
        store = PackageStore(place / "store")
        with pytest.raises(ConfigError, match="no space left"):
            add(store, package)
        assert os.listdir(store.path) == []
        add(store, make_package(tmp_path / "small-one", "2.0.0"))
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_read_only_place_or_a_file_in_its_place_is_said(own_place: Path, package: Path) -> None:
    (own_place / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the store"):
        add(PackageStore(own_place / "file"), package)


# --- coming out ----------------------------------------------------------------------------------------------------


def test_a_spoilt_entry_is_refused(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    spoil(store, name)
    with pytest.raises(TreeMismatch):
        store.open(name, policy(), now=NOW, require_hashed=True)


@pytest.mark.parametrize("added", ["manifest.json", "manifest.sig", "code/sitecustomize.py", "code/worker_logic.pyc"])
def test_whatever_was_added_to_an_entry_is_refused(added: str, store: PackageStore, package: Path) -> None:
    name = add(store, package)
    target = inside(store, name) / added
    target.parent.chmod(0o755)
    target.write_text("{}")
    with pytest.raises(Exception, match=r"differ|bytecode"):
        store.open(name, policy(), now=NOW, require_hashed=True)


def test_an_entry_under_the_name_of_another_is_refused(store: PackageStore, package: Path, tmp_path: Path) -> None:
    first = add(store, package)
    second = add(store, make_package(tmp_path / "next", "1.5.0"))
    store.remove(second)
    os.rename(os.path.join(store.path, first), os.path.join(store.path, second))
    with pytest.raises(ManifestMalformed, match="named after"):
        store.open(second, policy(), now=NOW)


def test_bans_age_and_policy_are_judged_at_every_use(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    for wrong, settings, error in (
        (policy(), {"bans": [Bans("1.4.0")]}, Banned),
        (policy(), {"bans": [Bans(unusable=True)]}, BansUnusable),
        (policy(accept=Accept(max_age=60)), {"now": NOW + 3600}, Expired),
        (policy(accept=Accept(schemas=("awp.v1",))), {}, NotAcceptable),
        (policy(signer=STRANGER), {}, SignerUntrusted),
    ):
        with pytest.raises(error):
            store.open(name, wrong, **{"now": NOW, **settings})  # type: ignore[arg-type]
    store.open(name, policy(), now=NOW).close()


@pytest.fixture
def releases(store: PackageStore, tmp_path: Path) -> dict[str, str]:
    order = ("1.9.0", "1.10.0", "1.10.0-rc.1", "1.2.0")
    return {
        version: add(store, make_package(tmp_path / version, version, now=NOW - 100 + index))
        for index, version in enumerate(order)
    }


def newest(store: PackageStore, *bans: Any, version: str | None = None) -> str:
    with store.newest(WORKER, version, policy(), now=NOW, bans=bans) as held:
        return held.verified.worker_version


def test_the_newest_is_the_highest_version_that_is_allowed(store: PackageStore, releases: dict[str, str]) -> None:
    assert newest(store) == "1.10.0"
    assert newest(store, Bans("1.10.0")) == "1.10.0-rc.1"
    assert newest(store, Bans("1.10.0", "1.10.0-rc.1")) == "1.9.0"
    assert newest(store, version="1.2.0") == "1.2.0"
    with pytest.raises(Banned, match=r"1\.10\.0 is banned"):
        newest(store, Bans(*releases))
    with pytest.raises(Banned):
        newest(store, Bans("1.2.0"), version="1.2.0")
    with pytest.raises(ConfigError, match="holds no org"):
        newest(store, version="3.0")


def test_of_versions_that_cannot_be_compared_the_latest_built_is_newest(store: PackageStore, tmp_path: Path) -> None:
    add(store, make_package(tmp_path / "a", "spring", now=NOW - 50))
    add(store, make_package(tmp_path / "b", "autumn", now=NOW - 20))
    assert newest(store) == "autumn"


def test_spoiling_the_newest_does_not_bring_an_older_release_back(
    store: PackageStore, releases: dict[str, str]
) -> None:
    spoil(store, releases["1.10.0"])
    with pytest.raises(TreeMismatch), store.newest(WORKER, None, policy(), now=NOW, require_hashed=True):
        pass
    with pytest.raises(BansUnusable):
        newest(store, Bans(unusable=True))


def test_another_worker_under_this_name_is_not_handed_out(store: PackageStore, package: Path) -> None:
    resign(package, worker="org.acme.other")
    add(store, package)
    with pytest.raises(ConfigError, match="holds no"):
        newest(store)


@pytest.mark.parametrize("text", ["", "acme", "org.acme", "org.acme.x@", "org.acme.x@a/b", "../x", "org.acme.x@1@2"])
def test_what_is_no_worker_is_said(text: str) -> None:
    with pytest.raises(ConfigError):
        split_worker(text)
    assert split_worker("org.acme.x@1.4") == ("org.acme.x", "1.4")
    assert split_worker("org.acme.x") == ("org.acme.x", None)


def test_a_swap_of_the_package_directory_after_the_check_does_not_reach_the_descriptor(
    store: PackageStore, package: Path
) -> None:
    name = add(store, package)
    with store.open(name, policy(), now=NOW) as held:
        entry = Path(store.path, name)
        entry.chmod(0o755)
        (entry / "package").rename(entry / "old")
        (entry / "package").mkdir()
        assert os.path.samestat(os.fstat(held.descriptor), (entry / "old").stat())
        with open(
            "code/worker_logic.py", opener=lambda path, flags: os.open(path, flags, dir_fd=held.descriptor)
        ) as file:
            assert file.read() == "print('hello')\n"


# --- going ---------------------------------------------------------------------------------------------------------


def test_an_entry_in_use_is_not_removed(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    with store.open(name, policy(), now=NOW), store.open(name, policy(), now=NOW):
        assert store.remove(name) is False
        assert store.names() == [name]
    assert store.remove(name) is True
    assert os.listdir(store.path) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="which programs run is seen in /proc")
@pytest.mark.parametrize("seen", ["environment", "folder", "command"])
@pytest.mark.parametrize("by", ["its path", "a link"])
def test_an_entry_that_a_program_runs_from_is_not_removed(
    seen: str, by: str, store: PackageStore, package: Path, tmp_path: Path
) -> None:
    name = add(store, package)
    path = str(inside(store, name))
    environment = {"WCP_PACKAGE_ROOT": path} if seen == "environment" else {}
    named = [f"{path}/code/bootstrap.py"] if seen == "command" else []
    program = subprocess.Popen(
        ["sh", "-c", "sleep 60; true", *named],
        env={**os.environ, **environment},
        cwd=path if seen == "folder" else "/",
        start_new_session=True,
    )
    remover = store
    if by == "a link":
        (tmp_path / "link").symlink_to(store.path)
        remover = PackageStore(tmp_path / "link")
    try:
        assert remover.remove(name) is False
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.kill()
        program.wait()
    assert store.remove(name) is True


def test_a_reader_and_a_remover_at_once_never_meet_a_half_entry(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                store.open(name, policy(), now=NOW).close()
            except ConfigError:
                pass  # it is gone, which is said as such
            except BaseException as problem:  # noqa: BLE001  # told to the test
                problems.append(problem)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(30):
            while not store.remove(name):
                pass
            add(store, package)
    finally:
        done.set()
        reader.join()
    assert problems == []


def test_a_name_is_told_by_eight_digits(store: PackageStore, releases: dict[str, str]) -> None:
    name = releases["1.2.0"]
    assert store.resolve(name[:8]) == name
    for text in ("", name[:7], "zz" * 32, "../" + name):
        with pytest.raises(ConfigError, match="no entry"):
            store.resolve(text)


def test_a_manifest_beyond_its_bounds_makes_an_entry_nameless_not_a_crash(store: PackageStore, package: Path) -> None:
    name = add(store, package)
    manifest = Path(store.path, name, "manifest.json")
    manifest.chmod(0o644)
    for data in (b"", b"{", b"\xff" * 100, b"{\n" + b'"a":"b",\n' * 1000):
        manifest.write_bytes(data)
        assert [entry.worker_id for entry in store.entries()] == [""]
        with pytest.raises(Exception, match=r"manifest|signature"):
            store.open(name, policy(), now=NOW)


def test_keys_and_manifests_of_these_tests_are_as_they_seem(package: Path) -> None:
    manifest = Manifest.from_bytes((package / "manifest.json").read_bytes())
    assert manifest.worker_id == WORKER
    assert KEY.trusted != STRANGER.trusted


def _no_leftovers(place: Path) -> Iterator[str]:
    yield from (name for name in os.listdir(place) if name.startswith("."))


def test_a_package_without_rights_to_read_is_refused_without_a_trace(own_place: Path, package: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (package / "code" / "run").chmod(0)
    store = PackageStore(own_place / "store")
    with pytest.raises(Exception, match=r"read|mode|differ"):
        add(store, package)
    assert list(_no_leftovers(Path(store.path))) == []
    remove(package)
