"""Jobs on devices: made from packages or found in an outbox, run one after the other, into the store."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands import NOT_TIMED, OK, SOME_FAILED, UsageError, options
from commands.agent import driver, found_devices, outbox
from commands.agent_packages import case_of, sent_of
from device_agents import outbox as outboxes
from device_agents.bodies import RoundTaken, body_of
from device_agents.forms import FormError
from device_agents.host import Host, Outbox, Taken
from device_agents.job import DeviceTiming
from device_agents.journal import Entry
from device_agents.outbox import Waiting
from device_agents.problems import DeviceProblem
from device_agents.rounds import check_outputs, rounds_of
from models.spec import digest
from models.tables import suggest
from runners import environment
from runners.measurement import Failure, Round

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo
    from device_agents.transport import Device, Transport
    from reports.records import RunInfo
    from reports.store import Store

SUITE = "device"
SERVE_SECONDS = 5.0
MAX_FORGOTTEN = 1000  # what an order may list


def run(args: argparse.Namespace) -> int:
    """Make the jobs of the files that were named, run them, store and show what came of them."""
    if not args.files:
        raise UsageError("agent run: name a package (.mlpackage, .zip, .onnx) or an outbox folder")
    info = driver(args.driver)
    _check(info)
    jobs = _jobs(args, info)
    if not jobs:
        raise UsageError(f"no job in {', '.join(map(str, args.files))}")
    return _run_jobs(args, info, jobs)


def serve(args: argparse.Namespace) -> int:
    """Run what an outbox folder holds, and what is put into it later; it listens on nothing."""
    info = driver(args.driver)
    _check(info)
    folder = args.files[0] if args.files else outbox(args)
    code, done = OK, set[str]()
    while True:
        new = [job for job in _waiting(folder) if job.job.job_id not in done] if folder.is_dir() else []
        if new:
            found = _run_jobs(args, info, new)
            code = max(code, found)
            if found != NOT_TIMED:
                done |= {job.job.job_id for job in new}
        if args.once and (not new or code == NOT_TIMED):
            return code
        time.sleep(0 if args.once else SERVE_SECONDS)


def _check(info: DriverInfo) -> None:
    if info.name in ("xcode-report", "coremltools"):
        raise UsageError(
            f"driver {info.name} runs no jobs: "
            + ("use `agent import X.mlperf`" if info.name == "xcode-report" else "see docs/iphone.md")
        )


def _jobs(args: argparse.Namespace, info: DriverInfo) -> list[Waiting]:
    found: list[Waiting] = []
    for path in args.files:
        if not path.exists():
            raise UsageError(f"{path} is not there")
        is_package = path.suffix in (".mlpackage", ".zip", ".onnx")
        found += _from_package(args, info, path) if is_package else _waiting(path)
    return found


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


@dataclass(frozen=True)
class _Row:
    """What came of one job, for people and for --json."""

    waiting: Waiting
    rounds: tuple[Round, ...]
    failure: Failure | None


def _run_jobs(args: argparse.Namespace, info: DriverInfo, jobs: Sequence[Waiting]) -> int:
    from reports.store import Store, StoreError

    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    try:
        with Store(path) as store:
            run_info = _begin(store, args, info, jobs)
            rows = [_measure(args, info, job) for job in jobs]
            for row in rows:
                _store(store, run_info, row)
            if not any(row.failure for row in rows):
                store.finish_run(run_info.run_id)
    except StoreError as error:
        raise UsageError(str(error)) from None
    return _tell(args, rows, path, run_info.run_id)


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
        command=args.command_line,
        config={"focus": "", "driver": info.name},
        environment=environment.describe_machine(),
        cases=list({job.case.id: job.case for job in jobs}.values()),
    )


def _measure(args: argparse.Namespace, info: DriverInfo, waiting: Waiting) -> _Row:
    """One job, or what was left of it; every problem is a Failure with the user's next step."""
    box = Outbox(waiting.folder, waiting.job)
    failure: Failure | None = None
    try:
        if not box.journal.ended:
            _host(args, info).run(box, waiting.files, forget=_taken(waiting.folder))
        else:
            _from_outbox(box)
    except DeviceProblem as problem:
        failure = problem.failure()
    taken = Taken(waiting.job, box.journal, box.outputs())
    error = math.nan
    references = waiting.references()
    if references is not None and taken.finished and failure is None:
        try:
            error, failure = check_outputs(taken, references, tolerance=waiting.tolerance)
        except DeviceProblem as problem:
            failure = problem.failure()
    wrong = failure is not None and failure.kind == "wrong_output"
    rounds = () if wrong else rounds_of(taken, driver=info.name, output_error=error)
    return _Row(waiting, rounds, failure)


