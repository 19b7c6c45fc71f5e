"""Lists held between verifications: cheap while nothing changes, and never older than what stands on the disk."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_http import BadServer, hang, reply
from tests.bans.helpers import MAX_AGE, NOW, SECRET, WEEK, Place, ban, digest, facts, head, list_bytes, signed
from wcp_attest.base.errors import Banned, BansUnusable
from wcp_attest.trust.bans import held_lists
from wcp_attest.trust.bans.bans_table import BansCondition
from wcp_attest.trust.bans.feeds.file_feed import FileFeed
from wcp_attest.trust.bans.feeds.url_feed import UrlFeed
from wcp_attest.trust.bans.signed_list import ListSigners

if TYPE_CHECKING:
    from collections.abc import Callable


AT = NOW + 60


@pytest.fixture
def condition(place: Place, monkeypatch: pytest.MonkeyPatch) -> BansCondition:
    monkeypatch.setattr(held_lists, "SETTLED", -1.0)
    place.put([ban("namespace", "x.nobody")])
    return BansCondition((FileFeed(str(place.path)),), ListSigners((SECRET,)), MAX_AGE, place.state)


def replaced(place: Place, version: int, *bans: Any) -> None:
    """Publish another list as `ban add` does: new files in the place of the old ones."""
    document = list_bytes(bans, head(version))
    for path, data in ((place.path, document), (place.root / "bans.json.sig", signed(document, head=head(version)))):
        (place.root / "new").write_bytes(data)
        os.replace(place.root / "new", path)


def test_a_list_that_does_not_change_is_opened_once(condition: BansCondition, monkeypatch: pytest.MonkeyPatch) -> None:
    first = condition.open(now=AT)
    condition.open(now=AT)  # the record of versions was new; from here on nothing changes
    monkeypatch.setattr(FileFeed, "open", None)  # opening would fail
    for later in range(100):
        assert condition.open(now=AT + later).versions == first.versions


def banned(condition: BansCondition, now: float = AT) -> bool:
    try:
        condition.open(now=now).check_before(facts())
    except Banned:
        return True
    return False


def test_a_new_version_is_in_force_at_once(condition: BansCondition, place: Place) -> None:
    for _ in range(3):
        assert not banned(condition)
    replaced(place, 8, ban("worker", "org.acme.summarizer"))
    assert banned(condition)
    replaced(place, 9)
    assert not banned(condition)


def wrong_signature(place: Place) -> None:
    (place.root / "bans.json.sig").write_bytes(b"{}\n")


def rolled_back(place: Place) -> None:
    replaced(place, 6)


def same_size_in_place(place: Place) -> None:
    data = place.path.read_bytes()
    place.path.write_bytes(data.replace(b"x.nobody", b"x.nobodi"))


def forgotten_state(place: Place) -> None:
    path = os.path.join(place.state, "seen.json")
    with open(path, "wb") as stream:
        stream.write(b"{")


def newer_seen_by_another(place: Place) -> None:
    other = Place(place.root)
    replaced(place, 9)
    old = list_bytes([ban("namespace", "x.nobody")], head(7))
    BansCondition((FileFeed(str(place.path)),), ListSigners((SECRET,)), MAX_AGE, other.state).open(now=AT)
    place.path.write_bytes(old)
    (place.root / "bans.json.sig").write_bytes(signed(old, head=head(7)))


@pytest.mark.parametrize(
    "change", [wrong_signature, rolled_back, same_size_in_place, forgotten_state, newer_seen_by_another]
)
def test_what_is_held_covers_for_nothing_that_is_wrong_now(
    condition: BansCondition, place: Place, change: Callable[[Place], None]
) -> None:
    for _ in range(3):
        condition.open(now=AT)
    change(place)
    with pytest.raises(BansUnusable):
        condition.open(now=AT)


@pytest.mark.parametrize("now", [NOW + WEEK, NOW + MAX_AGE + 1, NOW - 301])
def test_a_held_list_is_judged_by_the_time_asked_about(condition: BansCondition, now: float) -> None:
    for _ in range(3):
        condition.open(now=AT)
    with pytest.raises(BansUnusable, match=r"stale|future"):
        condition.open(now=now)


def test_a_file_changed_a_moment_ago_is_read_again(place: Place) -> None:
    place.put([ban("namespace", "x.nobody")])
    condition = BansCondition((FileFeed(str(place.path)),), ListSigners((SECRET,)), MAX_AGE, place.state)
    for _ in range(3):
        assert not banned(condition)
    times = os.stat(place.path)
    same_size_in_place(place)
    os.utime(place.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(BansUnusable):
        condition.open(now=AT)


def publish(server: BadServer, version: int, *bans: Any, issued: int) -> None:
    at = head(version, issued=issued)
    document = list_bytes(bans, at)
    server.route("/bans.json", reply(document))
    server.route("/bans.json.sig", reply(signed(document, head=at)))


def test_a_silent_server_costs_no_verification_its_time_while_the_refresher_runs(
    server: BadServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lists, "MIN_EVERY", 0.02)
    now = int(time.time())
    publish(server, 7, issued=now)
    feed = UrlFeed(server.url + "/bans.json", place.state, 0, timeout=2.0)
    condition = BansCondition((feed,), ListSigners((SECRET,)), MAX_AGE, place.state)
    with condition.refresher(every=0.02) as refresher:
        assert not banned(condition, time.time())
        publish(server, 8, ban("worker", "org.acme.summarizer"), issued=now)
        until = time.monotonic() + 20
        while not banned(condition, time.time()) and time.monotonic() < until:
            time.sleep(0.02)
        assert banned(condition, time.time())
        server.route("/*", hang())
        server.route("/bans.json", hang())
        asked, begun = len(server.requests), time.process_time()
        while len(server.requests) == asked and time.monotonic() < until:
            time.sleep(0.02)
        for _ in range(50):
            assert banned(condition, time.time())
        assert time.process_time() - begun < 1
        with pytest.raises(BansUnusable, match="background refresh"):
            condition.open(now=now + WEEK)
        while not refresher.problems and time.monotonic() < until:
            time.sleep(0.02)
        assert "down" in refresher.problems[0]


def test_many_threads_open_a_list_once_and_agree(condition: BansCondition, place: Place) -> None:
    found: list[str] = []

    def ask() -> None:
        found.extend(condition.open(now=AT).versions for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    replaced(place, 8, ban("package", digest(1)))
    for thread in threads:
        thread.join()
    assert len(found) == 300
    assert set(found) <= {"acme-soc=7", "acme-soc=8"}
    assert condition.open(now=AT).versions == "acme-soc=8"
