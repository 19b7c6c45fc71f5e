"""The Hall: every request gets a decision, and only an attested worker is ever dispatched.

    hall = Hall(rules, registry, trust_policy, HallConfig(env="prod"))
    decision = hall.route({"capability_id": "cap.doc.summarize", "tenant_id": "acme", …})
    if not decision.denied:
        run(decision.package_path)

`route` never raises and never hangs: malformed input, a failing callback, a full disk and bugs in the Hall itself give
denials with a code. `decision_seconds` is the deadline of each decision and its receipt. The same input, judged by the
same world at the same time with the same ids, gives the same decision.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.clock import now_ms
from wcp_route.domain.closing import Closing
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import DenyReason
from wcp_route.domain.events import one_line
from wcp_route.domain.ids import new_id
from wcp_route.domain.request_hash import fingerprints
from wcp_route.domain.request_model import MAX_REQUEST_BYTES, parse_request
from wcp_route.domain.wire_model import WireError
from wcp_route.gates.ban_refresh import BanRefresh
from wcp_route.gates.blast import Chains, Rates
from wcp_route.gates.callbacks import CallbackFailed, Callbacks, Deadline
from wcp_route.gates.deciding import Deciding, World, decided, evidence_of, evidence_of_nothing, known_now, undecided
from wcp_route.gates.pipeline import pass_gates
from wcp_route.gates.refusal import Refusal
from wcp_route.gates.table import check_tenant
from wcp_route.hall_world import Services, active_in, hand_over, open_world
from wcp_route.storage.state_errors import StateMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Evidence, RouteDecision
    from wcp_route.domain.values import RouteInput
    from wcp_route.gates.deciding import AtHand
    from wcp_route.hall_world import OnTheWay
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.registry import Registry

__all__ = ["Begun", "Hall", "Services"]

_log = logging.getLogger("wcp_route")

CHUNK: Final = 128  # decisions whose receipts `route_many` hands over together
MAX_MESSAGE: Final = 1024  # characters of what is wrong with an input that are repeated
MAX_POINTER: Final = 256  # characters of where it is wrong
MAX_UNKNOWN_BYTES: Final = 16 << 10  # of a request whose tenant has not been looked at; a larger one is looked at first
MAX_ANEW: Final = 50  # times that a request is decided because what it was decided from has changed meanwhile
SHARE_OF_GATES: Final = 0.8  # of the time for a decision; what is left is for its receipt, also that of a late denial


class Hall(Closing):
    """Decides on requests. Safe to share between threads; a context manager that closes it at the end.

    Opening a Hall writes to the ledger what is in force, and starts to refresh the ban lists of the trust policy.

    Args:
        rules: compiled rules, or the rules document.
        registry: who is enrolled.
        trust_policy: who is trusted for packages; None only where the settings switch attestation off.
        config: the settings.
        services: everything else.

    Attributes:
        world: what the Hall decides by at this moment; `swap` replaces it.

    Raises:
        ConfigError: the rules or settings cannot be used, rules are unreachable in prod or edge, there is no trust
            policy, a Hall for prod or edge has no signed durable receipts, or the ledger cannot be written.
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
        self.world = open_world(rules, registry, trust_policy, config, self._services)
        self._policy = trust_policy
        self._activate(self.world, trust_policy)
        self._callbacks = Callbacks(config.callback_seconds)
        self._decisions = Callbacks(config.decision_seconds)
        self._telling = Callbacks(config.callback_seconds)  # of its own: a sink that hangs must not use up the others
        self._rates = Rates(config.requests_per_second)
        self._chains = Chains()
        self._swapping = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._ban_refresh = BanRefresh(trust_policy)

    def _activate(self, world: World, trust_policy: Policy | None) -> None:
        """Record what is in force from now on, when receipts are kept in a ledger."""
        activate = getattr(self._services.receipts, "activate", None)
        if activate is not None:
            activate(world.config.env, active_in(world, trust_policy))

    def close(self) -> None:
        """End the Hall's threads; every later request is denied. Registry, approvals and receipts stay open."""
        self._closed = True
        for threads in (self._callbacks, self._decisions, self._telling):
            threads.close()
        self._ban_refresh.end()

    def swap(
        self,
        *,
        rules: RuleSet | bytes | JsonValue = None,
        trust_policy: Policy | None = None,
        config: HallConfig | None = None,
    ) -> None:
        """Put other rules, another trust policy or other settings in force for every decision from now on.

        Args:
            rules: compiled, or the document; None keeps the present ones.
            trust_policy: the new policy; None keeps the present one.
            config: the new settings, of the same environment; None keeps the present ones.

        Raises:
            ConfigError: they cannot be used, or the ledger cannot be written; nothing has changed.
        """
        with self._swapping:
            if self._closed:
                raise ConfigError("the Hall is closed; nothing has changed")
            before, policy = self.world, self._policy if trust_policy is None else trust_policy
            settings = before.config if config is None else config
            if settings.env != before.config.env:
                raise ConfigError(f"a Hall stays in its environment, {before.config.env}; open another for the new one")
            world = open_world(
                before.rules if rules is None else rules, before.registry, policy, settings, self._services
            )
            if policy is self._policy and settings == before.config:
                world = replace(world, attestor=before.attestor)  # it remembers what it has verified
            self._activate(world, policy)
            if policy is not self._policy:
                self._ban_refresh.end()
                self._ban_refresh = BanRefresh(policy)
            self.world, self._policy = world, policy
            self._callbacks.seconds = self._telling.seconds = settings.callback_seconds
            self._decisions.seconds = settings.decision_seconds
            if settings.requests_per_second != before.config.requests_per_second:
                self._rates = Rates(settings.requests_per_second)

    def route(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> RouteDecision:
        """Decide on one request.

        Args:
            request: JSON text, the parsed object, or a value.
            grant: the approval grant that a human gave for this very request.
            principal: the tenant that the transport authenticated, when it did.

        Returns:
            The decision; its receipt is already durable.
        """
        part = [self._decide(self._asked(request, grant, principal))]
        return self._finish(part, self._submit(part))[0].decision

    def begin(
        self,
        request: RouteInput | bytes | JsonValue,
        *,
        grant: str = "",
        principal: str | None = None,
        told: Callable[[], None],
    ) -> Begun:
        """Decide as `route` does, and return while the receipt is still on its way to the disk.

        Args:
            request: JSON text, the parsed object, or a value.
            grant: the approval grant that a human gave for this very request.
            principal: the tenant that the transport authenticated, when it did.
            told: called, perhaps twice and in another thread, when it is known whether the receipt is durable; it must
                return at once. It is not called when the deadline of the decision comes first.

        Returns:
            The decision that `Begun.finish` hands out once its receipt is durable.
        """
        part = [self._decide(self._asked(request, grant, principal))]
        stored = self._submit(part)
        if stored is None:
            told()
        else:
            stored.when_settled(told)
        return Begun(self, part, stored)

    async def aroute(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> RouteDecision:
        """Decide as `route` does, in a thread, so that the event loop goes on meanwhile; see there."""
        return await asyncio.to_thread(self.route, request, grant=grant, principal=principal)

    def route_many(
        self, requests: Iterable[RouteInput | bytes | JsonValue], *, principal: str | None = None
    ) -> list[RouteDecision]:
        """Decide on several requests in their order; as `route`, but the disk works while the Hall decides.

        It waits for the receipts of 128 requests together, until the deadline of the last of them.

        Args:
            requests: JSON texts, parsed objects or values.
            principal: the tenant that the transport authenticated; None when it does not say.
        """
        begun: list[tuple[list[_Ruling], OnTheWay | None]] = []
        waiting = iter(requests)
        while chunk := list(itertools.islice(waiting, CHUNK)):
            part = [self._decide(self._asked(request, "", principal)) for request in chunk]
            begun.append((part, self._submit(part)))
            for ruling in part:  # drop the case, once its evidence is on its way, unless something may be taken back
                if ruling.case is not None and ruling.case.reserved is None:
                    ruling.case = None
        return [ruling.decision for part, stored in begun for ruling in self._finish(part, stored)]

    def decide(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> Evidence:
        """Decide as `route` does, and return all that the receipt says, with every check in order.

        Args:
            request: JSON text, the parsed object, or a value.
            grant: the approval grant that a human gave for this very request; empty for none.
            principal: the tenant that the transport authenticated; None when it does not say.
        """
        part = [self._decide(self._asked(request, grant, principal))]
        return self._finish(part, self._submit(part))[0].evidence

    def explain(
        self, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
    ) -> Evidence:
        """Return what `decide` would, as a dry run that changes nothing.

        It makes no hold, receipt or event, uses up no grant, quarantines no worker and adds to no chain.

        Args:
            request: JSON text, the parsed object, or a value.
            grant: the approval grant that a human gave for this very request; empty for none.
            principal: the tenant that the transport authenticated; None when it does not say.
        """
        return self._decide(self._asked(request, grant, principal, rehearsal=True)).evidence

    def _asked(
        self, request: RouteInput | bytes | JsonValue, grant: str, principal: str | None, *, rehearsal: bool = False
    ) -> _Asked:
        seconds = self.world.config.decision_seconds
        return _Asked(request, grant, principal, Deadline.after(seconds), seconds, rehearsal=rehearsal)

    def _decide(self, asked: _Asked) -> _Ruling:
        """Decide, in a thread of its own where something might block, and deny when that takes too long."""
        started = time.perf_counter_ns()
        if os.getpid() != self._process:  # another thread may have held one of these locks when it was forked
            self._process, self._swapping = os.getpid(), threading.Lock()
            self._chains, self._rates = Chains(), Rates(self.world.config.requests_per_second)
            self._ban_refresh.after_fork()
        world = self.world
        message = "the Hall failed; its log says why"
        try:
            now = self._services.clock()
            known = None if self._closed or asked.grant else known_now(world, now, rehearsal=asked.rehearsal)
            if known is None:  # the threads refuse when the Hall is closed
                seconds = asked.for_gates.remaining()
                ruling = self._decisions.call("Hall", lambda: self._ruled(asked, world, now), seconds=seconds)
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
            ruling = _Ruling(undecided(world, reason, new_id(), now_ms()), world, asked)
        ruling.elapsed_ns = time.perf_counter_ns() - started
        return ruling

    def _ruled(self, asked: _Asked, world: World, now: int, known: AtHand | None = None) -> _Ruling:
        """Decide. `known`: what is available without waiting; None in a thread that may wait for it."""
        services, request = self._services, asked.request
        decision_id = services.ids()
        try:
            if isinstance(request, bytes) and len(request) > MAX_UNKNOWN_BYTES:
                request = self._large(request, asked, world.config)
            parsed = parse_request(request)
            request_hash, input_hash = fingerprints(parsed)
        except Refusal as refusal:
            reason = DenyReason(refusal.code, refusal.message, refusal.extras)
            return _Ruling(undecided(world, reason, decision_id, now), world, asked)
        except ConfigError as problem:
            pointer = problem.pointer if isinstance(problem, WireError) else "/request"
            said = (("pointer", pointer[:MAX_POINTER]),)
            reason = DenyReason(Code.INVALID_INPUT, str(problem)[:MAX_MESSAGE], said)
            return _Ruling(undecided(world, reason, decision_id, now), world, asked)
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
            deadline=asked.for_gates,
            lists=None if known is None else known.lists,
            waiting=None if known is None else self._decisions,
            rehearsal=asked.rehearsal,
        )
        refusal_or_none = pass_gates(case)
        ruling = _Ruling(decided(case, refusal_or_none, decision_id, services.task_id), world, asked, case)
        if refusal_or_none is not None or asked.late:
            self._release(ruling)
        return ruling

    def _large(self, data: bytes, asked: _Asked, config: HallConfig) -> JsonValue:
        """Check the tenant of a large request before anything else is done with the request."""
        if asked.principal is not None:
            check_tenant(config, asked.principal, asked.principal, None, credential_known=False)
        value = strictjson.loads(data, what="request", max_bytes=MAX_REQUEST_BYTES, floats=True, error=WireError)
        if isinstance(value, dict):
            tenant_id, credential = value.get("tenant_id"), value.get("tenant_credential")
            if isinstance(tenant_id, str):
                given = credential if isinstance(credential, str) else None
                check_tenant(config, tenant_id[:MAX_POINTER], asked.principal, given)
        return value

    def _submit(self, part: list[_Ruling]) -> OnTheWay | None:
        """Begin to store receipts; None when there is nothing to wait for."""
        receipts = self._services.receipts
        if receipts is None or not part:
            return None
        try:
            current, deadline = part[-1].world.checked_by_receipts, part[-1].asked.deadline
            return hand_over([ruling.evidence for ruling in part], receipts, deadline, self._decisions, current=current)
        except Exception as error:  # noqa: BLE001  # a store is foreign code
            if len(part) == 1:
                self._withdraw(part, error)
                return None
        for place, ruling in enumerate(part):  # one bad receipt must not prevent the others
            for problem in self._problems([ruling], self._submit([ruling])).values():
                self._unstored(part, place, problem)
        return None

    def _finish(self, part: list[_Ruling], stored: OnTheWay | None) -> list[_Ruling]:
        """Wait for the receipts, then call the event sinks. A request without a receipt is not dispatched."""
        for place, problem in self._problems(part, stored).items():
            self._unstored(part, place, problem)
        events = self._services.events
        for ruling in part if events is not None else ():
            tell = functools.partial(events.emit, ruling.decision, ruling.elapsed_ns)  # type: ignore[union-attr]
            try:
                if getattr(events, "never_waits", False):
                    tell()
                else:  # in the caller's context, which carries its trace
                    context, seconds = contextvars.copy_context(), ruling.asked.deadline.remaining()
                    self._telling.call("event sink", functools.partial(context.run, tell), seconds=seconds)
            except Exception as error:  # noqa: BLE001  # telemetry is not evidence: the receipt is stored by now
                _log.error("events could not be sent: %s", one_line(error))
        return part

    def _problems(self, part: Sequence[_Ruling], stored: OnTheWay | None) -> Mapping[int, BaseException]:
        """Wait for the receipts, and return the errors of those that are not stored, by place."""
        try:
            return {} if stored is None else stored.problems()
        except Exception as error:  # noqa: BLE001  # a store is foreign code
            return dict.fromkeys(range(len(part)), error)

    def _unstored(self, part: list[_Ruling], place: int, problem: BaseException) -> None:
        """Decide again when the registry, a hold or a grant has changed since; deny what has no receipt."""
        for _ in range(MAX_ANEW):
            if not isinstance(problem, StateMoved):
                break
            self._release(part[place])
            part[place] = self._decide(part[place].asked)  # by the same deadline
            found = self._problems([part[place]], self._submit([part[place]]))
            if not found:
                return
            problem = found[0]
        self._withdraw([part[place]], problem)

    def _withdraw(self, part: Sequence[_Ruling], problem: BaseException) -> None:
        """Turn decisions into denials, because their receipts cannot be stored."""
        _log.error("receipts could not be stored: %s", one_line(problem))
        reason = DenyReason(Code.RECEIPT_UNAVAILABLE, "the receipt could not be stored, so nothing is dispatched")
        for ruling in part:
            self._release(ruling)
            ruling.decision = replace(
                ruling.decision, outcome="DENY", denied=True, reason=reason, package_path="", pending_approval_id=""
            )

    def _release(self, ruling: _Ruling) -> None:
        """Subtract a request that is not dispatched from its chain, once."""
        case = ruling.case
        if case is not None and case.reserved is not None:
            self._chains.release(*case.reserved)
            case.reserved = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A decision whose receipt is being stored. Only `finish` tells what was decided."""

    hall: Hall
    part: list[_Ruling]
    stored: OnTheWay | None

    def is_at_hand(self) -> bool:
        """Tell whether `finish` returns without waiting for a disk, a deadline or an event sink."""
        events = self.hall._services.events  # noqa: SLF001  # of this module
        if events is not None and not getattr(events, "never_waits", False):
            return False
        return self.stored is None or self.stored.is_durable

    def is_late(self) -> bool:
        """Tell whether the deadline of the decision has come."""
        return self.part[-1].asked.deadline.remaining() <= 0

    def finish(self) -> RouteDecision:
        """Return the decision when its receipt is durable; call it once.

        As with `route`, a request whose receipt cannot be stored by the deadline is denied, and it is decided on again
        when the registry, a hold or a grant has changed since.
        """
        return self.hall._finish(self.part, self.stored)[0].decision  # noqa: SLF001  # of this module


@dataclass(slots=True)
class _Asked:
    """A request, its grant and principal, and its deadline.

    Attributes:
        deadline: of the decision with its receipt.
        seconds: how long that was at the beginning.
        rehearsal: the decision must change nothing.
        late: the caller was given a denial already, so what is reserved must be released.
    """

    request: RouteInput | bytes | JsonValue
    grant: str
    principal: str | None
    deadline: Deadline
    seconds: float
    rehearsal: bool = False
    late: bool = False

    @property
    def for_gates(self) -> Deadline:
        """The earlier deadline of everything before the receipt."""
        return Deadline(self.deadline.at - self.seconds * (1 - SHARE_OF_GATES))


@dataclass(slots=True)
class _Ruling:
    """A decision before it is returned, and its case; None when the input never became a request."""

    decision: RouteDecision
    world: World
    asked: _Asked
    case: Deciding | None = None
    elapsed_ns: int = 0

    @property
    def evidence(self) -> Evidence:
        """What its receipt says."""
        if self.case is None:
            return evidence_of_nothing(self.world, self.decision, self.asked.principal)
        return evidence_of(self.case, self.decision)
