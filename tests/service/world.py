"""A Hall that listens on loopback in a thread of the test, with a principal for each role."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.route.worlds import CAPABILITY, WORKER, a_record, a_request, a_rule, make_package, trust
from wcp_attest.bans import BanList, Head, Kind, make_ban
from wcp_attest.signing.key import generate
from wcp_route.config import HallConfig
from wcp_route.domain.record_model import read_record
from wcp_route.hall import Hall, Services
from wcp_route.service.server import Server
from wcp_route.service.settings import read_service
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.strictjson import JsonValue

TOKENS: dict[str, dict[str, Any]] = {
    "acme": {"roles": ["router"]},
    "other": {"roles": ["router"]},
    "ada": {"roles": ["approver", "reader"], "level": "gatekeeper"},
    "adam": {"roles": ["approver"], "level": "advisory"},
    "enroller": {"roles": ["approver"], "level": "incident_commander"},
    "eve": {"roles": ["router", "approver"], "level": "incident_commander"},
    "bot": {"roles": ["approver", "reader"], "level": "gatekeeper", "agent": True},
    "olga": {"roles": ["operator", "reader"]},
    "paul": {"roles": ["publisher"], "namespaces": ["org.acme"]},
    "rita": {"roles": ["reader"]},
}
HELD = "cap.doc.delete"
SCRIPT = Path(sys.executable).with_name("wcp-route")


def token(name: str) -> str:
    return f"token-of-{name}"


class World:
    """A running service."""

    def __init__(self, folder: Path, *, signed: bool = True, **table: Any) -> None:

        self.folder, signer = folder, generate()
        self.package = make_package(folder / "worker", signer)
        rows = [
            {"name": name, "sha256": [sha256(token(name).encode()).hexdigest()], **facts}
            for name, facts in TOKENS.items()
        ]
        asked: Any = {"listen": "127.0.0.1:0", "token": rows, "ban_lists": {"soc": str(folder / "bans.json")}, **table}
        self.settings = read_service(asked)
        self.address = str(folder / "hall.db")
        self.banned = "ab" * 32
        head = Head("acme-soc", 1, 1_780_000_000, 4_000_000_000)
        about = {"reason": "stolen", "source": "acme-soc", "banned_at": "2026-11-01T00:00:00Z"}
        bans = [make_ban(Kind.PACKAGE, f"sha256:{self.banned}", **about), make_ban(Kind.WORKER, "org.acme.x", **about)]
        (folder / "bans.json").write_bytes(BanList.make(head, bans).to_bytes())
        key = KeyFileSigner.from_file_bytes(generate().to_pem(None), what="receipt key")
        self.state = open_state(self.address, signer=key if signed else None)
        record = a_record(capabilities=[CAPABILITY, HELD])
        self.state.registry.enroll(replace(read_record(record), package_root=self.package), by="enroller")
        held = {"escalation": {"human_required_default": True, "rationale": "deletes"}}
        rules: JsonValue = {"rules": [a_rule("held", match={"capability_id": HELD}, **held), a_rule()]}
        self.policy = trust(signer)
        self.signer = signer
        services = Services(approvals=self.state.approvals, receipts=self.state.receipts)
        self.hall = Hall(rules, self.state.registry, self.policy, HallConfig(env="dev"), services=services)
        self.server = Server(
            self.hall, self.state, self.address, self.settings, trust=self.policy, pairs=str(folder / "pairs")
        )
        place = self.server.listen()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.server.run, args=(place, ready.set), daemon=True)
        self.thread.start()
        assert ready.wait(30)
        self.base = f"http://127.0.0.1:{self.server.port}"

    def close(self) -> None:
        self.server.stop()
        self.thread.join(30)
        self.hall.close()
        self.state.close()

    def __call__(self, method: str, path: str, who: str | None = None, body: Any = None, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["authorization"] = f"Bearer {token(who)}"
        with httpx.Client(base_url=self.base, timeout=30) as client:
            return client.request(method, path, headers=headers, **({"json": body} if body is not None else {}), **more)


def ask(base: str, token: str, capability: str, *, correlation_id: str = "", grant: str = "") -> Any:
    """Ask the demo for a decision, and return it."""
    classes = {"env": "stage", "data_label": "PUBLIC", "tenant_risk": "low", "qos_class": "P2"}
    body = {"capability_id": capability, "correlation_id": correlation_id or str(uuid.uuid4()), **classes}
    headers = {"authorization": f"Bearer {token}", **({"x-wcp-grant": grant} if grant else {})}
    return httpx.post(f"{base}/wcp/route", json=body, headers=headers, timeout=30).json()


@dataclass(frozen=True)
class Demo:
    """`wcp-route serve --demo` in a process of its own."""

    process: subprocess.Popen[str]

    def address(self) -> str:
        """Wait until it listens, and return where."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        base = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert base, line + self.process.stderr.read()
        return base[0]

    def begun(self) -> tuple[str, str, dict[str, str]]:
        """Wait until it listens; return its address, its first line, and the tokens that it printed."""
        assert self.process.stdout is not None
        base = self.address()
        head = self.process.stdout.readline()
        rows = [self.process.stdout.readline().split() for _ in range(2 * head.startswith("made"))]
        return base, head, {row[0]: row[1] for row in rows}


@contextmanager
def demo(folder: Path, *more: str) -> Iterator[Demo]:
    """Start the demo on a free port, with an environment that names other files; stop it as an operator does."""
    command = [str(SCRIPT), "serve", "--demo", str(folder), "--listen", "127.0.0.1:0", *more]
    elsewhere = {"WCP_ROUTE_RULES": "/nowhere", "WCP_ROUTE_CONFIG": "/nowhere", "WCP_ATTEST_POLICY": "/nowhere"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), **elsewhere}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Demo(process)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()


__all__ = ["CAPABILITY", "HELD", "WORKER", "World", "a_request", "asyncio", "token"]
