"""JSON is read in one way or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, ManifestMalformed

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

LIMIT = 1_000_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def read(data: bytes, *, floats: bool = False) -> JsonValue:
    return strictjson.loads(data, what="input", max_bytes=LIMIT, floats=floats)


@given(json_values)
def test_what_is_written_is_read_back(value: JsonValue) -> None:
    written = strictjson.dumps(value)
    assert read(written) == value
    assert json.loads(written) == value


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_input_escapes_the_error_tree(data: bytes) -> None:
    message = ""
    try:
        value = read(data, floats=True)
    except ConfigError as problem:
        message = str(problem)
    else:
        assert value == json.loads(data.decode())
    assert not message or (message.startswith("input ") and message.isprintable())


@given(json_values, st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_read_as_python_reads_it(value: JsonValue, position: int, mask: int) -> None:
    data = bytearray(strictjson.dumps(value))
    data[position % len(data)] ^= mask
    try:
        read_value = read(bytes(data))
    except ConfigError:
        return
    assert read_value == json.loads(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"{", "is not JSON"),
        (b"{}x", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not valid UTF-8"),
        (b'"\xed\xa0\x80"', "is not valid UTF-8"),
        (b'"\xc0\x80"', "is not valid UTF-8"),
        (b'{"a":1,"a":1}', "holds the key 'a' twice"),
        (b'{"a":1,"\\u0061":2}', "holds the key 'a' twice"),
        (b'[{"x":{"a":1,"b":2,"a":3}}]', "holds the key 'a' twice"),
        (b"NaN", "holds NaN"),
        (b"[Infinity]", "holds Infinity"),
        (b"-Infinity", "holds -Infinity"),
        (b"1.0", "holds the number 1.0"),
        (b"1e2", "holds the number 1e2"),
        (b"123456789012345678901", "out of range"),
        (b"1" * 5000, "out of range"),
        (b'"\n"', "is not JSON"),
        (b"'a'", "is not JSON"),
        (b"[1,]", "is not JSON"),
        (b"// x\n1", "is not JSON"),
        (b"01", "is not JSON"),
        (b"[" * 33 + b"]" * 33, "nested more than 32"),
        (b"[" * 400_000, "nested more than 32"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32"),
        (b" " * (LIMIT + 1), f"is larger than {LIMIT} bytes"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(data)
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_floats_are_read_only_where_asked_for_and_only_finite() -> None:
    assert read(b"[1.5,-2e3]", floats=True) == [1.5, -2000.0]
    for data in (b"1e999", b"-1e999", b"NaN"):
        with pytest.raises(ConfigError):
            read(data, floats=True)


def test_depth_counts_brackets_outside_strings_only() -> None:
    assert read(b"[" * 32 + b"]" * 32) is not None
    assert read(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert read(b'["\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "\\\\"]') is not None
    with pytest.raises(ConfigError, match="nested"):
        read(b'["\\\\"' + b",[" * 32 + b"]" * 33)


def test_the_caller_names_the_error_and_the_thing() -> None:
    with pytest.raises(ManifestMalformed, match=r"^manifest\.json is empty$"):
        strictjson.loads(b"", what="manifest.json", max_bytes=1, error=ManifestMalformed)


def test_an_object_is_asked_for_by_name() -> None:
    assert strictjson.loads_object(b'{"b":1,"a":2}', what="input", max_bytes=LIMIT) == {"b": 1, "a": 2}
    for data in (b"[]", b"1", b'"x"', b"null"):
        with pytest.raises(ConfigError, match="is not a JSON object"):
            strictjson.loads_object(data, what="input", max_bytes=LIMIT)


def test_writing_keeps_order_and_refuses_what_is_not_json() -> None:
    assert strictjson.dumps({"b": "é", "a": [1, None, True]}) == '{"b":"é","a":[1,null,true]}'.encode()
    for value in (float("nan"), float("inf"), "\ud800"):
        with pytest.raises(ValueError, match=r"JSON|surrogate"):
            strictjson.dumps(value)


def test_long_hostile_strings_take_no_memory_beyond_a_few_copies() -> None:
    """A reader that remembers every step of a string takes over 100 bytes a character: 1 GB for this one."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
        "from wcp_attest.base import strictjson;"
        "data = b'\"' + b'a' * (6 << 20) + b'\\\\n' * (3 << 20) + b'\"';"
        "assert len(strictjson.loads(data, what='input', max_bytes=1 << 28)) == 9 << 20"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
