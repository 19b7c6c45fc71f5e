"""Random ids: UUIDs of version 4 and 7 (RFC 9562), made without a `UUID` object, because every decision needs two.

The random bytes come from the system, for many ids at a time. Each system call releases the interpreter's lock and
takes it again at once. A thread that waits for the lock (the one that writes receipts, for example) wakes up, does not
get it, and waits another 5 ms before it may ask again. If system calls come more often, it never gets the lock.
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
    """Return a UUID of version 7: it begins with a time, so that it sorts by it, and the rest is random.

    Args:
        milliseconds: since 1970.
    """
    return _spelled(f"{milliseconds:012x}", "7", _random())


def _spelled(first: str, version: str, rest: str) -> str:
    """Return 48 bits, the version, 12 bits, the variant, and 62 bits."""
    variant = _VARIANT[int(rest[16], 16) & 3]
    return f"{first[:8]}-{first[8:12]}-{version}{rest[13:16]}-{variant}{rest[17:20]}-{rest[20:]}"


def _random() -> str:
    """Return 128 random bits as 32 hex digits; no two calls return the same bits."""
    try:
        return _ready.pop()
    except IndexError:  # the block is used up: make another one
        noise = os.urandom(16 * BLOCK).hex()
        mine, *others = (noise[start : start + 32] for start in range(0, len(noise), 32))
        _ready.extend(others)
        return mine
