"""The gates of `wcp_route.gates.table`, asked one after the other."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Check
from wcp_route.domain.events import one_line
from wcp_route.gates.callbacks import CallbackFailed
from wcp_route.gates.refusal import Refusal
from wcp_route.gates.table import GATES

if TYPE_CHECKING:
    from wcp_route.gates.deciding import Deciding
    from wcp_route.gates.table import Gate

_INPUT: Final = Check("input", "pass")
_SKIPPED: Final = {gate.name: Check(gate.name, "skipped") for gate in GATES}
_log = logging.getLogger("wcp_route")


def pass_gates(case: Deciding) -> Refusal | None:
    """Ask every gate in order, and return the first refusal. After it, only gates with `looks_only` are asked.

    Their findings go into the receipt; the caller sees rule and candidates only as they were at the first refusal. A
    gate that fails counts as a refusal.
    """
    checks, reported = case.checks, case.request.reported
    checks.append(Check("input", "warn", "; ".join(reported)) if reported else _INPUT)
    gates = iter(GATES)
    first: Refusal | None = None
    for gate in gates:
        found = _ask(case, gate)
        if isinstance(found, Check):
            checks.append(found)
            continue
        first = found
        checks.append(_refused(case, gate, first))
        break
    told = case.rule_id, case.rule, case.candidates
    for later in gates:
        found_out = {"request": True, "rule": case.rule is not None, "worker": case.worker is not None}
        if not (later.looks_only and found_out[later.needs]):
            checks.append(_SKIPPED[later.name])
            continue
        found = _ask(case, later)
        checks.append(found if isinstance(found, Check) else _refused(case, later, found))
    case.rule_id, case.rule, case.candidates = told
    return first


def _ask(case: Deciding, gate: Gate) -> Check | Refusal:
    """Return the result of a gate. Any other exception than `Refusal` is a failure of the Hall or a store: log it."""
    if not gate.looks_only and not case.deadline.remaining():  # the others take microseconds
        return Refusal(Code.INTERNAL_ERROR, f"the time for a decision is over; the {gate.name} gate was not asked")
    try:
        return gate.run(case)
    except Refusal as refusal:
        return refusal
    except CallbackFailed as problem:
        return Refusal(Code.INTERNAL_ERROR, f"no decision in time: {problem}")
    except Exception as error:  # noqa: BLE001  # a gate calls stores and disks; each failure must deny
        _log.error("the gate %s failed: %s", gate.name, one_line(error), exc_info=_log.isEnabledFor(logging.DEBUG))
        return Refusal(Code.INTERNAL_ERROR, f"the {gate.name} gate failed; the Hall's log says why")


def _refused(case: Deciding, gate: Gate, refusal: Refusal) -> Check:
    held = gate.name == "human" and case.supervisor is not None and refusal.code != Code.INTERNAL_ERROR
    return Check(gate.name, "hold" if held else "deny", refusal.message, refusal.digests)
