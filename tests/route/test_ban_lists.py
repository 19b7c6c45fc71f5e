"""Real signed ban lists, from a file, a URL and a TUF repository, through the Hall."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_http import BadServer, hang, reply
from tests.bans.helpers import MAX_AGE, SECRET, WEEK, Place, ban, head, list_bytes, signed
from tests.bans.tuf_repository import TufRepository
from tests.route.stores import SqliteRegistry
from tests.route.worlds import WORKER, World, a_request, a_rule, trust
from wcp_attest.bans import BansCondition, ListSigners
from wcp_attest.trust.bans import held_lists
from wcp_attest.trust.bans.feeds.file_feed import FileFeed
from wcp_attest.trust.bans.feeds.tuf_feed import TufFeed
from wcp_attest.trust.bans.feeds.url_feed import UrlFeed
from wcp_route import Hall, HallConfig, Services
from wcp_route.domain.codes import Code
from wcp_route.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wcp_attest.bans import Ban

BANNED = ban("worker", WORKER)
NOW = int(time.time())  # lists are a minute older; decisions are made by the clock, however late this test runs


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "lists").mkdir()
    return Place(tmp_path / "lists")


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold lists although their files were written a moment ago."""
    monkeypatch.setattr(held_lists, "SETTLED", -1.0)


def hall_for(world: World, place: Place, feed: Any, ids: Callable[[], str] = new_id, **settings: Any) -> Hall:
    if world.registry.lookup(WORKER) is None:
        world.enroll()
    condition = BansCondition((feed,), ListSigners((SECRET,)), MAX_AGE, place.state)
    policy = replace(trust(world.signer), conditions=(condition,))
    config = HallConfig(env="dev", **settings)
    return Hall(
        {"rules": [a_rule()]},
        world.registry,
        policy,
        config,
        services=Services(clock=lambda: int(time.time() * 1000), ids=ids),
    )


def publish(server: BadServer, version: int, *bans: Ban) -> None:
    at = head(version, issued=NOW - 60)
    document = list_bytes(bans, at)
    server.route("/bans.json", reply(document))
    server.route("/bans.json.sig", reply(signed(document, head=at)))


@pytest.mark.parametrize("attestation", ["always", "sealed", "on-change"])
@pytest.mark.usefixtures("unsettled")
def test_denies_by_a_signed_file_from_the_next_decision_on(attestation: str, world: World, place: Place) -> None:
    place.put([], head(7, issued=NOW - 60))
    settings: dict[str, Any] = {"attestation": attestation, "seal_directory": str(world.directory / "sealed")}
    with hall_for(world, place, FileFeed(str(place.path)), **settings) as hall:
        for _ in range(3):
            assert hall.decide(a_request()).versions.bans == "acme-soc=7"
        place.put([BANNED], head(8, issued=NOW - 60))
        evidence = hall.decide(a_request())
    assert evidence.decision.code == Code.WORKER_BANNED
    assert not evidence.decision.quarantined


@pytest.mark.usefixtures("unsettled")
def test_denies_by_a_file_whose_signature_does_not_hold(world: World, place: Place) -> None:
    place.put([], head(7, issued=NOW - 60))
    with hall_for(world, place, FileFeed(str(place.path))) as hall:
        assert not hall.route(a_request()).denied
        place.path.write_bytes(list_bytes([], head(9, issued=NOW - 60)))
        decision = hall.route(a_request())
        assert (decision.code, decision.quarantined) == (Code.BANLIST_STALE, False)


def test_denies_by_a_list_behind_a_url(world: World, place: Place, server: BadServer) -> None:
    publish(server, 7)
    with hall_for(world, place, UrlFeed(server.url + "/bans.json", place.state, 0, timeout=5.0)) as hall:
        assert hall.decide(a_request()).versions.bans == "acme-soc=7"
        publish(server, 8, BANNED)
        assert hall.route(a_request()).code == Code.WORKER_BANNED


def test_denies_by_a_list_in_a_tuf_repository(world: World, place: Place, server: BadServer) -> None:
    repository = TufRepository(server)
    root = repository.start()

    def targets(version: int, *bans: Ban) -> dict[str, bytes]:
        at = head(version, issued=NOW - 60)
        document = list_bytes(bans, at)
        return {"bans.json": document, "bans.json.sig": signed(document, head=at)}

    repository.publish(targets(7))
    urls = server.url + "/metadata/", server.url + "/targets"
    with hall_for(world, place, TufFeed(*urls, "bans.json", root, place.state, 0, timeout=5.0)) as hall:
        assert hall.decide(a_request()).versions.bans == "acme-soc=7"
        repository.publish(targets(8, BANNED))
        assert hall.route(a_request()).code == Code.WORKER_BANNED


def test_no_decision_waits_for_a_silent_server_once_the_list_is_held(
    world: World, place: Place, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lists, "MIN_EVERY", 0.05)
    publish(server, 7)
    with hall_for(world, place, UrlFeed(server.url + "/bans.json", place.state, 0, timeout=3.0)) as hall:
        until = time.monotonic() + 20
        assert not hall.route(a_request()).denied
        publish(server, 8, BANNED)
        while hall.route(a_request()).code != Code.WORKER_BANNED and time.monotonic() < until:
            time.sleep(0.02)
        while not hall.world.attestor.conditions[0]._lists.background:  # type: ignore[union-attr]
            time.sleep(0.02)
        server.route("/bans.json", hang())
        asked = len(server.requests)
        while len(server.requests) == asked and time.monotonic() < until:
            time.sleep(0.01)
        asked = len(server.requests)  # one of the background, which waits for its answer
        for _ in range(20):
            assert hall.route(a_request()).code == Code.WORKER_BANNED
        assert len(server.requests) == asked


def test_asks_no_server_any_more_when_it_is_closed_or_given_up(world: World, place: Place, server: BadServer) -> None:
    publish(server, 7)

    def threads() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "wcp-attest ban lists"]

    before = len(threads())
    feed = UrlFeed(server.url + "/bans.json", place.state, 60, timeout=5.0)
    hall = hall_for(world, place, feed)
    assert len(threads()) == before + 1
    hall.close()
    hall = hall_for(world, place, feed)
    del hall
    until = time.monotonic() + 20
    while len(threads()) > before and time.monotonic() < until:
        time.sleep(0.02)
    assert len(threads()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_asks_the_sources_itself(world: World, place: Place, server: BadServer) -> None:
    publish(server, 7)
    with hall_for(world, place, UrlFeed(server.url + "/bans.json", place.state, 0, timeout=5.0)) as hall:
        assert not hall.route(a_request()).denied
        publish(server, 8, BANNED)
        child = os.fork()
        if child == 0:
            os._exit(0 if hall.route(a_request()).code == Code.WORKER_BANNED else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("unsettled")
def test_decides_in_the_callers_thread_when_nothing_has_to_be_waited_for(tmp_path: Path, place: Place) -> None:
    place.put([], head(7, issued=NOW - 60, lifetime=WEEK))
    world = World(tmp_path, registry=SqliteRegistry(str(tmp_path / "hall.db")))
    threads: list[int] = []

    def ids() -> str:  # called where the decision is made
        threads.append(threading.get_ident())
        return new_id()

    with hall_for(world, place, FileFeed(str(place.path)), ids=ids) as hall:
        for _ in range(4):
            assert not hall.route(a_request()).denied
    assert threads[0] != threading.get_ident()  # the list was not held yet
    assert threads[-1] == threading.get_ident()
