"""A run as a file for other programs: CSV, JSON, Parquet, and what pytest-benchmark reads.

`csv` and `pytest-benchmark` hold one entry per case, `samples-csv` and `parquet` one row per raw sample,
`json` everything. pandas and pyarrow are imported on use.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from reports import agreement, device_export, matched_run, parts, records_file, savings
from reports.codec import plain
from reports.files import OutputError, replacing, write_text
from reports.flags import Flag
from reports.interchange import pytest_benchmark_document
from reports.measured_accuracy import case_documents, evaluation_documents
from reports.records import CaseResult, StoredRun
from reports.statistics import Summary, counted_rounds
from reports.tables import Row, build, settings
from runners.measurement import Round

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


class ExportError(Exception):
    """The export cannot be done as asked; the message says what is known or what is missing."""


def export(stored_run: StoredRun, fmt: str, path: Path) -> Path:
    """Write a run in one of FORMATS and return the path.

    Raises ExportError for an unknown format, OutputError where the file cannot be written.
    """
    if fmt not in FORMATS:
        raise ExportError(f"unknown export format '{fmt}'; known: {', '.join(FORMATS)}")
    path = Path(path)
    FORMATS[fmt](stored_run, path)
    return path


def case_frame(stored_run: StoredRun) -> pd.DataFrame:
    """One row per planned case, in plan order: its settings, the artifact's facts and the summary.

    Times are nanoseconds; what is not known is missing. A case without a measurement keeps its row.
    """
    import pandas as pd

    rows = {row.case.id: row for row in build(stored_run).rows}
    frame = pd.DataFrame([_case_facts(r, rows.get(r.case.id)) for r in stored_run.results])
    frame["accuracy"] = [json.dumps(case_documents(r, stored_run.evaluations)) for r in stored_run.results]
    return frame.astype({name: "Int64" for name in _COUNTS if name in frame})


def sample_frame(stored_run: StoredRun) -> pd.DataFrame:
    """One row per raw sample: `elapsed_ns` is that of `loop_count` inferences, `ns` that of one.

    `warmup` marks warm-up samples, `counted` those that enter the statistics.
    """
    import pandas as pd

    frames = [pd.DataFrame(columns) for columns in _sample_columns(stored_run)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(_SAMPLE_TYPES))


def document(stored_run: StoredRun, *, samples: bool = True) -> dict[str, Any]:
    """A run as one plain JSON value, schema-numbered; without the rounds where `samples` is false.

    Non-finite numbers are `null`, so that the text is standard JSON.
    """
    table = build(stored_run)
    rows = {row.case.id: row for row in table.rows}
    value = {
        "schema": SCHEMA,
        "run": dataclasses.asdict(stored_run.info),
        "sessions": [dataclasses.asdict(session) for session in stored_run.sessions],
        "cases": [_case_document(r, rows.get(r.case.id), samples=samples) for r in stored_run.results],
        "evaluations": evaluation_documents(stored_run),
        **savings.documents(table),
        **matched_run.documents(stored_run),
    }
    return cast(dict[str, Any], plain(value))


def _write_csv(stored_run: StoredRun, path: Path) -> None:
    write_text(path, case_frame(stored_run).to_csv(index=False, lineterminator="\n"))


def _write_samples_csv(stored_run: StoredRun, path: Path) -> None:
    write_text(path, sample_frame(stored_run).to_csv(index=False, lineterminator="\n"))


def _write_parquet(stored_run: StoredRun, path: Path) -> None:
    frame = sample_frame(stored_run).astype(_SAMPLE_TYPES)
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)


def _write_json(stored_run: StoredRun, path: Path) -> None:
    write_text(path, json.dumps(document(stored_run), indent=1, allow_nan=False) + "\n")


def _write_pytest_benchmark(stored_run: StoredRun, path: Path) -> None:
    found = pytest_benchmark_document(stored_run)
    write_text(path, json.dumps(plain(found), indent=1, allow_nan=False) + "\n")


def _write_records(stored_run: StoredRun, path: Path) -> None:
    records_file.write(stored_run, path)


FORMATS: dict[str, Callable[[StoredRun, Path], None]] = {
    "csv": _write_csv,
    "samples-csv": _write_samples_csv,
    "json": _write_json,
    "parquet": _write_parquet,
    "pytest-benchmark": _write_pytest_benchmark,
    "records": _write_records,
}

_SAMPLE_TYPES = {
    "case_id": "string", "model": "string", "shape": "string", "backend": "string", "precision": "string",
    "batch_size": "int64", "device": "string", "threads": "int64", "fused": "bool", "protocol_id": "string",
    "round": "int64", "attempt": "int64", "counted": "bool", "warmup": "bool", "sample": "int64",
    "loop_count": "int64", "elapsed_ns": "int64", "ns": "float64",
}  # fmt: skip


def _case_facts(result: CaseResult, row: Row | None) -> dict[str, Any]:
    """A flat row; the order of the keys is the order of the columns."""
    device = device_export.columns(row) if row else {}
    return {**_identity(result), **_artifact_facts(result), **_findings(result, row), **device}


def _identity(result: CaseResult) -> dict[str, Any]:
    case = result.case
    return {
        "case_id": case.id,
        "model": case.model.name,
        "shape": settings(case)["shape"],
        "resolution": case.model.resolution,
        "options": json.dumps(dict(case.model.options), sort_keys=True),
        "weights": case.model.weights,
        "backend": case.backend,
        "precision": case.precision,
        "batch_size": case.batch_size,
        "device": case.device,
        "compute_unit": case.compute_unit,
        "threads": case.threads,
        "fused": case.fused,
        "target": case.target,
        "build": json.dumps(dict(case.build), sort_keys=True),
        "runtime_options": json.dumps(dict(case.runtime), sort_keys=True),
        "calibration": case.calibration,
    }


def _artifact_facts(result: CaseResult) -> dict[str, Any]:
    artifact = result.artifact
    return {
        "gmacs": artifact.gmacs if artifact else None,
        "params_m": artifact.params_m if artifact else None,
        "artifact_sha256": artifact.sha256 if artifact else None,
        "artifact_size_bytes": artifact.size_bytes if artifact else None,
        "parity_max_relative": artifact.parity.max_relative if artifact and artifact.parity else None,
        "artifact_precision": artifact.precision if artifact else None,
        "batchnorms_left": artifact.batchnorms_left if artifact else None,
        "artifact_facts": json.dumps(dict(artifact.facts), sort_keys=True) if artifact else None,
    }


def _findings(result: CaseResult, row: Row | None) -> dict[str, Any]:
    return {
        **(_summary_facts(row.summary) if row else dict.fromkeys(_summary_names())),
        "rank_first": row.rank.first if row and row.rank else None,
        "rank_last": row.rank.last if row and row.rank else None,
        "ratio_to_best": row.versus_best.value if row and row.versus_best else None,
        **{f"{name}_ns": parts.median_ns(row, name) if row else None for name in parts.NAMES},
        "peak_device_bytes": parts.device_bytes(row) if row else None,
        "output_error": agreement.output_error(result),
        "top1_agreeing": ran.agreeing if (ran := agreement.as_timed(result)) else None,
        "top1_positions": ran.positions if ran else None,
        "protocol_id": row.measurement.protocol.id if row else None,
        "runtime": row.measurement.protocol.runtime if row else None,
        "flags": " ".join(flag.name for flag in row.flags) if row else "",
        "failure": result.failure.kind if result.failure else None,
        "failure_message": result.failure.message if result.failure else None,
    }


def _summary_facts(s: Summary) -> dict[str, Any]:
    quantiles = {
        f"{name}_{bound}ns": getattr(found, f"{bound or 'value_'}ns") if found else None
        for name, found in (("p90", s.p90), ("p99", s.p99))
        for bound in ("", "low_", "high_")
    }
    single = {name: getattr(s, name) for name in _SINGLE}
    return {
        **single,
        **quantiles,
        "converged": s.converged,
        "drift_across_rounds": s.drift.across_rounds,
        "drift_within_rounds": s.drift.within_rounds,
    }


_SINGLE = (
    "median_ns", "low_ns", "high_ns", "half_width", "target", "mean_ns", "min_ns", "max_ns", "mad_ns",
    "iqr_ratio", "within_spread", "between_spread", "mild_outliers", "severe_outliers", "samples", "rounds",
    "repeated_rounds", "unsteady_rounds", "throughput_per_s",
)  # fmt: skip


# whole numbers that a case may lack: pandas would make them floats
_COUNTS = (
    "artifact_size_bytes", "batchnorms_left", "mild_outliers", "severe_outliers", "samples", "rounds",
    "repeated_rounds", "unsteady_rounds", "rank_first", "rank_last", "peak_device_bytes",
)  # fmt: skip


def _summary_names() -> list[str]:
    quantiles = [f"{name}_{bound}ns" for name in ("p90", "p99") for bound in ("", "low_", "high_")]
    return [*_SINGLE, *quantiles, "converged", "drift_across_rounds", "drift_within_rounds"]


def _sample_columns(stored_run: StoredRun) -> Iterator[dict[str, Any]]:
    for result in stored_run.results:
        measurement = result.measurement
        counted = {id(r) for r in counted_rounds(measurement.rounds)} if measurement else set()
        for taken in result.rounds:
            for warmup, samples in ((True, taken.warmup_ns), (False, taken.samples_ns)):
                if samples.size:
                    yield _columns_of(result, taken, samples, warmup=warmup, counted=id(taken) in counted)


def _columns_of(
    result: CaseResult, taken: Round, samples: Any, *, warmup: bool, counted: bool
) -> dict[str, Any]:
    case = result.case
    return {
        "case_id": case.id,
        "model": case.model.name,
        "shape": settings(case)["shape"],
        "backend": case.backend,
        "precision": case.precision,
        "batch_size": case.batch_size,
        "device": case.device,
        "threads": case.threads,
        "fused": case.fused,
        "protocol_id": taken.protocol.id,
        "round": taken.round_index,
        "attempt": taken.attempt,
        "counted": counted and not warmup,
        "warmup": warmup,
        "sample": np.arange(samples.size),
        "loop_count": taken.loop_count,
        "elapsed_ns": samples,
        "ns": samples / taken.loop_count,
    }


def _case_document(result: CaseResult, row: Row | None, *, samples: bool) -> dict[str, Any]:
    rounds = {"rounds": [_round_document(taken) for taken in result.rounds]} if samples else {}
    told = device_export.document(row) if row else None
    return {
        "id": result.case.id,
        "label": result.case.label,
        "case": result.case.to_dict(),
        "artifact": result.artifact.to_dict() if result.artifact else None,
        "summary": dataclasses.asdict(row.summary) if row else None,
        "rank": dataclasses.asdict(row.rank) if row and row.rank else None,
        "versus_best": dataclasses.asdict(row.versus_best) if row and row.versus_best else None,
        "flags": [_flag_document(flag) for flag in row.flags] if row else [],
        "failure": result.failure.to_dict() if result.failure else None,
        "attempts": result.attempts,
        **({"device": told} if told else {}),
        **rounds,
    }


def _flag_document(flag: Flag) -> dict[str, str]:
    return {"name": flag.name, "meaning": flag.meaning, "advice": flag.advice}


def _round_document(taken: Round) -> dict[str, Any]:
    return {
        **taken.to_dict(),
        "protocol_id": taken.protocol.id,
        "samples_ns": taken.samples_ns.tolist(),
        "warmup_ns": taken.warmup_ns.tolist(),
        "parts_ns": {name: values.tolist() for name, values in taken.parts.items()},
    }


__all__ = ["FORMATS", "ExportError", "OutputError", "case_frame", "document", "export", "sample_frame"]
