"""What passes between a host's adapter and the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, Protocol

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """

    path: str
    decision: Decision
    verdict: Verdict

    @property
    def reason(self) -> str:
        """One line: the code and why, or who signed."""
        if self.verdict.verified is not None:
            return self.verdict.verified.trust_statement
        return f"{self.verdict.code}: {self.verdict.message}"


class HostReply(NamedTuple):
    """What to write, and the exit status."""

    out: str
    err: str
    status: int


class Adapter(Protocol):
    """The words of one host."""

    def read(self, request: bytes) -> Sequence[str]:
        """Return the packages that a request is about; none when it concerns no package.

        Raises:
            RequestError: the request cannot be answered with yes.
        """

    def answer(self, answers: Sequence[Answer]) -> HostReply:
        """Say what was decided; an empty sequence says that the request concerns no package."""

    def failure(self, reason: str) -> HostReply:
        """Say no because there is no answer."""


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
