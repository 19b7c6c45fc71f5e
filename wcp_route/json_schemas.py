"""JSON Schemas (draft 2020-12) of what goes over the wire; the copies in `wcp_route/schemas/` are made from these."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from wcp_attest.base.site import SITE
from wcp_route.config_model import HallConfigModel
from wcp_route.domain.decision_wire import decision_schema
from wcp_route.domain.record_model import RecordModel
from wcp_route.domain.request_model import RouteInputModel
from wcp_route.rules.rules_model import RulesModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.base.strictjson import JsonObject

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BASE: Final = f"{SITE}route/schemas/"
SCHEMAS: Final[Mapping[str, Callable[[], object]]] = MappingProxyType(
    {
        "route-input": RouteInputModel.model_json_schema,
        "route-decision": decision_schema,
        "registry-record": RecordModel.model_json_schema,
        "rules": RulesModel.model_json_schema,
        "hall-config": HallConfigModel.model_json_schema,
    }
)


def schema_of(name: str) -> JsonObject:
    """Return one JSON Schema.

    Args:
        name: one of `SCHEMAS`.
    """
    return {"$schema": DIALECT, "$id": f"{BASE}{name}.json", **cast("JsonObject", SCHEMAS[name]())}
