"""`wcp.lock`: what is pinned, what counts as a change, and that nothing unverified is ever locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import Command
from tests.cli.inprocess import wcp as in_process
from wcp_attest import KeySigner, sign
from wcp_attest.base.errors import ConfigError
from wcp_attest.build import build_manifest
from wcp_attest.package.lock_file import LockedPackage, parse_lock, render_lock
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from pathlib import Path

ADA, BOB = generate(), generate()
POLICY = 'version = 1\n[[namespace]]\nname = "org.acme"\n' + "".join(
    f'[[namespace.signer]]\nkey = "{name}.pub"\n' for name in ("ada", "bob")
)
TRUST = ("--policy", "policy.toml")


def skill(root: Path, version: str = "2.1.0", signer: KeySigner | None = ADA, text: str = "", name: str = "") -> Path:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "SKILL.md").write_text(f"---\nname: {root.name}\n---\n{text}")
    if signer is not None:
        worker = f"org.acme.{name or root.name}"
        manifest = build_manifest(
            root, worker_id=worker, worker_species_id="wrk.skill.x", worker_version=version, built_at=1_700_000_000
        )
        sign(root, [signer], manifest=manifest)
    return root


@pytest.fixture
def wcp(tmp_path: Path) -> Command:
    for name, signer in (("ada", ADA), ("bob", BOB)):
        (tmp_path / f"{name}.pub").write_bytes(signer.public_pem())
    (tmp_path / "policy.toml").write_text(POLICY)
    skill(tmp_path / "skills" / "forms")
    skill(tmp_path / "skills" / "mail")
    return Command(tmp_path)


@pytest.fixture
def locked(wcp: Command) -> Command:
    assert wcp("lock", "skills/forms", "skills/mail", *TRUST).status == 0
    return wcp


def test_locks_the_same_bytes_whatever_the_order(wcp: Command) -> None:
    assert wcp("lock", "skills/mail", "skills/forms", *TRUST).status == 0
    first = (wcp.folder / "wcp.lock").read_bytes()
    (wcp.folder / "wcp.lock").unlink()
    assert wcp("lock", "skills/forms", "./skills/mail/", *TRUST).status == 0
    assert (wcp.folder / "wcp.lock").read_bytes() == first
    assert wcp("lock", "--check", *TRUST).status == 0
    assert [package.path for package in parse_lock(first, "x")] == ["skills/forms", "skills/mail"]


@pytest.mark.parametrize(
    ("version", "signer", "text", "name", "changes"),
    [
        ("2.1.0", ADA, "changed", "", ["content"]),
        ("2.2.0", ADA, "", "", ["newer"]),
        ("2.0.9", ADA, "", "", ["older"]),
        ("2.1.0", BOB, "", "", ["signer"]),
        ("1.0", BOB, "x", "other", ["worker", "older", "signer"]),
        ("2.1.0", None, "", "", ["unsigned"]),
        ("2.1.0", generate(), "", "", ["refused"]),
    ],
)
def test_each_change_is_refused_and_named(
    locked: Command, version: str, signer: KeySigner | None, text: str, name: str, changes: list[str]
) -> None:
    skill(locked.folder / "skills" / "forms", version, signer, text, name)
    before = (locked.folder / "wcp.lock").read_bytes()
    run = locked("lock", "--check", *TRUST, "--format", "json")
    named = [change["change"] for change in run.json["changes"]]
    assert (run.status, named) == (1, changes)
    assert locked("lock", *TRUST).status == 1  # nothing is locked anew in silence
    assert (locked.folder / "wcp.lock").read_bytes() == before


def test_upgrade_shows_what_changes_and_writes_it(locked: Command) -> None:
    skill(locked.folder / "skills" / "forms", "2.2.0", BOB)
    before = (locked.folder / "wcp.lock").read_bytes()
    shown = locked("lock", "--upgrade", "--dry-run", *TRUST)
    assert "skills/forms: newer: 2.1.0 -> 2.2.0" in shown.out
    assert "skills/forms: signer: " in shown.out
    assert (locked.folder / "wcp.lock").read_bytes() == before
    assert locked("lock", "--upgrade", *TRUST).out == shown.out
    assert locked("lock", "--check", *TRUST).status == 0


@pytest.mark.parametrize("signer", [None, generate()])
def test_upgrade_never_locks_what_does_not_verify(locked: Command, signer: KeySigner | None) -> None:
    skill(locked.folder / "skills" / "forms", "3.0.0", signer)
    before = (locked.folder / "wcp.lock").read_bytes()
    assert locked("lock", "--upgrade", *TRUST).status == 1
    assert (locked.folder / "wcp.lock").read_bytes() == before


def test_a_package_that_is_gone_is_status_2(locked: Command) -> None:
    shutil.rmtree(locked.folder / "skills" / "mail")
    run = locked("lock", "--check", *TRUST)
    assert (run.status, "skills/mail" in run.err) == (2, True)


def test_two_branches_that_change_two_packages_merge(locked: Command) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *identity, *words], cwd=locked.folder, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "start")
    git("branch", "second")
    skill(locked.folder / "skills" / "forms", "2.2.0")
    assert locked("lock", "--upgrade", *TRUST).status == 0
    git("commit", "-am", "forms")
    git("checkout", "second")
    skill(locked.folder / "skills" / "mail", "2.2.0")
    assert locked("lock", "--upgrade", *TRUST).status == 0
    git("commit", "-am", "mail")
    git("merge", "main")
    assert locked("lock", "--check", *TRUST).status == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"mine\n", "TOML"),
        (b"version = 2\n", "version 1"),
        (b"version = 1\nextra = 1\n", "version 1"),
        (b"version = 1\n<<<<<<< a\n", "conflict"),
        (b'version = 1\n[[package]]\npath = "a"\n', "exactly"),
    ],
)
def test_what_is_no_lock_file_is_neither_read_nor_overwritten(wcp: Command, content: bytes, says: str) -> None:
    (wcp.folder / "wcp.lock").write_bytes(content)
    for words in (("skills/forms",), ("--check",), ("--upgrade",)):
        run = wcp("lock", *words, *TRUST)
        assert run.status == 2
        assert "lock" in run.err
    assert says in wcp("lock", "--check", *TRUST).err
    assert (wcp.folder / "wcp.lock").read_bytes() == content


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name the directories"),
        (("--check", "skills/forms"), "give neither"),
        (("--dry-run",), "goes with --upgrade"),
        (("/tmp",), "outside"),
        (("absent",), "not a directory"),
        (("skills/a\nb",), "rename the directory"),
        (("skills/\udcff",), "rename the directory"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(wcp: Command, words: tuple[str, ...], says: str) -> None:
    run = wcp("lock", *words, *TRUST)
    assert (run.status, says in run.err, "Traceback" in run.err) == (2, True, False)
    assert not (wcp.folder / "wcp.lock").exists()


PACKAGES = st.builds(
    LockedPackage,
    st.from_regex(r"[a-z0-9]{1,9}(/[a-z0-9é ]{1,5}[a-z]){0,2}", fullmatch=True),
    st.just("org.acme.w"),
    st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,9}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3).map(
        lambda texts: tuple(sorted(texts))
    ),
)


@given(st.lists(PACKAGES, unique_by=lambda package: package.path, max_size=4))
def test_what_is_written_is_read_again(packages: list[LockedPackage]) -> None:
    data = render_lock(tuple(packages))
    assert sorted(parse_lock(data, "x"), key=lambda one: one.path) == sorted(packages, key=lambda one: one.path)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert all(package.signers for package in parse_lock(data, "x"))


@pytest.mark.parametrize("given", ["skills/mail", "skills/forms"])
def test_a_lock_file_that_changes_meanwhile_is_left_to_the_other_writer(
    wcp: Command, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The key comes through a pipe, and the other command writes once this one has begun to read it."""
    monkeypatch.chdir(wcp.folder)
    others = render_lock((LockedPackage("skills/forms", "org.acme.forms", "1.0.0", "ab" * 32, ("key x",)),))
    lock, read_end, write_end = wcp.folder / "wcp.lock", *os.pipe()
    until = time.monotonic() + 60

    def write_meanwhile() -> None:
        os.write(write_end, ADA.public_pem()[:10])
        while unread(read_end) and time.monotonic() < until:
            time.sleep(0.01)
        lock.write_bytes(others)
        os.write(write_end, ADA.public_pem()[10:])
        os.close(write_end)

    writer = threading.Thread(target=write_meanwhile)
    writer.start()
    ran = in_process("lock", given, "--public-key", f"/dev/fd/{read_end}", "--namespace", "org.acme")
    writer.join()
    os.close(read_end)
    assert (ran.status, ran.out) == (2, "")
    assert "wcp.lock' was changed by another program in the meantime; nothing was changed, try again" in ran.err
    assert lock.read_bytes() == others


def unread(descriptor: int) -> int:
    """Return how many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
