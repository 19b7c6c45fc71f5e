"""Whether a worker's envelope stays under the operator's ceiling, in all four dimensions (conformance row 11)."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.config import Ceiling
    from wcp_route.domain.record import PrivilegeEnvelope
    from wcp_route.domain.values import DataLabel, Env

_WIDTH: Final = {"none": 0, "allowlisted": 1, "unrestricted": 2}
_NOTHING: Final = ((), "none", (), ())
_ANNOUNCED: Final = frozenset(
    {
        "egress_destination",
        "egress_destinations",
        "network_egress",
        "secrets",
        "secrets_access",
        "filesystem_writes",
        "tools",
    }
)


def asks_nothing(envelope: PrivilegeEnvelope) -> bool:
    """Tell whether an envelope is empty in every dimension."""
    asked = (envelope.secrets_access, envelope.network_egress, envelope.filesystem_writes, envelope.tools)
    return asked == _NOTHING


def ceiling_for(ceilings: tuple[Ceiling, ...], env: Env, label: DataLabel) -> Ceiling | None:
    """Return the first ceiling that applies, or None."""
    return next((each for each in ceilings if env in each.envs and label in each.data_labels), None)


def excess(envelope: PrivilegeEnvelope, ceiling: Ceiling) -> str | None:
    """Return what the envelope needs beyond the ceiling, or None.

    Args:
        envelope: what the worker's record asks for.
        ceiling: the most that the operator allows. `*` allows any name, and is itself only allowed by `*`.

    Returns:
        The first excess: the dimension and the value, `secrets_access:db-root`.
    """
    beyond: list[str] = []
    if "*" not in ceiling.secrets_access:
        beyond += [f"secrets_access:{name}" for name in envelope.secrets_access if name not in ceiling.secrets_access]
    if _WIDTH[envelope.network_egress] > _WIDTH[ceiling.network_egress]:
        beyond.append(f"network_egress:{envelope.network_egress}")
    elif ceiling.network_egress != "unrestricted":
        hosts = [host for host in envelope.egress_allowlist if host not in ceiling.egress_allowlist]
        beyond += [f"egress_not_allowlisted:{host}" for host in hosts]
    paths = [path for path in envelope.filesystem_writes if not _within(path, ceiling.filesystem_writes)]
    beyond += [f"filesystem_writes:{path}" for path in paths]
    if "*" not in ceiling.tools:
        beyond += [f"tools:{name}" for name in envelope.tools if name not in ceiling.tools]
    return beyond[0] if beyond else None


def announced_excess(context: Mapping[str, JsonValue] | None, envelope: PrivilegeEnvelope) -> str | None:
    """Return what a caller announces beyond the worker's own envelope (`egress_destination`), or None.

    The announcement is the `privilege_context` of the request. A member that this module does not check is an excess,
    too; otherwise it would look as if it had been checked. The caller's own values are not repeated.
    """
    for name, value in (context or {}).items():
        announced = [value] if isinstance(value, str) else value
        if name not in _ANNOUNCED or not isinstance(announced, list) or not all(isinstance(e, str) for e in announced):
            return f"privilege_context:{name[:64]}" if name.isprintable() else "privilege_context"
        if not all(_fits(name, str(each), envelope) for each in announced):
            return name
    return None


def _fits(name: str, value: str, envelope: PrivilegeEnvelope) -> bool:
    """Tell whether the worker's envelope has what the caller announces under a name of `_ANNOUNCED`."""
    match name:
        case "network_egress":
            return value in _WIDTH and _WIDTH[value] <= _WIDTH[envelope.network_egress]
        case "egress_destination" | "egress_destinations":
            return envelope.network_egress == "unrestricted" or value in envelope.egress_allowlist
        case "filesystem_writes":
            return posixpath.normpath(value) == value and _within(value, envelope.filesystem_writes)
        case "tools":
            return value in envelope.tools or "*" in envelope.tools
    return value in envelope.secrets_access or "*" in envelope.secrets_access


def _within(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)
