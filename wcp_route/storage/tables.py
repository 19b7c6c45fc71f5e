"""The tables of the ledger, and the numbered steps that create them, in SQLite and in PostgreSQL.

Only receipts are stored. Enrolled workers, quarantine and holds are computed from them (`ledger_state`), so no second
table can disagree. The columns after `body` repeat fields of the body. They exist to find receipts quickly, and
`receipts verify` compares them with the body.

A released step never changes; a change is a new step at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, func, select, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA: Final = "wcp_route"  # of PostgreSQL; SQLite has one file instead
APPLICATION_ID: Final = 0x77637031  # "wcp1", so that `file` and this program recognize the database

metadata: Final = MetaData(schema=SCHEMA)

receipts: Final = Table(
    "receipts",
    metadata,
    Column("position", BigInteger, primary_key=True),  # over all streams, from 1, without gaps
    Column("stream", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),  # in its stream, from 1, without gaps
    Column("hash", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("hash_key", BigInteger, nullable=False),
    Column("decision_key", BigInteger, nullable=False),
    Column("correlation_key", BigInteger, nullable=False),
)
batches: Final = Table(
    "batches",
    metadata,
    Column("number", BigInteger, primary_key=True),
    Column("first_position", BigInteger, nullable=False),
    Column("state_seq", BigInteger, nullable=False),  # last receipt of the state stream up to this batch
    Column("statement", LargeBinary, nullable=False),
    Column("key_id", Text),
    Column("signature", LargeBinary),
)
origins: Final = Table(  # where the ledger begins after pruning; at most one row
    "origins",
    metadata,
    Column("number", BigInteger, primary_key=True),
    Column("statement", LargeBinary, nullable=False),
    Column("key_id", Text),
    Column("signature", LargeBinary),
)
steps: Final = Table(
    "steps",
    metadata,
    Column("number", BigInteger, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

# Only `UNIQUE (stream, seq)` prevents two receipts after the same receipt. The `…_key` columns are the first 8 bytes of
# a digest: 8 bytes per index entry keep appending fast in a large file.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE {schema}steps (number {integer} NOT NULL PRIMARY KEY, at_ms {integer} NOT NULL){strict}",
        """CREATE TABLE {schema}receipts (
  position {integer} NOT NULL PRIMARY KEY CHECK (position >= 1),
  stream TEXT NOT NULL,
  seq {integer} NOT NULL CHECK (seq >= 1),
  hash TEXT NOT NULL CHECK (length(hash) = 64),
  body {bytes} NOT NULL,
  kind TEXT NOT NULL,
  at_ms {integer} NOT NULL,
  tenant_id TEXT NOT NULL,
  worker_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  code TEXT NOT NULL,
  hash_key {integer} NOT NULL,
  decision_key {integer} NOT NULL,
  correlation_key {integer} NOT NULL,
  UNIQUE (stream, seq)
){strict}""",
        "CREATE INDEX receipts_by_hash ON {schema}receipts (hash_key)",
        "CREATE INDEX receipts_by_decision ON {schema}receipts (decision_key)",
        "CREATE INDEX receipts_by_correlation ON {schema}receipts (correlation_key)",
        "CREATE INDEX receipts_by_time ON {schema}receipts (at_ms, kind, outcome, code, worker_id, tenant_id)",
        """CREATE TABLE {schema}batches (
  number {integer} NOT NULL PRIMARY KEY CHECK (number >= 1),
  first_position {integer} NOT NULL UNIQUE,
  state_seq {integer} NOT NULL,
  statement {bytes} NOT NULL,
  key_id TEXT,
  signature {bytes}
){strict}""",
        """CREATE TABLE {schema}origins (
  number {integer} NOT NULL PRIMARY KEY CHECK (number = 1),
  statement {bytes} NOT NULL,
  key_id TEXT,
  signature {bytes}
){strict}""",
    ),
)
VERSION: Final = len(STEPS)

_SQLITE: Final = {"schema": "", "integer": "INTEGER", "bytes": "BLOB", "strict": " STRICT"}
_POSTGRESQL: Final = {"schema": f"{SCHEMA}.", "integer": "BIGINT", "bytes": "BYTEA", "strict": ""}

# What PostgreSQL knows about one schema, as lines to compare: relations with their columns, constraints, indexes,
# triggers, rules, row policies, children, and functions.
_LISTING: Final = """
WITH home AS (SELECT n.oid FROM pg_namespace n WHERE n.oid = {namespace}),
mine AS (SELECT c.* FROM pg_class c, home WHERE c.relnamespace = home.oid)
SELECT 'relation', c.relname::text, c.relkind::text || c.relrowsecurity::text || c.relforcerowsecurity::text
       || coalesce(array_to_string(c.reloptions, ','), '')
  FROM mine c
UNION ALL SELECT 'column', c.relname || '.' || a.attname, a.attnum || ' '::text || format_type(a.atttypid, a.atttypmod)
       || a.attnotnull::text || a.attidentity::text || a.attgenerated::text
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
  FROM mine c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
