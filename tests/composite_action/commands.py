"""Workflow commands in a step's output, and the masks that hide secrets in everything shown afterwards.

A line is a command in either spelling, each with its own escapes (`ActionCommand.cs` of the runner):

    ::error file=a.py,line=1::message          after leading white space only
    text ##[error file=a.py;line=1]message     anywhere in the line

The second one is why a tool must not print names of files as they come: a file called `##[stop-commands]x` speaks.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ANNOTATIONS: Final = ("debug", "notice", "warning", "error")
DISABLED: Final = ("set-env", "add-path")
"""Commands that the runner refuses since 2020; a step that prints one fails."""

_OTHERS: Final = ("add-mask", "add-matcher", "echo", "endgroup", "group", "remove-matcher", "save-state", "set-output")
KNOWN: Final = frozenset((*ANNOTATIONS, *DISABLED, *_OTHERS, "stop-commands"))

_ESCAPES: Final = (("\r", "%0D"), ("\n", "%0A"))
_PROPERTY_ESCAPES: Final = (*_ESCAPES, (":", "%3A"), (",", "%2C"), ("%", "%25"))
_OLD_ESCAPES: Final = ((";", "%3B"), *_ESCAPES, ("]", "%5D"), ("%", "%25"))
_DATA_ESCAPES: Final = (*_ESCAPES, ("%", "%25"))


@dataclass(frozen=True, slots=True)
class Command:
    """One workflow command, unescaped."""

    name: str
    data: str
    properties: Mapping[str, str] = field(default_factory=dict)


def _unescape(text: str, escapes: Iterable[tuple[str, str]]) -> str:
    for character, escaped in escapes:
        text = text.replace(escaped, character)
    return text


def _properties(text: str, separator: str, escapes: Iterable[tuple[str, str]]) -> dict[str, str]:
    pairs = (item.split("=", 1) for item in text.strip().split(separator) if item)
    return {pair[0]: _unescape(pair[1], escapes) for pair in pairs if len(pair) == 2 and all(pair)}


def parse(line: str, also: frozenset[str] = frozenset()) -> Command | None:
    """Read the command in a line, if there is one that the runner knows.

    Args:
        line: one line of output, without its end.
        also: further command names: the token that ends `stop-commands`.
    """
    known = KNOWN | also
    text = line.lstrip()
    end = text.find("::", 2)
    if text.startswith("::") and end >= 0:
        name, _, properties = text[2:end].partition(" ")
        if name.lower() in known:
            parsed = _properties(properties, ",", _PROPERTY_ESCAPES)
            return Command(name.lower(), _unescape(text[end + 2 :], _DATA_ESCAPES), parsed)
    start = line.find("##[")
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    name, _, properties = line[start + 3 : end].partition(" ")
    if name.lower() not in known:
        return None
    parsed = _properties(properties, ";", _OLD_ESCAPES)
    return Command(name.lower(), _unescape(line[end + 1 :], _OLD_ESCAPES), parsed)


def _base64_shifted(value: str, shift: int) -> str:
    return base64.b64encode(value.encode()[shift:]).decode() if len(value.encode()) > shift else ""


_ENCODERS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    lambda value: _base64_shifted(value, 0),
    lambda value: _base64_shifted(value, 1),
    lambda value: _base64_shifted(value, 2),
    lambda value: value.replace('"', '\\"'),
    lambda value: value.replace("'", "''"),
    lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    lambda value: quote(value, safe=""),
    lambda value: escape(value, {'"': "&quot;", "'": "&apos;"}),
)


@dataclass(slots=True)
class Masks:
    """Secrets and the forms in which they may show up, replaced by `***`."""

    forms: set[str] = field(default_factory=set)

    def add(self, value: str) -> None:
        """Hide a value, each of its lines, and each of them encoded in the runner's ways."""
        for part in (value, *(line.strip() for line in re.split(r"[\r\n]+", value))):
            self.forms.update(form for encode in _ENCODERS if part and (form := encode(part)))

    def hide(self, text: str) -> str:
        """Replace every hidden form, longest first."""
        for form in sorted(self.forms, key=len, reverse=True):
            text = text.replace(form, "***")
        return text


@dataclass(slots=True)
class Listener:
    """Reads the output of steps line by line: collects annotations, applies masks, obeys `stop-commands`."""

    masks: Masks = field(default_factory=Masks)
    annotations: list[Command] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    log: list[str] = field(default_factory=list)
    _token: str | None = None

    def line(self, line: str) -> None:
        """Take one line of a step's standard output or standard error."""
        command = parse(line, frozenset({self._token}) if self._token else frozenset())
        if self._token is not None:
            if command is not None and command.name == self._token:
                self._token = None
            self._show(line)
        elif command is None:
            self._show(line)
        else:
            self._obey(command, line)

    def issue(self, level: str, message: str) -> None:
        """Record an annotation that the runner itself makes."""
        self.annotations.append(Command(level, self.masks.hide(message)))

    def _show(self, line: str) -> None:
        self.log.append(self.masks.hide(line))

    def _obey(self, command: Command, line: str) -> None:
        if command.name == "add-mask" and command.data.strip():
            self.masks.add(command.data)
        elif command.name in ANNOTATIONS:
            shown = {name: self.masks.hide(value) for name, value in command.properties.items()}
            self.annotations.append(Command(command.name, self.masks.hide(command.data), shown))
            self._show(f"##[{command.name}]{command.data}")
        elif command.name == "stop-commands":
            self._stop(command.data.lower(), line)
        elif command.name == "set-output" and command.properties.get("name"):
            self.outputs[command.properties["name"]] = command.data
        elif command.name in DISABLED or command.name == "set-output":
            self.issue("error", f"Unable to process command '{line}' successfully.")
            self.failed = True
        else:
            self._show(line)

    def _stop(self, token: str, line: str) -> None:
        if not token or token in KNOWN or token == "pause-logging":
            self.issue("error", f"Unable to process command '{line}' successfully.")
            self.failed = True
            return
        self._token = token
        if len(token) > 6:
            self.masks.add(token)
        self._show(line)
