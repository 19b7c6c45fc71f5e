"""The operator's own policy, asked about every request that a rule or the Hall wants it for.

    class OfficeHours:
        def evaluate(self, context: PolicyContext) -> PolicyAnswer:
            if context.request.data_label == "RESTRICTED" and not office_hours():
                return PolicyAnswer("REQUIRE_HUMAN", "office.v3", "restricted data out of hours", level="gatekeeper")
            return PolicyAnswer("ALLOW", "office.v3")

The gate sees the request, the rule, the worker, what was attested about it and both blast scores. It may raise, hang
or answer nonsense: each of them denies. There is no gate that allows everything by default.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from wcp_attest.values import dataclass, replace
from wcp_route.callbacks import CallbackFailed
from wcp_route.codes import Code
from wcp_route.refusal import Refusal
from wcp_route.values import LEVELS

if TYPE_CHECKING:
    from wcp_attest import Verified
    from wcp_route.callbacks import Callbacks
    from wcp_route.decision import Escalation
    from wcp_route.values import Level, RouteInput, WorkerRecord

Said: TypeAlias = Literal["ALLOW", "DENY", "REQUIRE_HUMAN"]
_SAID = get_args(Said)
_LEVELS = (None, *LEVELS)
MAX_VERSION = 128  # characters
MAX_REASON = 1024  # characters of a gate's reason that are kept


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy gate may know: all of it.

    Attributes:
        request: the request; its payload is a copy.
        rule_id: the rule that matched.
        escalation: what the rule says about people and policy.
        worker: the worker that would run.
        verified: what was attested about it; none where attestation is off.
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
    """What a policy gate says.

    Attributes:
        decision: allow, deny, or let a human say.
        policy_version: of the policy that decided; goes into decision, events and receipt.
        reason: one line; no secrets.
        level: who must say, with `REQUIRE_HUMAN`.
    """

    decision: Said
    policy_version: str
    reason: str = ""
    level: Level | None = None


class PolicyGate(Protocol):
    """Whoever decides on policy."""

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Decide. Called in another thread, under the Hall's deadline, at times concurrently."""


def ask(gate: PolicyGate, context: PolicyContext, callbacks: Callbacks) -> PolicyAnswer:
    """Ask a gate, and accept nothing but a well-formed answer.

    Raises:
        Refusal: the gate failed, took too long, or answered something else.
    """
    request = replace(context.request, request=copy.deepcopy(context.request.request), tenant_credential=None)
    shown = replace(context, request=request)
    try:
        answer = callbacks.call("policy gate", lambda: gate.evaluate(shown))
    except CallbackFailed as problem:
        raise Refusal(Code.INTERNAL_ERROR, str(problem)) from None
    if not _is_answer(answer):
        raise Refusal(Code.POLICY_GATE_INVALID_RESPONSE, "the policy gate answered something that is no decision")
    return replace(answer, reason=answer.reason[:MAX_REASON])


def _is_answer(answer: object) -> bool:
    match answer:
        case PolicyAnswer(decision=str(said), policy_version=str(version), reason=str(), level=level):
            return said in _SAID and 0 < len(version) <= MAX_VERSION and version.isprintable() and level in _LEVELS
    return False
