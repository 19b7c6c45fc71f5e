"""The operator's own policy. It is asked about every request for which a rule or the Hall requires it.

    class OfficeHours:
        def evaluate(self, context: PolicyContext) -> PolicyAnswer:
            if context.request.data_label == "RESTRICTED" and not office_hours():
                return PolicyAnswer("REQUIRE_HUMAN", "office.v3", "restricted data out of hours", level="gatekeeper")
            return PolicyAnswer("ALLOW", "office.v3")

The gate sees the request, the rule, the worker, what was attested about it and both blast scores. If it raises, hangs
or returns nonsense, the request is denied. There is no default gate that allows everything.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, cast, get_args

from wcp_route.domain.codes import Code
from wcp_route.domain.values import LEVELS
from wcp_route.gates.callbacks import CallbackFailed
from wcp_route.gates.refusal import Refusal

if TYPE_CHECKING:
    from wcp_attest import Verified
    from wcp_route.domain.decision import Escalation
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.domain.values import Level, RouteInput
    from wcp_route.gates.callbacks import Callbacks

Said: TypeAlias = Literal["ALLOW", "DENY", "REQUIRE_HUMAN"]
_SAID: Final = get_args(Said)
_NO_LEVEL: Final = "none"
_LEVELS: Final = (_NO_LEVEL, *LEVELS)
MAX_VERSION = 128  # characters
MAX_REASON = 1024  # characters of a gate's reason that are kept


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """Everything that a policy gate may know.

    Attributes:
        request: the request; its payload is a copy.
        rule_id: the rule that matched.
        escalation: what the rule says about people and policy.
        worker: the worker that would run.
        verified: what was attested about it; None where attestation is off.
        blast_score: situational, 0 to 100.
        blast_declared: declared, 0 to 25 for one worker, summed along the chain.
        policy_version: of the Hall's settings.
        now_ms: the time of the decision, milliseconds since 1970.
    """

    request: RouteInput
    rule_id: str
    escalation: Escalation
    worker: WorkerRecord
    verified: Verified | None
    blast_score: int
    blast_declared: int
    policy_version: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """The answer of a policy gate.

    Attributes:
        decision: allow, deny, or let a human decide.
        policy_version: of the policy that decided; it is part of the decision, the events and the receipt.
        reason: one line; no secrets.
        level: the level that must answer, with `REQUIRE_HUMAN`.
    """

    decision: Said
    policy_version: str
    reason: str = ""
    level: Level | None = None


class PolicyGate(Protocol):
    """Decides on policy."""

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Decide. The Hall calls this in another thread, under its deadline, and sometimes several times at once.

        Args:
            context: what the Hall knows about the request.
        """


def ask(gate: PolicyGate, context: PolicyContext, callbacks: Callbacks, seconds: float) -> PolicyAnswer:
    """Ask a gate, and accept nothing but a well-formed answer.

    Args:
        gate: the operator's policy.
        context: what it may know; it sees a copy of the payload and no credential.
        callbacks: calls it in another thread.
        seconds: how long it may take.

    Raises:
        Refusal: the gate failed, took too long, or answered something else.
    """
    request = replace(context.request, request=copy.deepcopy(context.request.request), tenant_credential=None)
    shown = replace(context, request=request)
    try:
        answer = callbacks.call("policy gate", lambda: gate.evaluate(shown), seconds=seconds)
    except CallbackFailed as problem:
        raise Refusal(Code.INTERNAL_ERROR, str(problem)) from None
    plain = _plain(answer)
    if plain is None:
        raise Refusal(Code.POLICY_GATE_INVALID_RESPONSE, "the policy gate answered something that is no decision")
    return plain


def _plain(answer: object) -> PolicyAnswer | None:
    """Return a well-formed answer in plain text, or None.

    A subclass of `PolicyAnswer` or `str` could run code when it is read, outside the deadline, and give another value
    each time. Members of an enumeration are accepted as text.
    """
    if type(answer) is not PolicyAnswer:
        return None
    given = (answer.decision, answer.policy_version, answer.reason, _NO_LEVEL if answer.level is None else answer.level)
    if not all(isinstance(each, str) for each in given):
        return None
    said, version, reason, level = map(str.__str__, given)
    if said not in _SAID or level not in _LEVELS or not 0 < len(version) <= MAX_VERSION or not version.isprintable():
        return None
    asked = None if level == _NO_LEVEL else level
    reason = reason[:MAX_REASON]
    if not reason.isprintable():  # a receipt is UTF-8, which has no lone surrogates
        reason = "".join(char if char.isprintable() else " " for char in reason)
    return PolicyAnswer(cast("Said", said), version, reason, cast("Level | None", asked))
