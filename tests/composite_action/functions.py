"""The functions that every expression may call (`Expressions2/Sdk/Functions` of the runner)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.composite_action.values import Value, equal, to_string

MAX_ARGUMENTS: Final = 255
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\d+)\}|[{}]")


class FunctionError(Exception):
    """A function was called with arguments it cannot take."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function with the least and the most arguments it takes."""

    least: int
    most: int
    call: Callable[..., Value]


def _is_primitive(value: Value) -> bool:
    return value is None or isinstance(value, (bool, float, str))


def _contains(search: Value, item: Value) -> bool:
    if _is_primitive(search):
        return _is_primitive(item) and to_string(item).lower() in to_string(search).lower()
    return isinstance(search, Sequence) and any(equal(item, value) for value in search)


def _starts_with(text: Value, start: Value) -> bool:
    if not (_is_primitive(text) and _is_primitive(start)):
        return False
    return to_string(text).upper().startswith(to_string(start).upper())


def _ends_with(text: Value, end: Value) -> bool:
    if not (_is_primitive(text) and _is_primitive(end)):
        return False
    return to_string(text).upper().endswith(to_string(end).upper())


def _format(pattern: Value, *values: Value) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None or int(found[1]) >= len(values):
            raise FunctionError(f"invalid format string {to_string(pattern)!r}")
        return to_string(values[int(found[1])])

    return _PLACEHOLDER.sub(replace, to_string(pattern))


def _join(values: Value, separator: Value = ",") -> str:
    if _is_primitive(values):
        return to_string(values)
    if isinstance(values, Sequence):
        return (to_string(separator) if _is_primitive(separator) else ",").join(to_string(value) for value in values)
    return ""


def _plain(value: Value) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _to_json(value: Value) -> str:
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _from_json(text: Value) -> Value:
    try:
        value: Value = json.loads(to_string(text), parse_int=float)
    except ValueError as error:
        raise FunctionError(f"not JSON: {error}") from error
    return value


BUILT_IN: Final[Mapping[str, Function]] = {
    "contains": Function(2, 2, _contains),
    "startswith": Function(2, 2, _starts_with),
    "endswith": Function(2, 2, _ends_with),
    "format": Function(1, MAX_ARGUMENTS, _format),
    "join": Function(1, 2, _join),
    "tojson": Function(1, 1, _to_json),
    "fromjson": Function(1, 1, _from_json),
}
