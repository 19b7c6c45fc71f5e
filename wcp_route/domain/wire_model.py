"""The base of all wire models: strict types, and errors that point to the place of the mistake."""

from __future__ import annotations

import difflib
import posixpath
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import AUTHORITIES, MAX_ID_LENGTH, id_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_attest.base.strictjson import JsonObject, JsonValue

MAX_CATALOGUE_ID: Final = 64  # spec 3.2
MAX_TEXT: Final = 4096  # free text for people: notes, reasons, owners
_CATALOGUE_ID = re.compile(r"[a-z]{1,8}(?:\.[a-z0-9][a-z0-9-]*){1,3}\Z")

M = TypeVar("M", bound="Model")


class WireError(ConfigError):
    """Input that does not have the one accepted shape.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the offending place; empty for the whole document.
    """

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class Model(BaseModel):
    """A strict, frozen wire model: no unknown fields, no coercion."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def read(model: type[M], data: bytes | JsonValue, *, what: str, max_bytes: int) -> M:
    """Validate one document.

    Args:
        model: its shape.
        data: JSON text as bytes, or JSON already parsed.
        what: what it is, for messages (`rules document`).
        max_bytes: the largest text accepted.

    Raises:
        WireError: the document is malformed or too large; the pointer says where.
    """
    if isinstance(data, bytes):
        data = strictjson.loads(data, what=what, max_bytes=max_bytes, floats=True, error=WireError)
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        raise refused(problem, what, model) from None
    except RecursionError:
        raise WireError(f"{what} is nested too deeply") from None


def refused(
    problem: ValidationError, what: str, model: type[BaseModel], within: tuple[str | int, ...] = ()
) -> WireError:
    """Return the first mistake with its place; for an unknown name, also the known name that is most like it.

    Args:
        problem: what the model says.
        what: what the document is, for the message.
        model: its shape.
        within: where in the document the model stands.
    """
    found = problem.errors(include_url=False, include_input=False, include_context=False)
    unknown = [one for one in found if one["type"] == "extra_forbidden" and one["loc"][:-1] == found[0]["loc"][:-1]]
    first = unknown[0] if unknown and found[0]["type"] == "missing" else found[0]  # a misspelt name is both
    where = pointer((*within, *first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1])[:64], _names_at(model, first["loc"][:-1]), n=1)
        said = "there is no such member" + (f"; did you mean `{near[0]}`?" if near else "")
    elif first["type"] == "missing":
        others = [
            str(one["loc"][-1]) for one in found[1:] if (one["type"], one["loc"][:-1]) == ("missing", first["loc"][:-1])
        ]
        said = "is missing" + (f", and so are {', '.join(f'`{name}`' for name in others)}" if others else "")
    return WireError(f"{what} at `{where or '/'}`: {said[:1].lower()}{said[1:]}", where)


def _names_at(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the member names that the object at a place of a document may have; none where it has no single model."""
    for part in place:
        if isinstance(part, int):  # an index: the step before went into the list's item type
            continue
        waiting: list[Any] = [model.model_fields[part].annotation] if part in model.model_fields else []
        inner = None
        while waiting and inner is None:
            kind = waiting.pop()
            inner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
            waiting += get_args(kind)
        if inner is None:
            return []
        model = inner
    return [*model.model_fields]


def pointer(place: Sequence[str | int]) -> str:
    """Return a JSON pointer. Parts in parentheses name a variant of a union, not a place, and are left out."""
    parts = [str(part) for part in place]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts if not part.startswith("("))


def catalogue_pattern(prefix: str) -> str:
    """Return the form of a catalogue id as a regular expression for JSON Schemas; it does not limit the length."""
    return rf"^{prefix}(?:\.[a-z0-9][a-z0-9-]*){{1,3}}$"


def is_catalogue_id(prefix: str, text: str) -> bool:
    """Tell whether `text` is `<prefix>.` and one to three segments of `a-z0-9-`, 64 characters in all (spec 3.2)."""
    return len(text) <= MAX_CATALOGUE_ID and text.startswith(prefix + ".") and _CATALOGUE_ID.match(text) is not None


def catalogue_id(prefix: str) -> Callable[[str], str]:
    """Return a validator of catalogue ids."""

    def check(text: str) -> str:
        if not is_catalogue_id(prefix, text):
            raise ValueError(f"is not `{prefix}.` and up to three segments of a-z, 0-9 and `-`, 64 characters in all")
        return text

    return check


_control_id = catalogue_id("ctrl")


@lru_cache(maxsize=4096)  # the catalogue has 33 controls, and records name them over and over
def fold_control(text: str) -> str:
    """Return a control id in its one spelling: `_` is `-` (conformance row 4).

    Raises:
        ValueError: it is no control id.
    """
    return _control_id(text.replace("_", "-"))


def check_worker_id(text: str) -> str:
    """Return a worker id (DESIGN 3): an authority, a name, and a worker in it.

    Raises:
        ValueError: it is none.
    """
    problem = id_problem(text, segments=3)
    if problem is None and text.partition(".")[0] not in AUTHORITIES:
        problem = "does not start with `org.` or `x.`"
    if problem is not None:
        raise ValueError(problem)
    return text


def check_token(text: str) -> str:
    """Return a name of printable ASCII without spaces.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is not printable ASCII without spaces")
    return text


def unique(values: list[str]) -> list[str]:
    """Return the list if it has no duplicates.

    Raises:
        ValueError: it has a duplicate.
    """
    if len(values) > 1 and len(set(values)) != len(values):
        raise ValueError("holds a value twice")
    return values


def _schema(prefix: str) -> JsonObject:
    return {"type": "string", "maxLength": MAX_CATALOGUE_ID, "pattern": catalogue_pattern(prefix)}


CapabilityId = Annotated[str, AfterValidator(catalogue_id("cap")), WithJsonSchema(_schema("cap"))]
SpeciesId = Annotated[str, AfterValidator(catalogue_id("wrk")), WithJsonSchema(_schema("wrk"))]
ControlId = Annotated[
    str, AfterValidator(fold_control), WithJsonSchema({"type": "string", "pattern": "^ctrl[._a-z0-9-]+$"})
]
WorkerId = Annotated[str, Field(max_length=MAX_ID_LENGTH), AfterValidator(check_worker_id)]
Token = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(check_token)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
MAX_ITEMS: Final = 256  # names, paths or hosts in one list


def check_path(text: str) -> str:
    """Return an absolute path in its normal form.

    Raises:
        ValueError: it is none.
    """
    if not text.startswith("/") or text.startswith("//") or posixpath.normpath(text) != text or not text.isprintable():
        raise ValueError("is not an absolute path in its normal form")
    return text


Names = Annotated[list[Token], Field(max_length=MAX_ITEMS), AfterValidator(unique)]
Paths = Annotated[
    list[Annotated[str, Field(max_length=4096), AfterValidator(check_path)]],
    Field(max_length=MAX_ITEMS),
    AfterValidator(unique),
]
Hosts = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?$")]],
    Field(max_length=MAX_ITEMS),
    AfterValidator(unique),
]
Controls = Annotated[list[ControlId], Field(max_length=MAX_ITEMS), AfterValidator(unique)]
