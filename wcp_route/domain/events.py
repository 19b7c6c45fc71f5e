"""The protocol's events about a decision; they depend on the decision alone.

| event | when |
|---|---|
| `evt.os.task.routed`, `evt.os.worker.selected`, `evt.os.policy.gated` | every dispatch |
| `evt.os.task.denied` | every denial and every hold |
| `evt.os.policy.gated` | on a denial too, when the gate was asked |
| `evt.gov.blast_scored`, `evt.gov.privilege_envelope.checked` | whenever that check ran, with its decision |
| `evt.os.worker.attestation_checked` | whenever a worker was attested, with the outcome |
| `evt.os.worker.attestation_skipped` | a dispatch without attestation |
| `evt.gov.worker.quarantined` | the decision put its worker into quarantine |
| `evt.gov.approval.requested` | a human must decide, or is informed |

Every event has `event_id` (its type), `timestamp`, `correlation_id` and `tenant_id`; a dry run adds `dry_run`. Texts
are stripped of control characters and cut at `MAX_TEXT`. No event holds a hash, the payload or a grant.
"""

from __future__ import annotations

import logging
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from wcp_route.domain.clock import format_ms

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import RouteDecision

MAX_TEXT: Final = 512  # characters; ids are at most 128, messages at most as long as this
_log = logging.getLogger("wcp_route")
_CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, lone surrogates, line and paragraph separators


class Event(NamedTuple):
    """One event of a decision.

    Attributes:
        number: its place among the events of its decision, from 0; with the decision's id it identifies the event.
        fields: what it says; treat as read-only.
    """

    number: int
    fields: JsonObject

    @property
    def event_id(self) -> str:
        """The event type, `evt.os.task.routed`."""
        return str(self.fields["event_id"])

    def to_dict(self) -> JsonObject:
        """Return the event as a JSON object of `telemetry_envelopes`."""
        return dict(self.fields)


class EventSink(Protocol):
    """Takes decisions after their receipts are durable.

    A sink whose `emit` only puts them into a queue has the attribute `never_waits = True`. The Hall calls every other
    sink in a thread, and continues after `callback_seconds`.
    """

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        """Send the events of one decision. It must return soon and raise nothing.

        Args:
            decision: what was decided.
            elapsed_ns: how long the decision took, in nanoseconds.
        """


class EventSinks:
    """Several sinks as one.

    Args:
        sinks: in the order in which they are told.
    """

    def __init__(self, *sinks: EventSink) -> None:
        self._sinks = sinks
        self.never_waits = all(getattr(sink, "never_waits", False) for sink in sinks)

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        """Call every sink, also after one has failed."""
        for sink in self._sinks:
            try:
                sink.emit(decision, elapsed_ns)
            except Exception as error:  # noqa: BLE001  # a sink is foreign code, and telemetry is not evidence
                _log.error("events could not be sent: %s", one_line(error))


def events(decision: RouteDecision) -> tuple[Event, ...]:
    """Return the events of a decision; the same decision gives the same events."""
    case = _Case(
        decision,
        capability=clean(decision.capability_id),
        species=clean(decision.worker_species_id),
        worker=clean(decision.worker_id),
        policy=clean(decision.policy_version),
        code=None if decision.reason is None else decision.reason.code.value,
    )
    told = _refused(case) if decision.denied else _dispatched(case)
    told += _checked(case)
    at, correlation, tenant = (
        format_ms(decision.decided_at_ms),
        clean(decision.correlation_id),
        clean(decision.tenant_id),
    )
    found = []
    for number, (name, fields) in enumerate(told):
        whole: JsonObject = {"event_id": name, "timestamp": at, "correlation_id": correlation, "tenant_id": tenant}
        if decision.dry_run:
            whole["dry_run"] = True
        whole.update(fields)
        found.append(Event(number, whole))
    return tuple(found)


