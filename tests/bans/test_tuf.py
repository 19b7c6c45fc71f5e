"""A list from a TUF repository: rollback, freeze, mix-and-match, missing and altered targets, and an outage."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api import metadata as tuf

from tests.bad_http import BadServer, cut, endless, hang, redirect, reply, reset
from tests.bans.helpers import HEX, OTHER, Place, ban, facts, head, list_bytes, signed
from tests.bans.tuf_repository import LONG, TufRepository, _at
from wcp_attest.base.errors import BansUnusable
from wcp_attest.net import https as transport
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.feeds import VerifiedList, tuf_feed
from wcp_attest.trust.bans.feeds.tuf_feed import TufFeed

if TYPE_CHECKING:
    from wcp_attest.trust.bans.document import Head

HOUR = dt.timedelta(hours=1)
PAST = -dt.timedelta(minutes=5)
BANS = (ban("package", HEX),)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.01)


@pytest.fixture
def repository(server: BadServer) -> TufRepository:
    return TufRepository(server)


def issue(version: int) -> Head:
    """A list issued now: python-tuf goes by the clock."""
    return head(version, issued=int(time.time()) - 60)


def targets(version: int, bans: Any = BANS, at: Head | None = None, *signers: Any) -> dict[str, bytes]:
    at = at or issue(version)
    document = list_bytes(bans, at)
    return {"bans.json": document, "bans.json.sig": signed(document, *signers, head=at)}


def feed(server: BadServer, place: Place, root: bytes, **options: Any) -> TufFeed:
    urls = (server.url + "/metadata/", server.url + "/targets")
    return TufFeed(*urls, "bans.json", root, place.state, options.pop("refresh", 0), **{"timeout": 5.0, **options})


def opened(source: TufFeed, place: Place, after: float = 0) -> VerifiedList:
    return source.open(place.admission(time.time() + after))


def test_a_list_is_fetched_and_admitted(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    assert Bans([opened(source, place)]).hits(facts(package_hash=HEX))
    repository.publish(targets(8, ()))
    found = opened(source, place)
    assert (found.index.head.version, found.note) == (8, "")
    (folder,) = (name for name in os.listdir(place.state) if name.startswith("tuf-"))
    assert os.stat(os.path.join(place.state, folder)).st_mode & 0o777 == 0o700


def test_what_did_not_change_is_not_fetched_again(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    opened(source, place)
    opened(source, place)
    assert len([exchange for exchange in server.requests if exchange.path.startswith("/targets/")]) == 2
    before = len(server.requests)
    opened(replace(source, refresh=300), place)
    assert len(server.requests) == before


def test_the_list_must_be_signed_unless_the_policy_lets_the_repository_vouch(
    repository: TufRepository, server: BadServer, place: Place
) -> None:
    root = repository.start()
    document = list_bytes(BANS, issue(7))
    repository.publish({"bans.json": document})
    with pytest.raises(BansUnusable, match=r"no target 'bans.json.sig'"):
        opened(feed(server, place, root), place)
    assert opened(feed(server, place, root, signed=False), place).index.head.version == 7
    repository.publish({"bans.json": document, "bans.json.sig": signed(document, OTHER, head=issue(7))})
    with pytest.raises(BansUnusable, match="none of its signatures"):
        opened(feed(server, place, root), place)


def test_a_missing_target_is_no_empty_list(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start())
    repository.publish({"other.json": b"{}"})
    with pytest.raises(BansUnusable, match="no target"):
        opened(source, place)
    repository.publish(targets(7))
    opened(source, place)
    repository.publish({})
    with pytest.raises(BansUnusable, match="no target"):
        opened(source, place)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rollback_of_a_role_is_refused(repository: TufRepository, server: BadServer, place: Place, role: str) -> None:
    source = feed(server, place, repository.start())
    for version in (7, 8):
        repository.publish(targets(version))
        opened(source, place)
    forward = {each: repository.versions[each] + 1 for each in ("timestamp", "snapshot", "targets")}
    repository.publish(targets(9), versions={**forward, role: 1})
    with pytest.raises(BansUnusable, match="metadata is refused"):
        opened(source, place)


def test_an_older_list_under_newer_metadata_is_rolled_back_too(
    repository: TufRepository, server: BadServer, place: Place
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(8))
    opened(source, place)
    repository.publish(targets(7))
    with pytest.raises(BansUnusable, match="rolled back"):
        opened(source, place)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_freezing_a_role_is_noticed_when_it_expires(
    repository: TufRepository, server: BadServer, place: Place, role: str
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7), expires={role: PAST})
    with pytest.raises(BansUnusable, match="expired"):
        opened(source, place)


def test_an_expired_root_is_refused(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start(root_expires=PAST))
    repository.publish(targets(7))
    with pytest.raises(BansUnusable, match="expired"):
        opened(source, place)


def test_mixing_and_matching_versions_is_refused(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    old = {
        path: data for path, data in repository.files.items() if path.endswith(("1.snapshot.json", "1.targets.json"))
    }
    repository.publish(targets(8))
    for path, data in old.items():
        repository.put(path.replace("/1.", "/2."), data)
    with pytest.raises(BansUnusable, match="metadata is refused"):
        opened(source, place)


def test_metadata_signed_by_another_key_is_refused(repository: TufRepository, server: BadServer, place: Place) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    stranger = CryptoSigner.generate_ed25519()
    stamp = tuf.Timestamp(2, expires=_at(LONG), snapshot_meta=tuf.MetaFile(1))
    repository.sign("timestamp", stamp, stranger)
    with pytest.raises(BansUnusable, match="metadata is refused"):
        opened(source, place)


def test_a_root_is_rotated_only_by_those_who_held_it(
    repository: TufRepository, server: BadServer, place: Place
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    opened(source, place)
    old = repository.signers["root"]
    repository.signers["root"] = CryptoSigner.generate_ed25519()
    repository.publish_root()
    with pytest.raises(BansUnusable, match="metadata is refused"):
        opened(source, place)
    repository.versions["root"] -= 1
    repository.publish_root(signers=(old,))
    opened(source, place)


def test_another_repository_is_not_believed(repository: TufRepository, server: BadServer, place: Place) -> None:
    with BadServer() as elsewhere:
        stranger = TufRepository(elsewhere)
        pinned = stranger.start()
    repository.start()
    repository.publish(targets(7))
    with pytest.raises(BansUnusable, match="metadata is refused"):
        opened(feed(server, place, pinned), place)
    with pytest.raises(BansUnusable):
        opened(feed(server, place, b"{}"), place)


@pytest.mark.parametrize("change", [b"", b"x", b" "])
def test_an_altered_target_is_refused(
    repository: TufRepository, server: BadServer, place: Place, change: bytes
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    (path,) = (path for path in repository.files if path.endswith(".bans.json"))
    data = repository.files[path]
    server.route(path, reply(data + change if change else data[:-1]))
    with pytest.raises(BansUnusable):
        opened(source, place)


DOWN = {"500": reply(b"", 500), "hangs": hang(), "resets": reset(), "cut": cut(b"{", 1000)}
WRONG = {
    "404": reply(b"", 404),
    "410": reply(b"", 410),
    "endless": endless(),
    "elsewhere": redirect("https://elsewhere.example/x"),
    "not json": reply(b"banned"),
    "empty": reply(b""),
}


@pytest.mark.parametrize("name", DOWN)
def test_while_it_is_down_the_kept_copy_lasts_until_metadata_or_list_expire(
    repository: TufRepository, server: BadServer, place: Place, name: str
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7), expires={"timestamp": HOUR})
    opened(source, place)
    server.route("/metadata/timestamp.json", DOWN[name])
    source = replace(source, timeout=0.5)
    found = opened(source, place, 60)
    assert "is down" in found.note
    assert found.index.head.version == 7
    with pytest.raises(BansUnusable, match="repository's metadata expired"):
        opened(source, place, 3700)


@pytest.mark.parametrize("name", DOWN)
def test_down_without_a_copy_is_no_empty_list(
    repository: TufRepository, server: BadServer, place: Place, name: str
) -> None:
    source = feed(server, place, repository.start())
    server.route("/metadata/timestamp.json", DOWN[name])
    source = replace(source, timeout=0.5)
    with pytest.raises(BansUnusable, match="is down and no copy"):
        opened(source, place)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_refused_beside_a_good_copy(
    repository: TufRepository, server: BadServer, place: Place, name: str
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    opened(source, place)
    server.route("/metadata/timestamp.json", WRONG[name])
    with pytest.raises(BansUnusable):
        opened(source, place, 60)


def test_a_second_process_waits_for_the_first_and_not_for_ever(
    repository: TufRepository, server: BadServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = feed(server, place, repository.start())
    repository.publish(targets(7))
    opened(source, place)
    monkeypatch.setattr(tuf_feed, "LOCK_WAIT", 0.1)
    (folder,) = (name for name in os.listdir(place.state) if name.startswith("tuf-"))
    with open(os.path.join(place.state, folder, "update.lock"), "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "is down" in opened(source, place).note
