"""MCP bundles: `manifest.json` with `manifest_version` (MCPB manifest specification 0.1 to 0.4; `dxt_version` before).

The bundle owns the name `manifest.json`, so its attestation lies in `.wcp/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds.described import Described, text_of
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from wcp_attest.advice.kinds.described import Reader

SOURCE: Final = "manifest.json"


def read(reader: Reader) -> Described | None:
    """Return what the bundle says it is, or None for another directory.

    Raises:
        ConfigError: its manifest names no bundle.
    """
    data = reader.bytes(SOURCE)
    if data is None or not (b'"manifest_version"' in data or b'"dxt_version"' in data):
        return None  # our own manifest, or somebody else's
    fields = reader.json(SOURCE)
    if fields is None or not ("manifest_version" in fields or "dxt_version" in fields):
        return None
    name = text_of(fields, "name", SOURCE)
    if name is None or not isinstance(fields.get("server"), dict):
        raise ConfigError(f"{SOURCE}: an MCP bundle needs `name` and `server`")
    return Described("mcpb", name, text_of(fields, "version", SOURCE), SOURCE)
