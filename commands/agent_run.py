"""Jobs on devices: made from packages or found in an outbox, run one after the other, into the store."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from commands import NOT_TIMED, OK, SOME_FAILED, UsageError, options
from commands.agent import outbox
from commands.agent_packages import case_of, sent_of
from commands.device_hosts import connect, only_one_on
from commands.device_progress import DeviceProgress
from commands.device_store import finish_if_complete, run_of
from commands.devices import driver
from commands.only_one import RunBusyError, only_one
from commands.recording import Recording
from commands.timing import comparison
from device_agents import outbox as outboxes
from device_agents.forms import FormError
from device_agents.host import Host
from device_agents.interleaved import Commit, Turns
from device_agents.job import DeviceTiming
from device_agents.outbox import Waiting
from device_agents.problems import DeviceProblem
from models.spec import digest
from models.tables import suggest
from reports.progress import Progress
from runners import environment
from runners.measurement import Failure, Round
from runners.suite import DeviceBusyError

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo
    from reports.records import RunInfo
    from reports.store import Store

SUITE = "device"
SERVE_SECONDS = 5.0


def run(args: argparse.Namespace) -> int:
    """Make the jobs of the files that were named, run them, store and show what came of them."""
    if not args.files:
        raise UsageError("agent run: name a package (.mlpackage, .zip, .onnx) or an outbox folder")
    info = driver(args.driver)
    _check(args, info)
    jobs = _jobs(args, info)
    if not jobs:
        raise UsageError(f"no job in {', '.join(map(str, args.files))}")
    return _run_jobs(args, info, jobs)


def serve(args: argparse.Namespace) -> int:
    """Run what an outbox folder holds, and what is put into it later; it listens on nothing."""
    info = driver(args.driver)
    _check(args, info)
    folder = args.files[0] if args.files else outbox(args)
    code, done = OK, set[str]()
    while True:
        jobs = _for_driver(info, folder) if folder.is_dir() else []
        new = [job for job in jobs if job.job.job_id not in done]
        if new:
            found = _run_jobs(args, info, new)
            code = max(code, found)
            if found != NOT_TIMED:
                done |= {job.job.job_id for job in new}
        if args.once and (not new or code == NOT_TIMED):
            return code
        time.sleep(0 if args.once else SERVE_SECONDS)


def _check(args: argparse.Namespace, info: DriverInfo) -> None:
    if not info.runs_jobs:
        raise UsageError(f"driver {info.name} runs no jobs: use `agent import X.mlperf`")
    if info.name == "coremltools" and not (info.missing() or args.team):
        raise UsageError("--team ID is missing: the team that signs the app which coremltools builds")


def _jobs(args: argparse.Namespace, info: DriverInfo) -> list[Waiting]:
    found: list[Waiting] = []
    for path in args.files:
        if not path.exists():
            raise UsageError(f"{path} is not there")
        is_package = path.suffix in (".mlpackage", ".zip", ".onnx")
        found += _from_package(args, info, path) if is_package else _of_outbox(info, path)
    return found


def _of_outbox(info: DriverInfo, folder: Path) -> list[Waiting]:
    """The jobs for this driver; which others there are is said."""
    others = sorted({job.case.device for job in _waiting(folder)} - {info.name})
    if others:
        print(f"left out: jobs for {', '.join(others)}; --driver names another", file=sys.stderr)
    return _for_driver(info, folder)


def _for_driver(info: DriverInfo, folder: Path) -> list[Waiting]:
    return [job for job in _waiting(folder) if job.case.device == info.name]


def _waiting(folder: Path) -> list[Waiting]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is neither a package (.mlpackage, .zip, .onnx) nor an outbox folder")
    try:
        return outboxes.waiting(folder)
    except FormError as error:
        raise UsageError(str(error)) from None


def _from_package(args: argparse.Namespace, info: DriverInfo, path: Path) -> list[Waiting]:
    units = options.values(args.compute_unit, "--compute-unit") or info.compute_units[-1:]
    unknown = [unit for unit in units if unit not in info.compute_units]
    if unknown:
        near = suggest(unknown[0], info.compute_units)
        raise UsageError(f"driver {info.name} has no compute unit '{unknown[0]}': {near}")
    try:
        sent = sent_of(path, info)
        return [
            outboxes.put(
                outbox(args),
                case_of(args, path, info, sent, unit),
                sent,
                timing=_timing(args),
                rounds_per_launch=options.positive("--rounds-per-launch")(args.rounds_per_launch or "1"),
                attempt=time.time_ns() // 10**9 % 1_000_000 if args.fresh else 0,
            )
            for unit in units
        ]
    except FormError as error:
        raise UsageError(f"{path}: {error}") from None


def _timing(args: argparse.Namespace) -> DeviceTiming:
    rounds = options.positive("--rounds")(args.rounds or "5")
    seconds = options.seconds("--round-seconds")(args.round_seconds or "0.6")
    return DeviceTiming(rounds=rounds, round_ns=round(seconds * 1e9))


@dataclass
class _Row:
    """What came of one job, for people and for --json."""

    waiting: Waiting
    run_id: int
    rounds: list[Round] = field(default_factory=list)
    failure: Failure | None = None


def _run_jobs(args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting]) -> int:
    from reports.store import Store, StoreError

    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    try:
        with Store(path) as store:
            runs = _runs(store, args, info, jobs)
            rows = {job.job.job_id: _Row(job, runs[job.job.job_id].run_id) for job in jobs}
            recordings: dict[int, Recording] = {}

            def commit(waiting: Waiting, outcome: Round | Failure) -> None:
                row = rows[waiting.job.job_id]
                if isinstance(outcome, Round):
                    row.rounds.append(outcome)
                else:
                    row.failure = outcome
                recordings[row.run_id].take_over(waiting.case.id, outcome, waiting.artifact)

            with ExitStack() as stack:
                for run in {run.run_id: run for run in runs.values()}.values():
                    stack.enter_context(only_one(path, run.run_id))
                    recordings[run.run_id] = Recording(store, run)
                stack.enter_context(only_one_on(info.name))
                _take_turns(args, info, jobs, commit)
            for recording in recordings.values():
                finish_if_complete(recording)
    except StoreError as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    return _tell(args, list(rows.values()), path)


def _take_turns(args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting], commit: Commit) -> None:
    if info.name == "coremltools":
        _by_coremltools(args, info, jobs, commit)
        return
    groups = {job.case.id: f"{comparison(job.case)} {job.case.compute_unit}" for job in jobs}
    with Progress() as progress:
        shown = DeviceProgress(progress)

        def connected() -> Host:
            outbox, alias = jobs[0].folder.parent, args.device or ""
            return connect(info, outbox, observe=shown.observed, alias=alias, install=args.install)

        Turns(info.name, connected, commit, groups=groups, observe=shown.launched).run(jobs)


def _by_coremltools(
    args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting], commit: Commit
) -> None:
    from device_agents import coremltools_jobs

    if why := info.missing():
        for job in jobs:
            commit(job, DeviceProblem("tool_missing", why).failure())
        return
    coremltools_jobs.run(jobs, team=args.team, commit=commit)


def _runs(
    store: Store, args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting]
) -> dict[str, RunInfo]:
    """Where each job's results go: the suite's run that asked for them, else a run of these jobs alone."""
    found = {job.job.job_id: run_of(store, job.origin) for job in jobs}
    others = [job for job in jobs if found[job.job.job_id] is None]
    own = _begin(store, args, info, others) if others else None
    runs = {job_id: run or own for job_id, run in found.items()}
    return {job_id: run for job_id, run in runs.items() if run is not None}


def _begin(store: Store, args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting]) -> RunInfo:
    """The run of these jobs, gone on with where it was begun."""
    plan_digest = digest([SUITE, info.name, sorted(job.job.job_id for job in jobs)])
    found = store.find_run(plan_digest)
    if found is not None:
        return found
    return store.begin_run(
        suite=SUITE,
        plan_digest=plan_digest,
        seed=0,
        command=args.command_line.replace(args.team or "\0", "(team)"),
        config={"focus": "", "driver": info.name},
        environment=environment.describe_machine(),
        cases=list({job.case.id: job.case for job in jobs}.values()),
    )


def _tell(args: argparse.Namespace, rows: Sequence[_Row], store: Path) -> int:
    from commands.agent_report import lines_of, table_of

    failures = [row.failure for row in rows if row.failure]
    elsewhere = bool(failures) and all(failure.built for failure in failures)
    code = NOT_TIMED if elsewhere else SOME_FAILED if failures else OK
    run_ids = list(dict.fromkeys(row.run_id for row in rows))
    if args.json:
        cases = [{**table_of(row.waiting, row.rounds, row.failure), "run_id": row.run_id} for row in rows]
        value = {"schema": 1, "store": str(store), "run_id": run_ids[-1], "cases": cases, "exit_code": code}
        print(json.dumps(value))
        return code
    for row in rows:
        for line in lines_of(row.waiting, row.rounds, row.failure):
            print(line)
    if elsewhere:
        print(f"the jobs wait in {rows[0].waiting.folder.parent}: the same command goes on")
    else:
        for run_id in run_ids:
            print(f"in run {run_id} of {store}; show it: python bench.py report --run {run_id}")
    return code
