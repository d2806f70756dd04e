"""Rows of the store as runs; the caller opens the transaction that they are read in."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from converters.artifact import Artifact
from models.spec import Case
from reports import store_evaluations
from reports.codec import decode, samples_from_bytes
from reports.database import Database, StoreError
from reports.records import CaseResult, RunInfo, Session, StoredRun
from reports.store_rows import PART_NAMES, RESTORE, no_run, one, verify
from runners.measurement import Failure, Round, Samples


class Reader:
    """Runs out of one store. Every method raises StoreError for rows that are gone or changed."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def run(self, run_id: int) -> StoredRun:
        """A run with all its raw samples, and what was evaluated of its models."""
        info = self.info(run_id)
        results = tuple(self._result(run_id, case_id) for case_id in info.case_ids)
        self._check_complete(run_id, "run_cases", len(results))
        self._check_complete(run_id, "records", sum(result.attempts for result in results))
        models = {result.case.model for result in results}
        evaluated = store_evaluations.of_models(self._db, models)
        kept = tuple(one for one in evaluated if not one.file.training)
        trainings = tuple(one for one in evaluated if one.file.training)
        return StoredRun(info, results, self._sessions(run_id), kept, trainings)

    def _check_complete(self, run_id: int, table: str, found: int) -> None:
        """Rows are found by an index; one that was damaged would leave some out without a word."""
        row = self._db.first(f"SELECT count(*) FROM {table} NOT INDEXED WHERE run_id = ?", run_id)
        assert row is not None
        if row[0] != found:
            raise StoreError(
                f"{self._db.path}: {found} of {row[0]} rows of {table} are found for run {run_id}; {RESTORE}"
            )

    def newest(self, where: str, *values: str) -> RunInfo | None:
        row = self._db.first(f"SELECT run_id FROM runs {where} ORDER BY run_id DESC LIMIT 1", *values)
        return self.info(row["run_id"]) if row else None

    def infos(self) -> list[RunInfo]:
        """Every run, oldest first."""
        return [self.info(row["run_id"]) for row in self._db.rows("SELECT run_id FROM runs ORDER BY 1")]

    def info(self, run_id: int) -> RunInfo:
        row = self._db.first("SELECT * FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise no_run(self._db, run_id)
        verify(self._db, "runs", row)
        planned = self._db.rows("SELECT case_id FROM run_cases WHERE run_id = ? ORDER BY ordinal", run_id)
        return RunInfo(
            run_id=run_id,
            suite=row["suite"],
            plan_digest=row["plan_digest"],
            seed=row["seed"],
            started_at_ns=row["started_at_ns"],
            finished_at_ns=row["finished_at_ns"],
            command=row["command"],
            config=decode(row["config"]),
            environment=decode(row["environment"]),
            case_ids=tuple(r["case_id"] for r in planned),
        )

    def _result(self, run_id: int, case_id: str) -> CaseResult:
        records = self._db.rows(
            "SELECT * FROM records WHERE run_id = ? AND case_id = ? ORDER BY record_id", run_id, case_id
        )
        for row in records:
            verify(self._db, "records", row)
        rounds = [self._round(row) for row in records if row["kind"] == "round"]
        failed = bool(records) and records[-1]["kind"] == "failure"
        return CaseResult(
            case=Case.from_dict(decode(one(self._db, "cases", "case_id", case_id)["facts"])),
            artifact=self._artifact(run_id, case_id),
            rounds=tuple(sorted(rounds, key=lambda r: (r.round_index, r.attempt))),
            failure=Failure.from_dict(decode(records[-1]["facts"])) if failed else None,
            attempts=len(records),
            last_protocol_id=rounds[-1].protocol.id if rounds else "",
        )

    def _round(self, row: sqlite3.Row) -> Round:
        protocol = one(self._db, "protocols", "protocol_id", row["protocol_id"])
        facts = {**decode(row["facts"]), "protocol": decode(protocol["facts"])}
        parts = self._parts(row["record_id"], facts.pop(PART_NAMES, []))
        samples, warmup = samples_from_bytes(row["samples"]), samples_from_bytes(row["warmup"])
        return Round.from_dict(facts, samples, warmup, parts)

    def _parts(self, record_id: int, expected: Sequence[str]) -> dict[str, Samples]:
        rows = self._db.rows("SELECT rowid, * FROM parts WHERE record_id = ?", record_id)
        for row in rows:
            verify(self._db, "parts", row)
        found = {row["name"]: samples_from_bytes(row["samples"]) for row in rows}
        if sorted(found) != sorted(expected):
            raise StoreError(
                f"{self._db.path}: the parts of record {record_id} are not those stored; {RESTORE}"
            )
        return {name: found[name] for name in expected}

    def _artifact(self, run_id: int, case_id: str) -> Artifact | None:
        planned = self._db.first(
            "SELECT artifact_id FROM run_cases WHERE run_id = ? AND case_id = ?", run_id, case_id
        )
        if planned is None or planned["artifact_id"] is None:
            return None
        row = one(self._db, "artifacts", "artifact_id", planned["artifact_id"])
        return Artifact.from_dict(decode(row["facts"]))

    def _sessions(self, run_id: int) -> tuple[Session, ...]:
        rows = self._db.rows("SELECT * FROM sessions WHERE run_id = ? ORDER BY session_id", run_id)
        for row in rows:
            verify(self._db, "sessions", row)
        return tuple(
            Session(r["session_id"], run_id, r["started_at_ns"], r["wall_ns"], decode(r["ledger"]))
            for r in rows
        )
