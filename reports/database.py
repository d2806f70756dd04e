"""One SQLite file, opened so that nothing committed is lost: version checks, transactions, clear errors."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from reports import schema


class StoreError(Exception):
    """Something is wrong with the store; the message names the file and what to do."""


_DAMAGED = "is damaged; restore a backup of it, or salvage it with `sqlite3 FILE .recover`"
# what SQLite says -> what it means for the user and what to do; the first match is taken
_EXPLANATIONS: tuple[tuple[str, str], ...] = (
    ("not a database", "is not a result store; give another file with --store, or move this one away"),
    ("malformed", _DAMAGED),
    ("locked", "is being written by another process; wait until that one is done, or end it"),
    ("full", "cannot grow: the disk is full; free some space and run again. Nothing stored before is lost"),
    ("disk i/o", "cannot be written or read (is the disk full?). Nothing stored before is lost"),
    ("readonly", "cannot be written; make the file and its folder writable, or give another with --store"),
    ("unable to open", "cannot be opened; make its folder exist and writable, or give another with --store"),
)


class Database:
    """A connection to a store file of the current schema version.

    `path` is made, with its folder, unless `read_only`. `busy_seconds` is how long to wait for another
    process's write. Raises StoreError, naming the file and the fix, for whatever the file does wrong.
    """

    def __init__(self, path: Path, *, read_only: bool, busy_seconds: float) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        with self.errors():
            self._db = self._open_to_read() if read_only else self._open_to_write()
        try:
            with self.errors():
                self._check_version(read_only=read_only)
                if not read_only:
                    self._make_durable()
                self._db.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        with self.errors():
            self._db.close()

    # -- statements ---------------------------------------------------------------------------------------

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system raise into StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeDecodeError) as error:
            raise StoreError(self._explain(error)) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside are kept together, durably, or not at all."""
        with self.errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All reads inside see the file as of one moment."""
        with self.errors():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        return self._db.execute(query, values).fetchall()

    def first(self, query: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return row

    def execute(self, statement: str, *values: object) -> None:
        self._db.execute(statement, values)

    def insert(self, table: str, row: Mapping[str, object]) -> int:
        """Add a row and return its rowid."""
        marks = ", ".join("?" * len(row))
        cursor = self._db.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        )
        return int(cursor.lastrowid or 0)

    def has(self, table: str, **row: object) -> bool:
        where = " AND ".join(f"{name} = ?" for name in row)
        return self.first(f"SELECT 1 FROM {table} WHERE {where}", *row.values()) is not None

    # -- opening ------------------------------------------------------------------------------------------

    def _open_to_write(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self._connect("rwc")

    def _open_to_read(self) -> sqlite3.Connection:
        """A folder that cannot be written has no room for WAL's index: read the bare file then."""
        if not self.path.exists():
            raise StoreError(
                f"{self.path}: no result store here; run a suite first, or give one with --store"
            )
        connection = self._connect("ro")
        try:
            connection.execute("PRAGMA user_version")
        except sqlite3.OperationalError:
            connection.close()
            log = self.path.with_name(self.path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise
            return self._connect("ro&immutable=1")
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _make_durable(self) -> None:
        """WAL, and every commit synced; the switch to WAL does not wait for other processes by itself."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._db.execute("PRAGMA synchronous = FULL")

    # -- versions -----------------------------------------------------------------------------------------

    def _check_version(self, *, read_only: bool) -> None:
        """Nothing is written to a file before it is known to be ours, and of a version that we know."""
        with self.reading():  # three pragmas of one moment: another process may just be creating the file
            version = self._known_version()
        if version == schema.SCHEMA_VERSION:
            self._check_columns()
            return
        if read_only:
            raise StoreError(
                f"{self.path} has schema version {version}, this program reads {schema.SCHEMA_VERSION}; run a"
                " suite with this store once, which migrates it after a backup"
            )
        with self.transaction():
            version = self._known_version()  # another process may have been faster
            if version == 0:
                schema.create(self._db)
            elif version < schema.SCHEMA_VERSION:
                self._back_up(version)
                self._migrate(version)

    def _check_columns(self) -> None:
        """A changed byte in the text of a table leaves a file that opens and lacks a column."""
        found = schema.columns(self._db)
        for table, names in schema.known_columns().items():
            if found.get(table, [])[: len(names)] != names:
                raise StoreError(f"{self.path} {_DAMAGED} (its table '{table}' is not as it was made)")

    def _known_version(self) -> int:
        """The file's schema version, 0 for an empty file."""
        application = int(self._db.execute("PRAGMA application_id").fetchone()[0])
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        tables = int(self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if application != schema.APPLICATION_ID and (application or version or tables):
            raise StoreError(f"{self.path} is another program's SQLite file; give another file with --store")
        if version > schema.SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}, newer than the {schema.SCHEMA_VERSION} that this"
                " program knows; update the program, or give another file with --store"
            )
        return version

    def _back_up(self, version: int) -> None:
        target = _free_path(self.path.with_name(f"{self.path.name}.v{version}.bak"))
        with closing(self._connect("ro")) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)

    def _migrate(self, version: int) -> None:
        try:
            schema.migrate(self._db, version)
        except KeyError as error:
            raise StoreError(
                f"{self.path} has schema version {version}, for which no migration to"
                f" {schema.SCHEMA_VERSION} is known; give another file with --store"
            ) from error
        broken = self._db.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise StoreError(f"{self.path}: migration left {len(broken)} dangling references; it was undone")

    def _explain(self, error: Exception) -> str:
        text = str(error).lower()
        if isinstance(error, UnicodeDecodeError):  # in SQLite's own words, or in a column of ours
            return f"{self.path} {_DAMAGED} ({error.reason})"
        for words, meaning in _EXPLANATIONS:
            if words in text and isinstance(error, sqlite3.Error):
                return f"{self.path} {meaning} ({error})"
        return f"{self.path} cannot be used: {error}; give another file with --store"


def _free_path(path: Path) -> Path:
    """The path, or the first of `path.1`, `path.2`, ... that does not exist: no backup is overwritten."""
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
