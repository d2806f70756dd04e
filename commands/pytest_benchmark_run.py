"""A file of pytest-benchmark as a run: one case per benchmark, one round each, as it was one process."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commands import UsageError
from models.spec import Case, ModelSpec, digest
from reports.foreign import ForeignFileError
from reports.pytest_benchmark_file import TOOL, Benchmark, BenchmarkFile, read
from reports.records import CaseResult, RunInfo, StoredRun
from reports.statistics import OTHER_TOOL
from runners.measurement import Phases, Protocol, Round

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def run_of(path: Path) -> StoredRun:
    """The run that the file describes. Raises UsageError."""
    try:
        found = read(path)
    except ForeignFileError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    results = tuple(_result(found, one) for one in found.benchmarks)
    ids = tuple(result.case.id for result in results)
    environment = _environment(found)
    content = [result.rounds[0].samples_ns.tolist() for result in results]
    info = RunInfo(
        run_id=0,
        suite=TOOL,
        plan_digest=digest([TOOL, ids, environment, found.started_at_ns, content]),
        seed=0,
        started_at_ns=found.started_at_ns,
        finished_at_ns=found.started_at_ns,
        command="",
        config={"focus": "", "source": TOOL},
        environment=environment,
        case_ids=ids,
    )
    return StoredRun(info, results)


def _result(found: BenchmarkFile, one: Benchmark) -> CaseResult:
    """A benchmark has no input shape and no precision: both stay empty. Groups are kept apart."""
    group = (("group", one.group),) if one.group else ()
    case = Case(ModelSpec(one.name, resolution=0, weights=""), TOOL, precision="", device="", runtime=group)
    taken = Round(
        round_index=0,
        position=0,
        attempt=0,
        protocol=_protocol(found, one),
        loop_count=one.iterations,
        samples_ns=one.samples_ns,
        warmup_ns=one.samples_ns[:0],
        steady=True,
        output_error=math.nan,
        phases=Phases(),
        started_at_ns=found.started_at_ns,
        flags=(OTHER_TOOL,),
    )
    return CaseResult(case, rounds=(taken,), last_protocol_id=taken.protocol.id)


def _protocol(found: BenchmarkFile, one: Benchmark) -> Protocol:
    python = (
        f"{_text(found.machine, 'python_implementation')} {_text(found.machine, 'python_version')}".strip()
    )
    warmup = one.options.get("warmup")
    return Protocol(
        backend=TOOL,
        runtime=f"{TOOL} {found.version or 'of an unknown version'}, {python or 'Python'}",
        device=_cpu(found.machine),
        threads=0,
        clock=_text(one.options, "timer") or "unknown",
        sync="blocking call",
        timed="one call of the benchmarked function",
        inputs="the benchmark's own",
        warmup="unknown" if warmup is None else "calls that were not timed" if warmup else "none",
        min_sample_ns=0,
        options={"disable_gc": str(one.options.get("disable_gc", "unknown"))},
    )


def _environment(found: BenchmarkFile) -> dict[str, Any]:
    """Without the machine's name, which the file has too."""
    machine, commit = found.machine, _text(found.commit, "id")
    value: dict[str, Any] = {
        "fingerprint": digest([TOOL, _cpu(machine), _text(machine, "machine"), _text(machine, "system")])[
            :16
        ],
        "cpu": {"model": _cpu(machine), "architecture": _text(machine, "machine")},
        "system": {"kernel": f"{_text(machine, 'system')} {_text(machine, 'release')}".strip()},
        "python": {
            "version": _text(machine, "python_version"),
            "implementation": _text(machine, "python_implementation"),
        },
        "tool": {"name": TOOL, "version": found.version},
    }
    if _COMMIT.fullmatch(commit):
        value["revision"] = {"commit": commit, "dirty": found.commit.get("dirty") is True}
    return value


def _cpu(machine: Mapping[str, Any]) -> str:
    cpu = machine.get("cpu")
    return (_text(cpu, "brand_raw") or _text(cpu, "brand") if isinstance(cpu, Mapping) else "") or "unknown"


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found[:200] if isinstance(found, str) else ""
