"""How the service behaves when it is busy, told to stop, or cannot write; who may approve; what its log says."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.bubblewrap import bubblewrap
from tests.service.test_deploy_files import start
from tests.service.world import HELD, SCRIPT, World, a_request, ask, demo
from wcp_route.service.demo import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60
KEYS = {"id", "principal", "method", "path", "status", "outcome", "code", "ms"}


class Asking(threading.Thread):
    """A request in progress, which waits for the ledger."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.world = world
        self.answer: httpx.Response | None = None

    def run(self) -> None:
        self.answer = self.world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4())))


@contextmanager
def locked(world: World) -> Iterator[sqlite3.Connection]:
    """Another program holds the ledger's lock, so that no receipt can be stored."""
    with closing(sqlite3.connect(world.address, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def until(found: Any) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def refusal(world: World) -> httpx.Response | None:
    """Ask something small; return the answer when there is no place for it."""
    answer = world("GET", "/wcp/health")
    return None if answer.status_code == 200 else answer


def test_a_full_queue_is_429_with_a_time_to_come_again(tmp_path: Path) -> None:
    world = World(tmp_path, concurrent=1, waiting=0)
    with locked(world) as other:
        first = Asking(world)
        first.start()
        refused = until(lambda: refusal(world))
        assert world("GET", "/healthz").status_code == 200  # who is busy is alive
        other.execute("ROLLBACK")
    first.join(SECONDS)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "busy", "1")
    assert first.answer is not None
    assert (first.answer.status_code, first.answer.json()["outcome"]) == (200, "DISPATCH")
    assert world("GET", "/healthz").status_code == 200
    world.close()


def test_a_stop_finishes_the_request_in_progress_and_begins_no_other(tmp_path: Path) -> None:
    world = World(tmp_path, concurrent=1, waiting=0)
    with httpx.Client(base_url=world.base, timeout=SECONDS) as kept, locked(world) as other:
        assert kept.get("/healthz").status_code == 200
        first = Asking(world)
        first.start()
        until(lambda: refusal(world))
        world.server.stop()
        until(lambda: is_over(kept))
        assert first.is_alive()
        other.execute("ROLLBACK")
    first.join(SECONDS)
    assert first.answer is not None
    assert (first.answer.status_code, first.answer.json()["outcome"]) == (200, "DISPATCH")
    world.thread.join(SECONDS)
    assert not world.thread.is_alive()
    assert world.state.receipts.state().seq > 0  # the state was left open for its owner
    world.close()


def is_over(client: httpx.Client) -> bool:
    """Tell whether the service answers nothing new: 503, or no connection."""
    try:
        return client.get("/healthz").status_code == 503
    except httpx.TransportError:
        return True


@pytest.mark.parametrize(
    ("who", "says"),
    [("eve", "asked for it"), ("enroller", "enrolled"), ("adam", "level")],
)
def test_rejects_an_approval_by_requester_enroller_or_a_lower_level(world: World, who: str, says: str) -> None:
    asker = "eve" if who == "eve" else "acme"
    body = a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()), tenant_id=asker)
    pending = world("POST", "/wcp/route", asker, body).json()["pending_approval_id"]
    answer = {"pending_approval_id": pending, "decision": "approve", "reason": "fine", "level": "incident_commander"}
    refused = world("POST", "/wcp/approvals/resolve", who, answer)
    assert refused.status_code in {403, 409}, refused.text
    assert says in refused.json()["detail"]
    assert world("GET", f"/wcp/approvals/{pending}", asker).json()["state"] == "pending"


def test_rejects_a_second_answer_to_a_hold(world: World) -> None:
    body = a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))
    pending = world("POST", "/wcp/route", "acme", body).json()["pending_approval_id"]
    for decision, status in (("deny", 200), ("approve", 409), ("deny", 409)):
        answer = {"pending_approval_id": pending, "decision": decision, "reason": "seen"}
        assert world("POST", "/wcp/approvals/resolve", "ada", answer).status_code == status
    assert world("GET", f"/wcp/approvals/{pending}", "acme").json()["state"] == "denied"


def test_the_log_is_one_json_line_a_request_and_escapes_what_a_caller_sent(tmp_path: Path) -> None:
    with demo(tmp_path / "hall") as started:
        base, _, tokens = started.begun()
        ask(base, tokens["platform"], "cap.doc.summarize")
        ask(base, tokens["platform"], "cap.no.such")
        httpx.get(f"{base}/wcp/workers/a%0d%0a%7b%22id%22%3a1%7d%1b%5b31m", timeout=SECONDS)
        started.process.terminate()
        _, said = started.process.communicate(timeout=SECONDS)
    assert said.isascii()
    rows = [json.loads(line) for line in said.splitlines()]
    assert [row.keys() for row in rows] == [KEYS] * 3
    assert [tuple(row[name] for name in ("principal", "status", "outcome", "code")) for row in rows] == [
        ("platform", 200, "DISPATCH", None),
        ("platform", 200, "DENY", "DENY_NO_MATCHING_RULE"),
        (None, 401, None, "unauthenticated"),
    ]
    assert not any(value in said for value in tokens.values())


def test_a_log_that_nobody_takes_stops_neither_answers_nor_the_end(tmp_path: Path) -> None:
    with demo(tmp_path / "hall") as started:  # it is ended as an operator does, with status 0
        base, _, _ = started.begun()
        with httpx.Client(base_url=base, timeout=SECONDS) as client:
            for _ in range(600):  # more lines than a pipe takes
                assert client.get("/healthz").status_code == 200
        assert started.process.stderr is not None
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(SECONDS) == 0


def test_a_full_disk_denies_and_readiness_says_why(tmp_path: Path) -> None:
    bwrap = bubblewrap("a full disk")
    tokens, folder = make(str(tmp_path / "hall")), tmp_path / "hall"
    settings = (folder / "hall.toml").read_text().replace('"hall.db"', '"small/hall.db"')
    (folder / "hall.toml").write_text(settings)
    (folder / "small").mkdir()
    sandbox = [bwrap, "--die-with-parent", "--bind", "/", "/", "--dev", "/dev"]
    sandbox += ["--size", str(1 << 20), "--tmpfs", str(folder / "small")]
    words = f'cp "{folder}/hall.db" "{folder}/small/" && exec "{SCRIPT}" serve --config "{folder}/hall.toml"'
    base, process = start([*sandbox, "sh", "-c", f"{words} --listen 127.0.0.1:0"], tmp_path)
    try:
        for _ in range(3000):
            decision = ask(base, tokens["platform"], "cap.doc.summarize")
            if decision["outcome"] != "DISPATCH":
                break
        assert (decision["denied"], decision["deny_reason_if_denied"]["code"]) == (True, "DENY_RECEIPT_UNAVAILABLE")
        ready = httpx.get(f"{base}/readyz", timeout=SECONDS)
        assert (ready.status_code, ready.json()["missing"].keys()) == (503, {"receipts"})
        assert httpx.get(f"{base}/healthz", timeout=SECONDS).status_code == 200
    finally:
        process.terminate()  # of the sandbox; the service inside ends with it
        process.wait(SECONDS)
        assert process.stderr is not None
        process.stderr.close()
