"""For programs written against the earlier SDKs: `make_decision(route_input, registry, options)`.

    options = Options(rules=rules, trust_policy=load_policy("trust.toml"), config=HallConfig(env="prod"))
    decision = make_decision({"capability_id": "cap.doc.summarize", …}, registry, options)
    if decision.denied:
        print(decision.deny_reason_if_denied["code"])

What comes back is the wire model, with the fields those SDKs read. What does not come back is their leniency: unknown
fields, misspelt match keys and unattested workers are refused here.
"""

from __future__ import annotations

import copy
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wcp_route.domain.decision_wire import to_wire
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.values import RouteInput
    from wcp_route.gates.policy_gate import PolicyContext
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.registry import Registry

MAX_HALLS = 16  # kept open, one for each pair of options and registry


@dataclass(frozen=True, slots=True)
class Options:
    """What `make_decision` decides by.

    Attributes:
        rules: compiled, or the document.
        trust_policy: who is trusted about packages.
        config: the Hall's settings.
        services: everything else.
        grant: the approval that a human gave.
        principal: the tenant that the transport authenticated.
    """

    rules: RuleSet | bytes | JsonValue
    trust_policy: Policy | None
    config: HallConfig
    services: Services = field(default_factory=Services)
    grant: str = ""
    principal: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LegacyDecision:
    """A decision whose members of the wire object are attributes, as the earlier SDK's model had them.

    Args:
        wire: what `to_wire` made.
    """

    _wire: JsonObject

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._wire:
            raise AttributeError(f"a decision has no member {name!r}")
        return self._wire[name]

    def model_dump(self, **_: object) -> JsonObject:
        """Return all members as a JSON object, as the earlier SDK's model did.

        Args:
            _: keywords of that model, which change nothing here.

        Returns:
            A copy; changing it does not change the decision.
        """
        return copy.deepcopy(self._wire)

    to_dict = model_dump


_halls: dict[tuple[int, int], tuple[Options, Registry, Hall]] = {}
_making = threading.Lock()


def _after_fork() -> None:
    """Take another lock: a thread that the child does not have may hold this one."""
    global _making  # noqa: PLW0603
    _making = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def make_decision(route_input: RouteInput | bytes | JsonValue, registry: Registry, options: Options) -> LegacyDecision:
    """Decide on one request; never raises for the request's sake.

    Args:
        route_input: JSON text, the parsed object, or a value.
        registry: who is enrolled.
        options: everything else; keep one and pass it again, its rules are compiled once.

    Raises:
        ConfigError: the options cannot be used.
    """
    # One Hall for these options and this registry; the values kept beside it keep their identities unique.
    key = (id(options), id(registry))
    with _making:
        known = _halls.get(key)
        if known is None:
            hall = Hall(options.rules, registry, options.trust_policy, options.config, services=options.services)
            if len(_halls) >= MAX_HALLS:  # not closed here: another thread may decide in it; it ends with its last user
                del _halls[next(iter(_halls))]
            known = _halls[key] = (options, registry, hall)
    decision = known[2].route(route_input, grant=options.grant, principal=options.principal)
    return LegacyDecision(to_wire(decision, operator=True))


@dataclass(frozen=True, slots=True)
class LegacyGate:
    """A policy gate in the earlier SDKs' form: functions that it asks one after the other.

    Attributes:
        function: takes a context mapping; returns decision, policy version and reason. None allows.
        envelope: returns the privilege envelope of a species; asked only beside `allows`.
        allows: takes environment, data label and envelope; tells whether that is allowed, and why not.
    """

    function: Callable[[Mapping[str, str]], tuple[str, str, str]] | None
    envelope: Callable[[str], Mapping[str, Any] | None] | None = None
    allows: Callable[[str, str, Any], tuple[bool, str]] | None = None

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Ask about the envelope, then about the request; what is no answer is refused by the Hall.

        Args:
            context: what the Hall knows about the request.
        """
        request = context.request
        if self.allows is not None and self.envelope is not None:
            held = self.envelope(context.worker.worker_species_id) or {}
            allowed, reason = self.allows(request.env, request.data_label, held)
            if allowed is not True:
                return PolicyAnswer("DENY", context.policy_version, f"privilege: {reason}")
        if self.function is None:
            return PolicyAnswer("ALLOW", context.policy_version)
        decision, version, reason = self.function(
            {
                "capability_id": request.capability_id,
                "tenant_id": request.tenant_id,
                "env": request.env,
                "data_label": request.data_label,
                "tenant_risk": request.tenant_risk,
                "qos_class": request.qos_class,
                "policy_version": context.policy_version,
            }
        )
        return PolicyAnswer(decision, version, reason)  # type: ignore[arg-type]  # the Hall checks it
