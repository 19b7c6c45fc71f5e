"""The database below the ledger: one SQLite file by default, PostgreSQL when one machine is not enough.

SQLite: write-ahead log, `synchronous=FULL`: what was acknowledged survives a crash and a power cut. The file belongs to
its owner alone (mode 0600). PostgreSQL: one writer at a time by an advisory lock of the transaction; no prepared
statements and no session state, so a pooler may be used; a bounded pool. Both: a schema that is not exactly ours is
refused, and no call waits longer than its limit. Every failure becomes one `StateError`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.pool import QueuePool, StaticPool

from wcp_route.domain.clock import now_ms
from wcp_route.storage import tables
from wcp_route.storage.database_errors import failure
from wcp_route.storage.state_errors import StateBusy, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Engine

WAIT_SECONDS: Final = 5.0  # our transactions take milliseconds; a longer wait means that a process is stuck
POLL_SECONDS: Final = 0.02
POOL_SIZE: Final = 5  # connections of one process: the writer, the reader, and some for commands
PAGE_BYTES: Final = 16_384  # a receipt has 2 to 3 kB: smaller pages are half empty, larger ones slow down single ones
CHECKPOINT_PAGES: Final = 2000  # the log is copied back every 32 MB: fewer, larger writes than SQLite's own 4 MB
CACHE_KIB: Final = 32_768  # memory for pages, per connection
WRITER_LOCK: Final = (tables.APPLICATION_ID, 1)  # the two numbers of the advisory lock
MEMORY: Final = ":memory:"
FORKED: Final = "the state was opened before a fork; open it in the process that uses it"
LOG_SUFFIX: Final = "-wal"
WAIT_STEP_MS: Final = 250  # longer waits are rounded down to a multiple, so that SQLite's timeout changes rarely
_STREAMS: Final = "wcp_streams"  # where a connection keeps its cursors on the server
_WAIT: Final = "wcp_wait"  # where it keeps its timeout, milliseconds

_MAKING = threading.Lock()


class Database:
    """An open database. Safe to share between threads, not between processes.

    Args:
        address: a file, `:memory:`, or `postgresql://user@host/name`.
        create: create the file and tables when there is nothing yet.
        migrating: skip the check of the tables, because they will be brought up to this version.

    Attributes:
        name: the address without a password, for messages.
        durable: whether the data outlives the process.
        is_postgresql: whether it is on a PostgreSQL server.
        prefix: the text before a table's name in a statement.

    Raises:
        StateError: the database cannot be used.
    """

    def __init__(self, address: str, *, create: bool = False, migrating: bool = False) -> None:
        self.durable = address != MEMORY
        self._process = os.getpid()
        self._alone = threading.RLock()  # memory has one connection; it is used by one thread at a time
        if address.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            self.is_postgresql, (self.name, self._engine) = True, _postgresql(address)
        elif "://" in address and not address.startswith("sqlite:///"):
            scheme = address.partition("://")[0]
            raise StateError(f"state `{scheme}://…` is of a kind we do not know; use a file or postgresql://")
        else:
            path = address.removeprefix("sqlite:///")
            self.is_postgresql, self.name, self._engine = False, path, _sqlite(path, create=create)
        self._file = None if self.is_postgresql or not self.durable else _identity(self.name)
        self.prefix = f"{tables.SCHEMA}." if self.is_postgresql else ""
        self._last_event = f"SELECT state_seq FROM {self.prefix}batches ORDER BY number DESC LIMIT 1"  # noqa: S608
        self._peeking = threading.Lock()
        self._peek: Any = None  # a connection of its own, so that a decision never waits for a write
        self._cursor: Any = None
        self._version_seen: int | None = None
        self._event_seen = 0
        try:
            if not migrating:
                self._check(create=create or not self.durable)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; does nothing in a forked child, whose parent still uses them."""
        if os.getpid() != self._process:
            self._engine.dispose(close=False)
            return
        with self._peeking:
            if self._peek is not None:
                self._peek.close()
                self._peek = None
            self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one moment of the database.

        Raises:
            StateError: the database cannot be read.
        """
        with self._connection(write=False) as connection, connection.begin(), contextlib.ExitStack() as ending:
            if self.is_postgresql:
                connection.exec_driver_sql(_timeouts(round(WAIT_SECONDS * 1000)))
                ending.callback(_close_streams, connection)
            yield connection

    @contextlib.contextmanager
    def writing(self, seconds: float = WAIT_SECONDS) -> Iterator[Connection]:
        """Give the only writing connection. Commits after the block; rolls back when the block raises.

        Args:
            seconds: the longest wait for another writer, and for each statement, seconds.

        Raises:
            StateError: another process writes for longer than that, or the database cannot be written.
        """
        with self._writing(seconds, "SELECT 0") as (connection, _):
            yield connection

    @contextlib.contextmanager
    def appending(self, seconds: float) -> Iterator[tuple[Connection, int]]:
        """Do what `writing` does, and give the number of the last batch as well, 0 before the first.

        Args:
            seconds: the longest wait for another writer, and for each statement, seconds.

        Raises:
            StateError: another process writes for longer than that, or the database cannot be written.
        """
        last = f"SELECT coalesce(max(number), 0) FROM {self.prefix}batches"  # noqa: S608
        with self._writing(seconds, last) as found:
            yield found

    @contextlib.contextmanager
    def _writing(self, seconds: float, query: str) -> Iterator[tuple[Connection, int]]:
        """Begin to write, and give the number that a query returns as the first statement behind the lock."""
        milliseconds = round(seconds * 1000)
        wait = max(1, milliseconds if milliseconds < WAIT_STEP_MS else milliseconds // WAIT_STEP_MS * WAIT_STEP_MS)
        with self._connection(write=True, autocommit=True) as connection:
            if not self.is_postgresql and connection.info.get(_WAIT) != wait:
                self.run(connection, f"PRAGMA busy_timeout = {wait}")
                connection.info[_WAIT] = wait
            with connection.begin():
                if self.is_postgresql:
                    # One message begins the transaction, takes the writer's lock and runs the query. Each statement
                    # sees what is committed when it begins. So the last one sees everything that others have written.
                    locked = f"SELECT pg_advisory_xact_lock{WRITER_LOCK}"
                    query = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_timeouts(wait)}; {locked}; {query}"
                cursor = self.run(connection, query)
                while self.is_postgresql and cursor.nextset():
                    pass
                yield connection, int(cursor.fetchone()[0])
                self._check_place(written=True)

    def _check_place(self, *, written: bool) -> None:
        """Check that the open file is the one at its place: what is written into another one is lost with this process.

        Args:
            written: whether something was written, so that its log must be there, too.

        Raises:
            StateError: it was removed or replaced.
        """
        if self._file is None:
            return
        if _identity(self.name) != self._file or (written and _identity(self.name + LOG_SUFFIX) is None):
            raise StateError(
                f"state file `{self.name}`, or its log, was removed or replaced while it was open; start this program"
                " again with the right file at that place"
            )

    def run(self, connection: Connection, statement: str, values: Sequence[object] = ()) -> Any:
        """Run a statement with the driver itself, and return the driver's cursor.

        What SQLAlchemy does around each statement costs more than the statement (bar: 8 threads, benchmarks/route.py).

        Args:
            connection: the connection that `writing` gave.
            statement: with `?` for each value in SQLite, and `$1` and so on in PostgreSQL.
            values: the values of the statement, in order.
        """
        driver: Any = connection.connection.driver_connection
        if not self.is_postgresql:
            return driver.execute(statement, values)
        import psycopg

        return psycopg.RawCursor(driver).execute(statement, values)

    def moved(self) -> int:
        """Return the number of the last event in the ledger; cheap, because every decision asks.

        Raises:
            StateError: the database cannot be read.
        """
        if self.is_postgresql:
            wait = _timeouts(round(WAIT_SECONDS * 1000))
            with self._connection(write=False, autocommit=True) as connection:
                # One message, as in `_writing`: the wait is bounded, and no state stays behind in a pooler's session.
                cursor = self.run(connection, f"BEGIN READ ONLY; {wait}; {self._last_event}; COMMIT")
                cursor.nextset()
                cursor.nextset()
                row = cursor.fetchone()
                return 0 if row is None else int(row[0])
        until = time.monotonic() + WAIT_SECONDS
        while True:
            found = self.moved_now(opening=True)
            if found is not None:
                return found
            if time.monotonic() >= until:
                raise StateBusy(f"state `{self.name}` is in use for more than {WAIT_SECONDS:g} seconds")
            time.sleep(POLL_SECONDS)

    def moved_now(self, *, opening: bool = False) -> int | None:
        """Return the same as `moved`, or None when that means to wait for a server, another process or a thread.

        Args:
            opening: allow it to open its connection, which takes milliseconds.

        Raises:
            StateError: the database cannot be read.
        """
        if os.getpid() != self._process:
            raise StateError(FORKED)
        if self.is_postgresql or not self._peeking.acquire(timeout=POLL_SECONDS):
            return None
        try:
            if self._peek is None and not opening:
                return None
            if self._peek is None:
                self._peek = self._engine.raw_connection()
                self._cursor = self._peek.cursor()
                self._cursor.execute("PRAGMA busy_timeout = 0")
            (version,) = self._cursor.execute("PRAGMA data_version").fetchone()
            if version != self._version_seen:
                row = self._cursor.execute(self._last_event).fetchone()
                self._event_seen = 0 if row is None else row[0]
                self._version_seen = version
        except (exc.SQLAlchemyError, sqlite3.Error) as problem:
            error = failure(self.name, problem)
            if isinstance(error, StateBusy):
                return None
            raise error from problem
        else:
            return self._event_seen
        finally:
            self._peeking.release()

    def migrate(self) -> int:
        """Apply the missing steps in one transaction; return how many there were.

        Raises:
            StateError: the database is not one of ours, is newer, or cannot be written.
        """
        with self.writing() as connection:
            if tables.is_empty(connection):
                return tables.make_steps(connection, 0, now_ms())
            version = self._version(connection)
            return tables.make_steps(connection, version, now_ms()) if version < tables.VERSION else 0

    @classmethod
    def bring_up(cls, address: str) -> int:
        """Apply the missing steps to an existing file or a PostgreSQL database; return how many there were.

        Args:
            address: the state: a file, or `postgresql://user@host/name`.

        Raises:
            StateError: the state cannot be used.
        """
        database = cls(address, migrating=True)
        try:
            return database.migrate()
        finally:
            database.close()

    def _check(self, *, create: bool) -> None:
        with self.reading() as connection:
            empty = tables.is_empty(connection)
        if empty and create:
            self.migrate()
        elif empty and self.is_postgresql:
            raise StateError(f"state `{self.name}` has no tables yet; make them with `wcp-route migrate`")
        with self.reading() as connection:
            version = self._version(connection)
            if version < tables.VERSION:
                raise StateError(f"state `{self.name}` is of an earlier version; run `wcp-route migrate` on it")
            found = tables.differences(connection)
        if found:
            raise StateError(
                f"state `{self.name}` has another schema than ours ({', '.join(found[:3])}); restore it from a backup"
            )

    def _version(self, connection: Connection) -> int:
        """Return the version of the tables, after checking that they are ours."""
        if not self.is_postgresql:
            identity = connection.exec_driver_sql("PRAGMA application_id").scalar()
            if identity != tables.APPLICATION_ID:
                raise StateError(f"state file `{self.name}` is not one of wcp-route")
        version = tables.version_of(connection)
        if not version:
            raise StateError(
                f"state `{self.name}` is not one that this version of wcp-route can read; start with a new one"
            )
        if version > tables.VERSION:
            raise StateError(
                f"state `{self.name}` has schema {version}; this version of wcp-route reads {tables.VERSION}"
            )
        return version

    @contextlib.contextmanager
    def _connection(self, *, write: bool, autocommit: bool = False) -> Iterator[Connection]:
        if os.getpid() != self._process:
            raise StateError(FORKED)
        options: dict[str, Any] = {"wcp_write": write}
        if self.is_postgresql:
            level = "READ COMMITTED" if write else "REPEATABLE READ"
            options["isolation_level"] = "AUTOCOMMIT" if autocommit else level
        if not self.durable and not self._alone.acquire(timeout=WAIT_SECONDS):
            raise StateError(f"state `{self.name}` is in use for more than {WAIT_SECONDS:g} seconds")
        try:
            self._check_place(written=False)
            with self._engine.connect().execution_options(**options) as connection:
                yield connection
        except (exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as problem:
            raise failure(self.name, problem) from problem
        finally:
            if not self.durable:
                self._alone.release()


def _postgresql(address: str) -> tuple[str, Engine]:
    try:
        import psycopg  # SQLAlchemy's message names another package
    except ImportError:
        raise StateError("PostgreSQL needs psycopg; install wcp-attest[hall]") from None
    try:
        url = sqlalchemy.make_url(address).set(drivername="postgresql+psycopg")
    except exc.ArgumentError:
        raise StateError("the state's address is not a URL; use postgresql://user@host/name") from None
    engine = sqlalchemy.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        pool_recycle=1800,
        use_native_hstore=False,
        connect_args={
            "prepare_threshold": None,  # a pooler hands each transaction to another server process
            "connect_timeout": int(WAIT_SECONDS),
            "tcp_user_timeout": int(WAIT_SECONDS * 1000),
            "application_name": "wcp-route",
        },
    )

    @event.listens_for(engine, "after_cursor_execute")
    def _remember(connection: Connection, cursor: Any, *_: Any) -> None:
        if isinstance(cursor, psycopg.ServerCursor):
            connection.info.setdefault(_STREAMS, []).append(cursor)

    return url.render_as_string(hide_password=True).replace("+psycopg", "", 1), engine


def _close_streams(connection: Connection) -> None:
    """Close the server's cursors of a transaction, also when a reader stopped half-way."""
    import psycopg

    for cursor in connection.info.pop(_STREAMS, ()):
        with contextlib.suppress(psycopg.Error):  # the connection is lost, and the cursor with it
            cursor.close()


