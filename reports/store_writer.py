"""Runs, rounds and failures as rows of the store; the caller opens the transaction around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converters.artifact import Artifact
from models.spec import Case
from reports.codec import encode, samples_to_bytes
from reports.database import Database, StoreError
from reports.store_rows import PART_NAMES, insert, no_run
from runners.measurement import Failure, Protocol, Round, misfit


class DuplicateRecordError(StoreError):
    """The same round of the same case was appended twice; the first one is kept."""


class Writer:
    """Rows into one store. Every method raises StoreError for what the store's plan does not have."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def plan(
        self,
        cases: Sequence[Case],
        *,
        suite: str,
        plan_digest: str,
        seed: int,
        started_at_ns: int,
        finished_at_ns: int | None,
        command: str,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> int:
        """A run without results yet; its number."""
        row = {
            "suite": _printable(suite),
            "plan_digest": plan_digest,
            "seed": seed,
            "started_at_ns": started_at_ns,
            "finished_at_ns": finished_at_ns,
            "command": _printable(command),
            "config": encode(config),
            "environment": encode(environment),
        }
        run_id = insert(self._db, "runs", row)
        for ordinal, case in enumerate(cases):
            self._put_case(case)
            self._db.insert("run_cases", {"run_id": run_id, "ordinal": ordinal, "case_id": case.id})
        return run_id

    def append(self, run_id: int, case_id: str, outcome: Round | Failure, artifact: Artifact | None) -> int:
        """One round or failure; the record's number. Raises DuplicateRecordError."""
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
        record_id = insert(self._db, "records", row)
        if isinstance(outcome, Round):
            self._put_parts(record_id, outcome)
        return record_id

    def set_artifact(self, run_id: int, case_id: str, artifact: Artifact) -> None:
        self._require_planned(run_id, case_id)
        self._point_to_artifact(run_id, case_id, self._put_artifact(artifact))

    def set_finished(self, run_id: int, at_ns: int | None) -> None:
        self._require_run(run_id)
        self._db.execute("UPDATE runs SET finished_at_ns = ? WHERE run_id = ?", at_ns, run_id)

    def add_session(self, run_id: int, started_at_ns: int, wall_ns: int, ledger: Mapping[str, int]) -> int:
        """The session's number."""
        self._require_run(run_id)
        row = {
            "run_id": run_id, "started_at_ns": started_at_ns, "wall_ns": wall_ns, "ledger": encode(ledger),
        }  # fmt: skip
        return insert(self._db, "sessions", row)

    def _put_case(self, case: Case) -> None:
        if not self._db.has("cases", case_id=case.id):
            insert(self._db, "cases", {"case_id": case.id, "facts": encode(case.to_dict())})

    def _put_protocol(self, protocol: Protocol) -> str:
        if not self._db.has("protocols", protocol_id=protocol.id):
            row = {"protocol_id": protocol.id, "facts": encode(protocol.to_dict())}
            insert(self._db, "protocols", row)
        return protocol.id

    def _put_artifact(self, artifact: Artifact) -> int:
        found = self._db.first(
            "SELECT artifact_id FROM artifacts WHERE key = ? AND sha256 = ?", artifact.key, artifact.sha256
        )
        if found:
            return int(found["artifact_id"])
        row = {"key": artifact.key, "sha256": artifact.sha256, "facts": encode(artifact.to_dict())}
        return insert(self._db, "artifacts", row)

    def _put_parts(self, record_id: int, outcome: Round) -> None:
        for name, values in outcome.parts.items():
            row = {"record_id": record_id, "name": name, "samples": samples_to_bytes(values)}
            insert(self._db, "parts", row)

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

    def _round_row(self, case_id: str, outcome: Round) -> dict[str, object]:
        what = f"{self._db.path}: round {outcome.round_index} of case {case_id}"
        if outcome.samples_ns.size == 0 or int(outcome.samples_ns.min()) <= 0:
            raise StoreError(
                f"{what} has no samples, or one that is not positive; a process that measured nothing is a"
                " Failure"
            )
        if wrong := misfit(outcome.samples_ns.size, outcome.parts):
            raise StoreError(f"{what}: {wrong}")
        facts = {name: value for name, value in outcome.to_dict().items() if name != "protocol"}
        if outcome.parts:
            facts[PART_NAMES] = list(outcome.parts)
        return {
            "kind": "round",
            "round_index": outcome.round_index,
            "attempt": outcome.attempt,
            "facts": encode(facts),
            "samples": samples_to_bytes(outcome.samples_ns),
            "warmup": samples_to_bytes(outcome.warmup_ns),
        }

    def _require_run(self, run_id: int) -> None:
        if not self._db.has("runs", run_id=run_id):
            raise no_run(self._db, run_id)

    def _require_planned(self, run_id: int, case_id: str) -> None:
        self._require_run(run_id)
        if not self._db.has("run_cases", run_id=run_id, case_id=case_id):
            raise StoreError(f"{self._db.path}: case {case_id} is not in the plan of run {run_id}")

    def _require_new(self, row: Mapping[str, object]) -> None:
        key = {name: row[name] for name in ("run_id", "case_id", "kind", "round_index", "attempt")}
        if self._db.has("records", **key):
            raise DuplicateRecordError(
                f"{self._db.path}: run {row['run_id']} already holds round {row['round_index']}"
                f" (attempt {row['attempt']}) of case {row['case_id']}; the stored one is kept"
            )


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
