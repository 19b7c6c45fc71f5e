"""The registry's client: every shape accepted, nothing believed that cannot be, tokens kept at home."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bad_http import BadServer, Certificates, endless, redirect, reply
from wcp_attest.base.errors import ConfigError
from wcp_attest.net.https_errors import (
    RegistryAnswerError,
    RegistryError,
    RegistryIncompleteError,
    RegistryRateLimitError,
    RegistryUnreachable,
)
from wcp_attest.trust.registry import client as client_module
from wcp_attest.trust.registry.answers import AttestationResponse, Page, Submission, VerifyResponse, parse_object
from wcp_attest.trust.registry.client import DEFAULT_URL, MAX_LINK, PAGE, Credentials, RegistryClient, next_link

if TYPE_CHECKING:
    from pathlib import Path

WORKER = "org.acme.summarizer"
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
VERIFY = f"/api/v1/verify/{WORKER}"
BAN_LIST = "/api/v1/ban-list"
ACTIVE = {"worker_id": WORKER, "status": "active", "current_hash": HEX, "banned": False, "ai_generated": False}


@pytest.fixture
def client(server: BadServer) -> RegistryClient:
    return RegistryClient(server.url)


def answer(value: Any, status: int = 200, **headers: str) -> Any:
    return reply(json.dumps(value).encode(), status, headers=headers)


def row(number: int, **more: str) -> dict[str, str]:
    return {"sha256": f"{number:064x}", "reason": "r", "reported_at": "2026-01-01T00:00:00Z", "source": "s", **more}


def test_a_worker_is_looked_up_by_its_worker_id(server: BadServer, client: RegistryClient) -> None:
    server.route(VERIFY, answer({**ACTIVE, "attested_at": "2026-01-01", "ai_session_id": "f", "more": [1.5]}))
    assert client.verify(WORKER) == VerifyResponse(
        WORKER, "active", HEX, attested_at="2026-01-01", ai_session_fingerprint="f"
    )
    assert client.get_worker_hash(WORKER) == HEX
    with pytest.raises(ConfigError, match="not by species"):
        client.verify("wrk.doc.summarizer")
    for bad in ("", "org.acme", "org.acme.x/../y", "org.acme.x?y", "ORG.acme.x", "org.acme.x\n"):
        with pytest.raises(ConfigError):
            client.verify(bad)
    assert [exchange.path for exchange in server.requests] == [VERIFY]


def test_a_hash_in_any_spelling_is_one_hash(server: BadServer, client: RegistryClient) -> None:
    server.route(VERIFY, answer({**ACTIVE, "current_hash": "SHA256:" + HEX.upper()}))
    assert client.get_worker_hash(WORKER) == HEX


def test_active_is_kept_for_the_ttl_and_nothing_else_is(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = RegistryClient(server.url, cache_ttl=300)
    server.route(VERIFY, answer(ACTIVE), answer({**ACTIVE, "status": "revoked"}))
    assert [client.verify(WORKER).status for _ in range(3)] == ["active"] * 3
    later = time.monotonic() + 300
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert [client.verify(WORKER).status for _ in range(2)] == ["revoked"] * 2
    assert len(server.requests) == 3
    assert client.get_worker_hash(WORKER) is None


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({**ACTIVE, "banned": True, "ban_reason": "bad"}, "banned"),
        ({**ACTIVE, "status": "banned"}, "banned"),
        ({**ACTIVE, "status": "revoked"}, "revoked"),
        ({"status": "unknown"}, "unknown"),
    ],
)
def test_a_worker_that_is_not_active_has_no_hash(
    server: BadServer, client: RegistryClient, said: dict[str, Any], status: str
) -> None:
    server.route(VERIFY, answer(said))
    assert client.verify(WORKER).status == status
    assert client.verify(WORKER).banned == (status == "banned")
    assert client.get_worker_hash(WORKER) is None
    assert len(server.requests) == 3


def test_404_is_unknown_for_a_worker_and_an_error_for_all_else(server: BadServer, client: RegistryClient) -> None:
    assert client.verify(WORKER).status == "unknown"
    for call in (client.health, client.get_ban_list, lambda: client.is_hash_banned(HEX)):
        with pytest.raises(RegistryAnswerError, match="404"):
            call()
    with pytest.raises(RegistryAnswerError):
        client.report_hash(HEX, "bad")


@pytest.mark.parametrize(
    "said",
    [
        {**ACTIVE, "worker_id": "org.acme.other"},
        {"status": "active", "current_hash": HEX},
        {**ACTIVE, "status": "fine"},
        {**ACTIVE, "status": None},
        {**ACTIVE, "status": ["active"]},
        {**ACTIVE, "current_hash": "abc"},
        {**ACTIVE, "current_hash": 7},
        {**ACTIVE, "banned": "no"},
        {**ACTIVE, "banned": 0},
        {**ACTIVE, "ban_reason": "x" * 2001},
        [ACTIVE],
        "active",
        None,
    ],
)
def test_an_answer_that_contradicts_itself_or_its_types_is_an_error(
    server: BadServer, client: RegistryClient, said: Any
) -> None:
    server.route(VERIFY, answer(said))
    with pytest.raises(RegistryAnswerError):
        client.verify(WORKER)


@pytest.mark.parametrize("body", [b"", b"{", b'{"status":"active","status":"banned"}', b"\xff", b"NaN", b"[" * 100])
def test_an_answer_that_is_not_strict_json_is_an_error(server: BadServer, client: RegistryClient, body: bytes) -> None:
    server.route(VERIFY, reply(body))
    with pytest.raises(RegistryAnswerError):
        client.verify(WORKER)


def test_429_is_an_error_of_its_own_everywhere(server: BadServer, client: RegistryClient) -> None:
    server.route("/*", reply(b"", 429, headers={"Retry-After": "600"}))
    submission = Submission(WORKER, "wrk.doc.summarizer", "1.0.0", HEX)
    for call in (
        lambda: client.verify(WORKER),
        lambda: client.prefetch([WORKER]),
        client.get_ban_list,
        client.health,
        lambda: client.is_hash_banned(HEX),
        lambda: client.report_hash(HEX, "bad"),
        lambda: client.submit_attestation(submission),
    ):
        with pytest.raises(RegistryRateLimitError) as caught:
            call()
        assert caught.value.retry_after == 600


@pytest.mark.parametrize(
    "shape",
    [
        lambda rows: {"bans": rows, "has_more": False},
        lambda rows: {"ban_list": rows, "total": len(rows)},
        lambda rows: {"entries": rows, "next_cursor": None},
        lambda rows: {"items": rows, "next": None, "has_more": False},
    ],
)
def test_every_shape_of_a_ban_list_is_read(server: BadServer, client: RegistryClient, shape: Any) -> None:
    rows = [row(1), row(2, review_status="confirmed"), row(3, review_status="pending")]
    server.route(BAN_LIST, answer(shape(rows)))
    entries = client.get_ban_list()
    assert [entry.sha256 for entry in entries] == [f"{n:064x}" for n in (1, 2, 3)]
    assert [entry.in_force for entry in entries] == [True, True, False]
    assert server.requests[0].path == f"{BAN_LIST}?limit={PAGE}&counted=true"


def test_pages_are_followed_to_the_end(server: BadServer, client: RegistryClient) -> None:
    first, second, third = ([row(page * PAGE + n) for n in range(PAGE)] for page in range(3))
    server.route(BAN_LIST, answer({"bans": first, "next_cursor": "c 1&x"}))
    server.route(f"{BAN_LIST}?limit=500&cursor=c+1%26x", answer({"bans": second, "next": "/api/v1/ban-list?page=3"}))
    server.route(
        f"{BAN_LIST}?page=3", answer(third, Link=f'<{server.url}/x>; rel="prev", <{server.url}/api/v1/p4>; rel="next"')
    )
    server.route("/api/v1/p4", answer({"bans": [row(9999)], "has_more": False}))
    assert len(client.get_ban_list()) == 3 * PAGE + 1
    assert client.is_hash_banned(f"{9999:064X}")


@pytest.mark.parametrize(
    "last",
    [
        answer([]),
        answer([row(1)]),
        answer([row(1)], Link='<https://registry.example/api/v1/ban-list>; rel="prev"'),
        answer([row(n) for n in range(100)]),
        answer({"bans": [row(1)]}),
        answer({"bans": [row(1)], "has_more": None}),
        answer({"bans": [row(n) for n in range(PAGE)]}),
        answer({"bans": [row(1), row(1)], "total": 2}),
        answer({"bans": [row(1)], "next": "/api/v1/grown", "total": 3}),
        answer({"bans": [row(1)], "total": 2}),
        answer({"bans": [row(1)], "has_more": True}),
        answer({"bans": [row(1)], "next": "/api/v1/ban-list?limit=500&counted=true"}),
        answer({"bans": [row(1)], "next": "/api/v1/loop"}),
    ],
)
def test_a_list_that_may_be_a_part_is_not_called_the_list(server: BadServer, client: RegistryClient, last: Any) -> None:
    server.route(BAN_LIST, last)
    server.route("/api/v1/grown", answer({"bans": [row(2)], "total": 4}))
    server.route("/api/v1/loop", answer({"bans": [row(2)], "next": "/api/v1/loop"}))
    with pytest.raises(RegistryIncompleteError):
        client.get_ban_list()
    with pytest.raises(RegistryIncompleteError):
        client.is_hash_banned(f"{7777:064x}")


def test_banned_is_told_of_a_part_and_not_banned_never(server: BadServer, client: RegistryClient) -> None:
    server.route(BAN_LIST, answer([row(1), row(2)]))
    assert client.is_hash_banned(f"{2:064x}")
    with pytest.raises(RegistryIncompleteError):
        client.is_hash_banned(f"{3:064x}")


def test_pages_share_one_limit_of_rows(
    server: BadServer, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ROWS", 5)
    server.route(BAN_LIST, answer({"bans": [row(1), row(2), row(3)], "next": "/api/v1/more"}))
    server.route("/api/v1/more", answer({"bans": [row(4), row(5), row(6)], "has_more": False}))
    with pytest.raises(RegistryAnswerError, match="more than 5 rows"):
        client.get_ban_list()


LINKS = [
    ("", None),
    ('<https://x/1>; rel="prev", <https://x/2>; rel="next"', "https://x/2"),
    ("<https://x/a,b;c>;rel=next", "https://x/a,b;c"),
    ('<https://x/1>; title="a, <b>; rel=next"; rel="last"', None),
    ('<https://x/1>; REL = "last Next"', "https://x/1"),
    ('<https://x/1>; rel="nextish"', None),
    ('<https://x/1>; rel="prev"; rel="next"', None),  # the first counts (RFC 8288, section 3.3)
    ("<https://x/1>, , <https://x/2>; rel=next", "https://x/2"),
]


@pytest.mark.parametrize(("header", "target"), LINKS)
def test_the_next_page_is_read_from_link(header: str, target: str | None) -> None:
    assert next_link(header) == target


@pytest.mark.parametrize(
    "header",
    ["<a", '<a>; rel="next', "a; rel=next", "<a>; rel=next, <b>; rel=next", "<a>;" * 10_000, "x" * (MAX_LINK + 1)],
)
def test_a_link_header_that_is_malformed_is_an_error(header: str) -> None:
    with pytest.raises(RegistryAnswerError, match="Link"):
        next_link(header)


@given(st.text(st.sampled_from('<>;,="\\ rel next a')))
def test_any_link_header_gives_an_answer_or_the_documented_error(header: str) -> None:
    with contextlib.suppress(RegistryAnswerError):
        assert next_link(header) is None or "next" in header


def test_a_link_header_costs_linear_time() -> None:
    """A pattern that looks for the relation behind any number of `;` needs minutes for this."""
    begun = time.process_time()
    for part in ("<a>;", "<a>;x,", '"",', ",", "<a>; rel="):
        with contextlib.suppress(RegistryAnswerError):
            next_link(part * (MAX_LINK // len(part)))
    assert time.process_time() - begun < 2


def test_a_list_that_never_ends_is_given_up(
    server: BadServer, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_PAGES", 5)
    for page in range(9):
        server.route(f"/api/v1/p{page}", answer({"bans": [], "next": f"/api/v1/p{page + 1}"}))
    server.route(BAN_LIST, answer({"bans": [], "next": "/api/v1/p0"}))
    with pytest.raises(RegistryIncompleteError):
        client.get_ban_list()
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"bans": {}},
        {"bans": [1]},
        {"bans": [{}]},
        {"bans": [{"sha256": "x"}]},
        {"bans": [], "entries": [row(1)], "has_more": False},
        {"items": [row(1)], "ban_list": None, "has_more": False},
        {"bans": [], "total": "0"},
        {"bans": [], "next": 7},
        {"bans": [], "next": "https://example.org/x"},
        {"bans": [], "next": "//example.org/api/v1/x"},
        7,
    ],
)
def test_a_ban_list_that_is_malformed_or_leads_away_is_an_error(
    server: BadServer, client: RegistryClient, said: Any
) -> None:
    server.route(BAN_LIST, answer(said))
    with pytest.raises(RegistryAnswerError):
        client.get_ban_list()


def test_banned_is_kept_and_not_banned_is_asked_anew(server: BadServer, client: RegistryClient) -> None:
    server.route(BAN_LIST, answer({"bans": [row(1)], "total": 1}), answer({"bans": [row(1), row(2)], "total": 2}))
    assert client.is_hash_banned("sha256:" + f"{1:064x}")
    assert client.is_hash_banned(f"{1:064x}")
    assert len(server.requests) == 1
    assert client.is_hash_banned(f"{2:064x}")
    assert len(server.requests) == 2
    assert not client.is_hash_banned(f"{3:064x}")
    assert not client.is_hash_banned(f"{3:064x}")
    assert len(server.requests) == 4
    with pytest.raises(ConfigError):
        client.is_hash_banned("not a digest")


def test_an_error_is_never_not_banned(server: BadServer) -> None:
    client = RegistryClient(server.url, timeout=1)
    for bad, kind in (
        (reply(b"", 500), RegistryUnreachable),
        (reply(b"<html>", kind="text/html"), RegistryAnswerError),
        (endless(), RegistryAnswerError),
        (redirect("https://example.org/"), RegistryAnswerError),
    ):
        server.route(BAN_LIST, bad)
        with pytest.raises(kind):
            client.is_hash_banned(HEX)


def test_health_in_both_spellings(server: BadServer, client: RegistryClient) -> None:
    server.route("/health", answer({"ok": True, "version": "0.2.0"}), answer({"status": "ok"}), answer({"ok": False}))
    assert [(health.ok, health.version) for health in (client.health(), client.health(), client.health())] == [
        (True, "0.2.0"),
        (True, ""),
        (False, ""),
    ]


def test_an_attestation_is_sent_in_the_union_of_the_shapes(server: BadServer, client: RegistryClient) -> None:
    path = f"/api/v1/workers/{WORKER}/attest"
    server.route(path, answer({"id": 7, "worker_id": WORKER, "sha256": HEX.upper()}))
    submission = Submission(WORKER, "wrk.doc.summarizer", "1.4.0", HEX, label="rc", ai_session_fingerprint="f")
    assert client.submit_attestation(submission) == AttestationResponse(WORKER, HEX, id="7")
    sent = json.loads(server.requests[0].body)
    assert server.requests[0].method == "PUT"
    assert sent == {
        "worker_id": WORKER,
        "worker_species_id": "wrk.doc.summarizer",
        "worker_version": "1.4.0",
        "sha256": HEX,
        "package_hash": HEX,
        "label": "rc",
        "ai_generated": False,
        "ai_session_id": "f",
        "ai_session_fingerprint": "f",
    }
    server.route(
        path,
        answer({"worker_id": WORKER, "package_hash": HEX, "namespace": "org.acme", "status": "active"}, 201),
        answer({"worker_id": "org.acme.other", "package_hash": HEX}),
        answer({"worker_id": WORKER, "package_hash": "0" * 64}),
        answer({"worker_id": WORKER}),
        answer({"package_hash": HEX}),
        reply(b"", 204, kind=""),
    )
    assert client.submit_attestation(submission).namespace == "org.acme"
    for _ in range(2):
        with pytest.raises(RegistryAnswerError, match="something else"):
            client.submit_attestation(submission)
    for _ in range(3):
        with pytest.raises(RegistryAnswerError, match="does not say"):
            client.submit_attestation(submission)
    with pytest.raises(ConfigError):
        Submission("wrk.doc.summarizer", "s", "1", HEX)
    with pytest.raises(ConfigError):
        Submission(WORKER, "s", "", HEX)
    with pytest.raises(ConfigError):
        Submission(WORKER, "s", "1", "x")


def test_what_was_submitted_is_not_answered_from_before(server: BadServer, client: RegistryClient) -> None:
    server.route(VERIFY, answer(ACTIVE), answer({**ACTIVE, "current_hash": "0" * 64}))
    server.route(f"/api/v1/workers/{WORKER}/attest", answer({"worker_id": WORKER, "sha256": "0" * 64}))
    assert client.get_worker_hash(WORKER) == HEX
    client.submit_attestation(Submission(WORKER, "wrk.x.y", "1", "0" * 64))
    assert client.get_worker_hash(WORKER) == "0" * 64


def test_a_report_is_sent(server: BadServer, client: RegistryClient) -> None:
    server.route("/api/v1/ban-list/report", answer({"status": "pending"}, 202))
    assert client.report_hash("SHA256:" + HEX.upper(), "steals", "https://x.example/1") == {"status": "pending"}
    assert json.loads(server.requests[0].body) == {
        "sha256": HEX,
        "reason": "steals",
        "evidence_url": "https://x.example/1",
    }
    for bad in ("", " ", "x" * 2001, "not UTF-8: \udcff"):
        with pytest.raises(ConfigError):
            client.report_hash(HEX, bad)


def test_counts_are_sent_only_when_asked_for(server: BadServer, client: RegistryClient) -> None:
    server.route("/api/v1/telemetry/decisions", reply(b"", 500), reply(b"", 204))
    client.record_decision(WORKER)
    assert client.flush_decisions() == 0
    assert server.requests == []
    told = RegistryClient(server.url, telemetry=True)
    for _ in range(3):
        told.record_decision(WORKER)
    with pytest.raises(RegistryUnreachable):
        told.flush_decisions()
    told.record_decision("x.me.worker")
    assert told.flush_decisions() == 4
    assert json.loads(server.requests[-1].body) == {
        "decisions": [{"worker_id": WORKER, "count": 3}, {"worker_id": "x.me.worker", "count": 1}]
    }
    assert told.flush_decisions() == 0
    with pytest.raises(ConfigError):
        told.record_decision("wrk.doc.summarizer")


def test_prefetch_fills_what_later_questions_are_answered_from(server: BadServer, client: RegistryClient) -> None:
    server.route(VERIFY, answer(ACTIVE))
    server.route("/api/v1/verify/x.me.worker", answer({"status": "revoked"}))
    assert {name: found.status for name, found in client.prefetch([WORKER, "x.me.worker"]).items()} == {
        WORKER: "active",
        "x.me.worker": "revoked",
    }
    assert client.get_worker_hash(WORKER) == HEX
    assert len(server.requests) == 2
    server.route("/api/v1/verify/x.me.worker", reply(b"", 500))
    with pytest.raises(RegistryUnreachable):
        client.prefetch([WORKER, "x.me.worker"])


class TestTokens:
    def test_they_go_to_https_only(self, server: BadServer, tmp_path: Path) -> None:
        for credentials in (Credentials("t"), Credentials(session_token="s")):
            with pytest.raises(ConfigError, match="plain http"):
                RegistryClient(server.url, credentials=credentials)
        certificates = Certificates.make(tmp_path)
        with BadServer(certificates) as secure:
            secure.route(VERIFY, answer(ACTIVE))
            for credentials in (Credentials("t", "s"), Credentials(session_token="s"), Credentials()):
                client = RegistryClient(secure.url, credentials=credentials, ca_file=certificates.authority)
                client.verify(WORKER)
            seen = [(each.headers.get("authorization"), each.headers.get("cookie")) for each in secure.requests]
            assert seen == [("Bearer t", None), (None, "pyhall_session=s"), (None, None)]

    def test_they_are_not_taken_to_another_host(self, tmp_path: Path) -> None:
        certificates = Certificates.make(tmp_path)
        with BadServer(certificates) as home, BadServer(certificates) as away:
            home.route(VERIFY, redirect(away.url + VERIFY))
            away.route(VERIFY, answer(ACTIVE))
            client = RegistryClient(home.url, credentials=Credentials("t"), ca_file=certificates.authority)
            with pytest.raises(RegistryAnswerError, match="not followed"):
                client.verify(WORKER)
            assert away.requests == []

    @pytest.mark.parametrize("bad", ["", "a b", "a\r\nX-Evil: 1", "ü", "x" * 8193])
    def test_odd_ones_are_refused_and_not_repeated_in_the_message(self, bad: str) -> None:
        for field in ("bearer_token", "session_token"):
            with pytest.raises(ConfigError) as caught:
                Credentials(**{field: bad})
            assert not bad or bad not in str(caught.value)


def test_where_the_registry_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYHALL_REGISTRY_URL", raising=False)
    assert RegistryClient().base_url == DEFAULT_URL
    monkeypatch.setenv("PYHALL_REGISTRY_URL", "https://r.example/base/")
    assert RegistryClient().base_url == "https://r.example/base"
    assert RegistryClient("https://q.example").base_url == "https://q.example"
    for bad in ("http://r.example", "", "r.example", "https://r.example/?x"):
        with pytest.raises(ConfigError):
            RegistryClient(bad)
    for timeout in (0, -1, 601):
        with pytest.raises(ConfigError):
            RegistryClient("https://q.example", timeout=timeout)


def test_many_threads_share_one_client(server: BadServer, client: RegistryClient) -> None:
    server.route(VERIFY, answer(ACTIVE))
    told = RegistryClient(server.url, telemetry=True, cache_ttl=0.01)
    server.route("/api/v1/telemetry/decisions", reply(b"", 204))
    found: list[str | None] = []

    def work() -> None:
        for _ in range(25):
            found.append(told.get_worker_hash(WORKER))
            told.record_decision(WORKER)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [HEX] * 200
    assert told.flush_decisions() == 200


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["active", "banned", HEX]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["worker_id", "status", "banned", "bans", "next", "sha256", "total"]), inner)
    ),
    max_leaves=12,
)


@given(ANY_JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    for read in (
        lambda: Page.from_bytes(body),
        lambda: VerifyResponse.from_json(parse_object(body), WORKER),
        lambda: AttestationResponse.from_json(parse_object(body), Submission(WORKER, "s", "1", HEX)),
    ):
        try:
            read()
        except RegistryError:
            continue
