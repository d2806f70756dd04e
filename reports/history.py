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
    """One case under one protocol on one machine, by time; `changes` index `points`."""

    case: Case
    protocol: Protocol
    machine: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]

    @property
    def label(self) -> str:
        return case_name(self.case)


def series_of(case: Case, runs: Iterable[RunMedians]) -> list[Series]:
    """The case's series: protocols and machines are kept apart. The one with the newest run comes last."""
    groups: dict[tuple[str, str], list[RunMedians]] = {}
    for run in sorted(runs, key=lambda r: (r.info.started_at_ns, r.info.run_id)):
        groups.setdefault((run.protocol.id, _machine(run.info)[0]), []).append(run)
    found = [_series(case, group) for group in groups.values()]
    return sorted(found, key=lambda one: (one.points[-1].started_at_ns, one.points[-1].run_id))


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
    return Series(case, runs[-1].protocol, _machine(runs[-1].info)[1], points, tuple(changes))


def _point(run: RunMedians) -> Point:
    median, low, high = median_interval(np.log(run.medians_ns))
    info = run.info
    revision = revision_text(info).removeprefix("revision ")
    rounds = len(run.medians_ns)
    return Point(info.run_id, info.suite, info.started_at_ns, revision, median, low, high, rounds)


def _machine(info: RunInfo) -> tuple[str, str]:
    """What tells machines apart, and what to call this one."""
    cpu = info.environment.get("cpu")
    model = str(cpu.get("model", "")) if isinstance(cpu, Mapping) else ""
    gpus = info.environment.get("gpus")
    names = (
        [str(gpu.get("name", "")) for gpu in gpus if isinstance(gpu, Mapping)]
        if isinstance(gpus, list)
        else []
    )
    return str(info.environment.get("fingerprint", "")) or ", ".join(names), ", ".join(
        filter(None, [model, *names])
    )
