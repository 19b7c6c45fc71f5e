"""Approvals in the state file."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self, cast

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Hold
from wcp_route.domain.values import LEVELS
from wcp_route.storage.approvals.shared import (
    MAX_PENDING,
    MAX_TEXT,
    STATES,
    ApprovalError,
    Entry,
    check_speaker,
    hash_of,
    new_grant,
    redeemable,
    resolved,
)
from wcp_route.storage.database import StateError, connect, failures, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.values import Level
    from wcp_route.storage.approvals.shared import Action, Resolution, State

MAX_HOLD_BYTES: Final = 64 << 10
_NUMBERS: Final = frozenset({"created_at_ms", "expires_at_ms", "blast_score"})
_ENTRY = "SELECT hold, level, state, ifnull(grant_hash, '') FROM holds "


class SqliteApprovals:
    """Kept in the state file. Each step is one immediate transaction: of two operators that speak at once, one is late.

    Args:
        path: the state file; made when it is not there.
        ids: makes grants; tests give their own.

    Raises:
        StateError: the file cannot be used.
    """

    def __init__(self, path: str, *, ids: Callable[[], str] = new_grant) -> None:
        self._path, self._ids = path, ids
        self._lock = threading.Lock()
        self._connection = connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def hold(self, hold: Hold) -> None:
        """Keep a hold.

        Raises:
            ApprovalError: its id is known, or too many wait already.
            StateError: the file cannot be written.
        """
        data = canonical_json(cast("JsonValue", asdict(hold) | {"code": hold.code.value}))
        if len(data) > MAX_HOLD_BYTES:
            raise ApprovalError(f"the hold has {len(data)} bytes, more than {MAX_HOLD_BYTES}")
        with self._step():
            (waiting,) = self._connection.execute(
                "SELECT count(*) FROM holds WHERE state = 'pending' AND expires_at_ms > ?", (hold.created_at_ms,)
            ).fetchone()
            if waiting >= MAX_PENDING:
                raise ApprovalError(f"{MAX_PENDING} requests wait for a human already")
            added = self._connection.execute(
                "INSERT OR IGNORE INTO holds VALUES (?, ?, ?, ?, 'pending', ?, NULL)",
                (hold.pending_id, data, hold.worker_id, hold.level, hold.expires_at_ms),
            )
            if not added.rowcount:
                raise ApprovalError(f"there is a hold {hold.pending_id} already")
            self._log(hold.pending_id, "hold", "hall", hold.reason, hold.created_at_ms)

    def resolve(self, pending_id: str, action: Action, *, by: str, at_ms: int, reason: str = "") -> Resolution:
        """Approve, deny or escalate a hold.

        Args:
            pending_id: which.
            action: `approve`, `deny` or `escalate`.
            by: who says so.
            at_ms: when, milliseconds since 1970.
            reason: why.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown or does not wait any more, or there is no higher level.
            ConfigError: nobody's name is given, or the file cannot be used.
        """
        check_speaker(by)
        with self._step():
            entry, resolution = resolved(
                self._entry("WHERE pending_id = ?", pending_id),
                action,
                pending_id=pending_id,
                at_ms=at_ms,
                grant_id=self._ids(),
            )
            self._connection.execute(
                "UPDATE holds SET level = ?, state = ?, grant_hash = ? WHERE pending_id = ? AND state = 'pending'",
                (entry.hold.level, entry.state, entry.grant_hash or None, pending_id),
            )
            self._log(pending_id, action, by, reason, at_ms)
        return resolution

    def redeem(
        self, grant_id: str, *, input_hash: str, worker_id: str, level: Level | None, at_ms: int, use: bool
    ) -> Hold:
        """Use a grant up, or only look whether it is good.

        Args:
            grant_id: what the caller brought.
            input_hash: of the request it is brought with.
            worker_id: that the request would go to.
            level: who must say now; none when nobody must.
            at_ms: when, milliseconds since 1970.
            use: whether it is used up; a dry run only looks.

        Raises:
            ApprovalExpired: its time is over.
            ApprovalError: it is unknown, used, for another request or worker, or given by a lower level.
            StateError: the file cannot be used.
        """
        with self._step():
            entry = self._entry("WHERE grant_hash = ?", hash_of(grant_id))
            hold = redeemable(entry, grant_id, input_hash=input_hash, worker_id=worker_id, level=level, at_ms=at_ms)
            if use:
                self._connection.execute(
                    "UPDATE holds SET state = 'redeemed', grant_hash = NULL WHERE pending_id = ?", (hold.pending_id,)
                )
                self._log(hold.pending_id, "redeem", "hall", "", at_ms)
        return hold

    def pending(self, at_ms: int) -> tuple[Hold, ...]:
        """Return what waits and is not expired, oldest first.

        Raises:
            StateError: the file cannot be read.
        """
        with self._lock, failures(self._path):
            waiting = [entry.hold for entry in self._entries("WHERE state = 'pending' AND expires_at_ms > ?", at_ms)]
        return tuple(sorted(waiting, key=lambda hold: (hold.created_at_ms, hold.pending_id)))

    def get(self, pending_id: str) -> Hold | None:
        """Return a hold, whatever has become of it.

        Raises:
            StateError: the file cannot be read.
        """
        with self._lock, failures(self._path):
            entry = self._entry("WHERE pending_id = ?", pending_id)
        return None if entry is None else entry.hold

    def state(self, pending_id: str) -> State | None:
        """Tell what has become of a hold.

        Raises:
            StateError: the file cannot be read.
        """
        with self._lock, failures(self._path):
            entry = self._entry("WHERE pending_id = ?", pending_id)
        return None if entry is None else entry.state

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:
        """End all holds and unused grants for a worker; tell how many there were.

        Raises:
            StateError: the file cannot be written.
        """
        with self._step():
            found = self._connection.execute(
                "SELECT pending_id FROM holds WHERE worker_id = ? AND state IN ('pending', 'approved')", (worker_id,)
            ).fetchall()
            for (pending_id,) in found:
                self._connection.execute(
                    "UPDATE holds SET state = 'cancelled', grant_hash = NULL WHERE pending_id = ?", (pending_id,)
                )
                self._log(pending_id, "cancel", by, "", at_ms)
        return len(found)

    @contextmanager
    def _step(self) -> Iterator[None]:
        with self._lock, failures(self._path), transaction(self._connection):
            yield

    def _log(self, pending_id: str, action: str, by: str, reason: str, at_ms: int) -> None:
        self._connection.execute(
            "INSERT INTO holds_log (pending_id, action, by, reason, at_ms) VALUES (?, ?, ?, ?, ?)",
            (pending_id, action, by[:MAX_TEXT], reason[:MAX_TEXT], at_ms),
        )

    def _entry(self, condition: str, value: str) -> Entry | None:
        return next(self._entries(condition, value), None)

    def _entries(self, condition: str, value: str | int) -> Iterator[Entry]:
        for data, level, state, grant_hash in self._connection.execute(_ENTRY + condition, (value,)):
            if level not in LEVELS or state not in STATES:
                raise StateError(f"a hold in `{self._path}` is damaged")
            yield Entry(replace(self._parse(data), level=level), state, grant_hash)

    def _parse(self, data: bytes) -> Hold:
        try:
            value = parse_canonical(data, what="a hold", max_bytes=MAX_HOLD_BYTES)
            code = Code(str(value.get("code"))) if isinstance(value, dict) else None
        except (ConfigError, ValueError):
            code = None
        if code is None or not isinstance(value, dict) or not _is_whole(value):
            raise StateError(f"a hold in `{self._path}` is damaged")
        return Hold(**cast("dict[str, Any]", value | {"code": code}))


def _is_whole(value: JsonObject) -> bool:
    """Tell whether a stored hold has every field, of its type."""
    if value.keys() != {field.name for field in fields(Hold)}:
        return False
    if value["blast_score"] is None:
        value = value | {"blast_score": 0}
    return all(type(item) is (int if name in _NUMBERS else str) for name, item in value.items())
