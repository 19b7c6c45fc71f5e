"""The gates of `wcp_route.gates.table`, asked one after the other."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Check
from wcp_route.gates.callbacks import Caught
from wcp_route.gates.refusal import Refusal
from wcp_route.gates.table import GATES

if TYPE_CHECKING:
    from wcp_route.gates.deciding import Case
    from wcp_route.gates.table import Gate

_INPUT: Final = Check("input", "pass")
_SKIPPED: Final = {gate.name: Check(gate.name, "skipped") for gate in GATES}
_log = logging.getLogger("wcp_route")


def pass_gates(case: Case) -> Refusal | None:
    """Ask every gate in order, and return the first refusal. After it, only gates that merely look are asked.

    What those find goes into the receipt; the caller is told the rule only as far as the request had come. A gate that
    fails refuses.
    """
    checks, reported = case.checks, case.request.reported
    checks.append(Check("input", "warn", "; ".join(reported)) if reported else _INPUT)
    gates = iter(GATES)
    gate = GATES[0]
    caught = Caught()
    with caught:
        for gate in gates:
            checks.append(gate.run(case))
    if caught.error is None:
        return None
    refusal = _refusal(gate, caught.error)
    checks.append(_refused(case, gate, refusal))
    told = case.rule_id, case.rule, case.candidates
    checks += [_look(case, later) for later in gates]
    case.rule_id, case.rule, case.candidates = told
    return refusal


def _look(case: Case, gate: Gate) -> Check:
    if not _may_look(gate, case):
        return _SKIPPED[gate.name]
    caught = Caught()
    with caught:
        return gate.run(case)
    return _refused(case, gate, _refusal(gate, caught.error))


def _refusal(gate: Gate, error: BaseException | None) -> Refusal:
    """Return what a gate raised; anything but a refusal is a failure of ours or of a store, and the log says which."""
    if isinstance(error, Refusal):
        return error
    _log.error("the gate %s failed", gate.name, exc_info=error)
    return Refusal(Code.INTERNAL_ERROR, f"the {gate.name} gate failed; the Hall's log says why")


def _refused(case: Case, gate: Gate, refusal: Refusal) -> Check:
    held = gate.name == "human" and case.supervisor is not None and refusal.code != Code.INTERNAL_ERROR
    return Check(gate.name, "hold" if held else "deny", refusal.message, refusal.digests)


def _may_look(gate: Gate, case: Case) -> bool:
    if not gate.looks_only:
        return False
    if gate.needs == "worker":
        return case.worker is not None
    return gate.needs == "request" or case.rule is not None
