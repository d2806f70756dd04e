"""What pytest-benchmark measured, from the file of `--benchmark-json` or `--benchmark-autosave`.

A benchmark's `stats.data` are seconds of one call, each a mean over `stats.iterations` calls in a row, all of
one process. They are there with `--benchmark-json`, and otherwise with `--benchmark-save-data`. Documented in
pytest-benchmark's own documentation under "usage"; the fields are those of its versions 3 to 5.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.foreign import ForeignFileError, elapsed_ns, json_of
from runners.measurement import Samples

TOOL = "pytest-benchmark"
_BEGIN = re.compile(rb'\s*\{\s*"(machine_info|commit_info|benchmarks|datetime|version)"')


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: every sample is the time of `iterations` calls, in whole nanoseconds and in order."""

    name: str
    group: str
    iterations: int
    samples_ns: Samples
    options: Mapping[str, Any]


@dataclass(frozen=True)
class BenchmarkFile:
    """`started_at_ns` is 0 where the file does not tell; `machine` and `commit` are as the file has them."""

    version: str
    started_at_ns: int
    machine: Mapping[str, Any]
    commit: Mapping[str, Any]
    benchmarks: tuple[Benchmark, ...]


def is_one(path: Path) -> bool:
    """Does the file begin as pytest-benchmark's do?"""
    try:
        with path.open("rb") as file:
            return bool(_BEGIN.match(file.read(4096)))
    except OSError:
        return False


def read(path: Path) -> BenchmarkFile:
    """Raises ForeignFileError, also for samples that are no times: not finite, not above 0, absurd."""
    value = json_of(path, TOOL)
    entries = value.get("benchmarks") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(entries, list):
        raise ForeignFileError(f"{path} has no list of benchmarks: is it a file of {TOOL}?")
    if not entries:
        raise ForeignFileError(
            f"{path} holds no benchmark: run pytest with benchmarks that are not deselected"
        )
    found = tuple(_benchmark(entry, f"{path}: benchmarks[{i}]") for i, entry in enumerate(entries))
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ForeignFileError(f"{path}: benchmark '{twice}' is there twice")
    return BenchmarkFile(
        version=str(value.get("version") or ""),
        started_at_ns=_moment(value.get("datetime")),
        machine=_table(value, "machine_info"),
        commit=_table(value, "commit_info"),
        benchmarks=found,
    )


def _benchmark(entry: object, what: str) -> Benchmark:
    if not isinstance(entry, dict) or not isinstance(entry.get("stats"), dict):
        raise ForeignFileError(f"{what} has no stats: is it a file of {TOOL}?")
    name = entry.get("fullname") or entry.get("name")
    if not isinstance(name, str) or not name or len(name) > 1000:
        raise ForeignFileError(f"{what} has no name")
    stats = entry["stats"]
    data, iterations = stats.get("data"), stats.get("iterations", 1)
    if not isinstance(data, list) or not data:
        raise ForeignFileError(
            f"{what} ({name}) holds no samples: save them with --benchmark-json or --benchmark-save-data"
        )
    if type(iterations) is not int or not 1 <= iterations <= 10**12:
        raise ForeignFileError(f"{what}.stats.iterations = {str(iterations)[:40]} is no number of calls")
    values = [elapsed_ns(s, f"{what}.stats.data[{i}]", times=iterations) for i, s in enumerate(data)]
    samples = np.array(values, dtype=np.int64)
    samples.flags.writeable = False
    group = entry.get("group")
    return Benchmark(
        name, group if isinstance(group, str) else "", iterations, samples, _table(entry, "options")
    )


def _moment(text: object) -> int:
    """Nanoseconds since 1970; pytest-benchmark writes UTC, in older versions without saying so."""
    if not isinstance(text, str):
        return 0
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return max(0, round(at.timestamp() * 1e9))


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
