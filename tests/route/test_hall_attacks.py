"""Attacks on what surrounds a decision: other workers' records, strangers' input, accidents, time, other tenants."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.stores import MemoryApprovals, MemoryReceipts, MemoryRegistry
from tests.route.worlds import (
    AUDIT,
    CAPABILITY,
    WORKER,
    Counting,
    World,
    a_record,
    a_request,
    a_rule,
    make_package,
    tamper,
    trust,
)
from wcp_attest import ConfigError
from wcp_attest.signing.key import generate
from wcp_route.compat import Options, make_decision
from wcp_route.config import Ceiling, HallConfig
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.record_model import read_record
from wcp_route.gates.blast import MAX_CHAINS_OF_TENANT, MAX_CORRELATIONS, MAX_TENANTS, UNNAMED, Chains
from wcp_route.hall import Hall, Services
from wcp_route.tool_guard import NotDispatched, guard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wcp_route.domain.decision import Evidence, RouteDecision
    from wcp_route.storage.receipts.writer import Submitted

PROVIDER = "org.acme.audit-log"
NEEDS_AUDIT = a_rule(required_controls_suggested=[AUDIT])


def a_provider(**changes: Any) -> Any:
    return read_record(
        a_record(
            worker_id=PROVIDER,
            worker_species_id="wrk.obs.audit",
            capabilities=["cap.obs.audit"],
            currently_implements=[AUDIT],
            **changes,
        )
    )


# --- only attested workers provide controls ------------------------------------------------------------------------


def test_a_record_without_a_package_provides_no_control(world: World) -> None:
    world.registry.enroll(a_provider())
    assert world.hall(NEEDS_AUDIT).route(a_request()).code == Code.MISSING_REQUIRED_CONTROLS


def test_an_attested_worker_provides_a_control(world: World) -> None:
    root = world.package(PROVIDER, "wrk.obs.audit")
    world.registry.enroll(replace(a_provider(), package_root=root))
    evidence = world.hall(NEEDS_AUDIT).decide(a_request())
    assert (evidence.decision.denied, evidence.controls_verified) == (False, (AUDIT,))


@pytest.mark.parametrize("fault", ["tampered", "of another environment", "signed by a stranger", "in quarantine"])
def test_a_worker_in_bad_standing_provides_no_control(fault: str, world: World, tmp_path: Path) -> None:
    root = world.package(PROVIDER, "wrk.obs.audit")
    if fault == "signed by a stranger":
        shutil.rmtree(root)
        make_package(tmp_path / PROVIDER, generate(), PROVIDER, "wrk.obs.audit")
    changes = {"allowed_environments": ["stage"]} if fault == "of another environment" else {}
    world.registry.enroll(replace(a_provider(**changes), package_root=root))
    if fault == "tampered":
        tamper(root)
    if fault == "in quarantine":
        world.registry.quarantine(PROVIDER, "x", by="ops", at_ms=1)
    evidence = world.hall(NEEDS_AUDIT).decide(a_request())
    assert (evidence.decision.code, evidence.controls_verified) == (Code.MISSING_REQUIRED_CONTROLS, ())


def test_a_candidate_that_is_not_chosen_provides_nothing_by_its_record(world: World) -> None:
    ghost = read_record(a_record(worker_id="org.acme.zz-ghost", currently_implements=[AUDIT]))
    world.registry.enroll(ghost)
    config = HallConfig(env="dev", controls_present=frozenset(), control_scopes={AUDIT: "platform"})
    assert world.hall(NEEDS_AUDIT, config=config).route(a_request()).code == Code.MISSING_REQUIRED_CONTROLS


# --- no input suppresses a receipt ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [a_request(**{"k" * 300_000: 1}), {"k" * 300_000: 1}, a_request(env="x" * 300_000)])
def test_a_long_key_costs_nobody_a_receipt(hostile: Any, world: World) -> None:
    receipts = MemoryReceipts()
    hall = world.hall(services=Services(receipts=receipts, clock=world.clock, ids=Counting()))
    made = hall.route_many([a_request(), hostile, a_request()])
    assert [decision.code for decision in made] == [None, Code.INVALID_INPUT, None]
    assert len(receipts.rows) == 1 + 3  # what is in force, and three decisions


class Picky:
    """A store that cannot take one tenant's receipts."""

    durable = signed = True

    def __init__(self) -> None:
        self.kept: list[Evidence] = []

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = 5.0) -> Any:
        del seconds
        if any(one.decision.tenant_id == "bad" for one in evidence):
            raise ConfigError("cannot be written")
        self.kept += evidence
        return type("Done", (), {"wait": lambda _: None})()

    append = submit

    def close(self) -> None:
        """Nothing."""


