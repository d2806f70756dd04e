"""One case over all runs of a store: the median of every round, and nothing else decoded.

Only the records of the case that is asked for are read, by the index that their table has; medians are
computed from their samples, whose rows are checked as always.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.spec import Case
from reports.codec import decode, samples_from_bytes
from reports.database import Database
from reports.records import RunInfo
from reports.rounds import counted_rounds
from reports.store_reader import Reader
from reports.store_rows import one, verify
from runners.measurement import Protocol


@dataclass(frozen=True, slots=True)
class RoundMedian:
    """One stored round: its median in nanoseconds per inference, and what decides whether it counts."""

    round_index: int
    attempt: int
    flags: tuple[str, ...]
    median_ns: float


@dataclass(frozen=True, slots=True)
class RunMedians:
    """One case in one run under one protocol: the medians of the rounds that count, in order."""

    info: RunInfo
    protocol: Protocol
    medians_ns: tuple[float, ...]


def cases(db: Database) -> list[Case]:
    """Every case that any run has planned."""
    rows = db.rows("SELECT * FROM cases ORDER BY case_id")
    for row in rows:
        verify(db, "cases", row)
    return [Case.from_dict(decode(row["facts"])) for row in rows]


def history(db: Database, case_id: str) -> list[RunMedians]:
    """A line per run and protocol, by the runs' numbers; runs without a round of the case are left out."""
    reader = Reader(db)
    planned = db.rows("SELECT run_id FROM run_cases WHERE case_id = ? ORDER BY run_id", case_id)
    found = []
    for row in planned:
        rounds = _rounds(db, row["run_id"], case_id)
        info = reader.info(row["run_id"]) if rounds else None
        for protocol_id, taken in rounds.items():
            assert info is not None
            protocol = Protocol.from_dict(decode(one(db, "protocols", "protocol_id", protocol_id)["facts"]))
            medians = tuple(r.median_ns for r in counted_rounds(taken))
            found.append(RunMedians(info, protocol, medians))
    return found


def _rounds(db: Database, run_id: int, case_id: str) -> dict[str, list[RoundMedian]]:
    rows = db.rows(
        "SELECT * FROM records WHERE run_id = ? AND case_id = ? AND kind = 'round'", run_id, case_id
    )
    found: dict[str, list[RoundMedian]] = {}
    for row in rows:
        verify(db, "records", row)
        facts = decode(row["facts"])
        median = float(np.median(samples_from_bytes(row["samples"]))) / facts["loop_count"]
        taken = RoundMedian(row["round_index"], row["attempt"], tuple(facts["flags"]), median)
        found.setdefault(row["protocol_id"], []).append(taken)
    return found
