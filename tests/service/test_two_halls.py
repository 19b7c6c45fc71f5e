"""Two services on one PostgreSQL, directly and through a pooler; and an older database that somebody put back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.service.world import SCRIPT, Demo, ask
from wcp_route.service.demo import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.route.postgresql import PostgresServer

WORKER = "org.demo.summarizer"


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [str(SCRIPT), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[Demo, str]]:
    words = [str(SCRIPT), "serve", "--config", str(folder / "hall.toml"), "--listen", "127.0.0.1:0", *more]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Demo(process), Demo(process).address()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()


class Two:
    """Two services on one database, and who asks them."""

    def __init__(self, folder: Path, tokens: dict[str, str], state: str, first: str, second: str) -> None:
        self.folder, self.tokens, self.state = folder, tokens, state
        self.first, self.second = first, second

    def route(self, base: str, capability: str, **headers: str) -> Any:
        return ask(base, self.tokens["platform"], capability, **headers)

    def as_ada(self, method: str, base: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens['ada']}"}
        return httpx.request(method, base + path, headers=headers, json=body, timeout=30)


@pytest.fixture(params=["directly", "through a pooler"])
def halls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Two, Demo]]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    port = 5432 if request.param == "directly" else request.getfixturevalue("pooler_port")
    tokens, folder = make(str(tmp_path / "hall")), tmp_path / "hall"
    state = server.address(server.database(), port)
    copied = command(folder, "backup", state, "--state", "hall.db")
    assert copied.returncode == 0, copied.stderr
    with ExitStack() as stack:
        one, first = stack.enter_context(serving(folder, "--state", state, "--pairs", str(tmp_path / "a")))
        _, second = stack.enter_context(serving(folder, "--state", state, "--pairs", str(tmp_path / "b")))
        yield Two(folder, tokens, state, first, second), one


def test_two_halls_on_one_database_are_one_hall(halls: tuple[Two, Demo]) -> None:
    two, one = halls
    platform = {"authorization": f"Bearer {two.tokens['platform']}"}
    # Asked at the first, approved at the second, fetched at the first, redeemed at the second, and only once.
    correlation = "6f0c1f0e-6d5a-4a0e-9f57-0c7a6c1e7b11"
    held = two.route(two.first, "cap.pay.transfer", correlation_id=correlation)
    body = {"pending_approval_id": held["pending_approval_id"], "decision": "approve", "reason": "seen"}
    assert two.as_ada("POST", two.second, "/wcp/approvals/resolve", body).json()["state"] == "approved"
    place = f"/wcp/approvals/{held['pending_approval_id']}"
    grant = httpx.get(two.first + place, headers=platform, timeout=30).json()["grant"]
    redeemed = two.route(two.second, "cap.pay.transfer", correlation_id=correlation, grant=grant)
    assert redeemed["outcome"] == "DISPATCH"
    assert two.route(two.first, "cap.pay.transfer", correlation_id=correlation, grant=grant)["outcome"] != "DISPATCH"
    # A quarantine at one is in force at the other with its next decision.
    told = two.as_ada("PUT", two.first, f"/admin/quarantine/{WORKER}", {"reason": "odd"})
    assert told.status_code == 200
    assert two.route(two.second, "cap.doc.summarize")["denied"] is True
    assert two.as_ada("DELETE", two.second, f"/admin/quarantine/{WORKER}").status_code == 204
    answered = [two.route(base, "cap.doc.summarize") for base in (two.first, two.second) * 10]
    # One is killed; the other goes on, and no answered receipt is lost.
    one.process.kill()
    one.process.wait(60)
    answered += [two.route(two.second, "cap.doc.summarize") for _ in range(5)]
    assert {row["outcome"] for row in answered} == {"DISPATCH"}
    checked = command(two.folder, "receipts", "verify", "--state", two.state, "--key", "receipts.key.pub")
    assert checked.returncode == 0, checked.stderr
    for row in answered:
        assert two.as_ada("GET", two.second, f"/receipts/{row['decision_id']}").status_code == 200


@pytest.mark.parametrize("halls", ["directly"], indirect=True)
def test_a_database_that_is_gone_is_a_denial_and_no_crash(halls: tuple[Two, Demo], request: Any) -> None:
    two, _ = halls
    server: PostgresServer = request.getfixturevalue("postgres_server")
    assert two.route(two.first, "cap.doc.summarize")["outcome"] == "DISPATCH"
    name = two.state.split("@/")[1].split("?")[0]
    server.execute(
        "postgres",
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    denied = two.route(two.first, "cap.doc.summarize")
    assert denied["outcome"] == "DENY", denied
    ready = httpx.get(two.first + "/readyz", timeout=60)
    assert (ready.status_code, "database" in ready.json()["missing"]) == (503, True)
    answer = two.as_ada("GET", two.first, "/wcp/workers")
    assert (answer.status_code, answer.json()["code"]) == (503, "state-unusable")
    assert str(server.folder) not in answer.text + ready.text
    server.execute("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    until = time.monotonic() + 60
    while two.route(two.first, "cap.doc.summarize")["outcome"] != "DISPATCH":
        assert time.monotonic() < until
        time.sleep(1)


def test_an_older_database_put_back_is_refused(tmp_path: Path) -> None:
    tokens, folder = make(str(tmp_path / "hall")), tmp_path / "hall"
    shutil.copy(folder / "hall.db", tmp_path / "older.db")
    with serving(folder) as (_, base):
        assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
        ada = {"authorization": f"Bearer {tokens['ada']}"}
        (tmp_path / "head").write_bytes(httpx.get(f"{base}/receipts/head", headers=ada, timeout=30).content)
    with serving(folder, "--head", str(tmp_path / "head")):
        pass
    for leftover in folder.glob("hall.db-*"):
        leftover.unlink()
    shutil.copy(tmp_path / "older.db", folder / "hall.db")
    (folder / "hall.db").chmod(0o600)
    done = command(
        folder, "serve", "--config", "hall.toml", "--listen", "127.0.0.1:0", "--head", str(tmp_path / "head")
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "head" in done.stderr
