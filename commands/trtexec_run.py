"""One trtexec process as a run of one case and one round: what is not known stays 0, NaN or empty."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from commands import UsageError, options
from commands.foreign_case import case_of
from models.spec import Case, digest
from reports.records import CaseResult, RunInfo, StoredRun
from reports.statistics import OTHER_TOOL
from reports.trtexec import Settings, Times, TrtexecError, read_profile, read_times, settings_of
from runners.measurement import Phases, Protocol, Round

BACKEND = "trtexec"


def run_of(args: argparse.Namespace, path: Path) -> StoredRun:
    """The run that an `--exportTimes` file and the options describe. Raises UsageError."""
    case = case_of(args, BACKEND, device="cuda")
    settings = settings_of(args.trtexec_command or "")
    warmup_ms = settings.warmup_ms if args.warmup_ms is None else _milliseconds(args.warmup_ms)
    try:
        times = read_times(path, warmup_ms=warmup_ms)
        layers = read_profile(args.profile) if args.profile else {}
    except TrtexecError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    taken = Round(
        round_index=0,
        position=0,
        attempt=0,
        protocol=_protocol(args, settings, times),
        loop_count=1,
        samples_ns=times.samples_ns,
        warmup_ns=times.warmup_ns,
        steady=True,
        output_error=math.nan,
        phases=Phases(),
        started_at_ns=0,
        flags=(OTHER_TOOL,),
        parts=times.parts,
        layers=layers,
    )
    result = CaseResult(case, rounds=(taken,), last_protocol_id=taken.protocol.id)
    return StoredRun(_info(args, case, taken), (result,))


def _milliseconds(text: str) -> float:
    return 0.0 if text == "0" else options.seconds("--warmup-ms")(text)


def _protocol(args: argparse.Namespace, settings: Settings, times: Times) -> Protocol:
    version = args.trtexec_version
    return Protocol(
        backend=BACKEND,
        runtime=f"trtexec {version}" if version else "trtexec, version not told",
        device=f"cuda, {args.device_name}",
        threads=0,
        clock="CUDA events",
        sync=settings.sync,
        timed="GPU compute time of one query (computeMs)",
        inputs="trtexec's: one set, not rotated",
        warmup="trtexec's --warmUp, not checked for steadiness",
        min_sample_ns=0,
        queue_depth=settings.streams or 1,
        cuda_graph=bool(settings.cuda_graph),
        transfers=times.transfers,
        options={**_unknown(settings), **({"command": args.trtexec_command} if args.trtexec_command else {})},
    )


def _unknown(settings: Settings) -> dict[str, str]:
    """What the protocol's own fields cannot leave open: there `false` and 1 stand for it."""
    told = {"cuda_graph": settings.cuda_graph, "streams": settings.streams}
    return {name: "unknown" for name, value in told.items() if value is None}


def _info(args: argparse.Namespace, case: Case, taken: Round) -> RunInfo:
    """Neither the moment nor the machine is in the file; 0 is no moment."""
    tool = {"name": BACKEND, "version": args.trtexec_version or "", "command": args.trtexec_command or ""}
    environment = {"gpus": [{"name": args.device_name}], "tool": tool}
    return RunInfo(
        run_id=0,
        suite=BACKEND,
        plan_digest=digest([BACKEND, case.id, environment, taken.protocol.id, taken.samples_ns.tolist()]),
        seed=0,
        started_at_ns=0,
        finished_at_ns=0,
        command=tool["command"],
        config={"focus": "", "source": "trtexec --exportTimes"},
        environment=environment,
        case_ids=(case.id,),
    )
