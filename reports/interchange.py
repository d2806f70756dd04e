"""A run as the document that pytest-benchmark writes, so that its `compare` reads our results."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from reports.records import StoredRun
from reports.statistics import counted_rounds
from reports.tables import Row, build, settings

FORMAT_VERSION = "5.1.0"  # the version of pytest-benchmark whose fields these are


def pytest_benchmark_document(stored_run: StoredRun) -> dict[str, Any]:
    """One benchmark per measured case, times in seconds per inference."""
    started = datetime.datetime.fromtimestamp(stored_run.info.started_at_ns / 1e9, tz=datetime.UTC)
    return {
        "machine_info": _machine_info(stored_run),
        "commit_info": _commit_info(stored_run),
        "benchmarks": [_benchmark(row) for row in build(stored_run).rows],
        "datetime": started.isoformat(),
        "version": FORMAT_VERSION,
    }


def _benchmark(row: Row) -> dict[str, Any]:
    return {
        "group": settings(row.case)["shape"],
        "name": row.case.label,
        "fullname": f"{row.case.label} [{row.case.id}]",
        "params": None,
        "param": None,
        "extra_info": {"case_id": row.case.id, "flags": [flag.name for flag in row.flags]},
        "options": {
            "disable_gc": True,
            "timer": row.measurement.protocol.clock,
            "min_rounds": row.summary.rounds,
            "max_time": 0.0,
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": _benchmark_stats(row),
    }


def _benchmark_stats(row: Row) -> dict[str, Any]:
    """Pooled samples in seconds, with the quantities that pytest-benchmark computes itself.

    Its `median` is that of the pooled samples, so it may differ slightly from our headline.
    """
    rounds = counted_rounds(row.measurement.rounds)
    seconds = np.concatenate([r.samples_ns / r.loop_count for r in rounds]) * 1e-9
    q1, median, q3 = (float(v) for v in np.quantile(seconds, (0.25, 0.5, 0.75)))
    iqr = q3 - q1
    inside = seconds[(seconds >= q1 - 1.5 * iqr) & (seconds <= q3 + 1.5 * iqr)]
    deviation = float(seconds.std(ddof=1)) if seconds.size > 1 else 0.0
    mean = float(seconds.mean())
    far = int(np.count_nonzero(np.abs(seconds - mean) > deviation))
    return {
        "min": float(seconds.min()),
        "max": float(seconds.max()),
        "mean": mean,
        "stddev": deviation,
        "rounds": int(seconds.size),
        "median": median,
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": int(seconds.size - inside.size),
        "stddev_outliers": far,
        "outliers": f"{far};{int(seconds.size - inside.size)}",
        "ld15iqr": float(inside.min()),
        "hd15iqr": float(inside.max()),
        "ops": 1.0 / mean,
        "total": float(seconds.sum()),
        "iterations": max(r.loop_count for r in rounds),
        "data": seconds.tolist(),
    }


def _machine_info(stored_run: StoredRun) -> dict[str, Any]:
    """pytest-benchmark's own keys where we know them; the whole environment under `environment`."""
    environment = stored_run.info.environment
    cpu, system, python = (_mapping(environment, name) for name in ("cpu", "system", "python"))
    return {
        "node": "",
        "processor": cpu.get("architecture", ""),
        "machine": cpu.get("architecture", ""),
        "python_implementation": python.get("implementation", ""),
        "python_version": python.get("version", ""),
        "system": str(system.get("kernel", "")).partition(" ")[0],
        "release": str(system.get("kernel", "")).partition(" ")[2],
        "cpu": {"brand_raw": cpu.get("model", ""), "count": cpu.get("logical_cores", 0)},
        "environment": environment,
    }


def _commit_info(stored_run: StoredRun) -> dict[str, Any]:
    revision = _mapping(stored_run.info.environment, "revision")
    return {
        "id": revision.get("commit", "unknown"),
        "dirty": revision.get("dirty", False),
        "project": "",
        "branch": "",
        "time": None,
        "author_time": None,
    }


def _mapping(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name)
    return dict(found) if isinstance(found, dict) else {}
