"""Processes of onnxruntime_perf_test as a run of one case, a round for each: what is not known stays open."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from commands import UsageError
from commands.foreign_case import case_of
from models.spec import Case, digest
from reports.foreign import ForeignFileError
from reports.perf_test import TOOL, Process, read
from reports.records import CaseResult, RunInfo, StoredRun
from reports.statistics import OTHER_TOOL
from runners.measurement import Phases, Protocol, Round


def run_of(args: argparse.Namespace, path: Path) -> StoredRun:
    """The run that a result file and the options describe. Raises UsageError."""
    command = args.tool_command or ""
    device = "cuda" if _told(command, "e") in ("cuda", "tensorrt") else "cpu"
    threads = int(_told(command, "x") or 1)
    case = case_of(args, TOOL, device=device, threads=max(1, threads))
    try:
        processes = read(path)
    except ForeignFileError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    protocol = _protocol(args, device)
    rounds = tuple(_round(index, process, protocol) for index, process in enumerate(processes))
    result = CaseResult(case, rounds=rounds, last_protocol_id=protocol.id)
    return StoredRun(_info(args, case, rounds), (result,))


def _round(index: int, process: Process, protocol: Protocol) -> Round:
    return Round(
        round_index=index,
        position=0,
        attempt=0,
        protocol=protocol,
        loop_count=1,
        samples_ns=process.samples_ns,
        warmup_ns=process.samples_ns[:0],
        steady=True,
        output_error=math.nan,
        phases=Phases(),
        started_at_ns=0,
        flags=(OTHER_TOOL,),
        peak_rss_bytes=process.peak_rss_bytes,
    )


def _protocol(args: argparse.Namespace, device: str) -> Protocol:
    """`-c` (runs at once) and `-x` (threads) are in the command line or unknown: 0 stands for that."""
    command, version = args.tool_command or "", args.tool_version
    return Protocol(
        backend=TOOL,
        runtime=f"{TOOL} {version}" if version else f"{TOOL}, version not told",
        device=f"{device}, {args.device_name}",
        threads=int(_told(command, "x") or 0),
        clock="host",
        sync="unknown",
        timed="one run of the session, host time",
        inputs="the tool's: test data beside the model, or generated",
        warmup="one inference, not checked for steadiness",
        min_sample_ns=0,
        queue_depth=int(_told(command, "c") or 1),
        transfers="unknown" if device == "cuda" else "none",
        options={"command": command} if command else {},
    )


def _told(command: str, name: str) -> str:
    """The value of `-e cuda` or `-x 4` in a command line; empty where it is not there."""
    match = re.search(rf"(?:^|\s)-{name}\s+(cuda|tensorrt|cpu|\d{{1,4}})(?=\s|$)", command)
    return match[1] if match else ""


def _info(args: argparse.Namespace, case: Case, rounds: tuple[Round, ...]) -> RunInfo:
    """Neither the moment nor the machine is in the file; 0 is no moment."""
    command = args.tool_command or ""
    environment = {
        "cpu" if case.device == "cpu" else "gpus": {"model": args.device_name}
        if case.device == "cpu"
        else [{"name": args.device_name}],
        "tool": {"name": TOOL, "version": args.tool_version or "", "command": command},
    }
    content = [taken.samples_ns.tolist() for taken in rounds]
    return RunInfo(
        run_id=0,
        suite=TOOL,
        plan_digest=digest([TOOL, case.id, environment, content]),
        seed=0,
        started_at_ns=0,
        finished_at_ns=0,
        command=command,
        config={"focus": "", "source": TOOL},
        environment=environment,
        case_ids=(case.id,),
    )
