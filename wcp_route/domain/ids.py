"""Random ids: UUIDs of version 4 and 7 (RFC 9562), made without the detour over an object: every decision needs two.

The random bytes come from the system, many ids at a time. Each call to the system lets go of the interpreter's lock and
takes it again at once. A thread that waits for the lock, as the one that writes receipts does, wakes in vain and begins
anew to wait the 5 ms after which it may ask for it: calls that come more often than that keep it out for good.
"""

from __future__ import annotations

import os
from typing import Final

BLOCK: Final = 2048  # ids: 20 ms of decisions

_VARIANT: Final = "89ab"
_ready: list[str] = []  # 32 hex digits each

os.register_at_fork(after_in_child=_ready.clear)  # two processes must not hand out the same ones


def new_id() -> str:
    """Return a random UUID (version 4) in its usual spelling."""
    text = _random()
    return _spelled(text, "4", text)


def new_id_at(milliseconds: int) -> str:
    """Return a UUID of a moment (version 7): it sorts by time, and the rest is random.

    Args:
        milliseconds: since 1970.
    """
    return _spelled(f"{milliseconds:012x}", "7", _random())


def _spelled(first: str, version: str, rest: str) -> str:
    """Return 48 bits, the version, 12 bits, the variant, and 62 bits."""
    variant = _VARIANT[int(rest[16], 16) & 3]
    return f"{first[:8]}-{first[8:12]}-{version}{rest[13:16]}-{variant}{rest[17:20]}-{rest[20:]}"


def _random() -> str:
    """Return 128 random bits, as 32 hex digits, that nobody else gets."""
    try:
        return _ready.pop()
    except IndexError:  # get another block of them ready
        noise = os.urandom(16 * BLOCK).hex()
        mine, *others = (noise[start : start + 32] for start in range(0, len(noise), 32))
        _ready.extend(others)
        return mine
