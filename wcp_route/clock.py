"""Time as the router keeps it (whole milliseconds since 1970) and as it writes it (RFC 3339, `Z`, milliseconds).

1764000000123  ⇄  2025-11-24T16:00:00.123Z
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from wcp_attest.errors import ConfigError

LATEST_MS = 253_402_300_799_999  # the last millisecond of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")


def now_ms() -> int:
    """Return the time of the system's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def format_ms(milliseconds: int) -> str:
    """Return a time in the router's one format.

    Args:
        milliseconds: since 1970.

    Raises:
        ConfigError: the time is outside the years 1970 to 9999.
    """
    if not 0 <= milliseconds <= LATEST_MS:
        raise ConfigError(f"time {milliseconds} is outside the years 1970 to 9999")
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=64)  # decisions come many to a second
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def parse_ms(text: str) -> int:
    """Return the milliseconds since 1970 of a time in the router's one format.

    Raises:
        ConfigError: the text is in another format.
    """
    if _SHAPE.match(text):
        with suppress(ValueError):  # the 30th of February
            parsed = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            found = (parsed - _EPOCH) // timedelta(milliseconds=1)
            if found >= 0:
                return found
    raise ConfigError(f"{text[:40]!r} is not a time of the form 2026-01-31T08:00:00.000Z")
