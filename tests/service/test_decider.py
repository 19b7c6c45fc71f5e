"""Decisions for the event loop: no request waits for the slow gate of another, none is answered without its receipt."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.worlds import World, a_request, a_rule
from wcp_attest.signing.key import generate
from wcp_route import Services
from wcp_route.domain.codes import Code
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.service.decider import SWEEP_SECONDS, USUAL_THREADS, Decider
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.receipts.read import find
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wcp_route import Hall, RouteDecision

ASKS = a_rule(escalation={"policy_gate": True})
SECONDS = 60  # for what must happen


@contextmanager
def hall_with_receipts(folder: Path, gate: Any = None, **settings: Any) -> Iterator[Hall]:
    """A Hall whose receipts are signed and in a file."""
    world = World(folder)
    world.enroll()
    signer = KeyFileSigner.from_file_bytes(generate().to_pem(None), what="receipt key")
    with (
        open_state(str(folder / "hall.db"), signer=signer) as state,
        world.hall(
            *([] if gate is None else [ASKS]),
            services=Services(receipts=state.receipts, policy_gate=gate),
            **settings,
        ) as hall,
    ):
        yield hall


def ask(hall: Hall, *, times: int = 1, threads: int = 16) -> list[RouteDecision]:
    """Ask so many times at once."""
    decider = Decider(hall, threads)

    async def run() -> list[RouteDecision]:
        with decider.running():
            asked = [decider.decide(a_request(), grant="", principal="acme") for _ in range(times)]
            return await asyncio.wait_for(asyncio.gather(*asked), SECONDS)

    return asyncio.run(run())


def test_answers_when_the_receipt_is_in_the_file(tmp_path: Path) -> None:
    with hall_with_receipts(tmp_path) as hall:
        decisions = ask(hall, times=50)
        assert all(find(str(tmp_path / "hall.db"), decision.decision_id) for decision in decisions)
    assert {decision.outcome for decision in decisions} == {"DISPATCH"}


def test_refuses_at_the_deadline_when_another_program_locks_the_ledger(tmp_path: Path) -> None:
    with hall_with_receipts(tmp_path, decision_seconds=0.5) as hall:
        with closing(sqlite3.connect(tmp_path / "hall.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            decisions = ask(hall, times=5)
            other.execute("ROLLBACK")
        assert {decision.code for decision in decisions} == {Code.RECEIPT_UNAVAILABLE}
        assert {decision.package_path for decision in decisions} == {""}
        assert ask(hall)[0].outcome == "DISPATCH"


class NeverStored:
    """A store of somebody else, whose disk never answers."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def submit(self, evidence: Any, /, *, seconds: float = 0) -> NeverStored:
        del evidence, seconds
        return self

    def append(self, evidence: Any, /) -> None:
        del evidence

    def wait(self) -> None:
        self.ended.wait(SECONDS)

    def close(self) -> None:
        self.ended.set()


def test_refuses_at_the_deadline_when_the_store_never_answers(tmp_path: Path) -> None:
    world, store = World(tmp_path), NeverStored()
    world.enroll()
    with world.hall(services=Services(receipts=store), decision_seconds=0.5) as hall:
        assert [decision.code for decision in ask(hall, times=3)] == [Code.RECEIPT_UNAVAILABLE] * 3
        store.close()


class SlowFor:
    """A policy gate that thinks about every request but the last until it is told to end."""

    def __init__(self, slow: int) -> None:
        self.left, self.reached, self.end = slow, threading.Semaphore(0), threading.Event()
        self._lock = threading.Lock()

    def evaluate(self, context: Any, /) -> PolicyAnswer:
        del context
        with self._lock:
            self.left -= 1
            slow = self.left >= 0
        self.reached.release()
        if slow:
            assert self.end.wait(SECONDS)
        return PolicyAnswer("ALLOW", "p1")


@pytest.mark.parametrize("slow", [1, USUAL_THREADS, 7])
def test_nobody_waits_for_the_slow_gate_of_others(tmp_path: Path, slow: int) -> None:
    world, gate = World(tmp_path), SlowFor(slow)
    world.enroll()

    async def run(decider: Decider) -> list[RouteDecision]:
        with decider.running():
            asked = [
                asyncio.ensure_future(decider.decide(a_request(), grant="", principal="acme")) for _ in range(slow)
            ]
            for _ in range(slow):
                await asyncio.to_thread(gate.reached.acquire, timeout=SECONDS)
            quick = await asyncio.wait_for(decider.decide(a_request(), grant="", principal="acme"), SECONDS)
            assert not any(each.done() for each in asked)
            gate.end.set()
            return [quick, *await asyncio.wait_for(asyncio.gather(*asked), SECONDS)]

    with world.hall(
        ASKS, services=Services(policy_gate=gate), callback_seconds=SECONDS, decision_seconds=SECONDS
    ) as hall:
        assert {decision.outcome for decision in asyncio.run(run(Decider(hall, 8)))} == {"DISPATCH"}


