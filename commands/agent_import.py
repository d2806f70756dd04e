"""`agent import`: Xcode's performance reports as runs of one case, every experiment a round; outboxes too."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from commands import OK, UsageError, options
from device_agents.placement import left_neural_engine, shares
from device_agents.xcode_report import XcodeReport, XcodeReportError, read
from models.spec import PRECISIONS, Case, ModelSpec, digest
from models.tables import suggest
from reports.records import CaseResult, RunInfo, StoredRun
from reports.statistics import OTHER_TOOL
from runners.measurement import Phases, Protocol, Round

BACKEND = "xcode-report"


def import_files(args: argparse.Namespace) -> int:
    """Outbox folders, or reports of Xcode."""
    from commands.agent_results import import_outboxes, is_outbox

    if not args.files:
        raise UsageError(
            "agent import: name a report (a folder X.mlperf or its report.json) or an outbox folder"
        )
    outboxes = [path for path in args.files if is_outbox(path)]
    if outboxes and len(outboxes) < len(args.files):
        raise UsageError("agent import: outbox folders and reports are imported one kind at a time")
    return import_outboxes(args, outboxes) if outboxes else _import_reports(args)


def _import_reports(args: argparse.Namespace) -> int:
    """All files or none; a report that is in the store already adds nothing."""
    from reports.records_file import content_digest
    from reports.store import Store, StoreError

    runs = {path: _run_of(args, path) for path in args.files}
    named = {content_digest(run): run for run in runs.values()}
    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    try:
        with Store(path) as store:
            added = store.import_runs(named)
    except StoreError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    rows = []
    for file, run in runs.items():
        run_id, is_added = added[content_digest(run)]
        rows.append({"file": str(file), "run_id": run_id, "added": is_added})
    if args.json:
        print(json.dumps({"schema": 1, "store": str(path), "imported": rows}))
        return OK
    for row in rows:
        told = "" if row["added"] else " (in the store already: nothing added)"
        print(
            f"{row['file']}: run {row['run_id']}{told}; show it: python bench.py report --run {row['run_id']}"
        )
    return OK


def _run_of(args: argparse.Namespace, path: Path) -> StoredRun:
    try:
        report = read(path)
    except XcodeReportError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    case = _case(args, report)
    rounds = rounds_of(report)
    environment = {"tool": {"name": BACKEND}, "device": {"model": report.device_model, "os": report.os}}
    samples = [taken.samples_ns.tolist() for taken in rounds]
    info = RunInfo(
        run_id=0,
        suite=BACKEND,
        plan_digest=digest([BACKEND, case.id, report.started_at_ns, samples]),
        seed=0,
        started_at_ns=report.started_at_ns,
        finished_at_ns=report.started_at_ns,
        command="",
        config={"focus": "", "source": "Xcode performance report"},
        environment=environment,
        case_ids=(case.id,),
    )
    return StoredRun(info, (CaseResult(case, rounds=rounds, last_protocol_id=rounds[-1].protocol.id),))


def rounds_of(report: XcodeReport) -> tuple[Round, ...]:
    """An experiment is a round; whether it was a process of its own, the report does not tell."""
    protocol = Protocol(
        backend=BACKEND,
        runtime=f"Core ML, {report.os}",
        device=f"iphone, {report.device_model}",
        threads=0,
        clock="device",
        sync="not told",
        timed="a prediction, as Xcode's performance report counts it",
        inputs="Xcode's own",
        warmup="the first prediction of each experiment",
        min_sample_ns=0,
        compute_unit=report.compute_unit,
    )
    facts = {
        "compile_ns": report.compile_ns.tolist(),
        "cold_load_ns": report.cold_load_ns.tolist(),
        "warm_load_ns": report.warm_load_ns.tolist(),
        "placement": [asdict(share) for share in shares(report.operations)],
    }
    fallen = ("off_neural_engine",) if left_neural_engine(report.operations, report.compute_unit) else ()
    found = []
    for index, samples in enumerate(report.experiments):
        environment: dict[str, object] = {"device": facts}
        if index == 0:
            environment["operations"] = [asdict(operation) for operation in report.operations]
        found.append(
            Round(
                round_index=index,
                position=0,
                attempt=0,
                protocol=protocol,
                loop_count=1,
                samples_ns=samples,
                warmup_ns=report.warmup_ns[index : index + 1].astype(np.int64),
                steady=True,
                output_error=math.nan,
                phases=Phases(),
                started_at_ns=report.started_at_ns,
                environment=environment,
                flags=(OTHER_TOOL, *fallen),
            )
        )
    return tuple(found)


def _case(args: argparse.Namespace, report: XcodeReport) -> Case:
    precision = args.precision or "fp16"
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}': {suggest(precision, PRECISIONS)}")
    side = options.positive("--resolution")(args.resolution or "224")
    return Case(
        ModelSpec(args.model or report.model, side, weights="sha256:unknown"),
        BACKEND,
        precision=precision,
        device="iphone",
        compute_unit=report.compute_unit,
    )
