"""The app's journal: what it did and found, a line each, on disk before the next step begins.

    {"body":{...},"job":"...","kind":"round","launch":2,"previous":"...","schema":1,"sequence":9,"time_ns":...}

`previous` is the sha256 of the line before (of nothing, for the first), so a line that was lost, doubled or
changed is found. Whoever reads takes whole lines; a last line without an end was cut short by a disconnect
or a kill, and the app removes it when it starts again. `time_ns` is UTC since 1970 by the device's clock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.forms import HEX16, SHA256, Form, FormError, canonical, parsed, whole
from device_agents.job import SCHEMA

MAX_JOURNAL_BYTES = 256 << 20
MAX_LINE_BYTES = 32 << 20
MAX_RECORDS = 20000
KINDS = (
    "received", "begin", "interrupted", "compiled", "loaded", "placement", "outputs", "round", "closed",
    "finished", "failed",
)  # fmt: skip
ENDS = ("finished", "failed")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `launch` counts the app's starts for this job, from 0."""

    kind: str
    body: Mapping[str, Any]
    job: str
    launch: int
    sequence: int
    time_ns: int
    previous: str

    def line(self) -> bytes:
        value = {
            "body": self.body,
            "job": self.job,
            "kind": self.kind,
            "launch": self.launch,
            "previous": self.previous,
            "schema": SCHEMA,
            "sequence": self.sequence,
            "time_ns": self.time_ns,
        }
        return canonical(value) + b"\n"


def line_digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


FIRST = line_digest(b"")


@dataclass(frozen=True, slots=True)
class Journal:
    """Checked entries and the bytes that hold them, whole lines only."""

    entries: tuple[Entry, ...] = ()
    data: bytes = b""
    last_digest: str = FIRST

    @property
    def launches(self) -> int:
        return self.entries[-1].launch + 1 if self.entries else 0

    @property
    def ended(self) -> Entry | None:
        """The entry that says that nothing more will come."""
        last = self.entries[-1] if self.entries else None
        return last if last and last.kind in ENDS else None

    def of_kind(self, *kinds: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind in kinds]


def read(data: bytes, job_id: str) -> Journal:
    """The journal in untrusted bytes, without a last line that was cut short.

    Raises FormError naming the first line that is not as the app writes it.
    """
    if len(data) > MAX_JOURNAL_BYTES:
        raise FormError(f"journal: {len(data)} bytes, at most {MAX_JOURNAL_BYTES}")
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True) if b"\n" in data else []
    if len(lines) > MAX_RECORDS:
        raise FormError(f"journal: {len(lines)} lines, at most {MAX_RECORDS}")
    return extended(Journal(), lines, job_id)


def extended(journal: Journal, lines: Sequence[bytes], job_id: str) -> Journal:
    """The journal with further lines, each checked against the one before."""
    entries, previous = list(journal.entries), journal.last_digest
    for line in lines:
        entry = _entry(line, len(entries))
        _check_place(entry, entries, previous, job_id)
        entries.append(entry)
        previous = line_digest(line)
    return Journal(tuple(entries), journal.data + b"".join(lines), previous)


def _entry(line: bytes, number: int) -> Entry:
    what = f"journal line {number}"
    if not line.endswith(b"\n"):
        raise FormError(f"{what}: has no end")

    def make(form: Form) -> Entry:
        form.integer("schema", SCHEMA, SCHEMA)
        return Entry(
            form.one_of("kind", KINDS),
            form.table("body"),
            form.text("job", HEX16),
            form.integer("launch"),
            form.integer("sequence"),
            form.integer("time_ns"),
            form.text("previous", SHA256),
        )

    return whole(parsed(line[:-1], what, max_bytes=MAX_LINE_BYTES), what, make)


def _check_place(entry: Entry, before: Sequence[Entry], previous: str, job_id: str) -> None:
    what = f"journal line {len(before)}"
    launch = before[-1].launch if before else 0
    if entry.job != job_id:
        raise FormError(f"{what}: belongs to job {entry.job}, not {job_id}")
    if entry.sequence != len(before) or entry.previous != previous:
        raise FormError(f"{what}: does not follow the line before: one was lost, doubled or changed")
    if not launch <= entry.launch <= launch + 1:
        raise FormError(f"{what}: launch {entry.launch} does not follow launch {launch}")
    if before and before[-1].kind in ENDS:
        raise FormError(f"{what}: stands behind the end")


Append = Callable[[Path, bytes], None]


def durably(path: Path, line: bytes) -> None:
    """Write behind the file's end; when this returns, the disk holds it."""
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


class JournalFile:
    """The app's side: appends entries durably, after removing what a kill left half written."""

    def __init__(self, path: Path, job_id: str, *, append: Append = durably) -> None:
        self.path, self.job_id, self._append = path, job_id, append
        data = path.read_bytes() if path.exists() else b""
        self.journal = read(data, job_id)
        if len(self.journal.data) < len(data):
            os.truncate(path, len(self.journal.data))
        self.launch = self.journal.launches

    def append(self, kind: str, body: Mapping[str, Any], time_ns: int) -> Entry:
        """Write one line; when this returns, the disk holds it."""
        journal = self.journal
        entry = Entry(
            kind, body, self.job_id, self.launch, len(journal.entries), time_ns, journal.last_digest
        )
        line = entry.line()
        self._append(self.path, line)
        self.journal = extended(journal, [line], self.job_id)
        return entry
