"""May an entry be used without hashing it again? Each way in which somebody else could change it, tried."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.worlds import KEEPER, NOBODY, NOW, as_user, make_package, needs_root, policy, remove
from wcp_attest.disk.kept import changeable
from wcp_attest.store import PackageStore

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = ("package", "manifest.json", "manifest.sig")


def stored(place: Path, package: Path, **settings: Any) -> tuple[PackageStore, str]:
    store = PackageStore(place / "store", **settings)
    with store.add(package, policy(), now=NOW) as added:
        return store, added.entry


def opened(store: PackageStore, name: str, **how: Any) -> tuple[str, str]:
    with store.open(name, policy(), now=NOW, **how) as held:
        return held.content, held.reason


def given_to(path: Path, user: int) -> None:
    for folder, _, files in os.walk(path):
        os.chown(folder, user, user)
        for name in files:
            os.chown(os.path.join(folder, name), user, user, follow_symlinks=False)


@needs_root
def test_root_and_an_ordinary_user_use_an_entry_of_root_without_hashing(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    assert opened(store, name) == ("owner", "")
    assert as_user(NOBODY, lambda: opened(store, name)) == ["owner", ""]


@needs_root
def test_what_is_not_hashed_is_not_read_and_what_is_asked_for_is(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    logic = kept_place / "store" / name / "package" / "code" / "worker_logic.py"
    logic.chmod(0o644)
    logic.write_text("root changed it\n")
    assert opened(store, name) == ("owner", "")  # root decides anyway
    with pytest.raises(Exception, match="differs"):
        opened(store, name, require_hashed=True)


def test_an_own_store_of_an_ordinary_user_is_always_hashed(own_place: Path, package: Path) -> None:
    def add_and_open() -> tuple[str, str]:
        store, name = stored(own_place, package, owner=os.geteuid())
        return opened(store, name)

    if os.geteuid() != 0:
        content, reason = add_and_open()
    else:
        content, reason = as_user(NOBODY, add_and_open)
    assert content == "hashed"
    assert "also its user" in reason


@needs_root
def test_a_store_of_another_user_is_hashed_unless_that_user_is_named_as_keeper(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    given_to(kept_place / "store", KEEPER)
    assert as_user(NOBODY, lambda: opened(store, name))[0] == "hashed"
    assert opened(store, name)[0] == "hashed"  # root does not take an ordinary user's word either
    named = PackageStore(store.path, owner=KEEPER)
    assert as_user(NOBODY, lambda: opened(named, name)) == ["owner", ""]
    assert opened(named, name) == ("owner", "")
    assert as_user(KEEPER, lambda: opened(named, name))[0] == "hashed"


@needs_root
def test_a_keeper_who_is_to_run_the_worker_is_no_keeper(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    given_to(kept_place / "store", KEEPER)
    named = PackageStore(store.path, owner=KEEPER)
    content, reason = opened(named, name, users={KEEPER})
    assert (content, "also its user" in reason) == ("hashed", True)


@needs_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("what", ["parent", "store", "entry", "package", "manifest.json", "manifest.sig"])
def test_whatever_group_or_others_may_write_is_hashed(what: str, mode: int, kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    entry = kept_place / "store" / name
    path = {"parent": kept_place, "store": kept_place / "store", "entry": entry}.get(what, entry / what)
    path.chmod(mode)
    content, reason = opened(store, name)
    assert content == "hashed"
    assert repr(str(path)) in reason


@needs_root
@pytest.mark.parametrize("what", ["parent", "store", "entry", "package", "manifest.json", "manifest.sig"])
def test_whatever_belongs_to_somebody_else_is_hashed(what: str, kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    entry = kept_place / "store" / name
    path = {"parent": kept_place, "store": kept_place / "store", "entry": entry}.get(what, entry / what)
    os.chown(path, NOBODY, NOBODY)
    content, reason = opened(store, name)
    assert content == "hashed"
    assert f"belongs to user {NOBODY}" in reason


@needs_root
def test_a_sticky_parent_of_root_is_safe_and_one_of_somebody_else_is_not(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    kept_place.chmod(0o1777)
    assert opened(store, name)[0] == "owner"
    os.chown(kept_place, KEEPER, KEEPER)
    assert opened(PackageStore(store.path, owner=KEEPER), name)[0] == "hashed"


@needs_root
@pytest.mark.parametrize("what", ["store", "entry"])
def test_a_sticky_store_or_entry_is_hashed(what: str, kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    (kept_place / "store" / (name if what == "entry" else "")).chmod(0o1777)
    assert opened(store, name)[0] == "hashed"


@needs_root
def test_an_acl_that_lets_somebody_write_is_hashed(kept_place: Path, package: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("setfacl is not installed")
    store, name = stored(kept_place, package)
    done = subprocess.run(["setfacl", "-m", f"u:{NOBODY}:rwx", kept_place / "store"], check=False)
    if done.returncode != 0:
        pytest.skip("this file system keeps no ACLs")
    assert opened(store, name)[0] == "hashed"


@needs_root
@pytest.mark.parametrize("what", ["parent", "store", "entry", "package", "manifest.json"])
def test_a_link_in_the_path_is_hashed_or_refused(what: str, kept_place: Path, package: Path) -> None:
    (kept_place / "real").mkdir()
    store, name = stored(kept_place / "real", package)
    if what == "parent":
        (kept_place / "way").symlink_to("real")
        assert opened(PackageStore(kept_place / "way" / "store"), name)[0] == "hashed"
        return
    entry = kept_place / "real" / "store" / name
    path = {"store": entry.parent, "entry": entry}.get(what, entry / what)
    entry.chmod(0o755)
    moved = path.with_name(path.name + "-moved")
    path.rename(moved)
    path.symlink_to(moved.name)
    if what in {"store", "manifest.json"}:
        assert opened(store, name)[0] == "hashed"
    else:
        with pytest.raises(Exception, match=r"link|open|directory"):
            opened(store, name)


@needs_root
def test_a_mounted_directory_counts_as_what_it_is(kept_place: Path, own_place: Path, package: Path) -> None:
    theirs, name = stored(own_place, package)
    given_to(own_place / "store", NOBODY)
    ours, _ = stored(kept_place, package)
    (kept_place / "mounted").mkdir()

    def with_mount(source: str, target: str) -> tuple[str, str]:
        if subprocess.run(["mount", "--bind", source, target], check=False, capture_output=True).returncode != 0:
            pytest.skip("bind mounts are not allowed here")
        try:
            return opened(PackageStore(target), name)
        finally:
            subprocess.run(["umount", target], check=True)

    assert with_mount(theirs.path, str(kept_place / "mounted"))[0] == "hashed"
    assert with_mount(ours.path, str(kept_place / "mounted"))[0] == "owner"
    (own_place / "spot").mkdir()
    assert with_mount(ours.path, str(own_place / "spot"))[0] == "hashed"  # its parent is anybody's


@needs_root
def test_a_file_system_of_which_this_kernel_is_not_the_keeper_is_hashed(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    assert changeable(store.path, name, MEMBERS, keeper=0, users={NOBODY}) is None
    reason = changeable("/proc", "self", ("stat",), keeper=0, users={NOBODY})
    assert reason is not None


@needs_root
def test_root_of_a_user_namespace_is_not_root(own_place: Path, package: Path) -> None:
    """`unshare --map-root-user` shows an ordinary user's own store as root's."""
    own_place.chmod(0o755)
    store, name = stored(own_place, package)
    given_to(own_place / "store", NOBODY)
    code = (
        "from wcp_attest.disk.kept import changeable\n"
        f"print(changeable({store.path!r}, {name!r}, {MEMBERS!r}, keeper=0, users=set()))"
    )
    import sys

    done = as_user(
        NOBODY,
        lambda: (
            subprocess.run(
                ["unshare", "--user", "--map-root-user", sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            ).stdout
        ),
    )
    if not done:
        pytest.skip("ordinary users may not make user namespaces here")
    assert "user namespace" in done


@needs_root
def test_overflow_user_is_nobodys_keeper(kept_place: Path, package: Path) -> None:
    store, name = stored(kept_place, package)
    reason = changeable(store.path, name, MEMBERS, keeper=65_534, users={NOBODY})
    assert reason is not None


@needs_root
def test_the_signature_is_judged_though_nothing_is_hashed(kept_place: Path, package: Path) -> None:
    from tests.store.worlds import STRANGER
    from wcp_attest import Accept

    store, name = stored(kept_place, package)
    with pytest.raises(Exception, match=r"signer|signed"):
        store.open(name, policy(signer=STRANGER), now=NOW)
    with pytest.raises(Exception, match="max_age"):
        store.open(name, policy(accept=Accept(max_age=60)), now=NOW + 3600)


@needs_root
def test_a_second_start_reads_a_handful_of_directories_whatever_the_size(kept_place: Path, tmp_path: Path) -> None:
    package = make_package(tmp_path / "large")
    with open(package / "model.bin", "wb") as stream:
        stream.truncate(64 << 20)
    from tests.store.worlds import resign

    resign(package)
    store, name = stored(kept_place, package)
    blob = kept_place / "store" / name / "package" / "model.bin"
    before = blob.stat().st_atime_ns
    os.utime(blob, ns=(1, blob.stat().st_mtime_ns))  # an access time below the others is renewed by any read
    assert opened(store, name)[0] == "owner"
    assert blob.stat().st_atime_ns == 1 != before
    remove(package)
