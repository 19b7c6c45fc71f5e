"""Random ids: UUID version 4 (RFC 9562), made without the detour over an object, because every decision needs one.

The random bytes come from the system, many ids at a time. Each call to the system lets go of the interpreter's lock and
takes it again at once; a thread that decides would thereby, every few microseconds, wake the thread that writes
receipts and send it back to wait, instead of being told after 5 ms to make room.
"""

from __future__ import annotations

import os
from typing import Final

BLOCK: Final = 256  # ids

_VARIANT: Final = "89ab"
_ready: list[str] = []  # 32 hex digits each

os.register_at_fork(after_in_child=_ready.clear)  # two processes must not hand out the same ones


def new_id() -> str:
    """Return a random UUID in its usual spelling."""
    try:
        text = _ready.pop()
    except IndexError:
        text = _refill()
    variant = _VARIANT[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _refill() -> str:
    """Get ready a block of ids, and return one of them that nobody else gets."""
    noise = os.urandom(16 * BLOCK).hex()
    mine, *others = (noise[start : start + 32] for start in range(0, len(noise), 32))
    _ready.extend(others)
    return mine
