"""The Hall as a whole: it never raises, never hangs, decides alike twice, and tells nothing without a receipt."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.stores import MemoryApprovals, MemoryReceipts, SqliteReceipts, SqliteRegistry
from tests.route.worlds import CAPABILITY, WORKER, Counting, World, a_record, a_request, a_rule, make_package, trust
from wcp_attest import ConfigError
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.gates.callbacks import MAX_HANGING, CallbackFailed, Callbacks
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services
from wcp_route.storage.receipts import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Evidence, RouteDecision
    from wcp_route.gates.policy_gate import PolicyContext

ASKS = a_rule(escalation={"policy_gate": True})


class Gate:
    """Does what it is told to."""

    def __init__(self, behave: Any) -> None:
        self.behave = behave
        self.contexts: list[PolicyContext] = []

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        self.contexts.append(context)
        if isinstance(self.behave, BaseException):
            raise self.behave
        return self.behave(context) if callable(self.behave) else self.behave  # type: ignore[no-any-return]


def gated(world: World, behave: Any, **settings: Any) -> Hall:
    services = Services(clock=world.clock, ids=Counting(), policy_gate=Gate(behave))
    return world.hall(ASKS, services=services, callback_seconds=settings.pop("callback_seconds", 5.0), **settings)


# --- the policy gate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (PolicyAnswer("ALLOW", "p1"), None),
        (PolicyAnswer("DENY", "p1", "no"), Code.POLICY_GATE),
        (PolicyAnswer("REQUIRE_HUMAN", "p1"), Code.REQUIRES_HUMAN_APPROVAL),
        (PolicyAnswer("allow", "p1"), Code.POLICY_GATE_INVALID_RESPONSE),  # type: ignore[arg-type]
        (PolicyAnswer(True, "p1"), Code.POLICY_GATE_INVALID_RESPONSE),  # type: ignore[arg-type]
        (PolicyAnswer("ALLOW", ""), Code.POLICY_GATE_INVALID_RESPONSE),
        (PolicyAnswer("ALLOW", "p\n1"), Code.POLICY_GATE_INVALID_RESPONSE),
        (PolicyAnswer("ALLOW", "p" * 129), Code.POLICY_GATE_INVALID_RESPONSE),
        (PolicyAnswer("ALLOW", None), Code.POLICY_GATE_INVALID_RESPONSE),  # type: ignore[arg-type]
        (PolicyAnswer("ALLOW", "p1", None), Code.POLICY_GATE_INVALID_RESPONSE),  # type: ignore[arg-type]
        (PolicyAnswer("REQUIRE_HUMAN", "p1", "", "boss"), Code.POLICY_GATE_INVALID_RESPONSE),  # type: ignore[arg-type]
        (("ALLOW", "p1", ""), Code.POLICY_GATE_INVALID_RESPONSE),
        (None, Code.POLICY_GATE_INVALID_RESPONSE),
        (True, Code.POLICY_GATE_INVALID_RESPONSE),
        ("ALLOW", Code.POLICY_GATE_INVALID_RESPONSE),
        (RuntimeError("secret: hunter2"), Code.INTERNAL_ERROR),
        (MemoryError(), Code.INTERNAL_ERROR),
        (RecursionError(), Code.INTERNAL_ERROR),
    ],
)
def test_whatever_a_policy_gate_does_becomes_a_decision(answer: Any, code: Code | None, world: World) -> None:
    decision = gated(world, answer).route(a_request())
    assert decision.code == code
    assert decision.denied is (code is not None)
    assert "hunter2" not in str(to_wire(decision))


def test_a_gate_that_is_wanted_and_missing_denies(world: World) -> None:
    assert world.hall(ASKS).route(a_request()).code == Code.POLICY_GATE_UNCONFIGURED
    assert world.hall(ask_policy_gate=True).route(a_request()).code == Code.POLICY_GATE_UNCONFIGURED
    assert world.hall().route(a_request()).code is None


def test_a_gate_that_hangs_denies_in_time_and_does_not_hang_the_next(world: World) -> None:
    forever = threading.Event()
    hall = gated(world, lambda context: forever.wait(), callback_seconds=0.05)
    started = time.monotonic()
    for _ in range(3):
        assert hall.route(a_request()).code == Code.INTERNAL_ERROR
    assert time.monotonic() - started < 30
    forever.set()


def test_the_gate_sees_all_of_it_and_can_change_none_of_it(world: World) -> None:
    gate = Gate(lambda context: context.request.request.clear() or PolicyAnswer("ALLOW", "p1"))
    hall = world.hall(ASKS, services=Services(clock=world.clock, ids=Counting(), policy_gate=gate))
    payload = {"text": "hello", "writes": True}
    decision = hall.route(a_request(request=payload, tenant_credential="s3cret", blast_score=50))
    assert decision.denied is False
    assert payload == {"text": "hello", "writes": True}
    (context,) = gate.contexts
    assert (context.worker.worker_id, context.rule_id, context.blast_score) == (WORKER, "rule-1", 50)
    assert context.verified is not None
    assert context.verified.worker_id == WORKER
    assert context.request.tenant_credential is None


class Lazy(PolicyAnswer):
    """Runs code when it is looked at, where no deadline holds."""

    looked = 0

    @property
    def decision(self) -> Any:
        type(self).looked += 1
        return "ALLOW"


class Fickle(str):
    """Text that equals whatever it is compared with."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Said(StrEnum):
    YES = "ALLOW"