class SlowFromTheSecond:
    """A policy gate that thinks about every request but the first until it is told to end."""

    def __init__(self) -> None:
        self.reached, self.end, self._asked = threading.Semaphore(0), threading.Event(), False

    def evaluate(self, context: Any, /) -> PolicyAnswer:
        del context
        slow, self._asked = self._asked, True
        self.reached.release()
        if slow:
            self.end.wait(SECONDS)
        return PolicyAnswer("ALLOW", "p1")


def test_a_late_receipt_does_not_wait_for_the_slow_gate_of_others(tmp_path: Path) -> None:
    gate = SlowFromTheSecond()

    async def run(decider: Decider) -> None:
        def bring() -> asyncio.Future[RouteDecision]:
            return asyncio.ensure_future(decider.decide(a_request(), grant="", principal="acme"))

        with decider.running():
            late = bring()
            await asyncio.to_thread(gate.reached.acquire, timeout=SECONDS)
            await asyncio.sleep(2)  # so that the gates of the next ones have time left when this one has none
            others = [bring() for _ in range(USUAL_THREADS)]
            for _ in others:
                await asyncio.to_thread(gate.reached.acquire, timeout=SECONDS)
            assert (await asyncio.wait_for(late, SECONDS)).code == Code.RECEIPT_UNAVAILABLE
            assert [job.begun for job in decider._open] == [None] * USUAL_THREADS  # their gates still think
            gate.end.set()
            await asyncio.wait_for(asyncio.gather(*others), SECONDS)

    with (
        hall_with_receipts(tmp_path, gate, decision_seconds=4, callback_seconds=SECONDS) as hall,
        closing(sqlite3.connect(tmp_path / "hall.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        asyncio.run(run(Decider(hall, 8)))
        other.execute("ROLLBACK")


TRACE: ContextVar[str] = ContextVar("TRACE", default="")


class Sink:
    """An event sink that may wait, and looks at the trace of the request."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def emit(self, decision: Any, elapsed_ns: int, /) -> None:
        del decision, elapsed_ns
        self.seen.append(TRACE.get())


def test_an_event_sink_finds_the_trace_of_the_request(tmp_path: Path) -> None:
    world, sink = World(tmp_path), Sink()
    world.enroll()

    async def run(decider: Decider) -> None:
        with decider.running():
            TRACE.set("trace-1")
            await asyncio.wait_for(decider.decide(a_request(), grant="", principal="acme"), SECONDS)

    with world.hall(services=Services(events=sink)) as hall:
        asyncio.run(run(Decider(hall, 2)))
    assert sink.seen == ["trace-1"]


def test_threads_end_with_the_service(tmp_path: Path) -> None:
    with hall_with_receipts(tmp_path) as hall:
        ask(hall, times=20)
        assert not [thread for thread in threading.enumerate() if thread.name == "wcp-decider"]


def test_looks_after_requests_once_in_a_while_and_not_once_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, looks = World(tmp_path), [0]  # that are due, when each request begins
    world.enroll()

    class Counting(Decider):
        def _sweep(self) -> None:
            looks[-1] -= 1
            super()._sweep()

    async def run(decider: Decider) -> None:
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, callback: Any, *given: Any, **options: Any) -> asyncio.TimerHandle:
            looks.append(looks[-1] + (getattr(callback, "__name__", "") == "_sweep"))
            return later(delay, callback, *given, **options)

        monkeypatch.setattr(loop, "call_later", call_later)
        with decider.running():
            for _ in range(50):
                await asyncio.wait_for(decider.decide(a_request(), grant="", principal="acme"), SECONDS)
            await asyncio.sleep(5 * SWEEP_SECONDS)
            await asyncio.wait_for(decider.decide(a_request(), grant="", principal="acme"), SECONDS)

    with world.hall() as hall:
        asyncio.run(run(Counting(hall, 2)))
    assert set(looks) == {0, 1}
    assert looks[-1] == 1  # the look that the last request began, after all others had ended