def clean(text: str) -> str:
    """Return `text` without control characters, cut at `MAX_TEXT`, so that a log line stays one line."""
    if text.isprintable() and len(text) <= MAX_TEXT:
        return text
    if not text.isprintable():
        text = "".join([char for char in text if unicodedata.category(char) not in _CONTROLS])
    return text[:MAX_TEXT]


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line for a log; the message may quote input of a caller."""
    return clean(f"{type(error).__name__}: {error}".replace("\n", " "))


class _Case(NamedTuple):
    """A decision, and the texts of it that several events repeat; they are cleaned once."""

    decision: RouteDecision
    capability: str
    species: str
    worker: str
    policy: str
    code: str | None


def _dispatched(case: _Case) -> list[tuple[str, JsonObject]]:
    decision = case.decision
    routed: JsonObject = {
        "task_id": clean(decision.task_id),
        "capability_id": case.capability,
        "matched_rule_id": clean(decision.matched_rule_id),
        "selected_worker_species_id": case.species,
        "worker_id": case.worker,
        "policy_version": case.policy,
        "qos_class": decision.qos_class,
    }
    selected: JsonObject = {
        "capability_id": case.capability,
        "selected_worker_species_id": case.species,
        "worker_id": case.worker,
        "reason": "first_available_candidate",
    }
    return [
        ("evt.os.task.routed", routed),
        ("evt.os.worker.selected", selected),
        ("evt.os.policy.gated", _gated(case)),
    ]


def _refused(case: _Case) -> list[tuple[str, JsonObject]]:
    decision = case.decision
    denied: JsonObject = {
        "capability_id": case.capability,
        "deny_code": case.code,
        "deny_message": None if decision.reason is None else clean(decision.reason.message),
        "matched_rule_id": clean(decision.matched_rule_id),
        "outcome": decision.outcome,
    }
    told = [("evt.os.task.denied", denied)]
    if decision.policy_decision is not None:
        told.append(("evt.os.policy.gated", _gated(case)))
    return told


def _gated(case: _Case) -> JsonObject:
    decision = case.decision
    said, reason = "ALLOW", "no_gate_required"
    if decision.policy_decision is not None:
        said = clean(decision.policy_decision)
        reason = clean(decision.policy_reason or f"policy_gate_{said.lower()}")
    return {"capability_id": case.capability, "decision": said, "policy_version": case.policy, "reason": reason}


def _checked(case: _Case) -> list[tuple[str, JsonObject]]:
    """Events of the checks that ran, on dispatch and on denial alike."""
    decision, told = case.decision, list[tuple[str, "JsonObject"]]()
    if decision.blast_gate_passed is not None:
        scored = _placed(case, passed=decision.blast_gate_passed)
        scored["blast_score"] = decision.blast_score
        told.append(("evt.gov.blast_scored", scored))
    if decision.privilege_envelope_ok is not None:
        told.append(("evt.gov.privilege_envelope.checked", _about(case, passed=decision.privilege_envelope_ok)))
    if decision.worker_attestation_checked:
        valid = decision.worker_attestation_valid is True
        told.append(("evt.os.worker.attestation_checked", _about(case, passed=valid)))
    elif not decision.denied:
        skipped: JsonObject = {"reason": "attestation_is_off", "severity": "warn"}
        told.append(("evt.os.worker.attestation_skipped", _about(case, passed=True) | skipped))
    if decision.quarantined:
        told.append(("evt.gov.worker.quarantined", _about(case, passed=False) | {"deny_code": case.code}))
    if decision.supervisor_required:
        told.append(("evt.gov.approval.requested", _asked(case)))
    return told


def _placed(case: _Case, *, passed: bool) -> JsonObject:
    return {
        "capability_id": case.capability,
        "env": case.decision.env,
        "data_label": case.decision.data_label,
        "policy_version": case.policy,
        "decision": "ALLOW" if passed else "DENY",
    }


def _about(case: _Case, *, passed: bool) -> JsonObject:
    about = _placed(case, passed=passed)
    about["worker_id"] = case.worker
    about["worker_species_id"] = case.species
    return about


def _asked(case: _Case) -> JsonObject:
    decision, expires = case.decision, case.decision.approval_expires_at_ms
    return {
        "capability_id": case.capability,
        "supervisor_level": decision.supervisor_level,
        "pending_approval_id": clean(decision.pending_approval_id) or None,
        "approval_expires_at": None if expires is None else format_ms(expires),
    }
