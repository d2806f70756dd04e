"""What an outbox brought back from another machine, into the runs of the suites that made its jobs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands import NOT_TIMED, OK, SOME_FAILED, UsageError, options
from commands.device_store import finish_if_complete, run_of
from commands.recording import Recording
from device_agents import outbox as outboxes
from device_agents.forms import HEX16, FormError
from device_agents.host import Host, Outbox
from device_agents.interleaved import Turns
from device_agents.outbox import Waiting
from device_agents.problems import DeviceProblem
from runners.measurement import Failure, Round

if TYPE_CHECKING:
    from reports.store import Store


def is_outbox(path: Path) -> bool:
    """A folder of jobs: no report of Xcode's has such folders in it."""
    return path.is_dir() and any(HEX16.fullmatch(inner.name) and inner.is_dir() for inner in path.iterdir())


def import_outboxes(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Every round and failure that their journals tell and the store has not; nothing is measured."""
    from reports.store import Store, StoreError

    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    if not path.exists():
        raise UsageError(f"there is no result store at {path}: name the one that wants them with --store")
    try:
        jobs = [job for folder in folders for job in outboxes.waiting(folder)]
        with Store(path) as store:
            return _import(args, store, _by_run(store, jobs, path))
    except (StoreError, FormError) as error:
        raise UsageError(f"{error}; nothing more was imported") from None


def _by_run(store: Store, jobs: Sequence[Waiting], path: Path) -> dict[int, tuple[Recording, list[Waiting]]]:
    """Raises UsageError where no job was made for a run of this store."""
    found: dict[int, tuple[Recording, list[Waiting]]] = {}
    for job in jobs:
        if (info := run_of(store, job.origin)) is not None:
            if info.run_id not in found:
                found[info.run_id] = (Recording(store, info), [])
            found[info.run_id][1].append(job)
    if not found:
        raise UsageError(
            f"none of the {len(jobs)} jobs was made for a run of {path}: name their store with --store, or"
            " use `agent run` on the folder"
        )
    return found


def _import(args: argparse.Namespace, store: Store, found: dict[int, tuple[Recording, list[Waiting]]]) -> int:
    rows = [_import_run(record, jobs) for record, jobs in found.values()]
    failed, waiting = (any(row[name] for row in rows) for name in ("failed", "waiting"))
    code = SOME_FAILED if failed else NOT_TIMED if waiting else OK
    if args.json:
        print(json.dumps({"schema": 1, "store": str(store.path), "runs": rows, "exit_code": code}))
        return code
    for row in rows:
        print(
            f"run {row['run_id']}: {row['rounds_added']} rounds added from {row['jobs']} jobs,"
            f" {row['failed']} failed, {row['waiting']} without an end yet;"
            f" show it: python bench.py report --run {row['run_id']}"
        )
    return code


def _import_run(record: Recording, jobs: Sequence[Waiting]) -> dict[str, int]:
    failures: list[Failure] = []

    def commit(job: Waiting, outcome: Round | Failure) -> None:
        if isinstance(outcome, Failure) and outcome.built:
            return  # it only says that nothing is measured here
        if isinstance(outcome, Failure):
            failures.append(outcome)
        record.take_over(job.case.id, outcome, job.artifact)

    for job in jobs:
        Turns(job.case.device, _nowhere, commit).run([job])
    finish_if_complete(record)
    return {
        "run_id": record.info.run_id,
        "jobs": len(jobs),
        "rounds_added": record.rounds_added,
        "failed": len(failures),
        "waiting": sum(not Outbox(job.folder, job.job).journal.ended for job in jobs),
    }


def _nowhere() -> Host:
    raise DeviceProblem("unplugged", "importing measures nothing")
