"""What a database error means for the operator, and what to do about it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from sqlalchemy import exc

from wcp_route.storage.state_errors import StateBusy, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOCKED: Final = "is locked by another process for too long"
_BY_SQLITE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_CORRUPT: "is damaged or not a database; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "is damaged or not a database; restore it from a backup",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened; SQLite must be able to write beside it, so copy it to where that is possible"
    ),
}
_BY_SQLSTATE: Final = (  # of PostgreSQL, by their first characters
    ("55P03", _LOCKED),
    ("57014", "did not answer in time"),
    ("53", "cannot grow: the server is out of disk, memory or connections"),
    ("25006", "is read-only"),
    ("28", "refuses the login"),
    ("42501", "does not allow this user to do that"),
    ("3D000", "does not exist on that server"),
    ("57P", "is shutting down"),
)


def failure(name: str, problem: Exception) -> StateError:
    """Turn an error of the database into one clear error.

    Args:
        name: the name of the database, for the message.
        problem: what SQLAlchemy or the driver raised.

    Returns:
        A `StateBusy` when another process holds the lock, otherwise a `StateError`.
    """
    cause = problem.orig if isinstance(problem, exc.DBAPIError) else problem
    if isinstance(problem, exc.TimeoutError):
        return StateError(f"state `{name}` has no connection free in time; too many callers use it at once")
    if isinstance(cause, sqlite3.Error):
        meaning = _BY_SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, f"cannot be used: {cause}")
    else:
        state = getattr(cause, "sqlstate", None) or ""
        words = (str(cause).strip().splitlines() or ["unknown error"])[0][:200]
        meaning = f"cannot be used: {words}" if state else f"cannot be reached: {words}"
        meaning = next((said for prefix, said in _BY_SQLSTATE if state.startswith(prefix)), meaning)
    return (StateBusy if meaning is _LOCKED else StateError)(f"state `{name}` {meaning}")


def is_damage(problem: Exception) -> bool:
    """Return whether the database reports that it is damaged.

    Args:
        problem: what SQLAlchemy or the driver raised.
    """
    cause = problem.orig if isinstance(problem, exc.DBAPIError) else problem
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_CORRUPT or getattr(cause, "sqlstate", None) in ("XX001", "XX002")
