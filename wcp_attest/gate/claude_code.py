"""Claude Code's hooks: `PreToolUse` for `Skill` and for the tools of plugins, and `SessionStart` for all that is there.

    {"hook_event_name": "PreToolUse", "cwd": "/project", "tool_name": "Skill", "tool_input": {"skill": "pdf-forms"}}

Exit status 2 stops the call and shows standard error; 0 with no output leaves the decision to the user's own
permissions, which a gate must not widen. Every other status would let the call go on, so none other is used. A
session cannot be refused by a status; `{"continue": false}` with status 0 ends it, as it ends every other event. So
this is also the answer as long as it is not known which event asks.

A skill is looked for where Claude Code looks: in the project, in the user's directory and in installed plugins. A
name that is in two places is checked in both; a link, as skills often are, is followed once, here.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.disk.files import read_bounded
from wcp_attest.gate.request import HostReply, RequestError, parse_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.gate.request import Answer

BLOCK: Final = 2
MAX_PACKAGES: Final = 200  # skills and plugins of one session
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_PLUGIN_TOOL: Final = "mcp__plugin_"


class ClaudeCode:
    """The words of Claude Code."""

    stops_call = False  # whether status 2 says no: for a tool call alone

    def read(self, request: bytes) -> Sequence[str]:
        """Return the skill or plugin that a tool call would load; at the start of a session, all of them.

        Raises:
            RequestError: the request is malformed, of another event, or names a package that is nowhere.
        """
        fields = parse_request(request)
        event, folder = fields.get("hook_event_name"), fields.get("cwd")
        self.stops_call = event == "PreToolUse"
        if not isinstance(folder, str) or not os.path.isabs(folder):
            raise RequestError("the request's cwd is not absolute")
        home = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".claude")
        roots = [os.path.join(os.environ.get("CLAUDE_PROJECT_DIR") or folder, ".claude", "skills"), f"{home}/skills"]
        plugins = _installed(os.path.join(home, "plugins", "installed_plugins.json"))
        if event == "SessionStart":
            return _everything(roots, plugins)
        tool, given = fields.get("tool_name"), fields.get("tool_input")
        if event != "PreToolUse" or not isinstance(tool, str) or not isinstance(given, dict):
            raise RequestError(f"the event {str(event)[:40]!r} is none that this gate answers")
        if tool == "Skill":
            return _skill(given.get("skill", given.get("command")), roots, plugins)
        if tool.startswith(_PLUGIN_TOOL):
            server = tool.removeprefix(_PLUGIN_TOOL)
            paths = [p for name, where in plugins.items() if server.startswith(f"{_as_tool(name)}_") for p in where]
            if not paths:
                raise RequestError(f"the plugin of the tool {tool[:80]!r} is not installed")
            return paths
        return []

    def answer(self, answers: Sequence[Answer]) -> HostReply:
        """Say what was decided. A warning stops the call as well: a hook has no third answer that asks safely."""
        refused = [f"{answer.path}: {answer.reason}" for answer in answers if answer.decision != "allow"]
        return self.failure("; ".join(refused)) if refused else HostReply(None, "", 0)

    def failure(self, reason: str) -> HostReply:
        """Stop the call, or the session."""
        text = f"wcp-attest: {reason}"[:4000]
        if self.stops_call:
            return HostReply(None, text + "\n", BLOCK)
        return HostReply({"continue": False, "stopReason": text, "systemMessage": text}, text + "\n", 0)


def _everything(roots: Sequence[str], plugins: dict[str, list[str]]) -> list[str]:
    """Return the real paths of all skills and plugins.

    Raises:
        RequestError: there are too many.
    """
    paths = [path for where in plugins.values() for path in where]
    for root in roots:
        if os.path.isdir(root):
            paths += [entry.path for entry in os.scandir(root) if entry.is_dir()]
    found = {os.path.realpath(path) for path in paths}
    if len(found) > MAX_PACKAGES:
        raise RequestError(f"there are more than {MAX_PACKAGES} skills and plugins")
    return sorted(found)


def _skill(name: object, roots: Sequence[str], plugins: dict[str, list[str]]) -> list[str]:
    if not isinstance(name, str):
        raise RequestError("the request names no skill")
    plugin, colon, skill = name.removeprefix("/").rpartition(":")
    if not _NAME.match(skill) or (colon and not _NAME.match(plugin)):
        raise RequestError(f"{name[:80]!r} is no name of a skill")
    places = plugins.get(plugin, []) if colon else [f"{root}/{skill}" for root in roots]
    paths = sorted({os.path.realpath(place) for place in places if os.path.lexists(place)})
    if not paths:
        raise RequestError(f"the skill {name[:80]!r} is in no directory that is known here")
    return paths


def _as_tool(plugin: str) -> str:
    """Return the name of a plugin as it stands in the name of a tool."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", plugin)


def _installed(path: str) -> dict[str, list[str]]:
    """Return where each installed plugin lies, by its name without its marketplace."""
    if not os.path.lexists(path):
        return {}
    data = read_bounded(path, limit=4 << 20, what="installed_plugins.json", missing=RequestError)
    table = strictjson.loads_object(data, what="installed_plugins.json", max_bytes=4 << 20, error=RequestError)
    plugins = table.get("plugins")
    if not isinstance(plugins, dict):
        raise RequestError("installed_plugins.json has no `plugins`")
    found: dict[str, list[str]] = {}
    for name, value in plugins.items():
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict) or not isinstance(place := one.get("installPath"), str):
                raise RequestError(f"installed_plugins.json does not say where {name[:80]!r} lies")
            found.setdefault(name.partition("@")[0], []).append(place)
    return found