def _taken(folder: Path) -> list[str]:
    """Jobs beside this one that have ended and are whole here: the device may delete its copies."""
    found = []
    for job in outboxes.waiting(folder.parent):
        box = Outbox(job.folder, job.job)
        if job.folder != folder and box.journal.ended and not box.expects_outputs:
            found.append(job.job.job_id)
    return found[:MAX_FORGOTTEN]


def _from_outbox(box: Outbox) -> None:
    """A job that ended before: its failure again, where it failed."""
    from device_agents.bodies import Failed

    ended = box.journal.ended
    body = body_of(ended) if ended else None
    if isinstance(body, Failed):
        raise DeviceProblem(body.problem, body.message, stage=body.stage)


def _host(args: argparse.Namespace, info: DriverInfo) -> Host:
    """Raises DeviceProblem where no device, or more than one, is here."""
    if why := info.missing():
        raise DeviceProblem("tool_missing", why)
    carrier, device = _device(args, info)
    if device.state:
        raise DeviceProblem(device.state, f"{device.alias} ({device.model}) cannot be used")
    if args.install is not None:
        if not args.install.exists():
            raise UsageError(f"--install: {args.install} is not there")
        carrier.install(device, args.install)
    return Host(carrier, device, observe=_observed)


def _device(args: argparse.Namespace, info: DriverInfo) -> tuple[Transport, Device]:
    found = found_devices(args, info)
    if args.device:
        found = [(carrier, device) for carrier, device in found if device.alias == args.device]
    unique = {device.identifier: (carrier, device) for carrier, device in reversed(found)}
    if not unique:
        name = args.device or "device"
        raise DeviceProblem("unplugged", f"driver {info.name} sees no {name}")
    if len(unique) > 1:
        names = ", ".join(sorted(device.alias for _, device in unique.values()))
        raise UsageError(f"there are several devices: choose one with --device: {names}")
    return next(iter(unique.values()))


def _observed(entry: Entry) -> None:
    body = body_of(entry)
    told = f"round {body.round_index + 1}" if isinstance(body, RoundTaken) else entry.kind
    if entry.kind not in ("begin", "closed"):
        print(f"device: {told}", file=sys.stderr, flush=True)


def _store(store: Store, info: RunInfo, row: _Row) -> None:
    """Rounds that the store has not, then the failure."""
    case = row.waiting.case
    stored = next(r for r in store.load_run(info.run_id).results if r.case.id == case.id)
    done = {taken.round_index for taken in stored.rounds}
    for taken in row.rounds:
        if taken.round_index not in done:
            store.append(info.run_id, case.id, taken, artifact=row.waiting.artifact)
    if row.failure is not None:
        store.append(info.run_id, case.id, row.failure, artifact=row.waiting.artifact)


def _tell(args: argparse.Namespace, rows: Sequence[_Row], store: Path, run_id: int) -> int:
    from commands.agent_report import lines_of, table_of

    failures = [row.failure for row in rows if row.failure]
    elsewhere = bool(failures) and all(failure.built for failure in failures)
    code = NOT_TIMED if elsewhere else SOME_FAILED if failures else OK
    if args.json:
        cases = [table_of(row.waiting, row.rounds, row.failure) for row in rows]
        print(
            json.dumps(
                {"schema": 1, "store": str(store), "run_id": run_id, "cases": cases, "exit_code": code}
            )
        )
        return code
    for row in rows:
        for line in lines_of(row.waiting, row.rounds, row.failure):
            print(line)
    if elsewhere:
        print(f"the jobs wait in {rows[0].waiting.folder.parent}: the same command goes on")
    return code
