"""Canonical JSON (RFC 8785): each value has exactly one text, so a digest of the text identifies the value.

    {"b": [1, true], "a": "é"}   ▶   {"a":"é","b":[1,true]}

Only data that this project writes and hashes itself uses this module (receipts, requests). Package signatures cover
bytes and do not need it. The standard library's encoder already writes RFC 8785 for values without floats, without
integers beyond 2**53, and with keys whose code point order is their UTF-16 order. Nearly all values are of this kind,
and it is five times as fast. The `rfc8785` library, which implements the whole RFC, encodes all other values.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from wcp_attest.base.strictjson import JsonObject, JsonValue

MAX_DEPTH = 64  # twice what any wire format here admits; far below the interpreter's recursion limit
MAX_INTEGER = 2**53 - 1  # what a JSON number carries exactly everywhere (RFC 8785 section 3.2.2.3)

_STRINGS = frozenset({str})
_PLAIN = frozenset({str, bool, type(None)})  # spelled alike by encoder and RFC, whatever their value
_FLAT = _PLAIN | {int}

MAX_BOXES = 1_000_000  # lists and objects in one value; the largest text admitted anywhere holds fewer

_encoder = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


def _make_encode() -> Callable[[JsonValue], str]:
    """Return the C encoder, set up once (`JSONEncoder.encode` does it for every value), if the interpreter has it."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without it
        return _encoder.encode
    parts = make(None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", True, False, False)  # noqa: FBT003
    return lambda value: "".join(parts(value, 0))


_encode = _make_encode()


def canonical_json(value: JsonValue) -> bytes:
    """Return the RFC 8785 form of `value`.

    Raises:
        ConfigError: RFC 8785 cannot carry the value: NaN, an infinity, an integer beyond 2**53, a lone surrogate, a key
            that is not text, a type that is not JSON's, or nesting deeper than `MAX_DEPTH`.
    """
    try:
        if _is_plain(value):
            return _encode(value).encode()
        import rfc8785

        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as problem:  # also UnicodeEncodeError, for lone surrogates
        raise ConfigError(f"value has no canonical JSON form: {problem}") from None


def parse_canonical(data: bytes, *, what: str, max_bytes: int) -> JsonValue:
    """Return the value whose canonical form `data` is.

    A value has only one canonical text, so one comparison refuses duplicate keys, NaN, other spellings and trailing
    data.

    Args:
        data: the canonical form.
        what: what it is, for messages (`receipt 7`).
        max_bytes: the largest size accepted, in bytes.

    Raises:
        ConfigError: too large, not JSON, or not the canonical form of what it says.
    """
    if len(data) > max_bytes:
        raise ConfigError(f"{what} is larger than {max_bytes} bytes")
    try:
        value = cast("JsonValue", json.loads(data.decode(), parse_int=_number))
        again = canonical_json(value)
    except (ValueError, RecursionError, ConfigError) as problem:
        raise ConfigError(f"{what} is not JSON in canonical form: {str(problem)[:200]}") from None
    if again != data:
        raise ConfigError(f"{what} is not JSON in canonical form")
    return value


def sha256_of(value: JsonValue) -> str:
    """Return `sha256:` and the lower-case hex SHA-256 of the canonical form of `value`.

    Raises:
        ConfigError: as `canonical_json`.
    """
    return "sha256:" + sha256(canonical_json(value)).hexdigest()


def _number(text: str) -> int | float:
    """Read a number written without a fraction; beyond 2**53 it is read as a float."""
    return int(text) if len(text) < 16 or (len(text) < 18 and abs(int(text)) <= MAX_INTEGER) else float(text)


def _is_plain(value: JsonValue) -> bool:
    """Tell whether the encoder writes `value` as RFC 8785 does; refuse a value that the encoder would change."""
    if type(value) is dict and _FLAT.issuperset(map(type, value.values())):
        # A payload without lists and objects, the usual one (bar: plain decisions, benchmarks/route.py).
        numbers = [item for item in value.values() if type(item) is int]
        return _has_plain_keys(value) and all(-MAX_INTEGER <= number <= MAX_INTEGER for number in numbers)
    plain, depth, level_ends = True, -1, 0
    boxes: list[JsonObject | list[JsonValue]] = [[value]]
    for place, box in enumerate(boxes):  # the loop appends to `boxes`, level by level
        if place == level_ends:
            depth, level_ends = depth + 1, len(boxes)
            _check_size(depth, level_ends)
        items: Collection[JsonValue] = box
        if type(box) is dict:
            items = box.values()
            plain = _has_plain_keys(box) and plain
        if _PLAIN.issuperset(map(type, items)):
            continue
        for item in items:
            kind = type(item)
            if kind is dict or kind is list:
                boxes.append(cast("JsonObject", item))
            elif kind is int:
                plain = plain and -MAX_INTEGER <= cast("int", item) <= MAX_INTEGER
            elif kind not in _PLAIN:
                plain = False  # floats need the library; it also refuses all other types
    return plain


def _has_plain_keys(members: JsonObject) -> bool:
    """Tell whether code point order and UTF-16 order of the keys are the same."""
    if not _STRINGS.issuperset(map(type, members)):
        raise ConfigError("value has no canonical JSON form: a key is not text")
    return "".join(members).isascii()


def _check_size(depth: int, boxes: int) -> None:
    if depth > MAX_DEPTH:
        raise ConfigError(f"value has no canonical JSON form: nested deeper than {MAX_DEPTH} levels")
    if boxes > MAX_BOXES:
        raise ConfigError(f"value has no canonical JSON form: more than {MAX_BOXES} lists and objects")
