"""What onnxruntime_perf_test measured, from its result file, or from what `-v` prints for every iteration.

Read from the tool's published sources (onnxruntime/test/perftest/performance_runner.cc): a line per
inference,

    model name, seconds, peak working set in bytes, average CPU usage in percent, number of the inference

and after a blank line, with `-s`, the statistics that it computed. The tool appends to its result file,
so one file may hold several processes: each begins with number 0, and each is a round. Its one warm-up
inference is not in the file. Times have six significant digits. Without a result file it prints averages
alone, which are no samples; with `-v` it also prints `iteration:N,time_cost:SECONDS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reports.foreign import ForeignFileError, elapsed_ns, text_of
from runners.measurement import Samples

TOOL = "onnxruntime_perf_test"
_PRINTED = re.compile(r"iteration:(\d+),time_cost:(\S+)")
_STATISTICS = re.compile(r"\s*(Min|Max|P\d+) Latency|Shape group \d+|\s*$")


@dataclass(frozen=True)
class Process:
    """One process of the tool: its inferences in order, and the most memory that it held."""

    model: str
    samples_ns: Samples
    peak_rss_bytes: int


def read(path: Path) -> tuple[Process, ...]:
    """Every process of a file. Raises ForeignFileError, also for samples that are no times."""
    lines = text_of(path).splitlines()
    found = _printed(path, lines) or _results(path, lines)
    if not found:
        raise ForeignFileError(
            f"{path} holds no inference: give the tool's result file (its last argument), or what it prints"
            " with -v; averages and percentiles are no samples"
        )
    models = sorted({process.model for process in found})
    if len(models) > 1:
        raise ForeignFileError(f"{path} holds several models ({', '.join(models[:4])}): one file for each")
    return tuple(found)


def _printed(path: Path, lines: list[str]) -> list[Process]:
    """From the output of `-v`: iterations count from 1."""
    rows = [
        (int(match[1]) - 1, match[2], f"{path}: line {number}")
        for number, line in enumerate(lines, start=1)
        if (match := _PRINTED.fullmatch(line.strip()))
    ]
    return [Process("", _samples(rows), 0)] if rows else []


def _results(path: Path, lines: list[str]) -> list[Process]:
    processes: list[tuple[str, int, list[tuple[int, str, str]]]] = []
    for number, line in enumerate(lines, start=1):
        what = f"{path}: line {number}"
        parts = line.rsplit(",", 4)
        if len(parts) != 5:
            if not _STATISTICS.match(line):
                raise ForeignFileError(f"{what} is no line of {TOOL}: {line[:60]!r}")
            continue
        model, seconds, peak, _, place = parts
        if not (peak.isdigit() and place.isdigit()):
            raise ForeignFileError(f"{what} is no line of {TOOL}: {line[:60]!r}")
        if int(place) == 0:
            processes.append((model, int(peak[:18]), []))
        if not processes:
            raise ForeignFileError(
                f"{what}: inference {place} comes first: the beginning of the file is missing"
            )
        processes[-1][2].append((int(place), seconds, what))
    return [Process(model, _samples(rows), peak) for model, peak, rows in processes]


def _samples(rows: list[tuple[int, str, str]]) -> Samples:
    """In order of the inferences, none of which may be missing."""
    values = []
    for expected, (place, seconds, what) in enumerate(rows):
        if place != expected:
            raise ForeignFileError(f"{what}: inference {place} follows {expected - 1}: a line is missing")
        try:
            number: object = float(seconds)
        except ValueError:
            number = seconds
        values.append(elapsed_ns(number, f"{what}: time"))
    samples = np.array(values, dtype=np.int64)
    samples.flags.writeable = False
    return samples
