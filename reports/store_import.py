"""A run that came from a file, into the store: once for ever, and never one for another."""

from __future__ import annotations

from reports import records_file
from reports.database import Database
from reports.records import IMPORTED, CaseResult, StoredRun
from reports.store_reader import Reader
from reports.store_writer import Writer


def import_run(db: Database, run: StoredRun, sha256: str) -> tuple[int, bool]:
    """The number of the run in the store, and whether it was added; inside the caller's transaction.

    `sha256` names the run's content, and becomes its plan digest, so that no suite goes on with it.
    """
    name = f"content:{sha256}"
    if (here := _same(db, run, name)) is not None:
        return here, False
    info, writer = run.info, Writer(db)
    origin = {"plan_digest": info.plan_digest, "content": name}
    run_id = writer.plan(
        [result.case for result in run.results],
        suite=info.suite,
        plan_digest=name,
        seed=info.seed,
        started_at_ns=info.started_at_ns,
        finished_at_ns=info.finished_at_ns,
        command=info.command,
        config={**info.config, IMPORTED: origin},
        environment=info.environment,
    )
    for result in run.results:
        _add_result(writer, run_id, result)
    for session in run.sessions:
        writer.add_session(run_id, session.started_at_ns, session.wall_ns, session.ledger)
    return run_id, True


def _same(db: Database, run: StoredRun, name: str) -> int | None:
    """The run of that content, or the one that the file was written from, as long as it holds the same."""
    imported = db.first("SELECT run_id FROM runs WHERE plan_digest = ?", name)
    if imported:
        return int(imported["run_id"])
    begun = db.rows(
        "SELECT run_id FROM runs WHERE plan_digest = ? AND started_at_ns = ?",
        run.info.plan_digest, run.info.started_at_ns,
    )  # fmt: skip
    wanted = records_file.results_digest(run) if begun else ""
    for row in begun:
        if records_file.results_digest(Reader(db).run(row["run_id"])) == wanted:
            return int(row["run_id"])
    return None


def _add_result(writer: Writer, run_id: int, result: CaseResult) -> None:
    if result.artifact:
        writer.set_artifact(run_id, result.case.id, result.artifact)
    for taken in result.rounds:
        writer.append(run_id, result.case.id, taken, result.artifact)
    if result.failure:
        writer.append(run_id, result.case.id, result.failure, result.artifact)
