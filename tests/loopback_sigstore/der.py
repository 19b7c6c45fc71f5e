"""Distinguished Encoding Rules (ITU-T X.690), as far as time-stamp tokens and certificate extensions need them."""

from __future__ import annotations

from typing import NamedTuple

INTEGER, OCTET_STRING, OBJECT_IDENTIFIER, UTF8_STRING = 0x02, 0x04, 0x06, 0x0C
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
BOOLEAN, CONTEXT_0 = 0x01, 0xA0
NULL = b"\x05\x00"


class Element(NamedTuple):
    """One decoded value: its tag and its content octets."""

    tag: int
    content: bytes


def encode(tag: int, *parts: bytes) -> bytes:
    """Encode one value of the given tag; its content is the parts, joined."""
    content = b"".join(parts)
    return bytes([tag]) + _length(len(content)) + content


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER given in dotted decimal."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return encode(OBJECT_IDENTIFIER, bytes([first * 40 + second]), *map(_arc, rest))


def _arc(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(0x80 | (value & 0x7F))
    return bytes(reversed(octets))


def utf8_string(text: str) -> bytes:
    """Encode a UTF8String."""
    return encode(UTF8_STRING, text.encode())


def decode(data: bytes, start: int = 0) -> tuple[Element, int]:
    """Decode the value that begins at `start`; return it with the index after it."""
    tag, size, begin = data[start], data[start + 1], start + 2
    if size & 0x80:
        octets = size & 0x7F
        size = int.from_bytes(data[begin : begin + octets], "big")
        begin += octets
    return Element(tag, data[begin : begin + size]), begin + size


def children(content: bytes) -> list[Element]:
    """Decode the values inside a constructed value."""
    found, index = [], 0
    while index < len(content):
        element, index = decode(content, index)
        found.append(element)
    return found
