"""For programs written against the earlier SDKs: `make_decision(route_input, registry, options)`.

    options = Options(rules=rules, trust_policy=load_policy("trust.toml"), config=HallConfig(env="prod"))
    decision = make_decision({"capability_id": "cap.doc.summarize", …}, registry, options)
    if decision.denied:
        print(decision.deny_reason_if_denied["code"])

What comes back is the wire model, with the fields those SDKs read. What does not come back is their leniency: unknown
fields, misspelt match keys and unattested workers are refused here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wcp_route.domain.decision_model import RouteDecisionModel, to_wire
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.values import RouteInput
    from wcp_route.gates.policy_gate import PolicyContext
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.registry import Registry

MAX_HALLS = 64  # one for each registry that decisions are made with


@dataclass(frozen=True, slots=True)
class Options:
    """What `make_decision` decides by.

    Attributes:
        rules: compiled, or the document.
        trust_policy: who is believed about packages.
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


_halls: dict[tuple[int, int], tuple[Options, Registry, Hall]] = {}
_making = threading.Lock()


def make_decision(
    route_input: RouteInput | bytes | JsonValue, registry: Registry, options: Options
) -> RouteDecisionModel:
    """Decide on one request; never raises for the request's sake.

    Args:
        route_input: JSON text, the parsed object, or a value.
        registry: who is enrolled.
        options: everything else; keep one and pass it again, its rules are compiled once.

    Raises:
        ConfigError: the options cannot be used.
    """
    decision = _hall(registry, options).route(route_input, grant=options.grant, principal=options.principal)
    return RouteDecisionModel.model_validate(to_wire(decision))


def _hall(registry: Registry, options: Options) -> Hall:
    """Return the Hall of these options and this registry; the values kept beside it keep their identities unique."""
    key = (id(options), id(registry))
    with _making:
        known = _halls.get(key)
        if known is None:
            hall = Hall(options.rules, registry, options.trust_policy, options.config, services=options.services)
            if len(_halls) >= MAX_HALLS:
                _halls.pop(next(iter(_halls)))
            known = _halls[key] = (options, registry, hall)
    return known[2]


@dataclass(frozen=True, slots=True)
class LegacyGate:
    """A policy gate in the earlier SDKs' form: a function of a context mapping that returns three values.

    Attributes:
        function: returns decision, policy version and reason.
    """

    function: Callable[[Mapping[str, str]], tuple[str, str, str]]

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Ask the function; what is no such answer is refused by the Hall."""
        request = context.request
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
