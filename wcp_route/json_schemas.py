"""JSON Schemas (draft 2020-12) of the wire models; the copies in `wcp_route/schemas/` are made from these."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from wcp_route.config_model import HallConfigModel
from wcp_route.domain.decision_model import RouteDecisionModel
from wcp_route.domain.record_model import RecordModel
from wcp_route.domain.request_model import RouteInputModel
from wcp_route.rules.rules_model import RulesModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.wire_model import Model

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BASE: Final = "https://workerclassprotocol.dev/schemas/wcp-route/"
MODELS: Final[Mapping[str, type[Model]]] = MappingProxyType(
    {
        "route-input": RouteInputModel,
        "route-decision": RouteDecisionModel,
        "registry-record": RecordModel,
        "rules": RulesModel,
        "hall-config": HallConfigModel,
    }
)


def schema_of(name: str) -> JsonObject:
    """Return the schema of one wire model.

    Args:
        name: one of `MODELS`.
    """
    body = cast("JsonObject", MODELS[name].model_json_schema(by_alias=True))
    return {"$schema": DIALECT, "$id": f"{BASE}{name}.json", **body}
