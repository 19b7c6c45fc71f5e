"""What gateways ask: AuthZEN 1.0 (OpenID, Authorization API) and Envoy's HTTP external authorisation.

    {"subject": {"type": "agent", "id": "a-17"}, "action": {"name": "invoke"},
     "resource": {"type": "capability", "id": "cap.doc.summarize", "properties": {"data_label": "INTERNAL"}},
     "context": {"correlation_id": "…", "request": {…}}}

The resource is a capability. The other fields of a request for work are read from the context, then from the properties
of the resource. The environment is the Hall's own. A missing field gives a refusal with its reason, never a guess. The
tenant is the authenticated principal. A subject is recorded; no decision depends on it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from wcp_route.service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_route.domain.decision import RouteDecision

MAX_EVALUATIONS: Final = 100
_SEMANTICS: Final = {"execute_all": None, "deny_on_first_deny": False, "permit_on_first_permit": True}
_FIELDS: Final = ("data_label", "tenant_risk", "qos_class")
_OPTIONAL: Final = ("blast_radius", "blast_score", "chain_id", "privilege_context", "dry_run", "request")


def request_of(evaluation: Mapping[str, Any], *, tenant: str, env: str) -> dict[str, Any]:
    """Return the request for work that an evaluation stands for.

    Args:
        evaluation: subject, action, resource, context.
        tenant: who was authenticated.
        env: the Hall's environment.

    Raises:
        Problem: 400, a part is missing or of another type (section 5 of the specification).
    """
    subject = _part(evaluation, "subject", "type", "id")
    action = _part(evaluation, "action", "name")
    resource = _part(evaluation, "resource", "type", "id")
    context = evaluation.get("context", {})
    properties = resource.get("properties", {})
    if not isinstance(context, dict) or not isinstance(properties, dict):
        raise Problem(400, "malformed", "`context` and `properties` must be objects")
    given = {**properties, **context}
    body: dict[str, Any] = {
        "capability_id": resource["id"],
        "tenant_id": tenant,
        "env": env,
        "correlation_id": given.get("correlation_id") or str(uuid.uuid4()),
        **{name: given[name] for name in (*_FIELDS, *_OPTIONAL) if name in given},
    }
    work = body.setdefault("request", {})
    if isinstance(work, dict):
        asked = {"subject": {"type": subject["type"], "id": subject["id"]}, "action": action["name"]}
        body["request"] = {**work, "authzen": asked}
    return body


def _part(evaluation: Mapping[str, Any], name: str, *fields: str) -> dict[str, Any]:
    part = evaluation.get(name)
    if not isinstance(part, dict) or not all(isinstance(part.get(field), str) and part[field] for field in fields):
        raise Problem(400, "malformed", f"`{name}` must be an object with {' and '.join(fields)}")
    return part


def answer_of(decision: RouteDecision) -> dict[str, Any]:
    """Return a decision in AuthZEN's words (section 6.2): a hold is a no, with the id to poll in its context.

    Args:
        decision: the Hall's.
    """
    context: dict[str, Any] = {"outcome": decision.outcome, "decision_id": decision.decision_id}
    if decision.reason is not None:
        context["reason"] = {"code": str(decision.reason.code), "message": decision.reason.message}
    if decision.pending_approval_id:
        context["pending_approval_id"] = decision.pending_approval_id
    if not decision.denied and decision.worker_id:
        context["worker_id"] = decision.worker_id
    return {"decision": not decision.denied, "context": context}


def evaluations_of(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool | None, bool]:
    """Read a batch.

    Args:
        body: with `evaluations`, or without them for a single one (section 7).

    Returns:
        The evaluations with the defaults filled in; after which answer to stop, None for none; whether it is a single
        evaluation.

    Raises:
        Problem: 400, it is malformed or has more than 100 evaluations.
    """
    options = body.get("options", {})
    semantic = options.get("evaluations_semantic", "execute_all") if isinstance(options, dict) else None
    if not isinstance(semantic, str) or semantic not in _SEMANTICS:
        raise Problem(400, "malformed", f"`evaluations_semantic` must be one of {', '.join(_SEMANTICS)}")
    defaults = {name: body[name] for name in ("subject", "action", "resource", "context") if name in body}
    many = body.get("evaluations")
    if many is None or many == []:  # without the list it is a single evaluation (section 7.1)
        return [defaults], None, True
    if not isinstance(many, list) or len(many) > MAX_EVALUATIONS or not all(isinstance(one, dict) for one in many):
        raise Problem(400, "malformed", f"`evaluations` must be a list of at most {MAX_EVALUATIONS} objects")
    return [{**defaults, **one} for one in many], _SEMANTICS[semantic], False
