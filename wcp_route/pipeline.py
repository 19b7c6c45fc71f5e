"""The gates of `wcp_route.gates`, asked one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wcp_route.decision import Check
from wcp_route.gates import GATES
from wcp_route.refusal import Refusal

if TYPE_CHECKING:
    from wcp_route.case import Case
    from wcp_route.gates import Gate

_INPUT: Final = Check("input", "pass")
_SKIPPED: Final = {gate.name: Check(gate.name, "skipped") for gate in GATES}


def pass_gates(case: Case) -> Refusal | None:
    """Ask every gate in order, and return the first refusal. After it, only gates that merely look are asked.

    What those find goes into the receipt; the caller is told the rule only as far as the request had come.
    """
    first: Refusal | None = None
    told = case.rule_id, case.rule, case.candidates
    checks, reported = case.checks, case.request.reported
    checks.append(Check("input", "warn", "; ".join(reported)) if reported else _INPUT)
    for gate in GATES:
        if first is not None and not _may_look(gate, case):
            checks.append(_SKIPPED[gate.name])
            continue
        try:
            checks.append(gate.run(case))
        except Refusal as refusal:
            held = gate.name == "human" and case.supervisor is not None
            checks.append(Check(gate.name, "hold" if held else "deny", refusal.message, refusal.digests))
            if first is None:
                first, told = refusal, (case.rule_id, case.rule, case.candidates)
    if first is not None:
        case.rule_id, case.rule, case.candidates = told
    return first


def _may_look(gate: Gate, case: Case) -> bool:
    if not gate.looks_only:
        return False
    if gate.needs == "worker":
        return case.worker is not None
    return gate.needs == "request" or case.rule is not None
