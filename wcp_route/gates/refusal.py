"""How a gate refuses, or asks for a human: a refusal is raised, so that no caller can overlook it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from wcp_attest.base.errors import Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.codes import Code
    from wcp_route.domain.values import Level


class Refusal(Error):
    """A gate refuses.

    Attributes:
        code: the stable reason.
        message: one line for people; no hashes, no secrets.
        extras: further members of the wire object.
        digests: what was compared, and what a tenant must not see; for the stored receipt only.
        cause: what is wrong with the worker's package; set only when it was read twice with the same result.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        extras: Mapping[str, JsonValue] = MappingProxyType({}),
        *,
        digests: tuple[tuple[str, str], ...] = (),
        cause: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.extras = tuple(sorted(extras.items()))
        self.digests = digests
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a human must decide. Gates collect concerns; the last gate holds the request when there are any.

    Attributes:
        code: the code of the decision if the request is held.
        reason: one line for the human.
        level: the level that must answer; None for the Hall's own default.
        extras: further members of the wire object.
    """

    code: Code
    reason: str
    level: Level | None = None
    extras: tuple[tuple[str, JsonValue], ...] = ()
