"""Sources behind a network: what an answer, a wrong answer and no answer lead to, and how long a kept copy lasts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_http import (
    BadServer,
    Certificates,
    cut,
    drip,
    endless,
    hang,
    redirect,
    reply,
    reset,
    silent_close,
)
from tests.bans.helpers import (
    HEX,
    MAX_AGE,
    NOW,
    OTHER,
    WEEK,
    Place,
    ban,
    by_hand,
    facts,
    head,
    list_bytes,
    signed,
)
from wcp_attest.base.errors import BansUnusable
from wcp_attest.net import https as transport
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.feeds import VerifiedList, url_feed
from wcp_attest.trust.bans.feeds import list_cache as cache
from wcp_attest.trust.bans.feeds.list_cache import PAUSE_WHEN_DOWN
from wcp_attest.trust.bans.feeds.registry_feed import RegistryFeed
from wcp_attest.trust.bans.feeds.url_feed import UrlFeed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bad_http import Answer

BANS = (ban("package", HEX),)
LIST, SIG = "/bans.json", "/bans.json.sig"
REFRESH = 300
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
LATER = NOW + 60 + REFRESH


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(url_feed, "PAIR_PAUSE", 0.01)


def publish(server: BadServer, version: int = 7, bans: Any = BANS, **answer: Any) -> bytes:
    """Serve a list and its signatures."""
    document = list_bytes(bans, head(version))
    server.route(LIST, reply(document, **answer))
    server.route(SIG, reply(signed(document, head=head(version))))
    return document


def feed(server: BadServer, place: Place) -> UrlFeed:
    return UrlFeed(server.url + LIST, place.state, REFRESH, timeout=1.0)


def paths(server: BadServer) -> list[str]:
    return [exchange.path for exchange in server.requests]


def open_at(source: UrlFeed | RegistryFeed, place: Place, now: float) -> VerifiedList:
    return source.open(place.admission(now))


# what a server may do that is not an answer, and what it may answer that is wrong

DOWN: dict[str, Answer] = {
    "hangs": hang(),
    "closes": silent_close(),
    "resets": reset(),
    "cut off": cut(b"{", declared=100),
    "too slow": drip(b"x" * 1000, 0.05),
    "500": reply(b"", 500),
    "503": reply(b"", 503),
    "429 for long": reply(b"", 429, headers={"Retry-After": "3600"}),
}
WRONG: dict[str, Answer] = {
    "404": reply(b"", 404),
    "403": reply(b"", 403),
    "410": reply(b"", 410),
    "elsewhere": redirect("https://elsewhere.example/bans.json"),
    "to plain http": redirect("http://elsewhere.example/bans.json"),
    "endless": endless(),
    "html": reply(b"<html>", kind="text/html"),
    "empty": reply(b""),
    "not json": reply(b"banned"),
    "an empty object": reply(b"{}"),
    "duplicate keys": reply(b'{"version":1,"version":2}'),
    "half": reply(list_bytes(BANS, head(8))[:200]),
    "another layout": reply(by_hand(list_bytes(BANS, head(7)))),
    "an empty list, not signed": reply(list_bytes((), head(8))),
}


class TestUrl:
    def test_a_list_is_fetched_admitted_and_kept(self, server: BadServer, place: Place) -> None:
        publish(server)
        found = open_at(feed(server, place), place, NOW + 60)
        assert found.note == ""
        assert Bans([found]).hits(facts(package_hash=HEX))
        open_at(feed(server, place), place, NOW + 60 + REFRESH - 1)
        assert paths(server) == [LIST, SIG]
        kept = [name for name in os.listdir(place.state) if name.startswith("cache-")]
        assert len(kept) == 1
        assert os.stat(os.path.join(place.state, kept[0])).st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ({"ETag": '"v7"'}, ("if-none-match", '"v7"')),
            (
                {"Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"},
                ("if-modified-since", "Sun, 01 Mar 2026 12:00:00 GMT"),
            ),
        ],
    )
    def test_an_unchanged_list_is_not_sent_twice(
        self, server: BadServer, place: Place, given: dict[str, str], sent: tuple[str, str]
    ) -> None:
        publish(server, headers=given)
        open_at(feed(server, place), place, NOW + 60)
        server.route(LIST, reply(b"", 304))
        assert open_at(feed(server, place), place, LATER).index.head.version == 7
        assert paths(server) == [LIST, SIG, LIST]
        assert server.requests[2].headers[sent[0]] == sent[1]
        open_at(feed(server, place), place, LATER + REFRESH - 1)
        assert len(server.requests) == 3

    def test_unchanged_without_having_been_asked_is_wrong(self, server: BadServer, place: Place) -> None:
        server.route(LIST, reply(b"", 304))
        with pytest.raises(BansUnusable, match="304"):
            open_at(feed(server, place), place, NOW + 60)

    @pytest.mark.parametrize("name", DOWN)
    def test_a_source_that_is_down_leaves_the_kept_copy_until_it_is_stale(
        self, server: BadServer, place: Place, name: str
    ) -> None:
        publish(server)
        open_at(feed(server, place), place, NOW + 60)
        server.route(LIST, DOWN[name])
        found = open_at(feed(server, place), place, LATER)
        assert "is down, its kept copy is used" in found.note
        assert Bans([found]).hits(facts(package_hash=HEX))
        with pytest.raises(BansUnusable, match=r"stale: it expired.*source that is down"):
            open_at(feed(server, place), place, NOW + WEEK)

    @pytest.mark.parametrize("name", DOWN)
    def test_a_source_that_is_down_and_no_copy_is_no_empty_list(
        self, server: BadServer, place: Place, name: str
    ) -> None:
        server.route(LIST, DOWN[name])
        with pytest.raises(BansUnusable, match="is down and no copy is kept"):
            open_at(feed(server, place), place, NOW + 60)
        publish(server)
        server.route(SIG, DOWN[name])
        with pytest.raises(BansUnusable, match="is down and no copy is kept"):
            open_at(feed(server, place), place, NOW + 60)

    @pytest.mark.parametrize("name", WRONG)
    def test_a_wrong_answer_is_refused_even_beside_a_good_copy(
        self, server: BadServer, place: Place, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(url_feed, "MAX_LIST_BYTES", 1 << 20)  # an endless answer reaches it in time on any machine
        publish(server)
        open_at(feed(server, place), place, NOW + 60)
        server.route(LIST, WRONG[name])
        with pytest.raises(BansUnusable):
            open_at(feed(server, place), place, LATER)
        publish(server)
        assert open_at(feed(server, place), place, LATER + 1).index.head.version == 7

    @pytest.mark.parametrize("name", sorted(set(WRONG) - {"another layout", "half"}))
    def test_wrong_signatures_are_refused(self, server: BadServer, place: Place, name: str) -> None:
        publish(server)
        server.route(SIG, WRONG[name])
        with pytest.raises(BansUnusable):
            open_at(feed(server, place), place, NOW + 60)

    def test_signed_by_nobody_who_may(self, server: BadServer, place: Place) -> None:
        document = publish(server)
        server.route(SIG, reply(signed(document, OTHER)))
        with pytest.raises(BansUnusable, match="none of its signatures"):
            open_at(feed(server, place), place, NOW + 60)

    def test_an_old_list_replayed_is_rolled_back_and_does_not_replace_the_copy(
        self, server: BadServer, place: Place
    ) -> None:
        publish(server, 8)
        open_at(feed(server, place), place, NOW + 60)
        publish(server, 7, ())
        with pytest.raises(BansUnusable, match="rolled back"):
            open_at(feed(server, place), place, LATER)
        server.route(LIST, reply(b"", 500))
        assert open_at(feed(server, place), place, LATER).index.head.version == 8

    def test_a_newer_list_replaces_the_copy(self, server: BadServer, place: Place) -> None:
        publish(server, 7)
        open_at(feed(server, place), place, NOW + 60)
        publish(server, 8)
        assert open_at(feed(server, place), place, LATER).index.head.version == 8
        server.route(LIST, reply(b"", 500))
        assert open_at(feed(server, place), place, LATER + REFRESH).index.head.version == 8

    def test_a_publisher_between_two_files_is_waited_for(self, server: BadServer, place: Place) -> None:
        document = publish(server, 8)
        old = signed(list_bytes(BANS, head(7)))
        server.route(SIG, reply(old), reply(old), reply(signed(document, head=head(8))))
        assert open_at(feed(server, place), place, NOW + 60).index.head.version == 8
        server.route(SIG, reply(old))
        with pytest.raises(BansUnusable, match="another list"):
            open_at(feed(server, place), place, LATER)

    def test_an_outage_costs_one_attempt_in_a_while(self, server: BadServer, place: Place) -> None:
        publish(server)
        open_at(feed(server, place), place, NOW + 60)
        server.route(LIST, reply(b"", 500))
        for second in range(3):
            assert "down" in open_at(feed(server, place), place, LATER + second).note
        assert len(server.requests) == 2 + transport.MAX_ATTEMPTS
        publish(server, 8)
        assert open_at(feed(server, place), place, LATER + PAUSE_WHEN_DOWN + 1).index.head.version == 8

    def test_a_copy_that_expires_before_it_is_to_be_refreshed_is_refreshed(
        self, server: BadServer, place: Place
    ) -> None:
        document = list_bytes(BANS, head(7, lifetime=100))
        server.route(LIST, reply(document))
        server.route(SIG, reply(signed(document, head=head(7, lifetime=100))))
        open_at(feed(server, place), place, NOW + 60)
        publish(server, 8)
        assert open_at(feed(server, place), place, NOW + 101).index.head.version == 8

    def test_a_damaged_copy_is_fetched_anew_and_never_believed(self, server: BadServer, place: Place) -> None:
        publish(server)
        open_at(feed(server, place), place, NOW + 60)
        (path,) = (os.path.join(place.state, name) for name in os.listdir(place.state) if name.startswith("cache-"))
        with open(path, "rb") as stream:
            good = stream.read()
        for damaged in (b"", b"{}", good[:-1], good[:40], good.replace(b"exfiltrates", b"exfiltratez"), good + b"x"):
            with open(path, "wb") as stream:
                stream.write(damaged)
            os.utime(path, (NOW + 60, NOW + 60))
            assert open_at(feed(server, place), place, NOW + 61).note == ""
            with open(path, "wb") as stream:
                stream.write(damaged)
            os.utime(path, (NOW + 60, NOW + 60))
            server.route(LIST, reply(b"", 500))
            with pytest.raises(BansUnusable):
                open_at(feed(server, place), place, NOW + 61)
            os.unlink(path + ".down")
            publish(server)
        os.chmod(path, 0o666)
        open_at(feed(server, place), place, NOW + 61)
        assert len([exchange for exchange in server.requests if exchange.path == SIG]) >= 8

    def test_https_by_the_named_authority(self, place: Place, tmp_path: Path) -> None:
        certificates = Certificates.make(tmp_path)
        with BadServer(certificates) as secure:
            publish(secure)
            source = UrlFeed(secure.url + LIST, place.state, REFRESH, certificates.authority)
            assert source.open(place.admission()).index.head.version == 7
            stranger = UrlFeed(secure.url + "/other.json", place.state, REFRESH)
            with pytest.raises(BansUnusable, match="certificate"):
                stranger.open(place.admission())

    def test_certificates_that_cannot_be_read_deny(self, server: BadServer, place: Place) -> None:
        absent = str(place.root / "absent.pem")
        for source in (
            UrlFeed("https://127.0.0.1:1/bans.json", place.state, REFRESH, absent),
            RegistryFeed("https://127.0.0.1:1", place.state, REFRESH, absent),
        ):
            with pytest.raises(BansUnusable, match="absent"):
                open_at(source, place, NOW)

    def test_the_state_directory_must_be_usable(self, server: BadServer, place: Place) -> None:
        publish(server)
        (place.root / "state").write_bytes(b"")
        with pytest.raises(BansUnusable, match="state directory"):
            open_at(feed(server, place), place, NOW + 60)


def rows(count: int, **more: str) -> bytes:
    row = {"sha256": HEX.upper(), "reason": "bad\x1b[2J", "reported_at": "x", "source": "", **more}
    return json.dumps({"bans": [row] * count, "has_more": False}).encode()


class TestRegistry:
    PATH = "/api/v1/ban-list"

    def feed(self, server: BadServer, place: Place) -> RegistryFeed:
        return RegistryFeed(server.url, place.state, REFRESH, timeout=1.0)

    def test_a_row_bans_whatever_has_the_digest(self, server: BadServer, place: Place) -> None:
        server.route(self.PATH, reply(rows(1)))
        bans = Bans([open_at(self.feed(server, place), place, NOW)])
        for changes in ({"package_hash": HEX}, {"manifest_sha256": HEX}):
            (hit,) = bans.hits(facts(**changes))
            assert hit.ban.reason == "bad [2J"
        assert bans.file_hits([("a", HEX)], "sha256")
        assert not bans.hits(facts())

    def test_a_report_that_is_not_confirmed_is_no_ban(self, server: BadServer, place: Place) -> None:
        for status, banned in (("confirmed", 1), ("", 1), ("odd", 1), ("pending", 0), ("REJECTED", 0)):
            server.route(self.PATH, reply(rows(1, review_status=status)))
            source = RegistryFeed(server.url, os.path.join(place.state, status or "none"), REFRESH)
            assert len(Bans([open_at(source, place, NOW)]).hits(facts(package_hash=HEX))) == banned, status

    def test_it_is_kept_until_max_age_when_the_registry_is_down(self, server: BadServer, place: Place) -> None:
        server.route(self.PATH, reply(rows(1)))
        open_at(self.feed(server, place), place, NOW)
        server.route(self.PATH, reply(b"", 503))
        found = open_at(self.feed(server, place), place, NOW + MAX_AGE - 1)
        assert "is down" in found.note
        assert Bans([found]).hits(facts(package_hash=HEX))
        with pytest.raises(BansUnusable, match="stale"):
            open_at(self.feed(server, place), place, NOW + MAX_AGE + 60)

    @pytest.mark.parametrize(
        "wrong",
        [
            reply(b"[]"),
            reply(b'{"bans":[]}'),
            reply(rows(2).replace(b'"has_more": false', b'"total": 2')),
            reply(rows(1).replace(b'"has_more": false', b'"note": ""')),
            reply(b'{"bans":[],"has_more":true}'),
            reply(b"{}"),
            reply(b"<html>", kind="text/html"),
            reply(b"[1]"),
            reply(b"", 404),
            reply(b"", 401),
            redirect("https://elsewhere.example/"),
            endless(),
        ],
    )
    def test_a_wrong_or_partial_answer_is_refused(self, server: BadServer, place: Place, wrong: Answer) -> None:
        server.route(self.PATH, wrong)
        with pytest.raises(BansUnusable):
            open_at(self.feed(server, place), place, NOW)

    @pytest.mark.parametrize("name", DOWN)
    def test_down_without_a_copy_is_no_empty_list(self, server: BadServer, place: Place, name: str) -> None:
        server.route(self.PATH, DOWN[name])
        with pytest.raises(BansUnusable, match="is down and no copy"):
            open_at(self.feed(server, place), place, NOW)

    def test_a_silent_registry_costs_one_timeout_and_then_none_for_a_while(
        self, server: BadServer, place: Place
    ) -> None:
        server.route(self.PATH, hang())
        for now in (NOW, NOW + 1, NOW + PAUSE_WHEN_DOWN - 1):
            with pytest.raises(BansUnusable, match="no copy"):
                open_at(self.feed(server, place), place, now)
        assert len(server.requests) == 1
        server.route(self.PATH, reply(rows(1)))
        assert open_at(self.feed(server, place), place, NOW + PAUSE_WHEN_DOWN + 1).index.names_files

    def test_pages_that_trickle_share_one_deadline(self, server: BadServer, place: Place) -> None:
        def page(handler: Any, exchange: Any) -> None:
            handler.wait(0.15)
            body = {"bans": [], "next": f"/api/v1/ban-list?page={len(server.requests)}"}
            reply(json.dumps(body).encode())(handler, exchange)

        server.route("/*", page)
        with pytest.raises(BansUnusable, match="is down"):
            open_at(self.feed(server, place), place, NOW)
        assert len(server.requests) < 20

    def test_a_signed_list_beside_it_still_decides(self, server: BadServer, place: Place) -> None:
        server.route(self.PATH, reply(b'{"bans":[],"total":0}'))
        publish(server)
        both = Bans([open_at(self.feed(server, place), place, NOW + 60), open_at(feed(server, place), place, NOW + 60)])
        assert len(both.hits(facts(package_hash=HEX))) == 1


def test_a_copy_is_never_taken_for_that_of_another_source(server: BadServer, place: Place) -> None:
    publish(server)
    open_at(feed(server, place), place, NOW + 60)
    kept = cache.CopyFile(place.state, f"url:{server.url}{LIST}").load()
    assert kept is not None
    (path,) = (os.path.join(place.state, name) for name in os.listdir(place.state) if name.startswith("cache-"))
    other = cache.CopyFile(place.state, "url:https://other.example/")
    os.rename(path, other.path)
    assert other.load() is None