def test_an_answer_is_plain_text_and_nothing_that_runs(world: World) -> None:
    lazy = object.__new__(Lazy)
    for name, value in (("policy_version", "p1"), ("reason", ""), ("level", None)):
        object.__setattr__(lazy, name, value)
    any_: Any = Fickle("whatever")
    hall = world.hall(ASKS, services=Services(clock=world.clock, policy_gate=Gate(lazy)))
    assert hall.route(a_request()).code == Code.POLICY_GATE_INVALID_RESPONSE
    assert Lazy.looked == 0
    hall = world.hall(ASKS, services=Services(clock=world.clock, policy_gate=Gate(PolicyAnswer(any_, "p1"))))
    assert hall.route(a_request()).code == Code.POLICY_GATE_INVALID_RESPONSE
    yes: Any = Said.YES
    hall = world.hall(ASKS, services=Services(clock=world.clock, policy_gate=Gate(PolicyAnswer(yes, "p1"))))
    decision = hall.route(a_request())
    assert (decision.outcome, type(decision.policy_decision)) == ("DISPATCH", str)


def test_a_reason_that_cannot_be_written_costs_nobody_a_receipt(world: World) -> None:
    answers = iter(["", "half \ud800 pair", "a\nline\x1b[31m"])
    gate = Gate(lambda _: PolicyAnswer("ALLOW", "p1", next(answers)))
    hall = world.hall(ASKS, services=Services(clock=world.clock, policy_gate=gate, receipts=MemoryReceipts()))
    decisions = hall.route_many([a_request()] * 3)
    assert [each.outcome for each in decisions] == ["DISPATCH"] * 3
    assert [each.policy_reason for each in decisions] == ["", "half   pair", "a line [31m"]


def test_a_gate_is_not_asked_about_a_worker_that_failed(world: World) -> None:
    gate = Gate(PolicyAnswer("ALLOW", "p1"))
    hall = world.hall(ASKS, services=Services(clock=world.clock, policy_gate=gate))
    world.registry.quarantine(WORKER, "x", by="ops", at_ms=1)
    assert hall.route(a_request()).code == Code.WORKER_QUARANTINED
    assert gate.contexts == []


# --- callbacks -----------------------------------------------------------------------------------------------------


def test_calls_that_hang_cannot_pile_up() -> None:
    forever, callbacks = threading.Event(), Callbacks(0.001)
    for _ in range(MAX_HANGING):
        with pytest.raises(CallbackFailed, match="did not answer within"):
            callbacks.call("gate", forever.wait)
    threads = threading.active_count()
    for _ in range(50):
        with pytest.raises(CallbackFailed, match="hang already"):
            callbacks.call("gate", forever.wait)
    assert threading.active_count() == threads
    forever.set()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert Callbacks(5.0).call("gate", lambda: 7) == 7
            assert callbacks.call("gate", lambda: 7) == 7
            break
        except CallbackFailed:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), MemoryError(), BaseException()])
