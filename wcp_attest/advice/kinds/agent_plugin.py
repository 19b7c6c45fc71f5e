"""Agent Plugins: `plugin.json` at the root (Agent Plugins Specification 1.0.0, sections 5.2 to 5.5).

Claude Code's own place, `.claude-plugin/plugin.json`, is read where the portable file is absent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds.described import Described, text_of
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from wcp_attest.advice.kinds.described import Reader

SCHEMA: Final = re.compile(r"https://agent-plugins\.org/schemas/1\.[0-9]+\.[0-9]+/plugin\.schema\.json\Z")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9]|[-.](?=[a-z0-9])){0,63}\Z")
CLIENT_PLACE: Final = ".claude-plugin/plugin.json"


def read(reader: Reader) -> Described | None:
    """Return what the plugin says it is, or None for another directory.

    Raises:
        ConfigError: the manifest names no plugin, or breaks a rule that makes every client refuse it.
    """
    fields = reader.json("plugin.json")
    source = "plugin.json"
    if fields is not None and "$schema" in fields:
        if not isinstance(fields["$schema"], str) or not SCHEMA.match(fields["$schema"]):
            raise ConfigError("plugin.json: `$schema` is not that of Agent Plugins 1.x")
    else:
        fields, source = reader.json(CLIENT_PLACE), CLIENT_PLACE
        if fields is None:
            return None
    name = text_of(fields, "name", source)
    if name is None or not _NAME.match(name):
        raise ConfigError(
            f"{source}: `name` must be 1 to 64 of a-z, 0-9, `-` and `.`, without two marks in a row and without one"
            " at either end"
        )
    return Described("plugin", name, text_of(fields, "version", source), source)
