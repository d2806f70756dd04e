"""The store's tables, its version, and how an older file becomes a current one.

Every table with facts has a `checksum` column: sha256 over the row's own values, so that a changed byte is
found when the row is read. Rows are only ever added; the single column that changes is `runs.finished_at_ns`
and the artifact a case points to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache

APPLICATION_ID = 0x44424E43  # "DBNC"
SCHEMA_VERSION = 3

# Other spans of a round's samples (`h2d`, `enqueue`): one row per record and name, int64 as the samples.
PARTS = """
CREATE TABLE parts (
    record_id INTEGER NOT NULL REFERENCES records,
    name TEXT NOT NULL,
    samples BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (record_id, name)
);
"""

# What a file predicted for labelled images: int64 arrays, one value an image.
EVALUATIONS = """
CREATE TABLE evaluations (
    evaluation_id INTEGER PRIMARY KEY AUTOINCREMENT,
    evaluated_at_ns INTEGER NOT NULL,
    model TEXT NOT NULL,
    file_sha256 TEXT NOT NULL,
    facts TEXT NOT NULL,
    labels BLOB NOT NULL,
    predicted BLOB NOT NULL,
    ranks BLOB NOT NULL,
    eager BLOB NOT NULL,
    checksum BLOB NOT NULL
);
"""

SCHEMA = (
    """
CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    suite TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    seed INTEGER NOT NULL,
    started_at_ns INTEGER NOT NULL,
    finished_at_ns INTEGER,
    command TEXT NOT NULL,
    config TEXT NOT NULL,
    environment TEXT NOT NULL,
    checksum BLOB NOT NULL
);
CREATE INDEX runs_by_plan ON runs (plan_digest);
CREATE TABLE cases (
    case_id TEXT PRIMARY KEY,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL
);
CREATE TABLE artifacts (
    artifact_id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (key, sha256)
);
CREATE TABLE protocols (
    protocol_id TEXT PRIMARY KEY,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL
);
CREATE TABLE run_cases (
    run_id INTEGER NOT NULL REFERENCES runs,
    ordinal INTEGER NOT NULL,
    case_id TEXT NOT NULL REFERENCES cases,
    artifact_id INTEGER REFERENCES artifacts,
    PRIMARY KEY (run_id, case_id),
    UNIQUE (run_id, ordinal)
);
CREATE TABLE records (
    record_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL,
    case_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('round', 'failure')),
    round_index INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    artifact_id INTEGER REFERENCES artifacts,
    protocol_id TEXT REFERENCES protocols,
    facts TEXT NOT NULL,
    samples BLOB NOT NULL,
    warmup BLOB NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (run_id, case_id, kind, round_index, attempt),
    FOREIGN KEY (run_id, case_id) REFERENCES run_cases (run_id, case_id)
);
CREATE TABLE sessions (
    session_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL REFERENCES runs,
    started_at_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    ledger TEXT NOT NULL,
    checksum BLOB NOT NULL
);
"""
    + PARTS
    + EVALUATIONS
)

# version -> the statements that turn a file of that version into one of the next
MIGRATIONS: Mapping[int, str] = {1: PARTS, 2: EVALUATIONS}


def statements(script: str) -> list[str]:
    """Single statements of a script; `executescript` would commit the open transaction first."""
    parts = (part.strip() for part in script.split(";"))
    return [part for part in parts if part]


def create(connection: sqlite3.Connection) -> None:
    """Make all tables and stamp the file, inside the caller's transaction."""
    for statement in statements(SCHEMA):
        connection.execute(statement)
    stamp(connection, SCHEMA_VERSION)


def stamp(connection: sqlite3.Connection, version: int) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")


def columns(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of every table, in order."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        table: [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        for table in tables
    }


@cache
def known_columns() -> dict[str, list[str]]:
    """Those of a file that was just made."""
    with closing(sqlite3.connect(":memory:")) as connection:
        create(connection)
        return columns(connection)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Apply every migration from `version` up, inside the caller's transaction.

    Raises KeyError with the version for which no migration is known.
    """
    for step in range(version, SCHEMA_VERSION):
        for statement in statements(MIGRATIONS[step]):
            connection.execute(statement)
    stamp(connection, SCHEMA_VERSION)
