"""JSON read strictly: UTF-8 only, no duplicate keys, no floats, no NaN, bounded size and depth.

Python's own reader takes the last of two equal keys, `NaN`, and nesting until the interpreter gives up; two readers
that differ on such input are how signed data comes to mean two things. Everything of that kind is refused here.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias, cast

from wcp_attest.base.errors import ConfigError, Error

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

MAX_DEPTH = 32  # far above any format here; far below the interpreter's recursion limit
MAX_INT_DIGITS = 19  # 64-bit integers; also keeps int() of hostile digits cheap

# What is left of a text once its strings are blanked is brackets, and their running balance is the depth. The
# quantifiers are possessive: nothing is remembered for stepping back, which costs 120 bytes a character of a string.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_BRACKET = re.compile(rb"[^\[\]{}]++")


def loads(
    data: bytes, *, what: str, max_bytes: int, floats: bool = False, error: type[Error] = ConfigError
) -> JsonValue:
    """Parse JSON text.

    Args:
        data: the text as bytes.
        what: what the text is, for messages (`manifest.json`).
        max_bytes: the largest size accepted, in bytes.
        floats: whether numbers with a fraction or exponent are accepted (finite ones only).
        error: the error type to raise.

    Raises:
        Error: of type `error`: too large, not UTF-8, not JSON, a duplicate key, a float, a number out of range, half
            of a surrogate pair, nested too deeply.
    """
    if len(data) > max_bytes:
        raise error(f"{what} is larger than {max_bytes} bytes")
    if not data.strip():
        raise error(f"{what} is empty")
    depth = 0
    for bracket in _NOT_BRACKET.sub(b"", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise error(f"{what} is nested more than {MAX_DEPTH} levels deep")
    reader = _StrictReader(what, error, floats=floats)
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=reader.unique,
            parse_float=reader.real,
            parse_int=reader.integer,
            parse_constant=reader.constant,
        )
    except UnicodeDecodeError:
        raise error(f"{what} is not valid UTF-8") from None
    except json.JSONDecodeError as problem:
        raise error(
            f"{what} is not JSON: {problem.msg.removesuffix(' at')} at line {problem.lineno}, column {problem.colno}"
        ) from None
    except RecursionError:
        raise error(f"{what} is nested too deeply") from None
    if _SURROGATE.search(data):  # half a pair is no character: it cannot be written, and readers differ on it
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise error(f"{what} holds half of a surrogate pair, which is no character") from None
    return cast("JsonValue", value)


def loads_object(data: bytes, *, what: str, max_bytes: int, error: type[Error] = ConfigError) -> JsonObject:
    """Parse JSON text that must be an object, without floats.

    Args and Raises: as `loads`.
    """
    value = loads(data, what=what, max_bytes=max_bytes, error=error)
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object")
    return value


def dumps(value: JsonValue) -> bytes:
    """Return `value` as compact UTF-8 JSON, keys in the order given.

    Raises:
        ValueError: the value holds NaN or an infinity, or text that is not valid Unicode.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


class _StrictReader:
    """The callbacks of one reading."""

    def __init__(self, what: str, error: type[Error], *, floats: bool) -> None:
        self._what, self._error, self._floats = what, error, floats

    def unique(self, pairs: list[tuple[str, JsonValue]]) -> JsonObject:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise self._error(f"{self._what} holds the key {twice[:80]!r} twice")
        return value

    def real(self, text: str) -> float:
        if not self._floats or float(text) in (float("inf"), float("-inf")):
            raise self._error(f"{self._what} holds the number {text[:40]}, which is not a whole number in range")
        return float(text)

    def integer(self, text: str) -> int:
        if len(text.removeprefix("-")) > MAX_INT_DIGITS:
            raise self._error(f"{self._what} holds the number {text[:40]}, which is out of range")
        return int(text)

    def constant(self, text: str) -> float:
        raise self._error(f"{self._what} holds {text}, which is not JSON")
