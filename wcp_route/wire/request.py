"""A request for work as it comes over the wire (spec 4.1).

In `stage`, `prod` and `edge` every id must have its strict form. In `dev` an id that has not is cut at its first
control character, and what was put right is reported with the decision (wcp 15.5): a newline never reaches a log.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, ValidationError

from wcp_attest import strictjson
from wcp_route.values import BlastRadius, DataLabel, Env, QosClass, RouteInput, TenantRisk
from wcp_route.wire.model import MAX_TEXT, Model, WireError, catalogue_id, refused
from wcp_route.wire.record import BlastRadiusModel

if TYPE_CHECKING:
    from wcp_attest.strictjson import JsonObject, JsonValue

MAX_REQUEST_BYTES: Final = 1 << 20  # a request is a job ticket; large data travels by reference
MAX_SCORE: Final = 100

WireId = Annotated[str, Field(max_length=256)]  # its form is checked per environment, blanks by their own gates
_TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}\Z")
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
    blast_radius: BlastRadiusModel | None = None
    blast_score: Annotated[int, Field(ge=0, le=MAX_SCORE)] | None = None
    chain_id: WireId = ""
    privilege_context: dict[str, Any] | None = None
    dry_run: bool = False
    tenant_credential: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    policy_version: WireId = ""


def parse_request(data: bytes | JsonValue | RouteInput) -> RouteInput:
    """Read a request.

    Args:
        data: JSON text, the parsed object, or a value (which is checked like any other input).

    Raises:
        WireError: it is not a request; the pointer says where.
    """
    if isinstance(data, RouteInput):
        data = _as_object(data)
    elif isinstance(data, bytes):
        data = strictjson.loads(data, what=_WHAT, max_bytes=MAX_REQUEST_BYTES, floats=True, error=WireError)
    try:
        model = RouteInputModel.model_validate(data)
    except ValidationError as problem:
        raise refused(problem, _WHAT) from None
    reported: list[str] = []
    ids = _Ids(reported, lax=model.env == "dev")
    return RouteInput(
        capability_id=ids.checked("capability_id", model.capability_id),
        tenant_id=ids.checked("tenant_id", model.tenant_id),
        correlation_id=ids.checked("correlation_id", model.correlation_id),
        env=model.env,
        data_label=model.data_label,
        tenant_risk=model.tenant_risk,
        qos_class=model.qos_class,
        request=model.request,
        blast_radius=None if model.blast_radius is None else model.blast_radius.to_value(),
        blast_score=model.blast_score,
        chain_id=ids.checked("chain_id", model.chain_id),
        privilege_context=model.privilege_context,
        dry_run=model.dry_run,
        tenant_credential=model.tenant_credential,
        policy_version=ids.checked("policy_version", model.policy_version),
        reported=tuple(reported),
    )


def _as_object(request: RouteInput) -> JsonObject:
    given = {name: getattr(request, name) for name in RouteInputModel.model_fields}
    if isinstance(request.blast_radius, BlastRadius):
        given["blast_radius"] = asdict(request.blast_radius)
    return given


_capability = catalogue_id("cap")


@dataclass(slots=True)
class _Ids:
    """Checks the ids of one request, and gathers what had to be put right."""

    reported: list[str]
    lax: bool

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
            if _TOKEN.match(text)
            else "is not 1 to 128 of A-Z a-z 0-9 . _ : @ / + - starting with a letter or digit"
        )
    try:
        _capability(text)
    except ValueError as problem:
        return str(problem)
    return None
