"""Random ids: UUID version 4 (RFC 9562), made without the detour over an object, because every decision needs one."""

from __future__ import annotations

import os

_VARIANT = "89ab"


def new_id() -> str:
    """Return a random UUID in its usual spelling."""
    text = os.urandom(16).hex()
    variant = _VARIANT[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
