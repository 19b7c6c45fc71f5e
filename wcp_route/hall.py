"""The Hall: every request gets a decision, and only an attested worker is ever dispatched.

    hall = Hall(rules, registry, trust_policy, HallConfig(env="prod"))
    decision = hall.route({"capability_id": "cap.doc.summarize", "tenant_id": "acme", …})
    if not decision.denied:
        run(decision.package_path)

`route` never raises and never hangs: malformed input, a failing callback, a full disk and bugs of our own are denials
with a code, and `decision_seconds` is the deadline of each. The same input, judged by the same world at the same time
with the same ids, gives the same decision.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import DenyReason
from wcp_route.domain.events import one_line
from wcp_route.domain.ids import new_id
from wcp_route.domain.request_hash import fingerprints
from wcp_route.domain.request_model import MAX_REQUEST_BYTES, parse_request
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.domain.wire_model import WireError
from wcp_route.gates.attestation import Attestor
from wcp_route.gates.ban_refresh import BanRefresh
from wcp_route.gates.blast import Chains, Rates
from wcp_route.gates.callbacks import CallbackFailed, Callbacks, Deadline
from wcp_route.gates.controls import Controls
from wcp_route.gates.deciding import (
    Deciding,
    Known,
    World,
    decided,
    evidence_of,
    evidence_of_nothing,
    known_now,
    undecided,
)
from wcp_route.gates.pipeline import pass_gates
from wcp_route.gates.refusal import Refusal
from wcp_route.gates.table import check_tenant
from wcp_route.rules.rules import RuleSet
from wcp_route.rules.rules_model import read_rules
from wcp_route.storage.state_errors import StateMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wcp_attest import Policy
    from wcp_attest.bans import BanCheck
    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Evidence, RouteDecision
    from wcp_route.domain.events import EventSink
    from wcp_route.domain.values import RouteInput
    from wcp_route.gates.deciding import Availability
    from wcp_route.gates.policy_gate import PolicyGate
    from wcp_route.storage.approvals import ApprovalStore
    from wcp_route.storage.receipts import ReceiptStore
    from wcp_route.storage.receipts.store import Waitable
    from wcp_route.storage.registry import Registry

_log = logging.getLogger("wcp_route")

CHUNK = 128  # decisions whose receipts `route_many` hands over together
MAX_MESSAGE = 1024  # characters of what is wrong with an input that are repeated
MAX_POINTER = 256  # characters of where it is wrong
MAX_UNKNOWN_BYTES = 16 << 10  # of a request whose tenant has not been looked at; a larger one is looked at first


@dataclass(frozen=True, slots=True)
class Services:
    """What a Hall works with beside rules, registry and trust.

    Attributes:
        policy_gate: the operator's policy.
        availability: tells which workers can take work now.
        approvals: where holds wait for a human.
        receipts: where evidence is kept. A decision is only told once its receipt is durable.
        events: told about every decision.
        bans: ban checks beyond those of the trust policy.
        clock: milliseconds since 1970.
        ids: makes decision and approval ids, UUIDs.
        task_id: the caller's name for what it does, in events.
    """

    policy_gate: PolicyGate | None = None
    availability: Availability | None = None
    approvals: ApprovalStore | None = None
    receipts: ReceiptStore | None = None
    events: EventSink | None = None
    bans: tuple[BanCheck, ...] = ()
    clock: Callable[[], int] = now_ms
    ids: Callable[[], str] = new_id
    task_id: str = "task_default"


class Hall:
    """Decides. Safe to share between threads; a context manager that closes it at the end.

    Args:
        rules: compiled rules, or the rules document.
        registry: who is enrolled.
        trust_policy: who is believed about packages; None only where the settings switch attestation off.
        config: the settings.
        services: everything else.

    Raises:
        ConfigError: the rules or settings cannot be used, rules are unreachable in prod or edge, there is no trust
            policy, or a Hall for prod or edge has no signed durable receipts.
    """

    def __init__(
        self,
        rules: RuleSet | bytes | JsonValue,
        registry: Registry,
        trust_policy: Policy | None,
        config: HallConfig,
        *,
        services: Services | None = None,
    ) -> None:
        self._services = services or Services()
        _check_receipts(self._services.receipts, config)
        self._callbacks = Callbacks(config.callback_seconds)
        self._decisions = Callbacks(config.decision_seconds)
        self._rates = Rates(config.requests_per_second)
        self._chains = Chains()
        self._swapping = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._ban_refresh = BanRefresh(trust_policy)
        self._world = World(
            config=config,
            controls=Controls(config),
            rules=_usable(rules, config),
            registry=registry,
            attestor=Attestor.create(trust_policy, config, self._services.bans),
            policy_gate=self._services.policy_gate,
            availability=self._services.availability,
            approvals=self._services.approvals,
            trust_policy_digest="" if trust_policy is None else trust_policy.digest,
            config_digest=config.digest(),
            keeps_receipts=self._services.receipts is not None,
            holds_with_receipts=_same_ledger(self._services),
        )

    def close(self) -> None:
        """End the Hall's threads; every later request is denied. Registry, approvals and receipts stay open."""
        self._closed = True
        self._ban_refresh.end()
        self._callbacks.close()
        self._decisions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def world(self) -> World:
        """What decisions are made by at this moment."""
        return self._world

    def swap(self, *, rules: RuleSet | bytes | JsonValue = None, trust_policy: Policy | None = None) -> None:
        """Put other rules or another trust policy in force, for every decision from now on and for none before.

        Args:
            rules: compiled, or the document; none keeps those in force.
            trust_policy: none keeps the one in force.

        Raises:
            ConfigError: they cannot be used; nothing was changed.
        """
        with self._swapping:
            world = self._world
            if rules is not None:
                world = replace(world, rules=_usable(rules, world.config))
            if trust_policy is not None:
                attestor = Attestor.create(trust_policy, world.config, self._services.bans)
                world = replace(world, attestor=attestor, trust_policy_digest=trust_policy.digest)
                self._ban_refresh.end()
                self._ban_refresh = BanRefresh(trust_policy)
            self._world = world

    def route(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> RouteDecision:
        """Decide on one request.

        Args:
            request: JSON text, the parsed object, or a value.
            grant: the approval grant that a human gave for this very request.
            principal: the tenant that the transport authenticated, when it did.

        Returns:
            The decision. Its receipt is durable by then.
        """
        return self._finish([self._decide(request, grant, principal)])[0].decision

    async def aroute(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> RouteDecision:
        """Decide as `route` does, in a thread, so that the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.route, request, grant=grant, principal=principal)

    def route_many(
        self, requests: Iterable[RouteInput | bytes | JsonValue], *, principal: str | None = None
    ) -> list[RouteDecision]:
        """Decide on several requests in their order; as `route`, but the disk works while the Hall decides."""
        begun: list[tuple[list[_Ruling], Waitable | None]] = []
        waiting = iter(requests)
        while chunk := list(itertools.islice(waiting, CHUNK)):
            part = [self._decide(request, "", principal) for request in chunk]
            begun.append((part, self._submit(part)))
            for ruling in part:
                ruling.forget_case()
        return [ruling.decision for part, stored in begun for ruling in self._finish(part, stored, submitted=True)]

    def decide(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> Evidence:
        """Decide as `route` does, and return all that the receipt says, with every check in order."""
        return self._finish([self._decide(request, grant, principal)])[0].evidence

    def explain(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> Evidence:
        """Return what `decide` would, as a dry run that changes nothing.

        No hold, no used grant, no quarantine, no place in a chain, no receipt and no event comes of it.
        """
        return self._decide(request, grant, principal, rehearsal=True).evidence

    def _decide(
        self, request: RouteInput | bytes | JsonValue, grant: str, principal: str | None, *, rehearsal: bool = False
    ) -> _Ruling:
        """Decide, in a thread of its own where something might block, and deny when that takes too long."""
        started = time.perf_counter_ns()
        if os.getpid() != self._process:
            self._after_fork()
        world = self._world
        deadline = Deadline.after(world.config.decision_seconds)
        asked = _Asked(request, grant, principal, deadline, rehearsal=rehearsal)
        message = "the Hall failed; its log says why"
        try:
            now = self._services.clock()
            known = None if self._closed or grant else known_now(world, now)
            if known is None:  # the threads refuse when the Hall is closed
                left = deadline.remaining()
                ruling = self._decisions.call("Hall", lambda: self._ruled(asked, world, now), seconds=left)
            else:
                ruling = self._ruled(asked, world, now, known)
        except CallbackFailed as problem:
            asked.late = True
            message = f"no decision in time: {problem}"
            ruling = None
        except Exception as error:  # noqa: BLE001  # whatever fails is a denial with a receipt
            _log.error("a decision failed: %s", one_line(error), exc_info=_log.isEnabledFor(logging.DEBUG))
            ruling = None
        if ruling is None:
            reason = DenyReason(Code.INTERNAL_ERROR, message)
            ruling = _Ruling(undecided(world, reason, new_id(), now_ms()), world)
        ruling.elapsed_ns, ruling.asked = time.perf_counter_ns() - started, asked
        return ruling

    def _after_fork(self) -> None:
        """Make anew what a fork must not take along: another thread may have held one of these locks."""
        self._process = os.getpid()
        self._swapping = threading.Lock()
        self._chains, self._rates = Chains(), Rates(self._world.config.requests_per_second)
        self._ban_refresh.after_fork()

    def _ruled(self, asked: _Asked, world: World, now: int, known: Known | None = None) -> _Ruling:
        """Decide. `known`: what could be had without waiting; none in a thread that may wait for the rest."""
        services, request = self._services, asked.request
        decision_id = services.ids()
        try:
            if isinstance(request, bytes) and len(request) > MAX_UNKNOWN_BYTES:
                request = self._large(request, asked, world.config)
            parsed = parse_request(request)
            request_hash, input_hash = fingerprints(parsed)
        except Refusal as refusal:
            reason = DenyReason(refusal.code, refusal.message, refusal.extras)
            return _Ruling(undecided(world, reason, decision_id, now), world)
        except ConfigError as problem:
            return _Ruling(undecided(world, _malformed(problem), decision_id, now), world)
        case = Deciding(
            world=world,
            snapshot=world.registry.snapshot() if known is None else known.snapshot,
            request=parsed,
            input_hash=input_hash,
            request_hash=request_hash,
            now_ms=now,
            grant_id=asked.grant,
            principal=asked.principal,
            callbacks=self._callbacks,
            chains=self._chains,
            rates=self._rates,
            new_id=services.ids,
            config=world.config,
            deadline=asked.deadline,
            lists=None if known is None else known.lists,
            waiting=None if known is None else self._decisions,
            rehearsal=asked.rehearsal,
        )
        refusal_or_none = pass_gates(case)
        ruling = _Ruling(decided(case, refusal_or_none, decision_id, services.task_id), world, case)
        if refusal_or_none is not None or asked.late:
            self._release(case)
        return ruling

    def _large(self, data: bytes, asked: _Asked, config: HallConfig) -> JsonValue:
        """Look at the tenant of a large request before anything else is done with it."""
        if asked.principal is not None:
            check_tenant(config, asked.principal, asked.principal, None, credential_known=False)
        value = strictjson.loads(data, what="request", max_bytes=MAX_REQUEST_BYTES, floats=True, error=WireError)
        if isinstance(value, dict):
            tenant_id, credential = value.get("tenant_id"), value.get("tenant_credential")
            if isinstance(tenant_id, str):
                given = credential if isinstance(credential, str) else None
                check_tenant(config, tenant_id[:MAX_POINTER], asked.principal, given)
        return value

    def _submit(self, part: list[_Ruling]) -> Waitable | None:
        """Begin to store receipts."""
        receipts = self._services.receipts
        if receipts is None or not part:
            return None
        try:
            return receipts.submit([ruling.evidence for ruling in part])
        except Exception as error:  # noqa: BLE001  # a store is foreign code
            if len(part) == 1:
                self._withdraw(part, error)
                return None
        stored = []
        for ruling in part:  # one bad receipt must not cost its neighbours theirs
            try:
                stored.append((ruling, receipts.submit([ruling.evidence])))
            except Exception as error:  # noqa: BLE001
                self._withdraw([ruling], error)
        return _Several(stored, self._withdraw)

    def _finish(self, part: list[_Ruling], stored: Waitable | None = None, *, submitted: bool = False) -> list[_Ruling]:
        """Wait for the receipts, then tell. What has no receipt is not dispatched."""
        stored = stored if submitted else self._submit(part)
        if stored is not None:
            for place, problem in self._problems(part, stored).items():
                self._unstored(part, place, problem)
        events = self._services.events
        for ruling in part if events is not None else ():
            try:
                events.emit(ruling.decision, ruling.elapsed_ns)  # type: ignore[union-attr]  # looked at above
            except Exception as error:  # noqa: BLE001  # telemetry is not evidence: the receipt is stored by now
                _log.error("events could not be sent: %s", one_line(error))
        return part

    @staticmethod
    def _problems(part: list[_Ruling], stored: Waitable) -> dict[int, BaseException]:
        """Wait for the receipts, and return by place which of them are not stored, and why."""
        try:
            single = getattr(stored, "problems", None)
            if single is not None:
                return dict(single())
            stored.wait()
        except Exception as error:  # noqa: BLE001  # a store is foreign code
            return dict.fromkeys(range(len(part)), error)
        return {}

    def _unstored(self, part: list[_Ruling], place: int, problem: BaseException) -> None:
        """Decide once more when a hold or a grant has changed since; deny what has no receipt."""
        ruling = part[place]
        if not isinstance(problem, StateMoved) or ruling.asked is None:
            self._withdraw([ruling], problem)
            return
        if ruling.case is not None:
            self._release(ruling.case)
        again = self._decide(ruling.asked.request, ruling.asked.grant, ruling.asked.principal)
        again.asked = None
        part[place] = self._finish_quietly(again)

    def _finish_quietly(self, ruling: _Ruling) -> _Ruling:
        stored = self._submit([ruling])
        for problem in self._problems([ruling], stored).values() if stored is not None else ():
            self._withdraw([ruling], problem)
        return ruling

    def _withdraw(self, part: list[_Ruling], problem: BaseException) -> None:
        _log.error("receipts could not be stored: %s", one_line(problem))
        for ruling in part:
            if ruling.case is not None:
                self._release(ruling.case)
            ruling.withdraw()

    def _release(self, case: Deciding) -> None:
        """Take a request that is not dispatched out of its chain, once."""
        if case.reserved is not None:
            self._chains.release(*case.reserved)
            case.reserved = None


@dataclass(slots=True)
class _Asked:
    """A request with what came along. `late`: the caller has been told a denial, and whatever is reserved goes back."""

    request: RouteInput | bytes | JsonValue
    grant: str
    principal: str | None
    deadline: Deadline
    rehearsal: bool
    late: bool = False


@dataclass(slots=True)
class _Several:
    """Receipts that are on their way one by one."""

    stored: list[tuple[_Ruling, Waitable]]
    withdraw: Callable[[list[_Ruling], BaseException], None]

    def wait(self) -> None:
        for ruling, each in self.stored:
            try:
                each.wait()
            except Error as problem:
                self.withdraw([ruling], problem)


@dataclass(slots=True)
class _Ruling:
    """A decision on its way out, and the case that it is about, when it came that far."""

    decision: RouteDecision
    world: World
    case: Deciding | None = None
    elapsed_ns: int = 0
    asked: _Asked | None = None

    @property
    def evidence(self) -> Evidence:
        """What its receipt says."""
        if self.case is None:
            return evidence_of_nothing(self.world, self.decision)
        return evidence_of(self.case, self.decision)

    def forget_case(self) -> None:
        """Drop the case, once its evidence is on its way, unless something may have to be taken back."""
        if self.case is not None and self.case.reserved is None:
            self.case = None

    def withdraw(self) -> None:
        """Refuse after all, because the receipt cannot be stored."""
        reason = DenyReason(Code.RECEIPT_UNAVAILABLE, "the receipt could not be stored, so nothing is dispatched")
        self.decision = replace(
            self.decision, outcome="DENY", denied=True, reason=reason, package_path="", pending_approval_id=""
        )


def _same_ledger(services: Services) -> bool:
    """Tell whether holds and receipts go to one ledger, so that one transaction carries both."""
    ledger = getattr(services.approvals, "ledger", None)
    return ledger is not None and ledger is services.receipts


def _check_receipts(receipts: ReceiptStore | None, config: HallConfig) -> None:
    if config.env not in GUARDED_ENVS or config.unsafe_dispatch_without_signed_durable_receipts:
        return
    if not (getattr(receipts, "signed", False) and getattr(receipts, "durable", False)):
        raise ConfigError(
            f"a Hall for {config.env} keeps signed receipts in a state file: open it with a receipt key "
            "(`wcp-attest keygen`), or set unsafe_dispatch_without_signed_durable_receipts"
        )


def _usable(rules: RuleSet | bytes | JsonValue, config: HallConfig) -> RuleSet:
    compiled = rules if isinstance(rules, RuleSet) else read_rules(rules)
    if compiled.shadows and config.env in GUARDED_ENVS:
        first = "; ".join(str(shadow) for shadow in compiled.shadows[:5])
        raise ConfigError(f"{len(compiled.shadows)} rules are unreachable, which {config.env} refuses: {first}")
    return compiled


def _malformed(problem: ConfigError) -> DenyReason:
    pointer = problem.pointer if isinstance(problem, WireError) else "/request"
    return DenyReason(Code.INVALID_INPUT, str(problem)[:MAX_MESSAGE], (("pointer", pointer[:MAX_POINTER]),))
