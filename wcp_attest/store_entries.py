"""What the entries of a store say of themselves, unverified, and in which order they are tried."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any

from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import id_problem, parse_utc, version_problem
from wcp_attest.disk.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECORD_NAME = "record.json"
MAX_RECORD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """One entry, as its own files describe it; nothing of it is verified.

    Attributes:
        name: SHA-256 of its manifest, 64 hex digits.
        path: of its `package` directory.
        worker_id: empty when its manifest cannot be read.
        worker_version: as the manifest says.
        built_at_utc: as the manifest says.
        record: what `record.json` says; empty when there is none that can be read.
    """

    name: str
    path: str
    worker_id: str = ""
    worker_version: str = ""
    built_at_utc: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def added_at_utc(self) -> str:
        """When it was added, as its record says; may be empty."""
        value = self.record.get("added_at_utc")
        return value if isinstance(value, str) and parse_utc(value) is not None else ""


def split_worker(text: str) -> tuple[str, str | None]:
    """Return worker id and version of `org.acme.summarizer@1.4.0`; the version may be left out.

    Raises:
        ConfigError: it is neither.
    """
    worker_id, at, version = text.partition("@")
    problem = id_problem(worker_id, segments=3)
    if problem is not None:
        raise ConfigError(f"{text!r} is no worker id: it {problem}")
    if at and (problem := version_problem(version)) is not None:
        raise ConfigError(f"the version in {text!r} {problem}")
    return worker_id, version if at else None


def newest_first(entries: Iterable[StoreEntry]) -> list[StoreEntry]:
    """Sort entries of one worker: the highest version first; what cannot be compared, by when it was built."""
    return sorted(entries, key=cmp_to_key(_compare), reverse=True)


def _compare(one: StoreEntry, other: StoreEntry) -> int:
    from wcp_attest.trust.bans.versions import version_rank

    ours, theirs = version_rank(one.worker_version), version_rank(other.worker_version)
    if ours is not None and theirs is not None and ours != theirs:
        return 1 if ours > theirs else -1
    return (one.built_at_utc > other.built_at_utc) - (one.built_at_utc < other.built_at_utc)


def read_record(entry: str) -> dict[str, Any]:
    """Return what a record says; it decides nothing, so one that cannot be read says nothing."""
    try:
        data = read_bounded(os.path.join(entry, RECORD_NAME), limit=MAX_RECORD_BYTES, what=RECORD_NAME)
        value = json.loads(data)
    except (ConfigError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
