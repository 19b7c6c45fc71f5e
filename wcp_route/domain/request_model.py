"""A request for work as it comes over the wire.

In `stage`, `prod` and `edge` every id must have its strict form. In `dev` an id without it is cut at its first control
character, so that a newline never reaches a log, and the decision reports the correction (conformance row 5).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, ValidationError

from wcp_attest.base import strictjson
from wcp_route.domain.record import BlastRadius, BlastRadiusModel, value_of
from wcp_route.domain.values import (
    MAX_SCORE,
    DataLabel,
    Env,
    QosClass,
    RouteInput,
    TenantRisk,
)
from wcp_route.domain.wire_model import MAX_TEXT, Model, WireError, catalogue_id, refused

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

MAX_REQUEST_BYTES: Final = 1 << 20  # a request is a job ticket; large data travels by reference

WireId = Annotated[str, Field(max_length=256)]  # its form is checked per environment, blanks by their own gates
_WORD_FORM: Final = r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}"
_WORD: Final = re.compile(_WORD_FORM + r"\Z")
_IDS: Final = ("capability_id", "tenant_id", "correlation_id", "chain_id", "policy_version")
# All ids of a request in their strict forms, one per line: one match checks nearly every request.
_STRICT: Final = re.compile(rf"cap(?:\.[a-z0-9][a-z0-9-]*){{1,3}}(?<!.{{65}})(?:\n(?:{_WORD_FORM})?){{4}}\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_WHAT: Final = "request"


class RouteInputModel(Model):
    """The wire form of `RouteInput`."""

    capability_id: WireId
    tenant_id: WireId
    correlation_id: WireId
    env: Env
    data_label: DataLabel
    tenant_risk: TenantRisk
    qos_class: QosClass
    request: dict[str, Any] = Field(default_factory=dict)  # canonical JSON refuses what is not JSON
    blast_radius: BlastRadiusModel | None = None  # made of the record's table
    blast_score: Annotated[int, Field(ge=0, le=MAX_SCORE)] | None = None
    chain_id: WireId = ""
    privilege_context: dict[str, Any] | None = None
    dry_run: bool = False
    tenant_credential: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    policy_version: WireId = ""


_validate = RouteInputModel.__pydantic_validator__.validate_python  # without the detour that every decision would take


def parse_request(data: bytes | JsonValue | RouteInput) -> RouteInput:
    """Read a request.

    Args:
        data: JSON text, the parsed object, or a value (which is checked like any other input).

    Raises:
        WireError: it is not a request; the pointer says where.
    """
    if isinstance(data, RouteInput):
        given = {name: getattr(data, name) for name in RouteInputModel.model_fields}
        if isinstance(data.blast_radius, BlastRadius):
            given["blast_radius"] = asdict(data.blast_radius)
        data = given
    elif isinstance(data, bytes):
        data = strictjson.loads(data, what=_WHAT, max_bytes=MAX_REQUEST_BYTES, floats=True, error=WireError)
    try:
        model: RouteInputModel = _validate(data)
    except ValidationError as problem:
        raise refused(problem, _WHAT, RouteInputModel) from None
    fields: dict[str, Any] = model.__dict__  # nobody else holds the model
    if model.blast_radius is not None:
        fields["blast_radius"] = value_of(BlastRadius, model.blast_radius)
    if not _STRICT.match(
        f"{model.capability_id}\n{model.tenant_id}\n{model.correlation_id}\n{model.chain_id}\n{model.policy_version}"
    ):
        ids = _Ids(lax=model.env == "dev")
        fields |= {name: ids.checked(name, fields[name]) for name in _IDS}
        fields["reported"] = tuple(ids.reported)
    return RouteInput(**fields)


_capability = catalogue_id("cap")


@dataclass(slots=True)
class _Ids:
    """Checks the ids of one request, and collects the corrections."""

    lax: bool
    reported: list[str] = field(default_factory=list)

    def checked(self, name: str, text: str) -> str:
        if not text or text.isspace():
            if name == "capability_id":
                raise WireError(f"{_WHAT} at `/capability_id`: is blank", "/capability_id")
            return ""
        problem = _problem(name, text)
        if problem is None:
            return text
        if not self.lax:
            raise WireError(f"{_WHAT} at `/{name}`: {problem}", f"/{name}")
        return self._put_right(name, text, problem)

    def _put_right(self, name: str, text: str, problem: str) -> str:
        kept = _CONTROL.split(text, maxsplit=1)[0].strip()
        if not kept or not kept.isprintable():
            raise WireError(f"{_WHAT} at `/{name}`: {problem}", f"/{name}")
        if kept != text:
            self.reported.append(f"{name} was cut at its first control character")
        if _problem(name, kept) is not None:
            self.reported.append(f"{name} {problem}")
        return kept


def _problem(name: str, text: str) -> str | None:
    if name != "capability_id":
        return (
            None
            if _WORD.match(text)
            else "is not 1 to 128 of A-Z a-z 0-9 . _ : @ / + - starting with a letter or digit"
        )
    try:
        _capability(text)
    except ValueError as problem:
        return str(problem)
    return None
