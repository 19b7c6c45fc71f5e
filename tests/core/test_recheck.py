"""Verifying the same package again: whatever changed since is noticed, and answered as a first look would."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from wcp_attest import (
    Accept,
    DenyCode,
    KeySigner,
    Namespace,
    Policy,
    ReadOptions,
    Recheck,
    TrustedKey,
    attest,
    build_manifest,
    sign,
)
from wcp_attest.base.errors import Banned
from wcp_attest.disk.quick_check import is_exact
from wcp_attest.package.manifest import Manifest
from wcp_attest.signing.key import generate
from wcp_attest.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def signer() -> KeySigner:
    return generate()


def policy(signer: KeySigner, **accept: Any) -> Policy:
    trusted = TrustedKey.from_file_bytes(signer.public_pem())
    return Policy((Namespace("org.acme", keys=(trusted,)),), accept=Accept(**accept))


def package(root: Path, signer: KeySigner, **options: Any) -> str:
    (root / "code" / "inner").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "code" / "a.py").write_text("print(1)\n")
    (root / "code" / "inner" / "b.py").write_text("")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "model.bin").write_bytes(b"\x00" * 70_000)
    (root / "model").symlink_to("model.bin")
    seal(str(root), signer, **options)
    return str(root)


def seal(root: str, signer: KeySigner, **options: Any) -> None:
    manifest = build_manifest(
        root, worker_id="org.acme.w", worker_species_id="wrk.a.b", worker_version="1", build_source="local", **options
    )
    sign(root, [signer], manifest=manifest, now=NOW)


def write(name: str, data: bytes) -> Callable[[str], object]:
    def change(root: str) -> None:
        with open(os.path.join(root, name), "wb") as file:
            file.write(data)

    return change


def both(*changes: Callable[[str], object]) -> Callable[[str], object]:
    return lambda root: [change(root) for change in changes]


def unlink(name: str) -> Callable[[str], object]:
    return lambda root: os.unlink(os.path.join(root, name))


ATTACKS: dict[str, Callable[[str], object]] = {
    "content of the same size": write("code/a.py", b"print(2)\n"),
    "a longer file": write("code/a.py", b"print(1)\n\n"),
    "a shorter file": write("code/a.py", b""),
    "an added file": write("code/c.py", b""),
    "an added file at the root": write("c", b""),
    "a hidden file": write("code/inner/.c", b""),
    "a file in an empty directory": write("empty/c", b""),
    "bytecode": both(lambda root: os.mkdir(root + "/code/__pycache__"), write("code/__pycache__/a.pyc", b"")),
    "an added directory": lambda root: os.mkdir(root + "/code/more"),
    "an added .git": lambda root: os.mkdir(root + "/.git"),
    "a removed file": unlink("code/a.py"),
    "a removed link": unlink("model"),
    "a removed directory": lambda root: os.rmdir(root + "/empty"),
    "execute bit lost": lambda root: os.chmod(root + "/run.sh", 0o644),
    "execute bit gained": lambda root: os.chmod(root + "/code/a.py", 0o744),
    "set-id bit": lambda root: os.chmod(root + "/run.sh", 0o4755),
    "another target": both(unlink("model"), lambda root: os.symlink("code/a.py", root + "/model")),
    "a link for a file": both(unlink("code/a.py"), lambda root: os.symlink("inner/b.py", root + "/code/a.py")),
    "a file for a link": both(unlink("model"), write("model", b"\x00" * 70_000)),
    "a fifo for a file": both(unlink("code/a.py"), lambda root: os.mkfifo(root + "/code/a.py")),
    "a directory for a file": both(unlink("code/a.py"), lambda root: os.mkdir(root + "/code/a.py")),
    "a file for a directory": both(lambda root: os.rmdir(root + "/empty"), write("empty", b"")),
    "a link for a directory": both(
        lambda root: os.rename(root + "/code", root + "/../code"), lambda root: os.symlink("../code", root + "/code")
    ),
    "a link for the root": both(lambda root: os.rename(root, root + "2"), lambda root: os.symlink(root + "2", root)),
    "a renamed file": lambda root: os.rename(root + "/code/a.py", root + "/code/A.py"),
    "swapped files": both(
        lambda root: os.rename(root + "/run.sh", root + "/x"),
        lambda root: os.rename(root + "/code/a.py", root + "/run.sh"),
        lambda root: os.rename(root + "/x", root + "/code/a.py"),
    ),
    "no tree": shutil.rmtree,
    "another manifest": write("manifest.json", b"{}"),
    "no signatures": write("manifest.sig", b""),
    "no manifest": unlink("manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_change_is_answered_as_a_first_look_would(attack: str, tmp_path: Path, signer: KeySigner) -> None:
    root = package(tmp_path / "w", signer)
    trust = policy(signer)
    again = Recheck(root, trust)
    assert again.verify(now=NOW)
    assert again.verify(now=NOW)
    ATTACKS[attack](root)
    first = judge(lambda: attest(root, trust, now=NOW), mistakes_raise=False)
    second = again.verify(now=NOW)
    assert (second.ok, second.code) == (first.ok, first.code) != (True, None)
    assert [each.path for each in second.differences] == [each.path for each in first.differences]
    assert again.standing(now=NOW).code == DenyCode.NOT_ACCEPTABLE


@pytest.mark.parametrize("attack", sorted(set(ATTACKS) - {"another manifest", "no signatures", "no manifest"}))
def test_the_quick_look_says_yes_to_none_of_it(attack: str, tmp_path: Path, signer: KeySigner) -> None:
    root = package(tmp_path / "w", signer)
    manifest = Manifest.parse((tmp_path / "w" / "manifest.json").read_bytes())
    assert is_exact(root, manifest, "beside", ReadOptions())
    ATTACKS[attack](root)
    assert not is_exact(root, manifest, "beside", ReadOptions())


def test_a_package_that_is_put_right_passes_again(tmp_path: Path, signer: KeySigner) -> None:
    root = package(tmp_path / "w", signer)
    again = Recheck(root, policy(signer))
    assert again.verify(now=NOW)
    write("code/a.py", b"print(2)\n")(root)
    assert not again.verify(now=NOW)
    write("code/a.py", b"print(1)\n")(root)
    assert again.verify(now=NOW)


def test_a_new_release_in_its_place_is_verified_by_its_own_signatures(tmp_path: Path, signer: KeySigner) -> None:
    root = package(tmp_path / "w", signer)
    again = Recheck(root, policy(signer))
    first = again.verify(now=NOW).verified
    write("code/a.py", b"print(2)\n")(root)
    seal(root, signer)
    second = again.verify(now=NOW).verified
    assert first is not None
    assert second is not None
    assert first.package_hash != second.package_hash
    write("code/a.py", b"print(3)\n")(root)
    seal(root, generate())
    assert again.verify(now=NOW).code == DenyCode.SIGNER_UNTRUSTED


@pytest.mark.parametrize(
    ("options", "accept", "reading"),
    [
        ({"excludes": ("model.bin",)}, {}, {}),
        ({"algorithm": "blake3"}, {}, {}),
        ({}, {"permissions": "strict"}, {}),
        ({}, {}, {"strict_permissions": True}),
    ],
)
def test_what_the_quick_look_leaves_alone_is_looked_at_properly(
    options: dict[str, Any], accept: dict[str, Any], reading: dict[str, Any], tmp_path: Path, signer: KeySigner
) -> None:
    root = package(tmp_path / "w", signer, **options)
    again = Recheck(root, policy(signer, **accept), options=ReadOptions(**reading))
    assert again.verify(now=NOW)
    assert again.verify(now=NOW)
    if accept or reading:
        os.chmod(root + "/code/a.py", 0o666)
    else:
        write("code/a.py", b"print(2)\n")(root)
    assert not again.verify(now=NOW)


def test_large_trees_are_left_to_a_proper_look(tmp_path: Path, signer: KeySigner) -> None:
    root = tmp_path / "w"
    root.mkdir()
    for number in range(600):
        (root / f"f{number}").write_text("x")
    seal(str(root), signer)
    manifest = Manifest.parse((root / "manifest.json").read_bytes())
    assert not is_exact(str(root), manifest, "beside", ReadOptions())
    again = Recheck(root, policy(signer))
    assert again.verify(now=NOW)
    (root / "f7").write_text("y")
    assert not again.verify(now=NOW)


def test_time_and_bans_count_every_time(tmp_path: Path, signer: KeySigner) -> None:
    class Bans:
        banned = False

        def check_before(self, facts: object) -> None:
            del facts
            if self.banned:
                raise Banned("banned")

        def check_files(self, files: Iterable[tuple[str, str]], algorithm: str) -> None:
            """None is."""

    root = package(tmp_path / "w", signer)
    again, bans = Recheck(root, policy(signer, max_age=100)), Bans()
    assert again.standing(now=NOW).code == DenyCode.NOT_ACCEPTABLE
    assert again.verify(now=NOW, bans=[bans])
    assert again.standing(now=NOW, bans=[bans])
    bans.banned = True
    assert again.standing(now=NOW, bans=[bans]).code == DenyCode.BANNED
    assert again.verify(now=NOW, bans=[bans]).code == DenyCode.BANNED
    bans.banned = False
    assert again.standing(now=NOW, bans=[bans]).code == DenyCode.NOT_ACCEPTABLE
    assert again.verify(now=NOW, bans=[bans])
    assert again.standing(now=NOW + 101).code == DenyCode.EXPIRED
    assert again.verify(now=NOW + 101).code == DenyCode.EXPIRED
    assert again.verify(now=NOW)
    assert again.standing(now=NOW + 100).ok
    assert again.standing(now=NOW + 301).code == DenyCode.NOT_ACCEPTABLE


def test_known_standing_is_none_exactly_when_signatures_are_no_longer_remembered(
    tmp_path: Path, signer: KeySigner
) -> None:
    root = package(tmp_path / "w", signer)
    again = Recheck(root, policy(signer, max_age=200))
    assert again.known_standing(now=NOW) is None  # never verified
    assert again.verify(now=NOW)
    standing = again.known_standing(now=NOW + 200)
    assert standing is not None
    assert standing == again.standing(now=NOW + 200)
    assert standing.ok
    expired = again.known_standing(now=NOW + 300)  # remembered, and refused for its age
    assert expired is not None
    assert expired.code == DenyCode.EXPIRED
    assert again.known_standing(now=NOW + 301) is None
    (tmp_path / "w" / "f7").write_text("another")
    assert not again.verify(now=NOW + 100)
    assert again.known_standing(now=NOW + 100) is None  # a failure is not remembered


def test_a_clock_that_is_set_back_does_not_keep_signatures_remembered(tmp_path: Path, signer: KeySigner) -> None:
    again = Recheck(package(tmp_path / "w", signer), policy(signer))
    assert again.verify(now=NOW + 86_400)
    assert again.known_standing(now=NOW) is None
    assert again.verify(now=NOW)
    assert again.known_standing(now=NOW + 300) is not None
    assert again.known_standing(now=NOW + 301) is None