def test_one_receipt_that_cannot_be_written_costs_no_other_request(world: World) -> None:
    store: Any = Picky()
    hall = world.hall(services=Services(receipts=store, clock=world.clock, ids=Counting()))
    made = hall.route_many(a_request(tenant_id=name) for name in ("one", "bad", "two"))  # a generator, too
    assert [decision.code for decision in made] == [None, Code.RECEIPT_UNAVAILABLE, None]
    assert [one.decision.tenant_id for one in store.kept] == ["one", "two"]


def test_a_tenant_called_unlisted_has_a_stream_of_its_own(world: World) -> None:
    hall = world.hall()
    own, malformed = hall.decide(a_request(tenant_id="unlisted")), hall.decide({"nonsense": 1})
    assert (own.stream, own.stream == malformed.stream) == ("unlisted", False)


def test_a_large_request_of_a_stranger_is_refused_before_it_is_read(world: World) -> None:
    hall = world.hall(require_signatory=True, allowed_tenants=frozenset({"acme"}))
    large = b'{"tenant_id":"mallory","colour":"' + b"x" * 100_000 + b'"}'
    assert hall.route(large).code == Code.UNKNOWN_TENANT
    assert hall.route(b"[" * 100_000, principal="mallory").code == Code.UNKNOWN_TENANT  # not even parsed


# --- accidents are not tampering -----------------------------------------------------------------------------------


@pytest.mark.parametrize("accident", ["moved", "clock", "signer"])
def test_an_accident_refuses_and_ends_by_itself(accident: str, world: World) -> None:
    root = world.package()
    hall = world.hall()
    if accident == "moved":
        os.rename(root, root + ".new")
    elif accident == "clock":
        world.clock.now_ms -= 40 * 365 * 24 * 3600 * 1000
    else:
        hall.swap(trust_policy=trust(generate()))
    refused = hall.route(a_request())
    assert refused.quarantined is False
    if accident == "moved":
        os.rename(root + ".new", root)
    elif accident == "clock":
        world.clock.now_ms += 40 * 365 * 24 * 3600 * 1000
    else:
        hall.swap(trust_policy=trust(world.signer))
    assert hall.route(a_request()).denied is False
    assert not world.registry.snapshot().quarantined


def test_a_dry_run_and_an_explanation_change_nothing(world: World) -> None:
    approvals = MemoryApprovals()
    receipts = MemoryReceipts()
    services = Services(approvals=approvals, receipts=receipts, clock=world.clock, ids=Counting())
    hall = world.hall(
        a_rule(escalation={"human_required_default": True}), services=services, chain_thresholds={"dev": 4}
    )
    explained = [hall.explain(a_request(chain_id="c")) for _ in range(5)]
    assert {one.decision.code for one in explained} == {Code.REQUIRES_HUMAN_APPROVAL}
    assert (approvals.pending(world.clock()), len(receipts.rows)) == ((), 1)  # what is in force since the Hall opened
    tamper(world.package())
    assert hall.route(a_request(dry_run=True)).code == Code.WORKER_TAMPERED
    assert hall.explain(a_request()).decision.code == Code.WORKER_TAMPERED
    assert not world.registry.snapshot().quarantined
    assert hall.route(a_request()).quarantined is True


# --- evidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["prod", "edge"])
@pytest.mark.parametrize("receipts", [None, MemoryReceipts()])
def test_prod_and_edge_need_signed_durable_receipts(env: Any, receipts: MemoryReceipts | None, world: World) -> None:
    with pytest.raises(ConfigError, match="unsafe_dispatch_without_signed_durable_receipts"):
        Hall(
            {"rules": [a_rule()]},
            world.registry,
            trust(world.signer),
            HallConfig(env=env),
            services=Services(receipts=receipts),
        )