UNION ALL SELECT 'constraint', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid) || k.convalidated::text
  FROM mine c JOIN pg_constraint k ON k.conrelid = c.oid
UNION ALL SELECT 'index', c.relname::text,
       regexp_replace(pg_get_indexdef(i.indexrelid), ' ON [^ ]+ USING', ' ON t USING')
       || i.indisvalid::text
  FROM mine c JOIN pg_index i ON i.indexrelid = c.oid
UNION ALL SELECT 'trigger', c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
  FROM mine c JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
UNION ALL SELECT 'rule', c.relname || '.' || r.rulename, '' FROM mine c JOIN pg_rewrite r ON r.ev_class = c.oid
UNION ALL SELECT 'policy', c.relname || '.' || p.polname, '' FROM mine c JOIN pg_policy p ON p.polrelid = c.oid
UNION ALL SELECT 'child', c.relname::text, 'inherits'
  FROM mine c JOIN pg_inherits i ON c.oid IN (i.inhrelid, i.inhparent)
UNION ALL SELECT 'function', p.proname::text, p.oid::text FROM pg_proc p, home WHERE p.pronamespace = home.oid
"""


def statements(number: int, dialect: str) -> list[str]:
    """Return the SQL statements of a step.

    Args:
        number: the number of the step, from 1.
        dialect: `sqlite` or `postgresql`.
    """
    words = _POSTGRESQL if dialect == "postgresql" else _SQLITE
    return [statement.format(**words) for statement in STEPS[number - 1]]


def version_of(connection: Connection) -> int:
    """Return the number of the last step that was applied, 0 before the first.

    Args:
        connection: a connection to the database.
    """
    if connection.dialect.name == "postgresql":
        there = connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.steps"}).scalar()
    else:
        there = connection.exec_driver_sql("SELECT 1 FROM sqlite_schema WHERE name = 'steps'").scalar()
    if there is None:
        return 0
    return int(connection.execute(select(func.coalesce(func.max(steps.c.number), 0))).scalar_one())


def is_empty(connection: Connection) -> bool:
    """Return whether the place of the ledger is completely empty.

    Args:
        connection: a connection to the database.
    """
    if connection.dialect.name == "postgresql":
        return connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None
    identity = connection.exec_driver_sql("PRAGMA application_id").scalar()
    return identity == 0 and not connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar()


def make_steps(connection: Connection, after: int, at_ms: int) -> int:
    """Apply the steps after number `after`; return how many there were.

    Args:
        connection: a connection in a write transaction.
        after: the number of the last step that was applied, 0 before the first.
        at_ms: the current time, milliseconds since 1970.
    """
    dialect = connection.dialect.name
    if not after:
        if dialect == "postgresql":
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        else:
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    for number in range(after + 1, VERSION + 1):
        for statement in statements(number, dialect):
            connection.exec_driver_sql(statement)
        connection.execute(steps.insert().values(number=number, at_ms=at_ms))
    return VERSION - after


def differences(connection: Connection) -> list[str]:
    """Return the sorted names of all objects that differ from what the steps create; an empty list when none does.

    A planted trigger, view, rule or function can change what the tables return, so every unknown object counts.

    Args:
        connection: a connection to the database.
    """
    found, wanted = (
        _postgresql_objects(connection) if connection.dialect.name == "postgresql" else _sqlite_objects(connection)
    )
    return sorted({name for _, name, _ in found ^ wanted})


def _sqlite_objects(connection: Connection) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Return the found and the wanted objects. Only tables of SQLite's statistics may have the four excluded names."""
    import sqlite3
    from contextlib import closing

    listing = (
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE NOT (type = 'table' AND name IN"
        " ('sqlite_stat1', 'sqlite_stat2', 'sqlite_stat3', 'sqlite_stat4'))"
    )
    with closing(sqlite3.connect(":memory:")) as model:
        for number in range(1, VERSION + 1):
            for statement in statements(number, "sqlite"):
                model.execute(statement)
        wanted = set(model.execute(listing).fetchall())
    return {(str(kind), str(name), str(sql)) for kind, name, sql in connection.exec_driver_sql(listing)}, wanted


def _postgresql_objects(connection: Connection) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Create the tables again as temporary tables, so that both sides have this server's own spelling."""
    found = set(map(tuple, connection.exec_driver_sql(_LISTING.format(namespace=f"'{SCHEMA}'::regnamespace"))))
    model = connection.begin_nested()
    try:
        for number in range(1, VERSION + 1):
            for statement in statements(number, "postgresql"):
                connection.exec_driver_sql(
                    statement.replace("CREATE TABLE ", "CREATE TEMPORARY TABLE ").replace(f"{SCHEMA}.", "")
                    if statement.startswith("CREATE TABLE")
                    else statement.replace(f"{SCHEMA}.", "pg_temp.")
                )
        wanted = set(map(tuple, connection.exec_driver_sql(_LISTING.format(namespace="pg_my_temp_schema()"))))
    finally:
        model.rollback()
    return found, wanted
