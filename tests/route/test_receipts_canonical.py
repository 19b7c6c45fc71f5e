"""Canonical JSON is RFC 8785's, by whichever way it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import MAX_DEPTH, MAX_INTEGER, canonical_json, parse_canonical, sha256_of

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

any_text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    any_text,
)
plain_scalars = st.one_of(st.none(), st.booleans(), st.integers(-MAX_INTEGER, MAX_INTEGER), any_text)


def values(leaves: st.SearchStrategy[object], keys: st.SearchStrategy[str]) -> st.SearchStrategy[JsonValue]:
    whole = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30)
    return cast("st.SearchStrategy[JsonValue]", whole)


@given(values(scalars, any_text))
@settings(max_examples=examples(400))
def test_any_value_is_spelled_as_by_the_reference_library(value: JsonValue) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(values(plain_scalars, st.text(st.characters(codec="ascii"))))
@settings(max_examples=examples(400))
def test_the_fast_way_agrees_with_the_reference_library(value: JsonValue) -> None:
    """Values of receipts: no floats, ASCII keys, any text."""
    assert canonical_json(value) == rfc8785.dumps(value)


@given(values(scalars, any_text))
def test_the_canonical_form_reads_back_to_itself(value: JsonValue) -> None:
    once = canonical_json(value)
    assert canonical_json(parse_canonical(once, what="value", max_bytes=len(once))) == once


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" 1",
        b"1\n",
        b"1.0",
        b"-0",
        b"01",
        b"NaN",
        b"1e400",
        b"9007199254740993",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b"[" * 100_000,
        b"9" * 5000,
        b"1" * 20,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_only_the_one_spelling_is_read(text: bytes) -> None:
    with pytest.raises(ConfigError, match="value is not JSON in canonical form"):
        parse_canonical(text, what="value", max_bytes=1_000_000)


def test_reading_is_bounded() -> None:
    with pytest.raises(ConfigError, match="larger than 3 bytes"):
        parse_canonical(b"1234", what="value", max_bytes=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"\U0001f600": 1, "\ufb33": 2}, '{"\U0001f600":1,"\ufb33":2}'),  # UTF-16 order, not code point order
        ({"a": '\u2028\x7f\x1f\n"\\/'}, '{"a":"\u2028\x7f\\u001f\\n\\"\\\\/"}'),
        ([1.0, 1e21, 1e-7, -0.0, 0.1], "[1,1e+21,1e-7,0,0.1]"),
        ({"deep": [{"z": None, "y": [True, False]}]}, '{"deep":[{"y":[true,false],"z":null}]}'),
        ("ü", '"ü"'),
    ],
)
def test_known_spellings(value: JsonValue, text: str) -> None:
    assert canonical_json(value) == text.encode()


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


def endless() -> JsonValue:
    value: list[JsonValue] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("inf")],
        {"n": 2**53},
        -(2**53),
        "\ud800",
        {"\udfff": 1},
        {1: "one"},
        {"a": {None: 1}},
        [{True: 1}],
        b"bytes",
        {"a": {1, 2}},
        [object()],
        nested(MAX_DEPTH + 2),
        nested(100_000),
        endless(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_rfc_8785_cannot_carry_is_refused(value: JsonValue) -> None:
    with pytest.raises(ConfigError, match="no canonical JSON form"):
        canonical_json(value)


def test_a_digest_is_of_the_canonical_form() -> None:
    # printf '%s' '{"a":1}' | sha256sum
    assert sha256_of({"a": 1}) == "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert sha256_of({"b": 1, "a": 2}) == sha256_of({"a": 2, "b": 1})