def test_a_rule_that_demands_the_artifact_hash_is_refused_without_receipts(world: World) -> None:
    rule = a_rule(preconditions={"must_record_artifact_hash_if_executes": True})
    assert world.hall(rule, env="prod").route(a_request(env="prod")).code == Code.RECEIPT_UNAVAILABLE


def test_nothing_is_called_verified_that_was_not_looked_at(world: World) -> None:
    rule = a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"])
    evidence = world.hall(rule, blast_thresholds={}).decide(a_request())
    checks = {check.name: check.outcome for check in evidence.checks}
    assert (checks["blast"], evidence.decision.blast_gate_passed) == ("pass", True)
    assert checks["bans"] == "off"  # the trust policy names no ban list
    events = {event["event_id"] for event in to_wire(evidence.decision)["telemetry_envelopes"]}  # type: ignore[union-attr, index, call-overload]
    assert "evt.gov.blast_scored" in events


@pytest.mark.parametrize(
    ("announced", "passes"),
    [
        ({"egress_destination": "api.example"}, True),
        ({"egress_destination": "evil.example"}, False),
        ({"secrets": ["db-root"]}, False),
        ({"filesystem_writes": ["/work/a"]}, True),
        ({"filesystem_writes": ["/work/../etc"]}, False),
        ({"network_egress": "unrestricted"}, False),
        ({"tools": "bash"}, False),
        ({"colour": "red"}, False),
        ({"tools": {"bash": 1}}, False),
        ({}, True),
    ],
)
def test_what_a_request_announces_is_held_against_the_envelope(announced: Any, passes: bool, tmp_path: Path) -> None:
    world = World(tmp_path)
    envelope = {
        "secrets_access": [],
        "network_egress": "allowlisted",
        "egress": {"allowlist": ["api.example"]},
        "filesystem_writes": ["/work"],
        "tools": ["grep"],
    }
    world.enroll(a_record(privilege_envelope=envelope))
    decision = world.hall().route(a_request(privilege_context=announced))
    assert decision.code == (None if passes else Code.PRIVILEGE_ENVELOPE_VIOLATED)


def test_a_declared_code_hash_must_be_the_packages(world: World) -> None:
    declared = {"code_hash": "sha256:" + "0" * 64, "hash_method": "manifest"}
    world.enroll(a_record(attestation=declared), replace_=True)
    evidence = world.hall().decide(a_request())
    assert evidence.decision.code == Code.WORKER_ATTESTATION_INVALID_HASH
    world.enroll(replace_=True)
    digests = next(dict(c.digests) for c in world.hall().decide(a_request()).checks if c.name == "attestation")
    world.enroll(a_record(attestation={**declared, "code_hash": "sha256:" + digests["manifest_sha256"]}), replace_=True)
    assert world.hall().route(a_request()).denied is False


def test_a_denial_tells_a_tenant_no_secret_and_no_path(tmp_path: Path) -> None:
    world = World(tmp_path)
    envelope = {"secrets_access": ["db-root"], "network_egress": "none", "filesystem_writes": ["/srv/x"], "tools": []}
    world.enroll(a_record(privilege_envelope=envelope))
    ceiling = Ceiling(envs=("dev",), data_labels=("INTERNAL",))
    evidence = world.hall(ceilings=(ceiling,)).decide(a_request())
    told = str(to_wire(evidence.decision))
    assert "db-root" not in told
    assert "/srv/x" not in told
    assert "db-root" in str(evidence.checks)


# --- time ----------------------------------------------------------------------------------------------------------


