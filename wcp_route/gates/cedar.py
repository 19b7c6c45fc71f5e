"""A policy gate whose policies are written in Cedar (https://www.cedarpolicy.com); needs the extra `[cedar]`.

    permit (principal, action == Action::"dispatch", resource)
    when { context.data_label != "RESTRICTED" && context.blast_score < 60 };

    permit (principal, action == Action::"hold", resource in Namespace::"org.acme");

The gate first asks for `Action::"dispatch"`. If that is not permitted, it asks for `Action::"hold"`: if this is
permitted, a human must decide. All other requests are denied. A request is also denied when *any* policy fails to
evaluate, because Cedar skips such a policy, and a skipped `forbid` would allow the request.

The principal is `Tenant::"<tenant id>"`. The resource is `Worker::"<worker id>"`, in `Species::"<species>"` and
`Namespace::"<namespace>"`. The context holds `env`, `data_label`, `tenant_risk`, `qos_class`, `capability_id`,
`blast_score`, `blast_declared`, `rule_id`, `risk_tier`, `attested`, `signers`, `hour_utc`, `dry_run` and
`correlation_id`. Policies are validated against this schema at the start, so a misspelt attribute is an error at the
start and does not deny every request. Policies that read the payload need its type
(`payload="{ pages: Long, url?: String }"`, a record type of Cedar); `context.payload` is then that record.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import namespace_of
from wcp_route.gates.policy_gate import PolicyAnswer

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.gates.policy_gate import PolicyContext

MAX_POLICY_CHARACTERS = 1 << 20
MAX_LONG = 2**63 - 1
_SCHEMA = """
entity Tenant;
entity Species;
entity Namespace;
entity Worker in [Species, Namespace];
action dispatch, hold appliesTo {
  principal: Tenant,
  resource: Worker,
  context: {
    env: String, data_label: String, tenant_risk: String, qos_class: String, capability_id: String, rule_id: String,
    risk_tier: String, correlation_id: String, blast_score: Long, blast_declared: Long, hour_utc: Long, attested: Bool,
    dry_run: Bool, signers: Set<String>, PAYLOAD
  }
};
"""
_HOUR_MS = 3_600_000


class CedarGate:
    """A `PolicyGate` that asks Cedar.

    Args:
        policies: the policies, as text; parsed once.
        name: stands before the digest in the policy version, `acme.policy`.
        payload: the type of the payload, a record type in Cedar's schema language; empty when no policy reads it.

    Raises:
        ConfigError: the extra is not installed, or the policies cannot be parsed, are empty, or name something that
            the schema does not have.
    """

    def __init__(self, policies: str, *, name: str = "cedar", payload: str = "") -> None:
        if not policies.strip() or len(policies) > MAX_POLICY_CHARACTERS:
            raise ConfigError(
                f"Cedar policies must be 1 to {MAX_POLICY_CHARACTERS} characters; without one, all is denied"
            )
        try:
            from cedarpy import PolicySet, validate_policies
        except ImportError:
            raise ConfigError("the Cedar gate needs cedarpy; install wcp-attest[cedar]") from None
        try:
            self._policies = PolicySet.from_str(policies)
        except (ValueError, TypeError) as problem:
            raise ConfigError(f"the Cedar policies cannot be parsed: {str(problem)[:300]}") from None
        schema = _SCHEMA.replace("PAYLOAD", f"payload: {payload}," if payload else "")
        try:
            found = validate_policies(policies, schema)
        except (ValueError, TypeError) as problem:
            raise ConfigError(f"the type of the payload is no Cedar record type: {str(problem)[:300]}") from None
        if not found.validation_passed:
            first = "; ".join(str(error).replace("\n", " ") for error in found.errors[:3])
            raise ConfigError(f"the Cedar policies do not fit the schema: {first[:600]}")
        self._payload = bool(payload)
        self.version = f"{name}-{sha256(f'{policies}{payload}'.encode()).hexdigest()[:16]}"

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Decide.

        Args:
            context: what the Hall knows about the request.

        Returns:
            `ALLOW` or `REQUIRE_HUMAN` with the ids of the policies that permit it; else `DENY`.
        """
        from cedarpy import is_authorized

        request, worker, verified = context.request, context.worker, context.verified
        # 1. Name the principal and the resource.
        parents = [
            {"type": "Species", "id": worker.worker_species_id},
            {"type": "Namespace", "id": namespace_of(worker.worker_id)},
        ]
        entities = json.dumps(
            [
                {"uid": {"type": "Worker", "id": worker.worker_id}, "attrs": {}, "parents": parents},
                {"uid": {"type": "Tenant", "id": request.tenant_id}, "attrs": {}, "parents": []},
            ]
        )
        # 2. Collect the facts that policies may read.
        facts: JsonObject = {
            "env": request.env,
            "data_label": request.data_label,
            "tenant_risk": request.tenant_risk,
            "qos_class": request.qos_class,
            "capability_id": request.capability_id,
            "blast_score": context.blast_score,
            "blast_declared": context.blast_declared,
            "rule_id": context.rule_id,
            "risk_tier": worker.risk_tier,
            "attested": verified is not None,
            "signers": [] if verified is None else [str(signer) for signer in verified.signers],
            "hour_utc": context.now_ms // _HOUR_MS % 24,
            "dry_run": request.dry_run,
            "correlation_id": request.correlation_id,
        }
        if self._payload:
            facts["payload"] = {name: value for name, value in request.request.items() if _has_cedar_form(value)}
        # 3. Ask whether it is permitted, and else whether a human may permit it.
        for action, said in (("dispatch", "ALLOW"), ("hold", "REQUIRE_HUMAN")):
            question = {
                "principal": {"type": "Tenant", "id": request.tenant_id},
                "action": {"type": "Action", "id": action},
                "resource": {"type": "Worker", "id": worker.worker_id},
                "context": facts,
            }
            result = is_authorized(question, self._policies, entities)
            if result.diagnostics.errors:
                return PolicyAnswer("DENY", self.version, "a Cedar policy could not be evaluated")
            if result.allowed:
                reason = ", ".join(sorted(result.diagnostics.reasons))[:200]
                return PolicyAnswer(said, self.version, f"permitted by {reason}")  # type: ignore[arg-type]
        return PolicyAnswer("DENY", self.version, "no Cedar policy permits it")


def _has_cedar_form(value: JsonValue) -> bool:
    """Tell whether Cedar can represent a value. Other values are left out, and a policy that reads one denies."""
    if isinstance(value, dict):  # two names have a special meaning in Cedar
        return not value.keys() & {"__entity", "__extn"} and all(map(_has_cedar_form, value.values()))
    if isinstance(value, list):
        return all(map(_has_cedar_form, value))
    return isinstance(value, str | bool) or (isinstance(value, int) and abs(value) <= MAX_LONG)