def _sqlite(path: str, *, create: bool) -> Engine:
    pool: dict[str, Any] = {"poolclass": StaticPool}
    if path != MEMORY:
        _check_file(path, create=create)
        pool = {"poolclass": QueuePool, "pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": WAIT_SECONDS}
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: _connect(path),
        execution_options={"schema_translate_map": {tables.SCHEMA: None}},
        **pool,
    )

    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("wcp_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "begin", begin)
    return engine


def _connect(path: str) -> sqlite3.Connection:
    """Open by URI, so that SQLite itself never creates a file."""
    options: dict[str, Any] = {
        "timeout": WAIT_SECONDS, "isolation_level": None, "check_same_thread": False, "cached_statements": 128
    }  # fmt: skip
    if path == MEMORY:
        connection: sqlite3.Connection = sqlite3.connect(path, **options)
    else:
        connection = sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=rw", uri=True, **options)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # a hostile file must not call functions
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # Bytes that are not text must not stop a verification half-way.
        connection.text_factory = lambda data: data.decode(errors="replace")
        if path != MEMORY:
            _use_log(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, without opening it; None when it is not there."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_file(path: str, *, create: bool) -> None:
    """Create the file for its owner alone, or check that an existing one is a regular file for its owner alone.

    An existing file is not opened: closing a second descriptor drops the locks that another connection of this process
    holds on the file (a rule of POSIX). For the same reason a lock protects the creation.
    """
    try:
        with _MAKING, contextlib.suppress(FileExistsError):
            if create:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        status = os.lstat(path)
    except (OSError, ValueError) as problem:
        if isinstance(problem, FileNotFoundError) and not create:
            more = "`wcp-route init` and `wcp-route enroll` make one"
            raise StateError(f"state file `{path}` does not exist; {more}") from None
        words = (problem.strerror or "unknown error").lower() if isinstance(problem, OSError) else str(problem)
        raise StateError(f"state file `{path}` cannot be opened: {words}") from None
    if stat.S_ISLNK(status.st_mode):
        raise StateError(f"state file `{path}` is a symbolic link; name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"state file `{path}` is not a regular file")
    if status.st_uid != os.geteuid():
        raise StateError(f"state file `{path}` belongs to another user")
    if status.st_mode & 0o077:
        raise StateError(f"state file `{path}` is open to other users; run `chmod 600` on it")


def _use_log(connection: sqlite3.Connection, path: str) -> None:
    """Switch to the write-ahead log. SQLite does not wait for a process that is switching as well, so we do."""
    until = time.monotonic() + WAIT_SECONDS  # where SQLite does wait, one try may take all of it
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if mode != "wal":
            raise StateError(f"state file `{path}` is on a file system without shared memory; use a local disk")
        return


def _timeouts(milliseconds: int) -> str:
    """Return SQL that bounds every wait of a transaction and flushes its commit to disk, whatever the server sets."""
    return (
        f"SELECT set_config('lock_timeout', '{milliseconds}ms', true),"
        f" set_config('statement_timeout', '{milliseconds}ms', true),"
        " set_config('synchronous_commit', 'on', true), set_config('search_path', 'pg_catalog', true)"
    )