class SlowBans:
    """Ban lists whose server says nothing."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def check_before(self, facts: object) -> None:
        self.over.wait(30)

    def check_files(self, files: object, algorithm: object) -> None:
        """Nothing."""


def test_a_silent_ban_server_costs_no_more_than_the_deadline(world: World) -> None:
    bans: Any = SlowBans()
    services = Services(bans=(bans,), clock=world.clock, ids=Counting())
    started = time.monotonic()
    try:
        decision = world.hall(services=services, decision_seconds=0.2).route(a_request())
    finally:
        bans.over.set()
    assert (decision.code, decision.denied) == (Code.INTERNAL_ERROR, True)
    assert time.monotonic() - started < 5


def test_availability_checks_share_one_deadline(tmp_path: Path) -> None:
    world, over = World(tmp_path), threading.Event()
    for number in range(40):
        world.registry.enroll(read_record(a_record(worker_id=f"org.acme.w{number}")))
    services = Services(availability=lambda _: over.wait(30), clock=world.clock, ids=Counting())
    started = time.monotonic()
    try:
        code = world.hall(services=services, callback_seconds=0.2).route(a_request()).code
    finally:
        over.set()
    assert code == Code.NO_AVAILABLE_WORKER
    assert time.monotonic() - started < 5


def test_a_closed_hall_ends_its_threads_and_denies(world: World) -> None:
    services = Services(availability=lambda _: True, clock=world.clock, ids=Counting())
    before = threading.active_count()
    with world.hall(services=services) as hall:
        assert hall.route(a_request()).denied is False
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert hall.route(a_request()).code == Code.INTERNAL_ERROR


def test_options_made_for_each_call_do_not_pile_up_threads(world: World) -> None:
    before = threading.active_count()
    for _ in range(60):
        services = Services(availability=lambda _: True, clock=world.clock)
        options = Options({"rules": [a_rule()]}, trust(world.signer), HallConfig(env="dev"), services)
        assert make_decision(a_request(), world.registry, options).denied is False
    assert threading.active_count() - before < 40


# --- tenants -------------------------------------------------------------------------------------------------------


def test_one_tenants_chains_do_not_close_anothers(world: World) -> None:
    hall = world.hall(services=Services(clock=world.clock), attestation="on-change")
    last = [hall.route(a_request(tenant_id="a", chain_id=f"c{n}")) for n in range(MAX_CHAINS_OF_TENANT + 1)][-1]
    assert last.code == Code.CHAIN_BLAST_EXCEEDED
    assert last.reason is not None
    assert "open chains" in last.reason.message
    assert hall.route(a_request(tenant_id="b", chain_id="c")).denied is False


def test_a_rate_is_each_tenants_own_and_a_stranger_does_not_use_it_up(world: World) -> None:
    hall = world.hall(requests_per_second=3)
    for _ in range(5):
        assert hall.route(a_request(), principal="mallory").code == Code.UNKNOWN_TENANT
    codes = {hall.route(a_request()).code for _ in range(12)}
    assert codes == {None, Code.TENANT_LIMIT}
    assert hall.route(a_request(tenant_id="other")).denied is False


class Broken(MemoryReceipts):
    """Takes evidence and loses it."""

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = 5.0, current: bool = False) -> Submitted:
        raise ConfigError("lost")


def test_a_receipt_that_fails_gives_a_place_in_a_chain_back_once(world: World) -> None:
    services = Services(clock=world.clock, ids=Counting())
    hall = world.hall(services=services, chain_thresholds={"dev": 6})
    assert [hall.route(a_request(chain_id="c")).denied for _ in range(2)] == [False, False]  # 4 of 6
    hall._services = replace(services, receipts=Broken())
    for dry_run in (True, False, True):
        assert hall.route(a_request(chain_id="c", dry_run=dry_run)).denied is True
    hall._services = services
    assert [hall.route(a_request(chain_id="c")).denied for _ in range(2)] == [False, True]


def test_leaving_out_the_chain_id_does_not_avoid_the_sum(world: World) -> None:
    hall = world.hall(chain_thresholds={"dev": 5})  # the worker declares 2
    assert [hall.route(a_request()).code for _ in range(4)] == [None, None, *[Code.CHAIN_BLAST_EXCEEDED] * 2]
    assert hall.route(a_request(correlation_id="another")).denied is False
    assert hall.route(a_request(tenant_id="other")).denied is False  # with the same correlation id
    assert hall.explain(a_request()).decision.code == Code.CHAIN_BLAST_EXCEEDED


def test_sums_of_correlation_ids_are_bounded_and_a_refusal_gives_its_part_back() -> None:
    chains = Chains()
    for number in range(3 * MAX_CORRELATIONS):
        assert chains.reserve(("acme", UNNAMED + str(number)), 4, 5, 1) == ("", 4)
    assert len(chains._unnamed["acme"]) == MAX_CORRELATIONS
    for number in range(2 * MAX_TENANTS):
        chains.reserve((f"t{number}", UNNAMED + "c"), 1, 5, 1)
    assert len(chains._unnamed) == MAX_TENANTS
    last = (f"t{2 * MAX_TENANTS - 1}", UNNAMED + "c")
    chains.release(last, 1)
    assert chains.reserve(last, 5, 5, 1) == ("", 5)
    problem, total = chains.reserve(last, 1, 5, 1)
    assert (bool(problem), total) == (True, 6)
    assert chains.reserve(last, 5, 5, 1 + 25 * 3600 * 1000) == ("", 5)  # a day later


# --- settings and sinks --------------------------------------------------------------------------------------------


def test_settings_cannot_be_changed_after_the_start() -> None:
    thresholds: Any = {"dev": 10}
    config = HallConfig(env="dev", blast_thresholds=thresholds)
    before = config.digest()
    thresholds["dev"] = 100
    assert (config.blast_thresholds["dev"], config.digest()) == (10, before)
    with pytest.raises(TypeError):
        config.blast_thresholds["dev"] = 100  # type: ignore[index]


def test_controls_of_the_settings_are_folded_and_checked() -> None:
    assert HallConfig(env="dev", controls_present=frozenset({"ctrl.obs.audit_log"})).controls_present == {
        "ctrl.obs.audit-log"
    }
    with pytest.raises(ConfigError, match="control"):
        HallConfig(env="dev", controls_present=frozenset({"audit"}))


def test_a_sink_that_raises_keeps_no_other_from_being_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    from wcp_route.domain.events import EventSinks

    told: list[RouteDecision] = []

    class Raising:
        def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
            raise ValueError("two\nlines\x1b[31m")

    class Telling:
        def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
            told.append(decision)

    sinks = EventSinks(Raising(), Telling())
    world.hall(services=Services(events=sinks, clock=world.clock)).route(a_request())
    assert len(told) == 1
    assert all(record.getMessage().isprintable() for record in caplog.records)


# --- async ---------------------------------------------------------------------------------------------------------


def test_a_guarded_async_tool_stays_async_and_runs_only_when_dispatched(world: World) -> None:
    ran: list[str] = []

    @guard(world.hall(), lambda text, env="dev": a_request(request={"text": text}, env=env))
    async def tool(text: str, env: str = "dev") -> str:
        ran.append(text)
        return text.upper()

    assert asyncio.iscoroutinefunction(tool)
    assert asyncio.run(tool("hello")) == "HELLO"
    with pytest.raises(NotDispatched):
        asyncio.run(tool("no", env="prod"))
    assert ran == ["hello"]


def test_a_guarded_generator_yields_nothing_when_denied(world: World) -> None:
    @guard(world.hall(), lambda env: a_request(env=env))
    def tool(env: str) -> Any:
        yield 1

    @guard(world.hall(), lambda env: a_request(env=env))
    async def atool(env: str) -> Any:
        yield 2

    async def drain(env: str) -> list[int]:
        return [each async for each in atool(env)]

    assert list(tool("dev")) == [1]
    assert asyncio.run(drain("dev")) == [2]
    with pytest.raises(NotDispatched):
        list(tool("prod"))
    with pytest.raises(NotDispatched):
        asyncio.run(drain("prod"))


def test_aroute_decides_many_at_once(world: World) -> None:
    hall = world.hall()

    async def ask() -> list[RouteDecision]:
        return await asyncio.gather(*(hall.aroute(a_request(correlation_id=f"c{n}")) for n in range(20)))

    made = asyncio.run(ask())
    assert [one.correlation_id for one in made] == [f"c{n}" for n in range(20)]
    assert {one.worker_id for one in made} == {WORKER}


def test_a_fork_decides_though_a_thread_held_the_locks(world: World) -> None:
    registry = MemoryRegistry()
    registry.enroll(replace(read_record(a_record()), package_root=world.package()))
    hall = world.hall(services=Services(availability=lambda _: True))
    assert hall.route(a_request(chain_id="c")).denied is False
    with hall._chains._lock:
        child = os.fork()
        if not child:
            os._exit(0 if hall.route(a_request(chain_id="c")).denied is False else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert CAPABILITY
