"""The examples for FastAPI, MCP and LangGraph, run with the real packages."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.stores import MemoryApprovals
from tests.route.worlds import WORKER, Counting, World, a_request, a_rule
from wcp_route.hall import Services

if TYPE_CHECKING:
    from wcp_route.hall import Hall

HELD = a_rule(escalation={"human_required_default": True})


def held_hall(world: World) -> tuple[Hall, MemoryApprovals]:
    approvals = MemoryApprovals()
    services = Services(approvals=approvals, clock=world.clock, ids=Counting())
    return world.hall(HELD, services=services), approvals


def test_fastapi_answers_with_the_status_of_the_decision(world: World) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    from examples.platforms.fastapi_app import make_app

    hall, approvals = held_hall(world)
    app = make_app(hall, {"Bearer a": "acme", "Bearer b": "other"}.get)

    async def ask(token: str, body: bytes, grant: str = "") -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hall") as client:
            headers = {"Authorization": token, "X-WCP-Grant": grant}
            return await client.post("/tasks", content=body, headers=headers)

    body = json.dumps(a_request()).encode()
    assert asyncio.run(ask("Bearer x", body)).status_code == 401
    assert asyncio.run(ask("Bearer b", body)).status_code == 403  # another tenant's request
    assert asyncio.run(ask("Bearer a", b"{")).status_code == 403
    assert asyncio.run(ask("Bearer a", b" " * 2_000_000)).status_code == 413
    held = asyncio.run(ask("Bearer a", body))
    assert held.status_code == 202
    done = approvals.resolve(held.json()["pending_approval_id"], "approve", by="ada", at_ms=world.clock())
    answer = asyncio.run(ask("Bearer a", body, done.grant_id))
    assert (answer.status_code, answer.json()["worker_id"]) == (200, WORKER)
    assert "package_path" not in answer.json()


def test_an_mcp_tool_runs_only_when_the_hall_dispatches_it(world: World) -> None:
    pytest.importorskip("mcp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mcp import Client, MCPError

        from examples.platforms.mcp_server import make_server

    hall = world.hall(a_rule(match={"capability_id": "cap.doc.summarize"}))

    async def call(tool: str) -> str:
        async with Client(make_server(hall, "acme")) as client:
            try:
                answer: Any = await client.call_tool(tool, {"text": "one two three four"})
            except MCPError as refused:
                return str(refused)
            return str(answer.content[0].text)

    assert asyncio.run(call("summarize")) == "one two three"
    assert "DENY_NO_MATCHING_RULE" in asyncio.run(call("unlisted"))
    world.registry.quarantine(WORKER, "x", by="ops", at_ms=1)
    assert "DENY_WORKER_QUARANTINED" in asyncio.run(call("summarize"))


def test_a_hold_interrupts_a_graph_and_a_grant_resumes_it(world: World) -> None:
    pytest.importorskip("langgraph")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langgraph.types import Command

        from examples.platforms.langgraph_hold import make_graph

    hall, approvals = held_hall(world)
    graph = make_graph(hall, "acme")
    thread: Any = {"configurable": {"thread_id": "1"}}
    stopped = graph.invoke({"request": a_request()}, thread)
    (pause,) = stopped["__interrupt__"]
    done = approvals.resolve(pause.value["pending_approval_id"], "approve", by="ada", at_ms=world.clock())
    assert graph.invoke(Command(resume=done.grant_id), thread)["result"] == f"ran {WORKER}"
    wrong: Any = {"configurable": {"thread_id": "2"}}
    graph.invoke({"request": a_request()}, wrong)
    assert graph.invoke(Command(resume="0" * 64), wrong)["result"] == "denied: DENY_APPROVAL_INVALID"
