"""The registry as the earlier Python client calls it: its headers and shapes by hand, and the client where it is.

`python -m benchmarks.route` installs the published client below build/; it is not a dependency of the tests.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.installed import BUILD
from tests.service.world import WORKER, World, token

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("registry"), open_to_all=["standing", "bans"])
    pair = {
        name: base64.b64encode((Path(made.package) / file).read_bytes()).decode()
        for name, file in (("manifest", "manifest.json"), ("signatures", "manifest.sig"))
    }
    assert made("PUT", f"/api/v1/workers/{WORKER}/attest", "paul", pair).status_code == 200
    yield made
    made.close()


def ask(world: World, path: str, body: Any = None, session: str | None = None) -> Any:
    headers = {"Accept": "application/json", "User-Agent": "pyhall-python/0.2.2"}
    headers |= {"Cookie": f"pyhall_session={session}"} if session else {}
    data = None if body is None else json.dumps(body).encode()
    headers |= {} if data is None else {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(world.base + path, data, headers), timeout=30) as answer:
        return json.loads(answer.read())


def test_it_reads_standings_bans_and_health(registry: World) -> None:
    assert ask(registry, f"/api/v1/verify/{WORKER}")["status"] == "active"
    assert ask(registry, "/api/v1/verify/org.acme.nobody")["status"] == "unknown"
    assert [row["sha256"] for row in ask(registry, "/api/v1/ban-list?limit=500")] == [registry.banned]
    assert ask(registry, "/health")["ok"] is True


def test_it_reports_with_its_cookie_and_the_cookie_opens_nothing_else(registry: World) -> None:
    body = {"sha256": "cd" * 32, "reason": "odd"}
    assert ask(registry, "/api/v1/ban-list/report", body, token("rita"))["review_status"] == "pending"
    for path, session in (("/api/v1/ban-list/report", "wrong"), ("/wcp/route", token("acme"))):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(registry, path, body, session)
    assert registry("GET", "/receipts", headers={"cookie": f"pyhall_session={token('rita')}"}).status_code == 401


def test_it_never_gets_a_part_of_the_bans(registry: World) -> None:
    for limit in ("0", "x", "-1", "9999999999"):
        with pytest.raises(urllib.error.HTTPError, match="422"):
            ask(registry, f"/api/v1/ban-list?limit={limit}")


def test_the_published_client_works(registry: World) -> None:
    folder = Path(BUILD) / "earlier"
    if not (folder / "pyhall").is_dir():
        pytest.skip("the earlier client itself was NOT run: `python -m benchmarks.route` installs it below build/")
    sys.path.append(str(folder))
    try:
        client = importlib.import_module("pyhall.registry_client").RegistryClient(
            registry.base, session_token=token("rita")
        )
    finally:
        sys.path.remove(str(folder))
    assert client.verify(WORKER).status == "active"
    assert client.get_worker_hash(WORKER)
    assert client.is_hash_banned(registry.banned) is True
    assert client.report_hash("ef" * 32, "odd") is None
