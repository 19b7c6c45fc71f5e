"""Changing a published list: one step, two files at once, one writer at a time, and nothing lost."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.bans.helpers import NOW, Place, ban, head, list_bytes, signed
from tests.forked import SCRIPT
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk import overwrite
from wcp_attest.disk.file_lock import exclusive
from wcp_attest.trust.bans.bans_table import state_directory
from wcp_attest.trust.bans.feeds import file_feed
from wcp_attest.trust.bans.feeds.file_feed import FileFeed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

KEY = ("--key", "soc.key")
WHY = ("--reason", "leaked")


@pytest.fixture
def soc(wcp: Command) -> Command:
    """A signed list, published, and the key that signs it."""
    wcp.ok("keygen", "soc.key", "--no-passphrase")
    wcp.ok("ban", "new", "bans.json", "--name", "acme-soc")
    wcp.ok("ban", "sign", "bans.json", *KEY)
    return wcp


def usable(wcp: Command) -> bool:
    return wcp("ban", "check", "bans.json", "--public-key", "soc.key.pub").status == 0


def names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith((".", "bans")))


def test_one_step_bans_signs_and_leaves_the_list_usable(soc: Command) -> None:
    run = soc("ban", "add", "bans.json", "--worker", "org.acme.w", *WHY, *KEY, "--format", "json")
    assert len(run.json["signers"]) == 1
    assert usable(soc)
    lifted = soc.ok("ban", "remove", "bans.json", "--worker", "org.acme.w", *KEY)
    assert "signed by  key sha256:" in lifted.out
    assert usable(soc)
    assert names(soc.folder) == ["bans.json", "bans.json.sig"]


def test_without_a_signer_it_says_that_readers_deny_now(soc: Command) -> None:
    run = soc.ok("ban", "add", "bans.json", "--worker", "org.acme.w", *WHY)
    assert "no longer fits" in run.err
    assert not usable(soc)


@pytest.mark.parametrize(
    "broken",
    [
        ("--key", "absent.key"),
        ("--key", "soc.key.pub"),
        ("--bundle-out", "x.json"),
        ("--sigstore", "--bundle-out", "absent/x.json"),
        ("--sigstore", "--bundle-out", "bans.json"),
        ("--sigstore", "--bundle-out", "bans.json.sig"),
        ("--hmac-file", "absent"),
    ],
)
def test_a_signer_that_cannot_sign_changes_nothing(soc: Command, broken: tuple[str, ...]) -> None:
    before = [(soc.folder / name).read_bytes() for name in ("bans.json", "bans.json.sig")]
    for command in (("add", "bans.json", "--worker", "org.acme.w", *WHY), ("sign", "bans.json", "--renew")):
        assert soc("ban", *command, *broken).status == 2
    assert [(soc.folder / name).read_bytes() for name in ("bans.json", "bans.json.sig")] == before
    assert names(soc.folder) == ["bans.json", "bans.json.sig"]


def test_writers_at_once_lose_no_ban(soc: Command) -> None:
    command: list[str | Path] = [SCRIPT, "ban", "add", "bans.json", *WHY, *KEY, "-q"]
    writers = [
        subprocess.Popen([*command, "--worker", f"org.acme.w{number}"], cwd=soc.folder, env={"HOME": str(soc.folder)})
        for number in range(5)
    ]
    assert [writer.wait(120) for writer in writers] == [0] * 5
    bans = json.loads((soc.folder / "bans.json").read_text())["bans"]
    assert [entry["subject"] for entry in bans] == [f"org.acme.w{number}" for number in range(5)]
    assert usable(soc)


def test_a_lock_that_stays_held_names_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with exclusive(path, wait=1), pytest.raises(ConfigError, match=f"process {os.getpid()} "), exclusive(path, wait=0):
        pass
    with exclusive(path, wait=0):
        pass


def test_a_file_in_the_place_of_the_lock_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("my notes")
    with pytest.raises(ConfigError, match="in the way"), exclusive(str(path), wait=0):
        pass
    assert path.read_text() == "my notes"
    for kind in ("link", "fifo", "directory"):
        path.unlink()
        if kind == "link":
            path.symlink_to("elsewhere")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises(ConfigError), exclusive(str(path), wait=0):
            pass


def test_another_writer_is_waited_for_and_then_named(soc: Command) -> None:
    descriptor = os.open(soc.folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with (
        pytest.raises(ConfigError, match="another wcp-attest process"),
        overwrite.only_writer(str(soc.folder), deadline=0.05),
    ):
        pass
    os.close(descriptor)


def test_a_reader_between_the_two_renames_looks_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put((), head(7))
    document = list_bytes([ban("worker", "org.acme.w")], head(8))
    place.path.write_bytes(document)  # its signatures come a moment later
    paused: list[float] = []

    def put_signatures(seconds: float) -> None:
        paused.append(seconds)
        (place.root / "bans.json.sig").write_bytes(signed(document, head=head(8)))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(time, "sleep", put_signatures)
        opened = FileFeed(str(place.path)).open(place.admission(NOW + 60))
    assert paused == [file_feed.PAIR_PAUSE]
    assert opened.index.head.version == 8
    (place.root / "bans.json").write_bytes(list_bytes((), head(9)))
    with pytest.raises(BansUnusable, match="another list"):
        FileFeed(str(place.path)).open(place.admission(NOW + 60))


def test_a_home_that_does_not_exist_is_not_made(soc: Command, tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    for variable in ("HOME", "XDG_STATE_HOME", "WCP_ATTEST_STATE_DIR"):
        value = str(home / "state") if variable == "WCP_ATTEST_STATE_DIR" else str(home)
        with pytest.raises(ConfigError, match=r"state"):
            state_directory({variable: value})
    (tmp_path / "w").mkdir()
    verify = ("verify", "w", "--worker-id", "org.acme.w", "--public-key", "soc.key.pub", "--bans", "bans.json")
    run = soc(*verify, env={"HOME": str(home)})
    assert run.status == 2
    assert "WCP_ATTEST_STATE_DIR" in run.err
    assert not home.exists()


@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME", "WCP_ATTEST_STATE_DIR"])
def test_nothing_is_written_into_the_package_that_is_verified(soc: Command, variable: str) -> None:
    package = soc.folder / "w"
    package.mkdir()
    (package / "a").write_text("1")
    identity = ("--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1")
    soc.ok("sign", "w", *KEY, *identity)
    before = sorted(os.listdir(package))
    verify = ("verify", "w", "--worker-id", "org.acme.w", "--public-key", "soc.key.pub", "--bans", "bans.json")
    run = soc(*verify, env={variable: str(package)})
    assert run.status == 2
    assert "inside the package" in run.err
    assert sorted(os.listdir(package)) == before
    assert soc(*verify, "--format", "json").json["ok"]


def test_verifiers_at_once_share_an_empty_state(soc: Command) -> None:
    (soc.folder / "w").mkdir()
    (soc.folder / "w/a").write_text("1")
    soc.ok("sign", "w", *KEY, "--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1")
    policy = ("--namespace", "org.acme", "--public-key", "soc.key.pub", "--bans", "bans.json", "--ban-signer")
    soc.ok("policy", "init", "p.toml", *policy, "soc.key.pub", "--state", "state")
    command: list[str | Path] = [SCRIPT, "verify", "w", "--policy", "p.toml", "-q"]
    verifiers = [subprocess.Popen(command, cwd=soc.folder, env={"HOME": str(soc.folder)}) for _ in range(6)]
    assert [verifier.wait(120) for verifier in verifiers] == [0] * 6
    assert (soc.folder / "state").is_dir()


@pytest.mark.parametrize(
    ("option", "other"), [("--package", "--root"), ("--file-digest", "--file"), ("--key-id", "--public-key")]
)
def test_a_path_in_place_of_a_digest_is_told_its_option(soc: Command, option: str, other: str) -> None:
    run = soc("ban", "add", "bans.json", option, "soc.key.pub", *WHY)
    assert run.status == 2
    assert f"{option} takes a digest, and 'soc.key.pub' is a path; use {other} for it" in run.err