def test_whatever_a_call_raises_is_an_answer_at_once_and_leaves_nothing_hanging(error: BaseException) -> None:
    def fail() -> None:
        raise error

    callbacks = Callbacks(60.0)
    for _ in range(MAX_HANGING + 1):
        with pytest.raises(CallbackFailed, match="the gate failed"):
            callbacks.call("gate", fail)
    assert callbacks.call("gate", lambda: 7) == 7


def test_a_fork_has_threads_of_its_own() -> None:
    script = (
        "import os; from wcp_route.gates.callbacks import Callbacks; callbacks = Callbacks(5.0)\n"
        "callbacks.call('gate', os.getpid)\n"
        "child = os.fork()\n"
        "assert callbacks.call('gate', os.getpid) == os.getpid()\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_of_the_caller_is_not_swallowed(tmp_path: Path) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    hall = World(tmp_path).hall(services=Services(clock=interrupt))
    with pytest.raises(KeyboardInterrupt):
        hall.route(a_request())


def test_threads_are_reused() -> None:
    callbacks = Callbacks(5.0)
    seen = {callbacks.call("x", threading.get_ident) for _ in range(20)}
    assert len(seen) <= 3


# --- never raises --------------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_comes_in_a_decision_comes_out(world: World, data: st.DataObject) -> None:
    hall = world.hall()
    request: Any = a_request()
    name = data.draw(st.sampled_from([*request, "blast_score", "blast_radius", "chain_id", "dry_run", "unknown"]))
    whole = data.draw(st.booleans())
    given_: Any = data.draw(anything)
    decision = hall.route(given_ if whole else {**request, name: given_})
    assert decision.denied is (decision.code is not None)
    assert decision.code != Code.INTERNAL_ERROR
    if not decision.denied:
        assert decision.worker_attestation_valid is True


@pytest.mark.parametrize(
    "request_",
    [object(), {1: 2}, {"env": object()}, a_request(request={"a": object()}), a_request(request={1: 2}),
     a_request(request={"a": float("nan")}), a_request(request={"a": 2**70}), a_request(request={"a": "\ud800"}),
     a_request(request={"big": "x" * (1 << 20)})],
)  # fmt: skip
def test_what_is_no_json_is_refused_as_input(request_: Any, world: World) -> None:
    decision = world.hall().route(request_)
    assert decision.code == Code.INVALID_INPUT
    assert to_wire(decision)["matched_rule_id"] == "PRE_ROUTING"


def test_a_payload_without_end_is_refused_as_input(world: World) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    hall = world.hall()
    assert hall.route(a_request(request=loop)).code == Code.INVALID_INPUT
    assert hall.route(a_request(request=deep)).code == Code.INVALID_INPUT


class Broken:
    """A part that fails whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"{name} is broken")

        return fail


def test_a_broken_registry_or_clock_or_id_maker_is_a_denial(world: World) -> None:
    policy = trust(world.signer)
    config = world.hall().world.config
    rules: JsonObject = {"rules": [a_rule()]}
    broken: Any = Broken()
    assert Hall(rules, broken, policy, config).route(a_request()).code == Code.INTERNAL_ERROR
    for services in (Services(clock=broken.clock), Services(ids=broken.ids)):
        decision = Hall(rules, world.registry, policy, config, services=services).route(a_request())
        assert (decision.code, decision.matched_rule_id) == (Code.INTERNAL_ERROR, "PRE_ROUTING")


def test_a_gate_that_fails_has_a_receipt_with_its_tenant_and_takes_nothing_from_the_chain(world: World) -> None:
    receipts, broken = MemoryReceipts(), Broken()
    held = a_rule(escalation={"human_required_default": True})
    services = Services(clock=world.clock, receipts=receipts, approvals=broken)
    hall = world.hall(held, services=services, chain_thresholds={"dev": 3})  # the worker declares 2
    for _ in range(3):
        decision = hall.route(a_request(chain_id="c"))
        assert (decision.outcome, decision.code) == ("DENY", Code.INTERNAL_ERROR)
        assert "broken" not in json.dumps(to_wire(decision))
    fields = json.loads(receipts.rows[-1].body)
    assert (fields["stream"], fields["matched_rule_id"], fields["checks"][-1]["outcome"]) == ("acme", "rule-1", "deny")


def test_a_quarantine_that_cannot_be_stored_still_refuses(tmp_path: Path) -> None:
    from tests.route.worlds import tamper

    with SqliteRegistry(str(tmp_path / "state.db")) as registry:
        world = World(tmp_path, registry=registry)
        world.enroll()
        tamper(world.package())
        hall = world.hall()
        hall.world = replace(hall.world, registry=_Forgetful(registry))
        decision = hall.route(a_request())
        assert (decision.code, decision.quarantined) == (Code.WORKER_TAMPERED, False)


class _Forgetful:
    """A registry whose disk is full."""

    def __init__(self, inner: SqliteRegistry) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def quarantine(self, *args: Any, **kwargs: Any) -> None:
        raise ReceiptError("the disk is full")


# --- receipts and events -------------------------------------------------------------------------------------------


class FullDisk:
    """A receipt store that cannot store."""

    def append(self, evidence: Sequence[Evidence]) -> None:
        del evidence
        raise ReceiptError("the disk is full")

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = 5.0) -> NoReturn:
        del evidence, seconds
        raise ReceiptError("the disk is full")

    def close(self) -> None:
        """Nothing is open."""


class Sink:
    """Keeps what it is told."""

    def __init__(self, *, fail: bool = False) -> None:
        self.decisions: list[RouteDecision] = []
        self.fail = fail

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        self.decisions.append(decision)
        assert elapsed_ns > 0
        if self.fail:
            raise RuntimeError("nobody listens")


def test_every_decision_has_a_receipt_allowed_or_denied_or_malformed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.enroll()
    path = str(tmp_path / "state.db")
    with SqliteReceipts(path) as receipts:
        hall = world.hall(services=Services(receipts=receipts))
        made = [hall.route(a_request()), hall.route(a_request(env="prod")), hall.route(b"{}")]
        made += hall.route_many([a_request(), a_request(tenant_id="other")])
    from wcp_route.storage.receipts import find, verify

    for decision in made:
        (receipt,) = find(path, decision.decision_id)
        assert receipt.to_dict()["correlation_id"] == decision.correlation_id
    assert verify(path, keys=[], unsigned=True).receipts == 1 + 5  # what is in force, and five decisions


class Elsewhere:
    """A store of somebody else that works; for one tenant it does not say so."""

    durable = signed = True

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = 5.0) -> Elsewhere:
        del seconds
        self.lost = any(one.decision.tenant_id == "other" for one in evidence)
        return self

    def wait(self) -> None:
        if self.lost:
            raise ReceiptError("lost")


@pytest.mark.parametrize("make_store", [lambda: None, MemoryReceipts, Elsewhere, FullDisk])
@pytest.mark.parametrize("tenant", ["acme", "other"])
def test_all_ways_to_ask_give_the_same_answer_with_every_store(world: World, make_store: Any, tenant: str) -> None:
    store, told = make_store(), threading.Event()
    hall = world.hall(services=Services(receipts=store))
    request = a_request(tenant_id=tenant)
    wanted = hall.route(request).code
    lost = isinstance(store, FullDisk) or (isinstance(store, Elsewhere) and tenant == "other")
    assert wanted == (Code.RECEIPT_UNAVAILABLE if lost else None)
    begun = hall.begin(request, told=told.set)
    assert told.wait(60)
    assert begun.finish().code == wanted
    assert asyncio.run(hall.aroute(request)).code == wanted
    assert [decision.code for decision in hall.route_many([request, request])] == [wanted, wanted]
    assert hall.decide(request).decision.code == wanted


def test_without_a_receipt_nothing_is_dispatched(world: World) -> None:
    sink = Sink()
    hall = world.hall(services=Services(receipts=FullDisk(), events=sink, approvals=MemoryApprovals()))
    for decision in (hall.route(a_request()), *hall.route_many([a_request(), a_request(env="prod")])):
        assert (decision.code, decision.denied, decision.package_path) == (Code.RECEIPT_UNAVAILABLE, True, "")
    assert {decision.code for decision in sink.decisions} == {Code.RECEIPT_UNAVAILABLE}
    assert hall.decide(a_request()).decision.denied is True


def test_a_store_that_takes_nothing_dispatches_nothing_either(world: World) -> None:
    receipts: Any = Broken()
    receipts.activate = None  # it keeps evidence only
    hall = world.hall(services=Services(receipts=receipts), chain_thresholds={"dev": 5})
    for _ in range(5):
        assert hall.route(a_request(chain_id="c")).code == Code.RECEIPT_UNAVAILABLE


def test_many_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.enroll()
    requests = [a_request(correlation_id=f"c-{number}") for number in range(1200)]
    with SqliteReceipts(str(tmp_path / "state.db")) as receipts:
        made = world.hall(services=Services(receipts=receipts)).route_many(requests)
    assert [decision.correlation_id for decision in made] == [f"c-{number}" for number in range(1200)]
    assert world.hall().route_many([]) == []


def test_events_that_fail_change_no_decision(world: World) -> None:
    sink = Sink(fail=True)
    hall = world.hall(services=Services(events=sink, receipts=MemoryReceipts()))
    assert hall.route(a_request()).denied is False
    assert len(sink.decisions) == 1


# --- determinism and swapping --------------------------------------------------------------------------------------


def test_the_same_input_and_world_give_the_same_decision_bit_for_bit(world: World) -> None:
    requests: list[JsonObject] = [
        a_request(),
        a_request(env="prod"),
        a_request(qos_class="P0", request={"writes": 1}),
        {"x": 1},
    ]

    def run() -> list[Any]:
        hall = world.hall(services=Services(clock=world.clock, ids=Counting(), approvals=MemoryApprovals()))
        return [(to_wire(each.decision), each) for each in [hall.explain(one) for one in requests]]

    assert run() == run()


def test_new_rules_are_in_force_for_the_next_decision_and_as_a_whole(world: World) -> None:
    hall = world.hall()
    before = hall.explain(a_request())
    hall.swap(rules={"rules": [a_rule("new", match={"env": "prod"})]})
    after = hall.explain(a_request())
    assert (before.decision.matched_rule_id, after.decision.code) == ("rule-1", Code.NO_MATCHING_RULE)
    assert before.versions.rules != after.versions.rules
    with pytest.raises(ConfigError):
        hall.swap(rules={"rules": []})
    assert hall.route(a_request()).code == Code.NO_MATCHING_RULE


def test_a_new_trust_policy_is_in_force_for_the_next_decision(world: World) -> None:
    from wcp_attest.signing.key import generate

    hall = world.hall()
    assert hall.route(a_request()).denied is False
    hall.swap(trust_policy=trust(generate()))
    assert hall.route(a_request()).code == Code.WORKER_UNTRUSTED


def test_decisions_of_many_threads_see_one_rule_set_each(world: World) -> None:
    hall = world.hall()
    documents = [{"rules": [a_rule(f"set-{number}")]} for number in range(2)]
    digests: dict[str, str] = {}
    for number, document in enumerate(documents):
        hall.swap(rules=document)  # type: ignore[arg-type]
        digests[f"set-{number}"] = hall.world.rules.digest
    stop, wrong = threading.Event(), []

    def decide() -> None:
        while not stop.is_set():
            evidence = hall.explain(a_request())
            if digests.get(evidence.decision.matched_rule_id) != evidence.versions.rules:
                wrong.append(evidence)

    threads = [threading.Thread(target=decide) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        hall.swap(rules=documents[turn % 2])  # type: ignore[arg-type]
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_quarantine_by_another_process_is_seen_by_the_next_decision(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with SqliteRegistry(path) as ours, SqliteRegistry(path) as theirs:
        world = World(tmp_path, registry=ours)
        world.enroll()
        hall = world.hall()
        assert hall.route(a_request()).denied is False
        theirs.quarantine(WORKER, "look at it", by="ops", at_ms=1)
        assert hall.route(a_request()).code == Code.WORKER_QUARANTINED
        theirs.clear(WORKER, by="ops", at_ms=2)
        assert hall.route(a_request()).denied is False


def test_an_enrolment_in_between_is_seen_as_a_whole(world: World, tmp_path: Path) -> None:
    hall = world.hall(a_rule(match={"capability_id": CAPABILITY}))
    versions = [hall.explain(a_request()).versions.registry]
    make_package(tmp_path / "org.acme.a-new-one", world.signer, "org.acme.a-new-one")
    world.enroll(a_record(worker_id="org.acme.a-new-one"))
    evidence = hall.explain(a_request())
    assert evidence.decision.worker_id == "org.acme.a-new-one"
    assert evidence.versions.registry > versions[0]
