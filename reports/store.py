"""The result store: one SQLite file that keeps every raw sample and loses none.

WAL with `synchronous=FULL`: a record whose `append` returned survives a killed process and a power cut.
Several processes may have the store open; writers take turns.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converters.artifact import Artifact
from models.spec import Case
from reports.codec import checksum, decode, encode, samples_from_bytes, samples_to_bytes
from reports.database import Database, StoreError
from reports.records import IMPORTED, CaseResult, RunInfo, Session, StoredRun
from runners.measurement import Failure, Protocol, Round, Samples

__all__ = ["CaseResult", "DuplicateRecordError", "RunInfo", "Session", "Store", "StoreError", "StoredRun"]


class DuplicateRecordError(StoreError):
    """The same round of the same case was appended twice; the first one is kept."""


# the columns that a row's checksum covers, in order
_COVERED = {
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
}  # fmt: skip


class Store:
    """The results of all runs in one file.

    `path` is made, with its folder, unless `read_only`. `busy_seconds` is how long to wait for another
    process's write. `clock_ns` gives UTC nanoseconds since 1970.

    Every method raises StoreError, naming the file and the fix, when the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        busy_seconds: float = 30.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = Path(path)
        self._clock_ns = clock_ns
        self._db = Database(self.path, read_only=read_only, busy_seconds=busy_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()

    # -- writing ------------------------------------------------------------------------------------------

    def begin_run(
        self,
        *,
        suite: str,
        plan_digest: str,
        seed: int,
        command: str,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        cases: Sequence[Case],
    ) -> RunInfo:
        """Store a new run and its plan. Raises ValueError for a plan that holds a case twice."""
        ids = [case.id for case in cases]
        repeated = sorted({case.label for case in cases if ids.count(case.id) > 1})
        if repeated:
            raise ValueError(f"suite '{suite}' plans the same case twice: {', '.join(repeated)}")
        row = {
            "suite": _printable(suite),
            "plan_digest": plan_digest,
            "seed": seed,
            "started_at_ns": self._clock_ns(),
            "command": _printable(command),
            "config": encode(config),
            "environment": encode(environment),
        }
        with self._db.transaction():
            run_id = self._plan(row, cases)
        with self._db.reading():
            return self._run_info(run_id)

    def append(
        self, run_id: int, case_id: str, outcome: Round | Failure, *, artifact: Artifact | None
    ) -> int:
        """Store one round or failure in one durable transaction, and return the record's id.

        Raises DuplicateRecordError when this (run, case, round index, attempt) is already stored, StoreError
        when the run does not plan the case or the round holds no positive samples.
        """
        with self._db.transaction():
            return self._append(run_id, case_id, outcome, artifact)

    def set_artifact(self, run_id: int, case_id: str, artifact: Artifact) -> None:
        """Say which file a case is measured from, before (or without) any round of it."""
        with self._db.transaction():
            self._require_planned(run_id, case_id)
            self._point_to_artifact(run_id, case_id, self._put_artifact(artifact))

    def finish_run(self, run_id: int) -> None:
        """Mark a run as complete, now."""
        self._set_finished(run_id, self._clock_ns())

    def reopen_run(self, run_id: int) -> None:
        """Mark a finished run as under way again, so that more rounds can be asked of it."""
        self._set_finished(run_id, None)

    def add_session(
        self, run_id: int, started_at_ns: int, wall_ns: int, ledger: Mapping[str, int]
    ) -> Session:
        """Store where the wall time of one invocation went."""
        row = _session_row(run_id, started_at_ns, wall_ns, ledger)
        with self._db.transaction():
            self._require_run(run_id)
            session_id = self._insert("sessions", row)
        return Session(session_id, run_id, started_at_ns, wall_ns, dict(ledger))

    def import_runs(self, runs: Mapping[str, StoredRun]) -> dict[str, tuple[int, bool]]:
        """Add runs that came from files, all of them in one transaction or none, each once for ever.

        Keys are sha256 that name the runs' content. Gives each one's number here, and whether it was added: a
        run of the same content, or the very run that the file was written from, is not added again. An
        imported run keeps its times, command and environment; its plan digest is its content's, so that no
        suite goes on with it.
        """
        with self._db.transaction():
            return {sha256: self._import(run, f"content:{sha256}") for sha256, run in runs.items()}

    # -- reading ------------------------------------------------------------------------------------------

    def find_run(self, plan_digest: str) -> RunInfo | None:
        """The newest run of this plan, finished or not."""
        return self._newest("WHERE plan_digest = ?", plan_digest)

    def latest(self, suite: str | None = None) -> RunInfo | None:
        """The newest run, of one suite where it is named."""
        return self._newest("WHERE suite = ?", suite) if suite is not None else self._newest("")

    def runs(self) -> list[RunInfo]:
        """Every run, oldest first."""
        with self._db.reading():
            return [self._run_info(r["run_id"]) for r in self._db.rows("SELECT run_id FROM runs ORDER BY 1")]

    def load_run(self, run_id: int) -> StoredRun:
        """A run with all its raw samples, as of one moment.

        Raises StoreError for an unknown run and for a row whose checksum does not match.
        """
        with self._db.reading():
            info = self._run_info(run_id)
            results = tuple(self._result(run_id, case_id) for case_id in info.case_ids)
            return StoredRun(info, results, self._sessions(run_id))

    # -- rows out -----------------------------------------------------------------------------------------

    def _newest(self, where: str, *values: str) -> RunInfo | None:
        with self._db.reading():
            row = self._db.first(f"SELECT run_id FROM runs {where} ORDER BY run_id DESC LIMIT 1", *values)
            return self._run_info(row["run_id"]) if row else None

    def _run_info(self, run_id: int) -> RunInfo:
        row = self._db.first("SELECT * FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise self._no_run(run_id)
        self._verify("runs", row)
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
            self._verify("records", row)
        rounds = [self._round(row) for row in records if row["kind"] == "round"]
        failed = bool(records) and records[-1]["kind"] == "failure"
        return CaseResult(
            case=self._case(case_id),
            artifact=self._artifact(run_id, case_id),
            rounds=tuple(sorted(rounds, key=lambda r: (r.round_index, r.attempt))),
            failure=Failure.from_dict(decode(records[-1]["facts"])) if failed else None,
            attempts=len(records),
            last_protocol_id=rounds[-1].protocol.id if rounds else "",
        )

    def _round(self, row: sqlite3.Row) -> Round:
        protocol = self._one("protocols", "protocol_id", row["protocol_id"])
        facts = {**decode(row["facts"]), "protocol": decode(protocol["facts"])}
        parts = self._parts(row["record_id"], facts.pop(_PART_NAMES, []))
        samples, warmup = samples_from_bytes(row["samples"]), samples_from_bytes(row["warmup"])
        return Round.from_dict(facts, samples, warmup, parts)

    def _parts(self, record_id: int, expected: Sequence[str]) -> dict[str, Samples]:
        rows = self._db.rows("SELECT rowid, * FROM parts WHERE record_id = ?", record_id)
        for row in rows:
            self._verify("parts", row)
        found = {row["name"]: samples_from_bytes(row["samples"]) for row in rows}
        if sorted(found) != sorted(expected):
            raise StoreError(f"{self.path}: the parts of record {record_id} are not those stored; {_RESTORE}")
        return {name: found[name] for name in expected}

    def _case(self, case_id: str) -> Case:
        return Case.from_dict(decode(self._one("cases", "case_id", case_id)["facts"]))

    def _artifact(self, run_id: int, case_id: str) -> Artifact | None:
        planned = self._db.first(
            "SELECT artifact_id FROM run_cases WHERE run_id = ? AND case_id = ?", run_id, case_id
        )
        if planned is None or planned["artifact_id"] is None:
            return None
        return Artifact.from_dict(
            decode(self._one("artifacts", "artifact_id", planned["artifact_id"])["facts"])
        )

    def _sessions(self, run_id: int) -> tuple[Session, ...]:
        rows = self._db.rows("SELECT * FROM sessions WHERE run_id = ? ORDER BY session_id", run_id)
        for row in rows:
            self._verify("sessions", row)
        return tuple(
            Session(r["session_id"], run_id, r["started_at_ns"], r["wall_ns"], decode(r["ledger"]))
            for r in rows
        )

    def _one(self, table: str, column: str, value: object) -> sqlite3.Row:
        row = self._db.first(f"SELECT * FROM {table} WHERE {column} = ?", value)
        if row is None:
            raise StoreError(f"{self.path}: {table} lacks {column} {value}; {_RESTORE}")
        self._verify(table, row)
        return row

    # -- rows in ------------------------------------------------------------------------------------------

    def _insert(self, table: str, row: Mapping[str, object]) -> int:
        covered = (row.get(name) for name in _COVERED[table])
        return self._db.insert(table, {**row, "checksum": checksum(*covered)})

    def _plan(self, row: Mapping[str, object], cases: Sequence[Case]) -> int:
        run_id = self._insert("runs", row)
        for ordinal, case in enumerate(cases):
            self._put_case(case)
            self._db.insert("run_cases", {"run_id": run_id, "ordinal": ordinal, "case_id": case.id})
        return run_id

    def _append(self, run_id: int, case_id: str, outcome: Round | Failure, artifact: Artifact | None) -> int:
        row = self._round_row(case_id, outcome) if isinstance(outcome, Round) else _failure_row(outcome)
        self._require_planned(run_id, case_id)
        row |= {"run_id": run_id, "case_id": case_id}
        if isinstance(outcome, Round):
            row["protocol_id"] = self._put_protocol(outcome.protocol)
            self._require_new(row)
        else:
            row["attempt"] = self._failures(run_id, case_id, outcome.round_index)
        if artifact:
            row["artifact_id"] = self._put_artifact(artifact)
            self._point_to_artifact(run_id, case_id, row["artifact_id"])
        record_id = self._insert("records", row)
        if isinstance(outcome, Round):
            self._put_parts(record_id, outcome)
        return record_id

    def _import(self, run: StoredRun, name: str) -> tuple[int, bool]:
        """The number of a run that came from a file, and whether it was added."""
        info = run.info
        here = self._db.first(
            "SELECT run_id FROM runs WHERE plan_digest = ? OR (plan_digest = ? AND started_at_ns = ?)",
            name, info.plan_digest, info.started_at_ns,
        )  # fmt: skip
        if here:
            return int(here["run_id"]), False
        origin = {"plan_digest": info.plan_digest, "content": name}
        row = {
            "suite": _printable(info.suite),
            "plan_digest": name,
            "seed": info.seed,
            "started_at_ns": info.started_at_ns,
            "finished_at_ns": info.finished_at_ns,
            "command": _printable(info.command),
            "config": encode({**info.config, IMPORTED: origin}),
            "environment": encode(info.environment),
        }
        run_id = self._plan(row, [result.case for result in run.results])
        for result in run.results:
            self._import_result(run_id, result)
        for session in run.sessions:
            self._insert(
                "sessions", _session_row(run_id, session.started_at_ns, session.wall_ns, session.ledger)
            )
        return run_id, True

    def _import_result(self, run_id: int, result: CaseResult) -> None:
        if result.artifact:
            self._point_to_artifact(run_id, result.case.id, self._put_artifact(result.artifact))
        outcomes: list[Round | Failure] = [*result.rounds]
        for outcome in (*outcomes, *([result.failure] if result.failure else [])):
            self._append(run_id, result.case.id, outcome, result.artifact)

    def _put_case(self, case: Case) -> None:
        if not self._db.has("cases", case_id=case.id):
            self._insert("cases", {"case_id": case.id, "facts": encode(case.to_dict())})

    def _put_protocol(self, protocol: Protocol) -> str:
        if not self._db.has("protocols", protocol_id=protocol.id):
            self._insert("protocols", {"protocol_id": protocol.id, "facts": encode(protocol.to_dict())})
        return protocol.id

    def _put_artifact(self, artifact: Artifact) -> int:
        found = self._db.first(
            "SELECT artifact_id FROM artifacts WHERE key = ? AND sha256 = ?", artifact.key, artifact.sha256
        )
        if found:
            return int(found["artifact_id"])
        row = {"key": artifact.key, "sha256": artifact.sha256, "facts": encode(artifact.to_dict())}
        return self._insert("artifacts", row)

    def _put_parts(self, record_id: int, outcome: Round) -> None:
        for name, values in outcome.parts.items():
            row = {"record_id": record_id, "name": name, "samples": samples_to_bytes(values)}
            self._insert("parts", row)

    def _point_to_artifact(self, run_id: int, case_id: str, artifact_id: object) -> None:
        self._db.execute(
            "UPDATE run_cases SET artifact_id = ? WHERE run_id = ? AND case_id = ?",
            artifact_id, run_id, case_id,
        )  # fmt: skip

    def _failures(self, run_id: int, case_id: str, round_index: int) -> int:
        """Failures are numbered as they come: the same one may well happen again when a run is resumed."""
        found = self._db.rows(
            "SELECT 1 FROM records WHERE run_id = ? AND case_id = ? AND kind = 'failure' AND round_index = ?",
            run_id, case_id, round_index,
        )  # fmt: skip
        return len(found)

    def _set_finished(self, run_id: int, at_ns: int | None) -> None:
        with self._db.transaction():
            self._require_run(run_id)
            self._db.execute("UPDATE runs SET finished_at_ns = ? WHERE run_id = ?", at_ns, run_id)

    def _round_row(self, case_id: str, outcome: Round) -> dict[str, object]:
        if outcome.samples_ns.size == 0 or int(outcome.samples_ns.min()) <= 0:
            raise StoreError(
                f"{self.path}: round {outcome.round_index} of case {case_id} has no samples, or one that is"
                " not positive; a process that measured nothing is a Failure"
            )
        uneven = [name for name, part in outcome.parts.items() if part.size != outcome.samples_ns.size]
        if uneven:
            raise StoreError(
                f"{self.path}: part '{uneven[0]}' of round {outcome.round_index} of case {case_id} has not"
                " one value per sample"
            )
        facts = {name: value for name, value in outcome.to_dict().items() if name != "protocol"}
        if outcome.parts:
            facts[_PART_NAMES] = list(outcome.parts)
        return {
            "kind": "round",
            "round_index": outcome.round_index,
            "attempt": outcome.attempt,
            "facts": encode(facts),
            "samples": samples_to_bytes(outcome.samples_ns),
            "warmup": samples_to_bytes(outcome.warmup_ns),
        }

    # -- checks -------------------------------------------------------------------------------------------

    def _no_run(self, run_id: int) -> StoreError:
        return StoreError(f"{self.path}: no run {run_id}; `python bench.py report` lists the runs")

    def _require_run(self, run_id: int) -> None:
        if not self._db.has("runs", run_id=run_id):
            raise self._no_run(run_id)

    def _require_planned(self, run_id: int, case_id: str) -> None:
        self._require_run(run_id)
        if not self._db.has("run_cases", run_id=run_id, case_id=case_id):
            raise StoreError(f"{self.path}: case {case_id} is not in the plan of run {run_id}")

    def _require_new(self, row: Mapping[str, object]) -> None:
        key = {name: row[name] for name in ("run_id", "case_id", "kind", "round_index", "attempt")}
        if self._db.has("records", **key):
            raise DuplicateRecordError(
                f"{self.path}: run {row['run_id']} already holds round {row['round_index']}"
                f" (attempt {row['attempt']}) of case {row['case_id']}; the stored one is kept"
            )

    def _verify(self, table: str, row: sqlite3.Row) -> None:
        if checksum(*(row[name] for name in _COVERED[table])) != row["checksum"]:
            raise StoreError(f"{self.path}: row {row[0]} of {table} does not match its checksum; {_RESTORE}")


_PART_NAMES = "part_names"  # in a record's facts, so that a lost part is noticed
_RESTORE = "the file was damaged or edited: restore a backup of it, or measure again into a new one (--store)"


def _session_row(
    run_id: int, started_at_ns: int, wall_ns: int, ledger: Mapping[str, int]
) -> dict[str, object]:
    return {"run_id": run_id, "started_at_ns": started_at_ns, "wall_ns": wall_ns, "ledger": encode(ledger)}


def _failure_row(failure: Failure) -> dict[str, object]:
    return {
        "kind": "failure",
        "round_index": failure.round_index,
        "facts": encode(failure.to_dict()),
        "samples": b"",
        "warmup": b"",
    }


def _printable(text: str) -> str:
    """Bytes of a command line that were no UTF-8 are shown escaped: SQLite's text holds UTF-8 only."""
    return text.encode("utf-8", "backslashreplace").decode()
