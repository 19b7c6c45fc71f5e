"""What a Hall works with: its services, among them the store of receipts, and the world it decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import wcp_attest
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.clock import now_ms
from wcp_route.domain.ids import new_id
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.gates.attestation import Attestor
from wcp_route.gates.controls import Controls
from wcp_route.gates.deciding import World
from wcp_route.rules.rules import RuleSet
from wcp_route.rules.rules_model import read_rules
from wcp_route.storage.receipts.writer import Submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wcp_attest import Policy
    from wcp_attest.bans import BanCheck
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Evidence
    from wcp_route.domain.events import EventSink
    from wcp_route.gates.callbacks import Callbacks, Deadline
    from wcp_route.gates.deciding import Availability
    from wcp_route.gates.policy_gate import PolicyGate
    from wcp_route.storage.approvals import ApprovalStore
    from wcp_route.storage.receipts import ReceiptStore
    from wcp_route.storage.receipts.store import Waitable
    from wcp_route.storage.registry import Registry


@dataclass(frozen=True, slots=True)
class Services:
    """What a Hall uses in addition to rules, registry and trust policy.

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


def open_world(
    rules: RuleSet | bytes | JsonValue,
    registry: Registry,
    trust_policy: Policy | None,
    config: HallConfig,
    services: Services,
) -> World:
    """Return what a Hall decides by.

    Args:
        rules: compiled, or the rules document.
        registry: who is enrolled.
        trust_policy: who is trusted for packages; None only where attestation is off.
        config: the settings.
        services: everything else.

    Raises:
        ConfigError: the rules or settings cannot be used, rules are unreachable in prod or edge, there is no trust
            policy, or a Hall for prod or edge has no signed durable receipts.
    """
    receipts = services.receipts
    kept = getattr(receipts, "signed", False) and getattr(receipts, "durable", False)
    if config.env in GUARDED_ENVS and not config.unsafe_dispatch_without_signed_durable_receipts and not kept:
        raise ConfigError(
            f"a Hall for {config.env} keeps signed receipts in a state file: open it with a receipt key "
            "(`wcp-attest keygen`), or set unsafe_dispatch_without_signed_durable_receipts"
        )
    ledger = getattr(services.approvals, "ledger", None)
    return World(
        config=config,
        controls=Controls(config),
        rules=usable_rules(rules, config),
        registry=registry,
        attestor=Attestor.create(trust_policy, config, services.bans),
        policy_gate=services.policy_gate,
        availability=services.availability,
        approvals=services.approvals,
        trust_policy_digest="" if trust_policy is None else trust_policy.digest,
        config_digest=config.digest(),
        keeps_receipts=receipts is not None,
        holds_with_receipts=ledger is not None and ledger is receipts,  # so one transaction carries both
        checked_by_receipts=receipts is not None and getattr(registry, "ledger", None) is receipts,
    )


def usable_rules(rules: RuleSet | bytes | JsonValue, config: HallConfig) -> RuleSet:
    """Return compiled rules.

    Args:
        rules: compiled, or the rules document.
        config: the settings, for the environment.

    Raises:
        ConfigError: they cannot be used, or some are unreachable, which prod and edge refuse.
    """
    compiled = rules if isinstance(rules, RuleSet) else read_rules(rules)
    if compiled.shadows and config.env in GUARDED_ENVS:
        first = "; ".join(str(shadow) for shadow in compiled.shadows[:5])
        raise ConfigError(f"{len(compiled.shadows)} rules are unreachable, which {config.env} refuses: {first}")
    return compiled


def active_in(world: World, trust_policy: Policy | None) -> JsonObject:
    """Return what a world decides by as the ledger keeps it: digests and versions, no content.

    Args:
        world: what a Hall decides by.
        trust_policy: who is trusted for packages; None only where attestation is off.
    """
    gate = world.policy_gate
    return {
        "rules": world.rules.digest,
        "config": world.config_digest,
        "policy_version": world.config.policy_version,
        "trust_policy": world.trust_policy_digest,
        "trust_policy_files": "" if trust_policy is None else trust_policy.content_digest,
        "policy_gate": "" if gate is None else str(getattr(gate, "version", None) or type(gate).__qualname__)[:200],
        "availability": world.availability is not None,
        "approvals": "" if world.approvals is None else "ledger" if world.holds_with_receipts else "elsewhere",
        "program": wcp_attest.__version__,
    }


@dataclass(frozen=True, slots=True)
class SubmittedElsewhere:
    """Receipts on their way to a store of others, in the form of the ledger's own `Submitted`.

    Attributes:
        waitable: what the store returned.
        threads: where it is waited for.
        deadline: of the last decision among them.
        is_durable: False, because only the store knows.
    """

    waitable: Waitable
    threads: Callbacks
    deadline: Deadline
    is_durable: bool = False

    def problems(self) -> Mapping[int, BaseException]:
        """Wait in a thread, until the deadline. Raises what prevents the receipts; otherwise there are no problems."""
        self.threads.call("receipt store", self.waitable.wait, seconds=self.deadline.remaining())
        return {}

    def when_settled(self, told: Callable[[], None]) -> None:
        """Call `told` at once, because only `problems` waits for such a store.

        Args:
            told: called once.
        """
        told()


OnTheWay: TypeAlias = Submitted | SubmittedElsewhere


def hand_over(
    evidence: Sequence[Evidence], receipts: ReceiptStore, deadline: Deadline, threads: Callbacks, *, current: bool
) -> OnTheWay:
    """Give evidence to the store, with what is left of the deadline; a store of others is called under it.

    Args:
        evidence: the content of the receipts, in order.
        receipts: the store.
        deadline: of the last decision among them.
        threads: where a store of others is called.
        current: whether the store is the ledger of the registry, and refuses what the registry has overtaken.

    Raises:
        Exception: what the store raises; `CallbackFailed` for a store of others.
    """
    store: Any = receipts
    seconds = deadline.remaining()
    if not getattr(store, "keeps_deadlines", False):
        stored = threads.call("receipt store", lambda: store.submit(evidence, seconds=seconds), seconds=seconds)
    elif current:
        stored = store.submit(evidence, seconds=seconds, current=True)
    else:
        stored = store.submit(evidence, seconds=seconds)
    return stored if isinstance(stored, Submitted) else SubmittedElsewhere(stored, threads, deadline)
