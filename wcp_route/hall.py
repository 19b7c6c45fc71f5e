"""The Hall: every request gets a decision, and only an attested worker is ever dispatched.

    hall = Hall(rules, registry, trust_policy, HallConfig(env="prod"))
    decision = hall.route({"capability_id": "cap.doc.summarize", "tenant_id": "acme", …})
    if not decision.denied:
        run(decision.package_path)

`route` never raises and never hangs: malformed input, a failing callback, a full disk and bugs of our own are denials
with a code. The same input, judged by the same world at the same time with the same ids, gives the same decision.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import DenyReason
from wcp_route.domain.ids import new_id
from wcp_route.domain.request_hash import fingerprints
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.domain.wire_model import WireError
from wcp_route.gates.attestation import Attestor, check_seal_directory
from wcp_route.gates.blast import Chains
from wcp_route.gates.callbacks import Callbacks, Caught
from wcp_route.gates.controls import Controls
from wcp_route.gates.deciding import Case, World
from wcp_route.gates.outcome import decided, evidence_of, evidence_of_nothing, undecided
from wcp_route.gates.pipeline import pass_gates
from wcp_route.rules.rules import RuleSet
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
_FAILED = DenyReason(Code.INTERNAL_ERROR, "the Hall failed; its log says why")


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
    """Decides. Safe to share between threads.

    Args:
        rules: compiled rules, or the rules document.
        registry: who is enrolled.
        trust_policy: who is believed about packages; None only where the settings switch attestation off.
        config: the settings.
        services: everything else.

    Raises:
        ConfigError: the rules or settings cannot be used, rules are unreachable in prod or edge, or there is no
            trust policy.
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
        self._callbacks = Callbacks(config.callback_seconds)
        self._chains = Chains()
        self._swapping = threading.Lock()
        self._world = World(
            config=config,
            controls=Controls(config),
            rules=_usable(rules, config),
            registry=registry,
            attestor=_attestor(trust_policy, config, self._services.bans),
            policy_gate=self._services.policy_gate,
            availability=self._services.availability,
            approvals=self._services.approvals,
            trust_policy_digest="" if trust_policy is None else trust_policy.digest,
            config_digest=config.digest(),
        )

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
                attestor = _attestor(trust_policy, world.config, self._services.bans)
                world = replace(world, attestor=attestor, trust_policy_digest=trust_policy.digest)
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
        return self._settled(self._decide(request, grant, principal)).decision

    def route_many(
        self, requests: Sequence[RouteInput | bytes | JsonValue], *, principal: str | None = None
    ) -> list[RouteDecision]:
        """Decide on several requests in their order; as `route`, but the disk works while the Hall decides."""
        begun: list[tuple[list[_Ruling], Waitable | None]] = []
        for start in range(0, len(requests), CHUNK):
            part = [self._decide(request, "", principal) for request in requests[start : start + CHUNK]]
            begun.append((part, self._submit(part)))
            for ruling in part:
                ruling.let_go()
        return [ruling.decision for part, stored in begun for ruling in self._finish(part, stored)]

    def explain(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> Evidence:
        """Decide as `route` does, and return all that the receipt says, with every check in order."""
        return self._settled(self._decide(request, grant, principal)).evidence

    def _decide(self, request: RouteInput | bytes | JsonValue, grant: str, principal: str | None) -> _Ruling:
        started = time.perf_counter_ns()
        ruling: _Ruling | None = None
        caught = Caught()
        with caught:
            ruling = self._ruled(request, grant, principal)
        if ruling is None:
            _log.error("a decision failed unexpectedly", exc_info=caught.error)
            world = self._world
            ruling = _Ruling(undecided(world, _FAILED, new_id(), now_ms()), world)
        ruling.elapsed_ns = time.perf_counter_ns() - started
        return ruling

    def _ruled(self, request: RouteInput | bytes | JsonValue, grant: str, principal: str | None) -> _Ruling:
        world, services = self._world, self._services
        now, decision_id = services.clock(), services.ids()
        try:
            parsed = parse_request(request)
            request_hash, input_hash = fingerprints(parsed)
        except ConfigError as problem:
            return _Ruling(undecided(world, _malformed(problem), decision_id, now), world)
        case = Case(
            world=world,
            snapshot=world.registry.snapshot(),
            request=parsed,
            input_hash=input_hash,
            request_hash=request_hash,
            now_ms=now,
            grant_id=grant,
            principal=principal,
            callbacks=self._callbacks,
            chains=self._chains,
            new_id=services.ids,
            config=world.config,
        )
        refusal = pass_gates(case)
        if case.reserved is not None and (refusal is not None or parsed.dry_run):
            self._chains.release(*case.reserved)
        return _Ruling(decided(case, refusal, decision_id, services.task_id), world, case)

    def _settled(self, ruling: _Ruling) -> _Ruling:
        part = [ruling]
        return self._finish(part, self._submit(part))[0]

    def _submit(self, part: list[_Ruling]) -> Waitable | None:
        """Begin to store receipts."""
        receipts = self._services.receipts
        if receipts is None:
            return None
        stored: Waitable | None = None
        caught = Caught()
        with caught:
            stored = receipts.submit([ruling.evidence for ruling in part])
        if caught.error is not None:
            self._withdraw(part, caught.error)
        return stored

    def _finish(self, part: list[_Ruling], stored: Waitable | None) -> list[_Ruling]:
        """Wait for the receipts, then tell. What has no receipt is not dispatched."""
        if stored is not None:
            caught = Caught()
            with caught:
                stored.wait()
            if caught.error is not None:
                self._withdraw(part, caught.error)
        events = self._services.events
        if events is not None:
            for ruling in part:
                _tell(events, ruling)
        return part

    def _withdraw(self, part: list[_Ruling], problem: BaseException) -> None:
        _log.error("receipts could not be stored", exc_info=problem)
        for ruling in part:
            if ruling.case is not None and ruling.case.reserved is not None and not ruling.decision.denied:
                self._chains.release(*ruling.case.reserved)
            ruling.withdraw()


@dataclass(slots=True)
class _Ruling:
    """A decision on its way out, and the case that it is about, when it came that far."""

    decision: RouteDecision
    world: World
    case: Case | None = None
    elapsed_ns: int = 0

    @property
    def evidence(self) -> Evidence:
        """What its receipt says."""
        if self.case is None:
            return evidence_of_nothing(self.world, self.decision)
        return evidence_of(self.case, self.decision)

    def let_go(self) -> None:
        """Drop the case, once its evidence is on its way, unless something may have to be taken back."""
        if self.case is not None and self.case.reserved is None:
            self.case = None

    def withdraw(self) -> None:
        """Refuse after all, because the receipt cannot be stored."""
        reason = DenyReason(Code.RECEIPT_UNAVAILABLE, "the receipt could not be stored, so nothing is dispatched")
        self.decision = replace(
            self.decision, outcome="DENY", denied=True, reason=reason, package_path="", pending_approval_id=""
        )


def _attestor(policy: Policy | None, config: HallConfig, bans: tuple[BanCheck, ...]) -> Attestor | None:
    if config.unsafe_dispatch_workers_without_attestation:
        _log.warning("UNSAFE: this Hall dispatches workers without attestation; anything may run")
        return None
    if policy is None:
        raise ConfigError("a Hall needs a trust policy to attest workers by; load one with wcp_attest.load_policy")
    if config.attestation == "sealed":
        check_seal_directory(config.seal_directory)
    return Attestor.create(policy, config, bans)


def _usable(rules: RuleSet | bytes | JsonValue, config: HallConfig) -> RuleSet:
    compiled = rules if isinstance(rules, RuleSet) else read_rules(rules)
    if compiled.shadows and config.env in GUARDED_ENVS:
        first = "; ".join(str(shadow) for shadow in compiled.shadows[:5])
        raise ConfigError(f"{len(compiled.shadows)} rules are unreachable, which {config.env} refuses: {first}")
    return compiled


def _malformed(problem: ConfigError) -> DenyReason:
    pointer = problem.pointer if isinstance(problem, WireError) else "/request"
    return DenyReason(Code.INVALID_INPUT, str(problem)[:MAX_MESSAGE], (("pointer", pointer),))


def _tell(events: EventSink, ruling: _Ruling) -> None:
    caught = Caught()
    with caught:
        events.emit(ruling.decision, ruling.elapsed_ns)
    if caught.error is not None:  # telemetry is not evidence: the receipt is, and it is stored by now
        _log.error("events could not be sent", exc_info=caught.error)
