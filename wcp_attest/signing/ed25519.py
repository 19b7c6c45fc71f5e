"""Ed25519 verification in plain Python (RFC 8032 section 5.1.7), for hosts that have Python and nothing else.

It is used where `cryptography` is not installed: by the zipapp. A hundred times slower than that, which is some
milliseconds a signature. Times depend on the input, and may: a signature, a public key and a message are no secrets.
It answers as OpenSSL does: without the cofactor, R compared byte by byte, S below the group order.
"""

from __future__ import annotations

from hashlib import sha512
from typing import Final, TypeAlias

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)
_Point: TypeAlias = tuple[int, int, int, int]  # extended coordinates: x = X/Z, y = Y/Z, x·y = T/Z
_NEUTRAL: Final = (0, 1, 1, 0)


def verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature is that of a key over a message.

    Args:
        public_key: 32 bytes, as RFC 8032 encodes a point.
        signature: 64 bytes; of another length it is not valid.
        message: what was signed.
    """
    point = _decoded(public_key)
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or scalar >= _ORDER:
        return False
    challenge = int.from_bytes(sha512(signature[:32] + public_key + message).digest(), "little") % _ORDER
    x, y, z, t = point
    x, y, z, _ = _sum(_times(scalar, _BASE), _times(challenge, (_P - x, y, z, _P - t)))
    inverse = pow(z, -1, _P)
    encoded = (y * inverse % _P) | ((x * inverse % _P & 1) << 255)
    return encoded.to_bytes(32, "little") == signature[:32]


def _decoded(data: bytes) -> _Point | None:
    """Return the point that 32 bytes encode, or None when they encode none (RFC 8032 section 5.1.3)."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if len(data) != 32 or y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (not x and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _sum(left: _Point, right: _Point) -> _Point:
    """Add two points (RFC 8032 section 5.1.4); the formula is complete, so that they may be equal."""
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a = (y1 - x1) * (y2 - x2) % _P
    b = (y1 + x1) * (y2 + x2) % _P
    c = 2 * t1 * t2 * _D % _P
    d = 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        scalar >>= 1
    return total


_BASE: Final = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or _NEUTRAL
