"""Time as the router keeps it (whole milliseconds since 1970) and as it writes it (RFC 3339, `Z`, milliseconds).

1764000000123  ⇄  2025-11-24T16:00:00.123Z
"""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache

from wcp_attest.base.errors import ConfigError

LATEST_MS = 253_402_300_799_999  # the last millisecond of the year 9999


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


def parse_ms(text: str) -> int:
    """Return the milliseconds since 1970 that `format_ms` wrote as `text`.

    Raises:
        ConfigError: it is not in that format.
    """
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
        milliseconds = round(moment.timestamp() * 1000)
        if format_ms(milliseconds) == text:
            return milliseconds
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{text[:40]!r} is not a time like 2026-01-31T08:00:00.000Z")


@lru_cache(maxsize=64)  # decisions come many to a second
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
