"""What passes between a host's adapter and the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.verdict import Verdict

Decision = Literal["allow", "warn", "block"]
MAX_REQUEST_BYTES = 256 * 1024  # what OpenClaw sends at most; the others send less


class RequestError(ConfigError):
    """A request that cannot be answered with yes: malformed, of another version, or about nothing that is there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gate says about one package.

    Attributes:
        path: of the package, as the request names it.
        decision: `allow`; `warn` where an unsigned package is to be a person's decision; `block`.
        verdict: what it rests on.
        reason: one line: the code and why, or who signed.
    """

    path: str
    decision: Decision
    verdict: Verdict
    reason: str


class HostReply(NamedTuple):
    """What a host is told.

    Attributes:
        out: the JSON object on standard output, one line; None for nothing.
        err: the text on standard error.
        status: the exit status.
    """

    out: JsonObject | None
    err: str
    status: int


def parse_request(request: bytes) -> dict[str, object]:
    """Read a request: one JSON object, each name once.

    Args:
        request: UTF-8.

    Raises:
        RequestError: it is something else, too large or nested too deeply.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise RequestError(f"the request is larger than {MAX_REQUEST_BYTES} bytes")
    try:
        value = json.loads(request, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise RequestError(f"the request is not JSON: {str(problem)[:100]}") from None
    if not isinstance(value, dict):
        raise RequestError("the request is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
