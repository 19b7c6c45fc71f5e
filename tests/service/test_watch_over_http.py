"""`wcp-route watch --hall`: a person at a terminal, a Hall on loopback, and servers that are no Hall or a bad one."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_http import (
    BadServer,
    Certificates,
    cut,
    drip,
    endless,
    hang,
    many_headers,
    raw,
    redirect,
    reply,
    reset,
    silent_close,
)
from tests.route.test_watch import Screen
from tests.service.world import HELD, a_request, token
from wcp_route.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bad_http import Answer
    from tests.service.world import World

OTHER = "org.acme.other"
PENDING, BARRED = "/wcp/approvals/pending", "/admin/quarantine"


@pytest.fixture(autouse=True)
def _no_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WCP_ROUTE_STATE", "/nowhere/hall.db")  # `--hall` needs none of them
    monkeypatch.setenv("WCP_ROUTE_CONFIG", "/nowhere/hall.toml")


@pytest.fixture
def token_files(tmp_path: Path) -> Path:
    for name in ("acme", "ada", "bot", "olga", "rita"):
        (tmp_path / name).write_text(token(name) + "\n")
    return tmp_path


def watch(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["watch", *arguments])
    found = capsys.readouterr()
    return status, found.out, found.err


def held(world: World) -> dict[str, Any]:
    asked = a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))
    found: dict[str, Any] = world("POST", "/wcp/route", "acme", asked).json()
    return {"asked": asked, "pending_id": found["pending_approval_id"]}


def test_a_person_approves_in_the_terminal_and_the_requester_finds_the_grant(world: World, token_files: Path) -> None:
    hold = held(world)
    screen = Screen("--hall", world.base, "--token-file", str(token_files / "ada"), "--interval", "0.2")
    shown = screen.until("q quit")
    assert hold["pending_id"][:8] in shown
    assert f"{HELD} for acme" in shown
    while f"> {hold['pending_id'][:8]}" not in shown:  # the newest of several holds is the last
        screen.press("j")
        shown = screen.until("q quit")
    screen.press("a")
    screen.until(f"approve {hold['pending_id']}; the reason")
    screen.press("seen the ticket\r")
    screen.until(" is approved")
    screen.press("q")
    assert screen.end() == 0
    grant = world("GET", f"/wcp/approvals/{hold['pending_id']}", "acme").json()["grant"]
    done = world("POST", "/wcp/route", "acme", hold["asked"], headers={"x-wcp-grant": grant}).json()
    assert done["outcome"] == "DISPATCH"
    receipt = world("GET", "/receipts?kind=approval.approved&limit=1", "rita").json()["receipts"][0]["receipt"]
    assert (receipt["by"], receipt["reason"]) == ("ada", "seen the ticket")


def test_an_operator_clears_a_worker_and_cannot_approve(world: World, token_files: Path) -> None:
    held(world)
    world("PUT", f"/admin/quarantine/{OTHER}", "olga", {"reason": "odd"})
    held_again = world("GET", PENDING, "olga").json()["count"]
    screen = Screen("--hall", world.base, "--token-file", str(token_files / "olga"), "--interval", "0.2")
    screen.until("q quit")
    screen.press("\x1b[B" * held_again)  # faster than they are read
    screen.until(f"> {OTHER}")
    screen.press("a\x1b[B")  # not for a worker
    screen.press("\x1b[A\x1b[B")
    screen.until(f"> {OTHER}")
    screen.press("\x1b[Bc")
    screen.until(f"clear {OTHER}; the reason")
    screen.press("looked at it\r")
    screen.until(f"{OTHER} is cleared")
    screen.until("a approve")  # the worker is gone, so a request is chosen
    screen.press("d")
    screen.until("; the reason")
    screen.press("no\r")
    screen.until("not done: this needs the role approver")
    screen.press("q")
    assert screen.end() == 0
    assert world("GET", BARRED, "rita").json()["quarantined"] == []
    receipt = world("GET", "/receipts?kind=worker.cleared&limit=1", "rita").json()["receipts"][0]["receipt"]
    assert (receipt["by"], receipt["reason"]) == ("olga", "looked at it")


def test_an_agents_token_and_a_hold_that_is_gone_are_refused_in_the_halls_words(
    world: World, token_files: Path
) -> None:
    hold = held(world)
    screen = Screen("--hall", world.base, "--token-file", str(token_files / "bot"), "--interval", "3600")
    screen.until("q quit")
    screen.press("a")
    screen.until("; the reason")
    screen.press("x\r")
    screen.until("not done: only a person with a level of approval answers a hold")
    screen.press("q")
    assert screen.end() == 0
    denied = {"decision": "deny", "reason": "no"}
    for one in world("GET", PENDING, "ada").json()["pending"]:
        if one["pending_approval_id"] != hold["pending_id"]:
            world(
                "POST", "/wcp/approvals/resolve", "ada", {"pending_approval_id": one["pending_approval_id"], **denied}
            )
    screen = Screen("--hall", world.base, "--token-file", str(token_files / "ada"), "--interval", "3600")
    screen.until("q quit")
    world("POST", "/wcp/approvals/resolve", "ada", {"pending_approval_id": hold["pending_id"], **denied})
    screen.press("a")
    screen.until("; the reason")
    screen.press("late\r")
    screen.until("not done: ")
    screen.press("q")
    assert screen.end() == 0


def test_a_pipe_gets_one_screen_with_what_the_token_may_see(
    world: World, token_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held(world)
    at = ("--hall", world.base + "/", "--token-file")
    status, out, _ = watch(capsys, *at, str(token_files / "ada"), "--decisions", "2")
    assert (status, "STEWARD_HOLD" in out, HELD in out) == (0, True, True)
    status, out, _ = watch(capsys, *at, str(token_files / "rita"))
    assert (status, "this needs the role approver or operator" in out, "STEWARD_HOLD" in out) == (0, True, True)
    status, out, err = watch(capsys, *at, str(token_files / "acme"))
    assert (status, out) == (2, "")
    assert "shows nothing to this token: this needs the role" in err


def test_a_wrong_token_is_told_and_never_shown(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong").write_text("some-secret-of-mine")
    status, out, err = watch(capsys, "--hall", world.base, "--token-file", str(tmp_path / "wrong"))
    assert (status, out) == (2, "")
    assert "send a valid token" in err
    assert "secret" not in err
    assert watch(capsys, "--hall", world.base)[0] == 2  # no token at all


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("two words", "line breaks or characters beyond ASCII"),
        ("a\nb: c", "line breaks or characters beyond ASCII"),
        ("é", "line breaks or characters beyond ASCII"),
        ("x" * 9000, "is larger"),
        (None, "cannot read the token file"),
    ],
)
def test_rejects_a_token_file_that_holds_no_token(
    content: str | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "t").write_text(content)
    with BadServer() as server:
        status, _, err = watch(capsys, "--hall", server.url, "--token-file", str(tmp_path / "t"))
        assert (status, server.requests) == (2, [])
    assert why in err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--hall", "http://192.0.2.1:7777"), "plain http"),
        (("--hall", "ftp://localhost"), "not an https URL"),
        (("--hall", "https://user:pw@localhost"), "must not carry a user"),
        (("--hall", "http://localhost:1?x=1"), "must not carry a query"),
        (("--hall", "http://localhost:1", "--by", "eve"), "leave out --by"),
        (("--hall", "http://localhost:1", "--authority", "executor"), "leave out --authority"),
        (("--hall", "http://localhost:1", "--state", "hall.db"), "leave out --state"),
        (("--hall", "http://localhost:1", "--config", "hall.toml"), "leave out --config"),
        (("--hall", "http://localhost:1", "--receipt-key", "k"), "leave out --receipt-key"),
        (("--hall", "http://localhost:1", "--token-file", "-"), "name a file"),
        (("--state", "hall.db", "--token-file", "t"), "leave out --token-file"),
        (("--state", "hall.db", "--ca-file", "t"), "leave out --ca-file"),
        (("--hall", "https://localhost:1", "--ca-file", "/nowhere/ca.pem"), "/nowhere/ca.pem"),
        (("--hall", "http://127.0.0.1:1"), "cannot be reached"),
    ],
)
def test_rejects_arguments_that_do_not_go_together(
    arguments: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WCP_ROUTE_CONFIG")
    (tmp_path / "hall.db").write_bytes(b"")
    status, out, err = watch(capsys, *arguments)
    assert (status, out) == (2, "")
    assert why in err
    assert len(err.splitlines()) == 1


def rows(**changes: Any) -> bytes:
    row = {
        "pending_approval_id": "p-1", "supervisor_level": "gatekeeper", "worker_id": "org.acme.x", "reason": "money",
        "capability_id": "cap.x", "tenant_id": "acme", "approval_expires_at_ms": 4_000_000_000_000,
    }  # fmt: skip
    return json.dumps({"pending": [row | changes]}).encode()


def good(server: BadServer) -> None:
    server.route(BARRED, reply(b'{"quarantined": []}'))
    server.route("/receipts", reply(b'{"receipts": []}'))


HOSTILE: dict[str, Answer] = {
    "no JSON": reply(b"<html>"),
    "another type": reply(b"{}", kind="text/html"),
    "no list": reply(b'{"pending": {}}'),
    "a list of numbers": reply(b'{"pending": [1]}'),
    "an array": reply(b"[]"),
    "a name twice": reply(b'{"pending": [], "pending": []}'),
    "half a surrogate": reply(b'{"pending": [], "x": "\\ud800"}'),
    "not UTF-8": reply(b'{"pending": ["\xff"]}'),
    "too deep": reply(b'{"pending": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "an id that is no text": reply(rows(pending_approval_id=7)),
    "a time that is none": reply(rows(approval_expires_at_ms="soon")),
    "a time of the year 300,000": reply(rows(approval_expires_at_ms=10**16)),
    "a time before all": reply(rows(approval_expires_at_ms=-1)),
    "true for a time": reply(rows(approval_expires_at_ms=True)),
    "a reason that is a list": reply(rows(reason=["x"])),
    "not changed, unasked": reply(b"", 304),
    "no content": reply(b"", 204),
    "nothing there": reply(b"nothing", 404, "text/plain"),
    "another server": redirect("http://localhost:9/wcp/approvals/pending"),
    "in a circle": redirect(PENDING),
    "without end": endless(),
    "promised too large": cut(b"{}", declared=1 << 40),
    "cut short": cut(b'{"pend', declared=100),
    "many headers": many_headers(20_000),
    "no HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "closed": silent_close(),
    "reset": reset(),
    "compressed": reply(b"x", headers={"Content-Encoding": "gzip"}),
    "busy for an hour": reply(b"", 429, headers={"Retry-After": "3600"}),
    "fails": reply(b"", 500),
    "one byte at a time": drip(rows(), pause=0.5),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_is_one_line_and_status_2(
    kind: str, token_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    with BadServer() as server:
        good(server)
        server.route(PENDING, HOSTILE[kind])
        status, out, err = watch(capsys, "--hall", server.url, "--token-file", str(token_files / "ada"))
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: [ -~]+\n", err), err
    assert token("ada") not in err
    assert time.monotonic() - started < 30


def test_a_refusal_in_words_of_a_hostile_server_is_escaped_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    said = json.dumps({"detail": "\x1b[2J\n" + "x" * 5000}).encode()
    with BadServer() as server:
        good(server)
        server.route(PENDING, reply(said, 403, "application/problem+json"))
        status, out, _ = watch(capsys, "--hall", server.url)
    assert (status, "\x1b" in out, max(map(len, out.splitlines())) <= 500) == (0, False, True)
    assert "\\x1b[2J\\n" in out


def test_what_a_hall_shows_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bad = "\x1b]0;owned\x07\x9b2J\u202e\r\n  > fake"
    with BadServer() as server:
        good(server)
        server.route(PENDING, reply(rows(pending_approval_id=bad, reason=bad, worker_id=bad, tenant_id=bad)))
        receipt = {"receipt": {"outcome": bad, "worker_id": bad, "deny_code": 7, "decision_id": None}}
        server.route("/receipts", reply(json.dumps({"receipts": [receipt]}).encode()))
        status, out, _ = watch(capsys, "--hall", server.url)
    assert status == 0
    assert not set("\x1b\x07\x9b\u202e\r") & set(out)
    assert not any(line.startswith("  > fake") for line in out.splitlines())


def test_a_certificate_of_a_stranger_is_refused_and_one_of_a_named_authority_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificates = Certificates.make(tmp_path)
    with BadServer(certificates) as server:
        good(server)
        server.route(PENDING, reply(rows()))
        status, _, err = watch(capsys, "--hall", server.url)
        assert (status, "certificate verify failed" in err.lower(), server.requests) == (2, True, [])
        assert watch(capsys, "--hall", server.url, "--ca-file", str(certificates.authority))[0] == 0


def test_what_has_not_changed_is_not_sent_again(token_files: Path) -> None:
    with BadServer() as server:
        good(server)
        server.route(PENDING, reply(rows(), headers={"ETag": '"one"'}), reply(b"", 304), reply(rows(reason="later")))
        screen = Screen("--hall", server.url, "--token-file", str(token_files / "ada"), "--interval", "0.2")
        screen.until("money")
        screen.until("later")
        screen.press("q")
        assert screen.end() == 0
        asked = [one.headers.get("if-none-match") for one in server.requests if one.path == PENDING]
        assert asked[:3] == [None, '"one"', '"one"']
        assert {one.headers["authorization"] for one in server.requests} == {f"Bearer {token('ada')}"}


def test_a_hall_that_hangs_keeps_no_key_waiting_and_its_screen_says_how_old_it_is() -> None:
    with BadServer() as server:
        good(server)
        server.route(PENDING, reply(rows()), silent_close(), silent_close(), silent_close(), hang())
        screen = Screen("--hall", server.url, "--interval", "0.2")
        screen.until("q quit")
        screen.until("NOT REFRESHED since then: ")
        started = time.monotonic()
        screen.press("a")
        screen.until("approve p-1; the reason")
        screen.press("\x1b")
        screen.until("nothing was answered")
        screen.press("q")
        assert screen.end() == 0
        assert time.monotonic() - started < 4.5  # less than the time that a look may take


def test_an_answer_whose_fate_is_unknown_is_not_called_refused() -> None:
    with BadServer() as server:
        good(server)
        server.route(PENDING, reply(rows()))
        server.route("/wcp/approvals/resolve", silent_close())
        screen = Screen("--hall", server.url, "--interval", "3600")
        screen.until("q quit")
        screen.press("a")
        screen.until("the reason")
        screen.press("yes\r")
        screen.until("it may have been done: see whether it still waits")
        screen.press("q")
        assert screen.end() == 0
        assert sum(one.path == "/wcp/approvals/resolve" for one in server.requests) == 1  # never sent twice
