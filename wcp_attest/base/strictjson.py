"""JSON read strictly: UTF-8 only, no duplicate keys, no floats, no NaN, bounded size and depth.

Python's own reader accepts two equal keys and keeps the last one, accepts `NaN`, and has no limit on nesting. Where two
readers differ on such input, signed data means two things. So all of that is refused here. Format: RFC 8259.
"""

from __future__ import annotations

import json
import re
from functools import partial
from math import isinf
from typing import TypeAlias, cast

from wcp_attest.base.errors import ConfigError, Error

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

MAX_DEPTH = 32  # far above any format here; far below the interpreter's recursion limit
MAX_INT_DIGITS = 19  # 64-bit integers; also keeps int() of hostile digits cheap

# To measure the depth, strings and then everything but brackets are removed; what is left is counted. The quantifiers
# are possessive: an expression that can step back remembers 120 bytes for each character of a string.
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
        floats: whether finite numbers with a fraction or exponent are accepted.
        error: the error type to raise.

    Returns:
        The value: dictionaries, lists, texts, numbers, booleans and None.

    Raises:
        Error: of type `error`: the text is too large, empty, not UTF-8 or not JSON, is nested too deeply, or holds a
            key twice, a float, a number out of range, or half of a surrogate pair.
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
    number = partial(_number, what, error, floats)
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=partial(_unique, what, error),
            parse_float=number,
            parse_int=number,
            parse_constant=number,
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

    Args:
        data: the text as bytes.
        what: what the text is, for messages.
        max_bytes: the largest size accepted, in bytes.
        error: the error type to raise.

    Returns:
        The object, its keys in the order of the text.

    Raises:
        Error: of type `error`: as `loads`, or the text is not an object.
    """
    value = loads(data, what=what, max_bytes=max_bytes, error=error)
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object")
    return value


def dumps(value: JsonValue) -> bytes:
    """Write a value as compact JSON.

    Args:
        value: what to write.

    Returns:
        UTF-8, without spaces, keys in the order given.

    Raises:
        ValueError: the value holds NaN or an infinity, or text that is not valid Unicode.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _unique(what: str, error: type[Error], pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    """Return an object; refuse one that holds a key twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise error(f"{what} holds the key {twice[:80]!r} twice")
    return value


def _number(what: str, error: type[Error], floats: bool, text: str) -> int | float:  # noqa: FBT001  # for `partial`
    """Return a number; refuse one that other readers may read differently."""
    digits = text.removeprefix("-")
    if digits.isdigit():
        if len(digits) > MAX_INT_DIGITS:
            raise error(f"{what} holds the number {text[:40]}, which is out of range")
        return int(text)
    if digits in {"NaN", "Infinity"}:  # Python's reader knows these words
        raise error(f"{what} holds {text}, which is not JSON")
    value = float(text)
    if not floats or isinf(value):
        raise error(f"{what} holds the number {text[:40]}, which is not a whole number in range")
    return value
