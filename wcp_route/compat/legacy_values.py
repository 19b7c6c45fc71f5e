"""Request, decision and policy gate as the earlier Python SDK had them: checked when made, read by attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from wcp_route.compat.legacy_options import LegacyDecision
from wcp_route.domain.request_model import RouteInputModel

if TYPE_CHECKING:
    from collections.abc import Mapping


class RouteInput(RouteInputModel):
    """A request. As in the earlier SDK it is checked when it is made; pydantic's `ValidationError` says what is wrong.

    Unlike there, unknown fields are refused.
    """

    @field_validator("tenant_id")
    @classmethod
    def _check_tenant(cls, tenant_id: str) -> str:
        if not tenant_id.strip():
            raise ValueError("tenant_id is blank")
        return tenant_id


class PolicyGate:
    """A base for policy gates. The earlier one allowed everything unless overridden; this one has nothing to say."""

    def evaluate(self, context: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return decision, policy version and reason; override it, else each request is denied.

        Args:
            context: `capability_id`, `tenant_id`, `env`, `data_label`, `tenant_risk`, `qos_class`, `policy_version`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError


class DecisionMember(dict[str, Any]):
    """An object of a decision, read by key or, as in the earlier SDK, by attribute."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"a decision's object has no member {name!r}")


class RouteDecision(LegacyDecision):
    """A decision whose inner objects have attributes, too, and whose `artifact_hash` is bare hex, as it was."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name == "artifact_hash" and isinstance(found, str):
            return found.removeprefix("sha256:")
        if name in {"escalation_effective", "preconditions_checked"}:
            return DecisionMember(found)
        return [DecisionMember(each) for each in found] if name == "candidate_workers_ranked" else found
