"""Rows of the store with a checksum over their own values: a changed byte is found when a row is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from reports.codec import checksum
from reports.database import Database, StoreError

PART_NAMES = "part_names"  # in a record's facts, so that a lost part is noticed
RESTORE = "the file was damaged or edited: restore a backup of it, or measure again into a new one (--store)"

# the columns that a row's checksum covers, in order
COVERED = {
    "runs": ("suite", "plan_digest", "seed", "started_at_ns", "command", "config", "environment"),
    "cases": ("case_id", "facts"),
    "artifacts": ("key", "sha256", "facts"),
    "protocols": ("protocol_id", "facts"),
    "records": (
        "run_id", "case_id", "kind", "round_index", "attempt", "artifact_id", "protocol_id", "facts",
        "samples", "warmup",
    ),
    "sessions": ("run_id", "started_at_ns", "wall_ns", "ledger"),
    "parts": ("record_id", "name", "samples"),
    "evaluations": (
        "evaluated_at_ns", "model", "file_sha256", "facts", "labels", "predicted", "ranks", "eager",
    ),
}  # fmt: skip


def insert(db: Database, table: str, row: Mapping[str, object]) -> int:
    """Add a row with its checksum and return its rowid."""
    covered = (row.get(name) for name in COVERED[table])
    return db.insert(table, {**row, "checksum": checksum(*covered)})


def verify(db: Database, table: str, row: sqlite3.Row) -> None:
    """Raises StoreError for a row that is not as it was inserted."""
    if checksum(*(row[name] for name in COVERED[table])) != row["checksum"]:
        raise StoreError(f"{db.path}: row {row[0]} of {table} does not match its checksum; {RESTORE}")


def one(db: Database, table: str, column: str, value: object) -> sqlite3.Row:
    """The row that another one refers to. Raises StoreError where it is gone or changed."""
    row = db.first(f"SELECT * FROM {table} WHERE {column} = ?", value)
    if row is None:
        raise StoreError(f"{db.path}: {table} lacks {column} {value}; {RESTORE}")
    verify(db, table, row)
    return row


def no_run(db: Database, run_id: int) -> StoreError:
    return StoreError(f"{db.path}: no run {run_id}; `python bench.py report` lists the runs")
