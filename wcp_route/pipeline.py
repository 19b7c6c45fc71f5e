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
    checks, reported = case.checks, case.request.reported
    checks.append(Check("input", "warn", "; ".join(reported)) if reported else _INPUT)
    gates = iter(GATES)
    gate = GATES[0]
    try:
        for gate in gates:
            checks.append(gate.run(case))
    except Refusal as refusal:
        checks.append(_refused(case, gate, refusal))
        told = case.rule_id, case.rule, case.candidates
        checks += [_look(case, later) for later in gates]
        case.rule_id, case.rule, case.candidates = told
        return refusal
    return None


def _look(case: Case, gate: Gate) -> Check:
    if not _may_look(gate, case):
        return _SKIPPED[gate.name]
    try:
        return gate.run(case)
    except Refusal as refusal:
        return _refused(case, gate, refusal)


def _refused(case: Case, gate: Gate, refusal: Refusal) -> Check:
    held = gate.name == "human" and case.supervisor is not None
    return Check(gate.name, "hold" if held else "deny", refusal.message, refusal.digests)


def _may_look(gate: Gate, case: Case) -> bool:
    if not gate.looks_only:
        return False
    if gate.needs == "worker":
        return case.worker is not None
    return gate.needs == "request" or case.rule is not None
