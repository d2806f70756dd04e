"""The result store: one SQLite file that keeps every raw sample and loses none.

WAL with `synchronous=FULL`: a record whose `append` returned survives a killed process and a power cut.
Several processes may have the store open; writers take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converters.artifact import Artifact
from models.spec import Case
from reports import store_evaluations, store_history
from reports.database import Database, StoreError
from reports.evaluations import Evaluation
from reports.records import CaseResult, RunInfo, Session, StoredRun
from reports.store_import import import_run
from reports.store_reader import Reader
from reports.store_writer import DuplicateRecordError, Writer
from runners.measurement import Failure, Round

__all__ = ["CaseResult", "DuplicateRecordError", "RunInfo", "Session", "Store", "StoreError", "StoredRun"]


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
        self._reader, self._writer = Reader(self._db), Writer(self._db)

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
        with self._db.transaction():
            run_id = self._writer.plan(
                cases,
                suite=suite,
                plan_digest=plan_digest,
                seed=seed,
                started_at_ns=self._clock_ns(),
                finished_at_ns=None,
                command=command,
                config=config,
                environment=environment,
            )
        with self._db.reading():
            return self._reader.info(run_id)

    def append(
        self, run_id: int, case_id: str, outcome: Round | Failure, *, artifact: Artifact | None
    ) -> int:
        """Store one round or failure in one durable transaction, and return the record's id.

        Raises DuplicateRecordError when this (run, case, round index, attempt) is already stored, StoreError
        when the run does not plan the case or the round holds no positive samples.
        """
        with self._db.transaction():
            return self._writer.append(run_id, case_id, outcome, artifact)

    def set_artifact(self, run_id: int, case_id: str, artifact: Artifact) -> None:
        """Say which file a case is measured from, before (or without) any round of it."""
        with self._db.transaction():
            self._writer.set_artifact(run_id, case_id, artifact)

    def finish_run(self, run_id: int) -> None:
        """Mark a run as complete, now."""
        with self._db.transaction():
            self._writer.set_finished(run_id, self._clock_ns())

    def reopen_run(self, run_id: int) -> None:
        """Mark a finished run as under way again, so that more rounds can be asked of it."""
        with self._db.transaction():
            self._writer.set_finished(run_id, None)

    def add_session(
        self, run_id: int, started_at_ns: int, wall_ns: int, ledger: Mapping[str, int]
    ) -> Session:
        """Store where the wall time of one invocation went."""
        with self._db.transaction():
            session_id = self._writer.add_session(run_id, started_at_ns, wall_ns, ledger)
        return Session(session_id, run_id, started_at_ns, wall_ns, dict(ledger))

    def import_runs(self, runs: Mapping[str, StoredRun]) -> dict[str, tuple[int, bool]]:
        """Add runs that came from files, all of them in one transaction or none, each once for ever.

        Keys are sha256 that name the runs' content. Gives each one's number here, and whether it was added: a
        run of the same content is not, nor one that was written from a run here which holds the same results
        still. An imported run keeps its times, command and environment; its plan digest is its content's, so
        that no suite goes on with it.
        """
        with self._db.transaction():
            return {sha256: import_run(self._db, run, sha256) for sha256, run in runs.items()}

    def add_evaluation(self, evaluation: Evaluation) -> int:
        """Store what a file predicted, in one durable transaction; its number."""
        with self._db.transaction():
            return store_evaluations.add(self._db, evaluation)

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
            return self._reader.infos()

    def load_run(self, run_id: int) -> StoredRun:
        """A run with all its raw samples, as of one moment.

        Raises StoreError for an unknown run and for a row whose checksum does not match.
        """
        with self._db.reading():
            return self._reader.run(run_id)

    def evaluations(self) -> list[Evaluation]:
        """Every stored evaluation, oldest first. Raises StoreError for a row that is not as it was stored."""
        with self._db.reading():
            return store_evaluations.read(self._db)

    def cases(self) -> list[Case]:
        """Every case that any run has planned."""
        with self._db.reading():
            return store_history.cases(self._db)

    def history(self, case_id: str) -> list[store_history.RunMedians]:
        """The round medians of one case in every run, by run; no other case's samples are read."""
        with self._db.reading():
            return store_history.history(self._db, case_id)

    def _newest(self, where: str, *values: str) -> RunInfo | None:
        with self._db.reading():
            return self._reader.newest(where, *values)
