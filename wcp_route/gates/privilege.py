"""Whether a worker's envelope stays under the operator's ceiling, in all four dimensions (conformance row 11)."""

from __future__ import annotations

import posixpath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import Ceiling
    from wcp_route.domain.record import PrivilegeEnvelope
    from wcp_route.domain.values import DataLabel, Env

_WIDTH: Final = {"none": 0, "allowlisted": 1, "unrestricted": 2}
_NOTHING: Final = ((), "none", (), ())


def asks_nothing(envelope: PrivilegeEnvelope) -> bool:
    """Tell whether an envelope is empty in every dimension."""
    asked = (envelope.secrets_access, envelope.network_egress, envelope.filesystem_writes, envelope.tools)
    return asked == _NOTHING


def ceiling_for(ceilings: tuple[Ceiling, ...], env: Env, label: DataLabel) -> Ceiling | None:
    """Return the first ceiling that applies, or none."""
    return next((each for each in ceilings if env in each.envs and label in each.data_labels), None)


def excess(envelope: PrivilegeEnvelope, ceiling: Ceiling) -> str | None:
    """Return in one word or two what the envelope asks beyond the ceiling (`secrets_access:db-root`), or none."""
    return (
        _beyond("secrets_access", envelope.secrets_access, ceiling.secrets_access)
        or _egress(envelope, ceiling)
        or next(
            (
                f"filesystem_writes:{path}"
                for path in envelope.filesystem_writes
                if not any(_within(path, top) for top in ceiling.filesystem_writes)
            ),
            None,
        )
        or _beyond("tools", envelope.tools, ceiling.tools)
    )


def announced_excess(context: Mapping[str, JsonValue] | None, envelope: PrivilegeEnvelope) -> str | None:
    """Return what a caller announces beyond the worker's own envelope (`egress_destination`), or none.

    The announcement is the `privilege_context` of the request. A member that nobody checks is an excess, too: it must
    not look as if it had been checked. The caller's own values are not repeated.
    """
    for name, value in (context or {}).items():
        announced = [value] if isinstance(value, str) else value
        check = _ANNOUNCED.get(name)
        if check is None or not isinstance(announced, list) or not all(isinstance(each, str) for each in announced):
            return f"privilege_context:{name[:64]}" if name.isprintable() else "privilege_context"
        if not all(check(str(each), envelope) for each in announced):
            return name
    return None


def _may_reach(host: str, envelope: PrivilegeEnvelope) -> bool:
    return envelope.network_egress == "unrestricted" or host in envelope.egress_allowlist


def _may_know(secret: str, envelope: PrivilegeEnvelope) -> bool:
    return secret in envelope.secrets_access or "*" in envelope.secrets_access


_ANNOUNCED: Final[Mapping[str, Callable[[str, PrivilegeEnvelope], bool]]] = MappingProxyType(
    {
        "egress_destination": _may_reach,
        "egress_destinations": _may_reach,
        "network_egress": lambda kind, envelope: kind in _WIDTH and _WIDTH[kind] <= _WIDTH[envelope.network_egress],
        "secrets": _may_know,
        "secrets_access": _may_know,
        "filesystem_writes": lambda path, envelope: (
            posixpath.normpath(path) == path and any(_within(path, top) for top in envelope.filesystem_writes)
        ),
        "tools": lambda tool, envelope: tool in envelope.tools or "*" in envelope.tools,
    }
)


def _beyond(dimension: str, asked: tuple[str, ...], allowed: tuple[str, ...]) -> str | None:
    """`*` allows any name, and is itself only allowed by `*`."""
    if "*" in allowed:
        return None
    return next((f"{dimension}:{name}" for name in asked if name not in allowed), None)


def _egress(envelope: PrivilegeEnvelope, ceiling: Ceiling) -> str | None:
    if _WIDTH[envelope.network_egress] > _WIDTH[ceiling.network_egress]:
        return f"network_egress:{envelope.network_egress}"
    if ceiling.network_egress == "unrestricted":
        return None
    return next(
        (
            f"egress_not_allowlisted:{host}"
            for host in envelope.egress_allowlist
            if host not in ceiling.egress_allowlist
        ),
        None,
    )


def _within(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
