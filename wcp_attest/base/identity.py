"""Who a worker says it is: ids, versions and times, and the namespace for which signers are trusted.

    org.acme.summarizer.prod-01      worker id: authority (two segments), name, optional instance
    org.acme                         its namespace: the policy says who may sign for it
    wrk.doc.summarizer               species: a place in a taxonomy; nothing is trusted because of it

Ids are ASCII: up to 6 segments of `[a-z0-9][a-z0-9-]*` joined by dots, at most 128 characters in all. Signing and
verifying apply the same grammar, so that both read every id in the same way.
"""

from __future__ import annotations

import re
import time

from wcp_attest.base.errors import ConfigError, NamespaceInvalid

MAX_ID_LENGTH = 128
MAX_SEGMENTS = 6
AUTHORITIES = ("org", "x")
_ID = re.compile(rf"[a-z0-9][a-z0-9-]*(?:\.[a-z0-9][a-z0-9-]*){{0,{MAX_SEGMENTS - 1}}}\Z")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}\Z")
_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z\Z")  # never 24:00
_UTC_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def id_problem(text: str, *, segments: int = 2) -> str | None:
    """Say what is wrong with an id, or return None.

    Args:
        text: the id.
        segments: how many segments it must have at least.

    Returns:
        What is wrong, to follow the id in a message; None when nothing is.
    """
    if len(text) > MAX_ID_LENGTH:
        return f"is longer than {MAX_ID_LENGTH} characters"
    if not _ID.match(text):
        return f"is not up to {MAX_SEGMENTS} segments of a-z, 0-9 and `-` joined by dots"
    if text.count(".") + 1 < segments:
        return f"has fewer than {segments} segments"
    return None


def version_problem(text: str) -> str | None:
    """Say what is wrong with the version of a worker, or return None.

    Args:
        text: the version: 1 to 64 of `0-9A-Za-z.+_-`, starting with a letter or digit.

    Returns:
        What is wrong, to follow the version in a message; None when nothing is.
    """
    return None if _VERSION.match(text) else "is not 1 to 64 of 0-9 A-Z a-z . + _ - starting with a letter or digit"


def namespace_of(worker_id: str) -> str:
    """Return the namespace a worker id belongs to: its first two segments, `org.<name>` or `x.<name>`.

    Args:
        worker_id: at least three segments, `org.acme.summarizer`.

    Returns:
        The namespace, `org.acme`.

    Raises:
        NamespaceInvalid: the id is malformed, or does not start with `org.` or `x.`.
    """
    problem = id_problem(worker_id, segments=3)
    authority, _, rest = worker_id.partition(".")
    if problem is None and authority not in AUTHORITIES:
        problem = "does not start with `org.` or `x.`"
    if problem is not None:
        raise NamespaceInvalid(f"worker id {worker_id[:160]!r} {problem}; expected the form org.acme.summarizer")
    return f"{authority}.{rest.partition('.')[0]}"


def check_namespace(name: str) -> str:
    """Refuse what is not a namespace.

    Args:
        name: `org.<name>` or `x.<name>`.

    Returns:
        The name itself.

    Raises:
        ConfigError: it is not a namespace.
    """
    if id_problem(name) or name.count(".") != 1 or name.partition(".")[0] not in AUTHORITIES:
        raise ConfigError(f"{name[:160]!r} is not a namespace; expected org.<name> or x.<name>")
    return name


def format_utc(seconds: float) -> str:
    """Return a time as `2026-11-22T14:00:00Z` (RFC 3339, UTC, whole seconds).

    Args:
        seconds: since the Unix epoch.

    Returns:
        20 characters.

    Raises:
        ConfigError: the time is outside the years 1970 to 9999.
    """
    if not 0 <= seconds < 253_402_300_800:
        raise ConfigError(f"time {seconds!r} is outside the years 1970 to 9999")
    return time.strftime(_UTC_FORMAT, time.gmtime(seconds))


def parse_utc(text: str) -> int | None:
    """Read a time in the spelling of `format_utc`.

    Args:
        text: `2026-11-22T14:00:00Z`.

    Returns:
        Whole seconds since the Unix epoch; None when the text has another form or the time is before 1970.
    """
    if not _UTC.match(text):
        return None
    from datetime import datetime

    try:
        seconds = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
