"""The servers that `benchmarks.serve` compares the Hall with; each does a part of the work and no more.

    python -m benchmarks.servers bare PORT BYTES        # answers a constant
    python -m benchmarks.servers row PORT BYTES FILE    # the same when a signed row is on the disk
    python -m benchmarks.servers decides PORT FOLDER    # has the Hall in the folder decide

All are the uvicorn of the service with its parser. They ask for no token, and check, limit, count and log nothing.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wcp_route import Hall, HallConfig, Services
from wcp_route.domain.decision_wire import to_wire
from wcp_route.service.decider import Decider
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[[bytes], Awaitable[bytes]]  # the body of a request -> that of the answer

ROW_BYTES = 2400  # as large as a receipt
THREADS = 8


def serve(port: int, answer: Answer) -> None:
    """Answer each request with 200."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        data = await answer(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
        await send({"type": "http.response.body", "body": data})

    uvicorn.run(app, port=port, log_level="warning", access_log=False, http="h11", ws="none", lifespan="off")


def bare(port: str, size: str) -> None:
    """Answer a constant."""
    data = b"x" * int(size)

    async def answer(body: bytes) -> bytes:
        del body
        return data

    serve(int(port), answer)


def row(port: str, size: str, path: str) -> None:
    """Answer a constant when a signed row is on the disk.

    That is what any service costs that is durable: one thread, one transaction and one signature for all who wait, and
    a row of a receipt's size. It parses and decides nothing.
    """
    waiting: queue.SimpleQueue[asyncio.Future[None]] = queue.SimpleQueue()
    data, receipt = b"x" * int(size), b"r" * ROW_BYTES

    def tell(told: list[asyncio.Future[None]]) -> None:
        for each in told:
            each.set_result(None)

    def write() -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE rows (row BLOB, signature BLOB)")
        key = Ed25519PrivateKey.generate()
        while True:
            told = [waiting.get()]
            while not waiting.empty():
                told.append(waiting.get())
            database.execute("BEGIN IMMEDIATE")
            rows = [(receipt, key.sign(receipt)), *[(receipt, None)] * (len(told) - 1)]
            database.executemany("INSERT INTO rows VALUES (?, ?)", rows)
            database.execute("COMMIT")
            told[0].get_loop().call_soon_threadsafe(tell, told)

    async def answer(body: bytes) -> bytes:
        del body
        durable = asyncio.get_running_loop().create_future()
        waiting.put(durable)
        await durable
        return data

    threading.Thread(target=write, daemon=True).start()
    serve(int(port), answer)


def decides(port: str, folder: str) -> None:
    """Parse the request, have the Hall decide, and answer when the receipt is durable: the Hall without a service."""
    place, decider = Path(folder), None
    signer = KeyFileSigner.from_file_bytes((place / "receipts.key").read_bytes(), what="receipt key")
    config = HallConfig(env="stage", unsafe_dispatch_workers_without_attestation=True)
    with ExitStack() as stack:
        state = stack.enter_context(open_state(str(place / "hall.db"), signer=signer))
        services = Services(approvals=state.approvals, receipts=state.receipts)
        rules = (place / "rules.json").read_bytes()
        hall = stack.enter_context(Hall(rules, state.registry, None, config, services=services))

        async def answer(body: bytes) -> bytes:
            nonlocal decider
            if decider is None:  # it needs the running loop
                decider = Decider(hall, THREADS)
                stack.enter_context(decider.running())
            decision = await decider.decide(json.loads(body), grant="", principal="acme")
            return json.dumps(to_wire(decision), separators=(",", ":")).encode()

        serve(int(port), answer)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", port, size]:
            bare(port, size)
        case ["row", port, size, path]:
            row(port, size, path)
        case ["decides", port, folder]:
            decides(port, folder)
        case _:
            sys.exit(__doc__)
