"""Route only to attested workers (docs/route; "conformance row 8" is a row of docs/route/conformance.md).

    from wcp_attest import load_policy
    from wcp_route import Hall, HallConfig, Services, open_state

    state = open_state("hall.db", signer=signer)
    services = Services(approvals=state.approvals, receipts=state.ledger)
    hall = Hall(rules, state.registry, load_policy("trust.toml"), HallConfig(env="prod"), services=services)
    decision = hall.route(request)
    if not decision.denied:
        run(decision.package_path)

Names are imported when they are first used, so that `import wcp_route` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wcp_route.compat.legacy_options import LegacyGate as LegacyGate
    from wcp_route.compat.legacy_options import Options as Options
    from wcp_route.compat.legacy_options import make_decision as make_decision
    from wcp_route.config import Ceiling as Ceiling
    from wcp_route.config import HallConfig as HallConfig
    from wcp_route.config_model import read_config as read_config
    from wcp_route.domain.codes import Code as Code
    from wcp_route.domain.compliance import check_compliance as check_compliance
    from wcp_route.domain.decision import Check as Check
    from wcp_route.domain.decision import Evidence as Evidence
    from wcp_route.domain.decision import RouteDecision as RouteDecision
    from wcp_route.domain.decision_wire import to_wire as to_wire
    from wcp_route.domain.events import events as events
    from wcp_route.domain.record import WorkerRecord as WorkerRecord
    from wcp_route.domain.record_model import read_record as read_record
    from wcp_route.domain.request_model import parse_request as parse_request
    from wcp_route.domain.values import RouteInput as RouteInput
    from wcp_route.gates.cedar import CedarGate as CedarGate
    from wcp_route.gates.policy_gate import PolicyAnswer as PolicyAnswer
    from wcp_route.gates.policy_gate import PolicyContext as PolicyContext
    from wcp_route.gates.policy_gate import PolicyGate as PolicyGate
    from wcp_route.hall import Hall as Hall
    from wcp_route.hall import Services as Services
    from wcp_route.rules.rules import RuleSet as RuleSet
    from wcp_route.rules.rules_model import read_rules as read_rules
    from wcp_route.storage.approvals import ApprovalStore as ApprovalStore
    from wcp_route.storage.approvals import Approver as Approver
    from wcp_route.storage.registry import Registry as Registry
    from wcp_route.storage.state import State as State
    from wcp_route.storage.state import open_state as open_state
    from wcp_route.tool_guard import NotDispatched as NotDispatched
    from wcp_route.tool_guard import guard as guard
    from wcp_route.tool_guard import guarded as guarded

_HOMES = {
    "storage.approvals": ("ApprovalStore", "Approver"),
    "gates.cedar": ("CedarGate",),
    "domain.codes": ("Code",),
    "compat.legacy_options": ("LegacyGate", "Options", "make_decision"),
    "domain.compliance": ("check_compliance",),
    "config": ("Ceiling", "HallConfig"),
    "domain.decision": ("Check", "Evidence", "RouteDecision"),
    "tool_guard": ("NotDispatched", "guard", "guarded"),
    "hall": ("Hall", "Services"),
    "gates.policy_gate": ("PolicyAnswer", "PolicyContext", "PolicyGate"),
    "storage.registry": ("Registry",),
    "rules.rules": ("RuleSet",),
    "storage.state": ("State", "open_state"),
    "domain.events": ("events",),
    "domain.record": ("WorkerRecord",),
    "domain.values": ("RouteInput",),
    "config_model": ("read_config",),
    "domain.decision_wire": ("to_wire",),
    "domain.record_model": ("read_record",),
    "domain.request_model": ("parse_request",),
    "rules.rules_model": ("read_rules",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]  # noqa: PLE0604  # the table above is the one list of public names


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'wcp_route' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"wcp_route.{home}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
