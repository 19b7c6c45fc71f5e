"""The state file: one SQLite database for receipts, registry and approvals.

Write-ahead log, `synchronous=FULL`: what was acknowledged survives a crash and a power cut. The file belongs to its
owner alone (mode 0600), must hold exactly the schema below (a planted trigger or a dropped constraint is refused), and
no call waits longer than `BUSY_SECONDS` for another process. Everything SQLite says becomes one `StateError`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_SECONDS: Final = 5.0  # a transaction of ours takes milliseconds; who waits this long waits for a stuck process
POLL_SECONDS: Final = 0.02
PAGE_BYTES: Final = 16_384  # a receipt has 2 to 3 kB: smaller pages are half empty, larger ones slow down single ones
CHECKPOINT_PAGES: Final = 2000  # the log is copied back every 32 MB: fewer, larger writes than SQLite's own 4 MB
CACHE_KIB: Final = 32_768  # memory for pages, per connection
APPLICATION_ID: Final = 0x77637031  # "wcp1", so that `file` and we know the database
SCHEMA_VERSION: Final = 1

# `prev` names the predecessor by number and hash. The hash alone would do for a chain; with the number before it, the
# unique index grows at its end instead of at random places, which keeps appending as fast in a large file as in a small
# one. The triggers hold for every connection, ours or not; whoever drops them is found by `_check_schema`.
SCHEMA: Final = """\
CREATE TABLE receipts (
  position INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL CHECK (seq >= 1),
  prev TEXT NOT NULL CHECK (substr(prev, 1, 17) = printf('%016x:', seq - 1)),
  hash TEXT NOT NULL,
  body BLOB NOT NULL,
  UNIQUE (stream, seq),
  UNIQUE (stream, prev)
) STRICT;
CREATE TRIGGER receipts_keep BEFORE UPDATE ON receipts BEGIN SELECT RAISE(ABORT, 'receipts are never changed'); END;
CREATE TRIGGER receipts_stay BEFORE DELETE ON receipts BEGIN SELECT RAISE(ABORT, 'receipts are never deleted'); END;
CREATE TABLE batches (
  number INTEGER PRIMARY KEY,
  statement BLOB NOT NULL,
  key_id TEXT,
  signature BLOB
) STRICT;
CREATE TRIGGER batches_keep BEFORE UPDATE ON batches BEGIN SELECT RAISE(ABORT, 'batches are never changed'); END;
CREATE TRIGGER batches_stay BEFORE DELETE ON batches BEGIN SELECT RAISE(ABORT, 'batches are never deleted'); END;
CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  record BLOB NOT NULL,
  package_root TEXT NOT NULL
) STRICT;
CREATE TABLE quarantine (
  worker_id TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  by TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE registry_log (
  version INTEGER PRIMARY KEY,
  action TEXT NOT NULL,
  worker_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  by TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE holds (
  pending_id TEXT PRIMARY KEY,
  hold BLOB NOT NULL,
  worker_id TEXT NOT NULL,
  level TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'cancelled', 'redeemed')),
  expires_at_ms INTEGER NOT NULL,
  grant_hash TEXT UNIQUE
) STRICT;
CREATE INDEX holds_by_worker ON holds (worker_id, state);
CREATE INDEX holds_by_state ON holds (state, expires_at_ms);
CREATE TABLE holds_log (
  position INTEGER PRIMARY KEY,
  pending_id TEXT NOT NULL,
  action TEXT NOT NULL,
  by TEXT NOT NULL,
  reason TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT;
"""


_MAKING = threading.Lock()


class StateError(ConfigError):
    """The state file cannot be used: missing, locked, full, corrupt, readable by others, or of another kind."""


@contextlib.contextmanager
def failures(path: str) -> Iterator[None]:
    """Turn what SQLite raises inside the block into a `StateError` about `path`.

    Raises:
        StateError: SQLite refused or failed.
    """
    try:
        yield
    except sqlite3.Error as problem:
        raise StateError(f"state file `{path}` {_meaning(problem)}") from problem


def connect(path: str, *, create: bool = True) -> sqlite3.Connection:
    """Open the state file for reading and writing, in autocommit mode.

    The connection may be handed to another thread; it must not be used by two at a time.

    Args:
        path: where the file is.
        create: whether to make it when it is not there.

    Raises:
        StateError: it cannot be used.
    """
    _check_file(path, create=create)
    with failures(path):
        connection = _open(path, "rw")
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
            _use_log(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if create:
                _create(connection)
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """Open the state file for reading only; what is read is not trusted.

    Raises:
        StateError: it cannot be used.
    """
    _check_file(path, create=False)
    with failures(path):
        connection = _open(path, "ro")
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.text_factory = _read_text
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one write transaction; roll it back when the block raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
            connection.execute("ROLLBACK")
        raise


def _open(path: str, mode: str) -> sqlite3.Connection:
    """Open by URI, so that SQLite itself never creates a file."""
    address = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    connection = sqlite3.connect(
        address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute("PRAGMA trusted_schema = OFF")  # a hostile file must not call functions
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _check_file(path: str, *, create: bool) -> None:
    """Make the file for its owner alone, or see that it is a regular file of that kind.

    A file that exists is only looked at: closing a second descriptor of it would drop the locks that another
    connection of this process holds on it (a rule of POSIX), hence also the lock around the making.
    """
    try:
        with _MAKING:
            status = _look(path)
            if status is None and create:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
                status = _look(path)
    except FileExistsError:  # another process was first
        status = _look(path)
    except (OSError, ValueError) as problem:
        raise StateError(f"state file `{path}` cannot be opened: {_words(problem)}") from None
    if status is None:
        raise StateError(f"state file `{path}` does not exist")
    if stat.S_ISLNK(status.st_mode):
        raise StateError(f"state file `{path}` is a symbolic link; name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"state file `{path}` is not a regular file")
    if status.st_uid != os.geteuid():
        raise StateError(f"state file `{path}` belongs to another user")
    if status.st_mode & 0o077:
        raise StateError(f"state file `{path}` is open to other users; run `chmod 600` on it")


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _use_log(connection: sqlite3.Connection, path: str) -> None:
    """Switch to the write-ahead log. SQLite does not wait for a process that is switching as well, so we do."""
    for left in reversed(range(int(BUSY_SECONDS / POLL_SECONDS))):
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not left:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if mode != "wal":
            raise StateError(f"state file `{path}` is on a file system without shared memory; use a local disk")
        return


def _create(connection: sqlite3.Connection) -> None:
    """Write the schema into an empty database; two processes may try at once."""
    if _identity(connection) != (0, 0):
        return
    with transaction(connection):
        if _identity(connection) != (0, 0) or _objects(connection):
            return
        for statement in _statements():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_schema(connection: sqlite3.Connection, path: str) -> None:
    application, version = _identity(connection)
    if application != APPLICATION_ID:
        raise StateError(f"state file `{path}` is not one of wcp-route")
    if version != SCHEMA_VERSION:
        raise StateError(f"state file `{path}` has schema {version}; this version of wcp-route reads {SCHEMA_VERSION}")
    with contextlib.closing(sqlite3.connect(":memory:")) as model:
        model.executescript(SCHEMA)
        if _objects(connection) != _objects(model):
            raise StateError(f"state file `{path}` has been given another schema; restore it from a copy")


def _statements() -> Iterator[str]:
    """The statements of the schema; `complete_statement` knows that a trigger holds semicolons."""
    statement = ""
    for line in SCHEMA.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _objects(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """Every table, index and trigger with the text that made it, without SQLite's own statistics."""
    return connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
    ).fetchall()


def _read_text(data: bytes) -> str:
    """Read what should be text; bytes that are not it must not stop a verification half-way."""
    return data.decode(errors="replace")


def _meaning(problem: sqlite3.Error) -> str:
    """What an error of SQLite means for the operator, and what to do."""
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"is locked by another process for more than {BUSY_SECONDS:g} seconds"
    if code == sqlite3.SQLITE_FULL:
        return "cannot grow: the disk is full"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "is damaged or not a database; restore it from a copy"
    if code == sqlite3.SQLITE_READONLY:
        return "is read-only"
    if code == sqlite3.SQLITE_CANTOPEN:
        return "cannot be opened; SQLite must be able to write beside it, so copy it to where that is possible"
    return f"cannot be used: {problem}"


def _words(problem: OSError | ValueError) -> str:
    return (problem.strerror or "unknown error").lower() if isinstance(problem, OSError) else str(problem)
