"""What was seen before: only forward, whole or not at all, one writer at a time, nobody else's business."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.bans.helpers import HEAD, HEX, NOW, digest
from wcp_attest.base.errors import BansUnusable
from wcp_attest.trust.bans import rollback_guard
from wcp_attest.trust.bans.rollback_guard import RollbackGuard, Seen

if TYPE_CHECKING:
    from pathlib import Path

ISSUE = Seen(HEAD, HEX)
SOURCE = "file:/etc/acme/bans.json"


def later(version: int, issued_at: int = NOW) -> Seen:
    return Seen(replace(HEAD, version=version, issued_at=issued_at), digest(1))


def test_a_newer_issue_is_remembered_and_the_older_one_is_rolled_back(tmp_path: Path) -> None:
    seen = RollbackGuard(str(tmp_path / "state"))
    seen.accept(SOURCE, ISSUE)
    seen.accept(SOURCE, ISSUE)
    seen.accept(SOURCE, later(version=8, issued_at=NOW + 1))
    with pytest.raises(BansUnusable, match="rolled back: version 7 after version 8"):
        seen.accept(SOURCE, ISSUE)
    with pytest.raises(BansUnusable, match="rolled back"):
        RollbackGuard(str(tmp_path / "state")).accept(SOURCE, later(version=9, issued_at=NOW))


def test_another_source_has_its_own_memory(tmp_path: Path) -> None:
    seen = RollbackGuard(str(tmp_path))
    seen.accept(SOURCE, later(version=8))
    seen.accept("url:https://acme.example/bans.json", ISSUE)


@pytest.mark.parametrize(
    ("issue", "why"),
    [
        (Seen(HEAD, digest(2)), "differs from the one seen"),
        (Seen(replace(HEAD, name="acme-staging", version=99), digest(2)), "holds list `acme-staging`"),
        (later(version=6), "rolled back"),
        (later(version=8, issued_at=NOW - 1), "rolled back"),
    ],
)
def test_what_does_not_follow_is_refused_and_not_remembered(tmp_path: Path, issue: Seen, why: str) -> None:
    seen = RollbackGuard(str(tmp_path))
    seen.accept(SOURCE, ISSUE)
    before = (tmp_path / "seen.json").read_bytes()
    with pytest.raises(BansUnusable, match=why):
        seen.accept(SOURCE, issue)
    assert (tmp_path / "seen.json").read_bytes() == before


def test_files_and_directory_are_for_their_owner_only(tmp_path: Path) -> None:
    RollbackGuard(str(tmp_path / "a" / "b")).accept(SOURCE, ISSUE)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    for name in ("seen.json", "lock"):
        assert (tmp_path / "a" / "b" / name).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["lock", "seen.json"]


def test_a_state_that_others_could_have_written_is_refused(tmp_path: Path) -> None:
    seen = RollbackGuard(str(tmp_path))
    seen.accept(SOURCE, ISSUE)
    (tmp_path / "seen.json").chmod(0o666)
    with pytest.raises(BansUnusable, match="written by others"):
        seen.accept(SOURCE, ISSUE)
    (tmp_path / "seen.json").unlink()
    tmp_path.chmod(0o777)
    with pytest.raises(BansUnusable, match="written by others"):
        seen.accept(SOURCE, ISSUE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\x00",
        json.dumps({"schema_version": "wcp.bans.state.v2", "lists": {}}).encode(),
        json.dumps({"schema_version": rollback_guard.SCHEMA, "lists": []}).encode(),
        json.dumps({"schema_version": rollback_guard.SCHEMA, "lists": {SOURCE: 1}}).encode(),
        json.dumps({"schema_version": rollback_guard.SCHEMA, "lists": {SOURCE: {}}}).encode(),
        json.dumps({"schema_version": rollback_guard.SCHEMA, "lists": {SOURCE: {"list_sha256": HEX}}}).encode(),
    ],
)
def test_a_damaged_state_is_an_error_and_not_a_fresh_start(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "seen.json").write_bytes(data)
    (tmp_path / "seen.json").chmod(0o600)
    with pytest.raises(BansUnusable):
        RollbackGuard(str(tmp_path)).accept(SOURCE, ISSUE)


def test_a_state_that_is_not_a_file_or_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(BansUnusable):
        RollbackGuard(str(tmp_path / "plain" / "below")).accept(SOURCE, ISSUE)
    with pytest.raises(BansUnusable):
        RollbackGuard("/proc/nowhere").accept(SOURCE, ISSUE)
    for make in (os.mkfifo, os.mkdir):
        make(tmp_path / "seen.json")
        with pytest.raises(BansUnusable, match="not a regular file"):
            RollbackGuard(str(tmp_path)).accept(SOURCE, ISSUE)
        (os.rmdir if make is os.mkdir else os.unlink)(tmp_path / "seen.json")


def test_the_wait_for_the_lock_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = RollbackGuard(str(tmp_path))
    seen.accept(SOURCE, ISSUE)
    monkeypatch.setattr(rollback_guard, "LOCK_WAIT", 0.1)
    with (tmp_path / "lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        seen.accept(SOURCE, ISSUE)  # nothing new: needs no lock
        with pytest.raises(BansUnusable, match="held by another process"):
            seen.accept(SOURCE, later(version=8))
        assert time.monotonic() - began < 5


WRITER = """
import sys
from dataclasses import replace
from tests.bans.helpers import HEAD, HEX
from wcp_attest.trust.bans.rollback_guard import Seen, RollbackGuard
seen = RollbackGuard(sys.argv[1])
for version in range(8, 28):
    seen.accept("source-" + sys.argv[2], Seen(replace(HEAD, version=version), HEX))
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    lists = json.loads((tmp_path / "seen.json").read_bytes())["lists"]
    assert {source: entry["version"] for source, entry in lists.items()} == {f"source-{n}": 27 for n in range(4)}
    assert sorted(os.listdir(tmp_path)) == ["lock", "seen.json"]
