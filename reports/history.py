"""A case over time: the median of every run with its interval, and where the level changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.spec import Case
from reports.change_points import Change, find_changes
from reports.codec import plain
from reports.compared import revision_text
from reports.intervals import median_interval
from reports.pairing import case_name
from reports.records import RunInfo
from reports.run_order import taken_order
from reports.store_history import RunMedians
from runners.measurement import Protocol

SCHEMA = 1


@dataclass(frozen=True)
class Point:
    """One run: its median across rounds (ns) with the 95 % interval, as in its report; None with one round.

    The interval holds what varies within the run, not what varies between runs.
    """

    run_id: int
    suite: str
    started_at_ns: int
    revision: str
    median_ns: float
    low_ns: float | None
    high_ns: float | None
    rounds: int


@dataclass(frozen=True)
class Series:
    """One case under one protocol on one machine and GPU, oldest run first; `changes` index `points`."""

    case: Case
    protocol: Protocol
    machine: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]

    @property
    def label(self) -> str:
        return case_name(self.case)


def series_of(case: Case, runs: Iterable[RunMedians]) -> list[Series]:
    """The case's series, the one with the newest run last.

    Protocols and machines are kept apart, and the GPUs of a case that runs on one.
    """
    known = list(runs)
    places = {run_id: place for place, run_id in enumerate(taken_order(run.info for run in known))}
    groups: dict[tuple[str, str, str], list[RunMedians]] = {}
    for run in sorted(known, key=lambda one: places[one.info.run_id]):
        key = (run.protocol.id, _machine(run.info), _gpu(case, run))
        group = groups.pop(key, [])  # behind the others, since its newest run is newer
        group.append(run)
        groups[key] = group
    return [_series(case, group) for group in groups.values()]


def document(series: Sequence[Series]) -> dict[str, Any]:
    """All series as one plain JSON value, schema-numbered."""
    value = {
        "schema": SCHEMA,
        "series": [
            {
                "case_id": one.case.id,
                "label": one.label,
                "protocol_id": one.protocol.id,
                "runtime": one.protocol.runtime,
                "machine": one.machine,
                "points": [dataclasses.asdict(point) for point in one.points],
                "changes": [
                    {**dataclasses.asdict(change), "run_id": one.points[change.place].run_id}
                    for change in one.changes
                ],
            }
            for one in series
        ],
    }
    found = plain(value)
    assert isinstance(found, dict)
    return found


def _series(case: Case, runs: Sequence[RunMedians]) -> Series:
    points = tuple(_point(run) for run in runs)
    changes = find_changes(np.log([point.median_ns for point in points]))
    newest = runs[-1]
    machine = ", ".join(filter(None, [_processor(newest.info), _gpu(case, newest)]))
    return Series(case, newest.protocol, machine, points, tuple(changes))


def _point(run: RunMedians) -> Point:
    median, low, high = median_interval(np.log(run.medians_ns))
    info = run.info
    revision = revision_text(info).removeprefix("revision ")
    rounds = len(run.medians_ns)
    return Point(info.run_id, info.suite, info.started_at_ns, revision, median, low, high, rounds)


def _machine(info: RunInfo) -> str:
    """What tells machines apart; another tool's results may name their processor alone."""
    return str(info.environment.get("fingerprint", "")) or _processor(info)


def _processor(info: RunInfo) -> str:
    cpu = info.environment.get("cpu")
    return str(cpu.get("model", "")) if isinstance(cpu, Mapping) else ""


def _gpu(case: Case, run: RunMedians) -> str:
    """The GPU that the case ran on: the one that its runtime names, else all that the machine has.

    Empty for a case that ran on none. Which of several a process saw first is up to CUDA's own order and to
    CUDA_VISIBLE_DEVICES, so the device's index does not tell.
    """
    if case.device.partition(":")[0] != "cuda":
        return ""
    gpus = run.info.environment.get("gpus")
    found = [gpu.get("name") for gpu in gpus if isinstance(gpu, Mapping)] if isinstance(gpus, list) else []
    names = sorted({str(name) for name in found if name})
    told = f"{run.protocol.runtime} {run.protocol.device}"
    # One name may be the beginning of another, as L40 is of L40S.
    return max((name for name in names if name in told), key=len, default=", ".join(names))
