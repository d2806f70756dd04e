"""Does the 95 % interval of a median hold the truth as often as it says, and what if the latency moves?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reports.statistics import Summary, summarize
from runners.measurement import Timing
from tests.validation import instrument
from tests.validation.document import Cell, Section
from tests.validation.worlds import STATIONARY, Ramp, Step, World, world

LEAST, MOST = 0.935, 0.97
LEAST_MOVING = 0.90

# What starts when a process does, and what the machine does from process to process.
MOVING = (
    world("drift of 10 % per second inside every process", drift_per_second=0.10),
    world("drift of 5 % per second inside every process", drift_per_second=0.05),
    world("drift of 2 % per second inside every process", drift_per_second=0.02),
    world("step of 10 % inside every process", step_after=56, step_ratio=1.10),
    world("step of 5 % inside every process", step_after=56, step_ratio=1.05),
    world("drift of 2 % per process", machine=Ramp(0.02)),
    world("drift of 1 % per process", machine=Ramp(0.01)),
    world("step of 10 % after 3 processes", machine=Step(3, 1.10)),
    world("step of 5 % after 3 processes", machine=Step(3, 1.05)),
)

COLUMNS = ("noise", "measured", "covered", "covered, %", "flagged", "covered or flagged, %", "converged",
           "rounds, mean", "bar, %", "met")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    covered: bool
    flagged: bool
    converged: bool
    rounds: int


def judge(world: World, policy: Timing, seed: int) -> Outcome:
    """One measurement of a world against its truth."""
    seeded = world.seeded(seed)
    summary = summarize(instrument.alone(seeded, policy), target=policy.target)
    assert summary.low_ns is not None
    assert summary.high_ns is not None
    covered = summary.low_ns <= seeded.truth_ns <= summary.high_ns
    return Outcome(covered, _flagged(summary), summary.converged, summary.rounds)


def stationary(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    begun = time.monotonic()
    policy = instrument.default_timing()
    rows = [_row(w, policy, repetitions, processes, moves=False) for w in STATIONARY]
    return Section(
        "coverage",
        "Coverage of the 95 % interval",
        "Each case is measured alone with the default budgets, until the stopping rule ends it. `covered`"
        " counts the intervals that hold the known median. Inside a process the noise is lognormal of 2 %,"
        " and between processes of 0.97 %, unless the row says another.",
        COLUMNS,
        tuple(rows),
        command,
        time.monotonic() - begun,
    )


def moving(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    begun = time.monotonic()
    policy = instrument.default_timing()
    rows = [_row(w, policy, repetitions, processes, moves=True) for w in MOVING]
    return Section(
        "disturbed",
        "A latency that drifts or steps",
        "The same with a latency that moves while it is measured; the truth is the median before it moved."
        " `flagged` counts results that carry `drift` or `not_converged`.",
        COLUMNS,
        tuple(rows),
        command,
        time.monotonic() - begun,
    )


def _flagged(summary: Summary) -> bool:
    return summary.drift.found or not summary.converged


def _row(
    world: World, policy: Timing, repetitions: int, processes: int | None, *, moves: bool
) -> tuple[Cell, ...]:
    found = instrument.over_all(partial(judge, world, policy), range(repetitions), processes=processes)
    covered, either = _share(found, "covered"), sum(o.covered or o.flagged for o in found) / len(found)
    bar: str | None = f"{100 * LEAST:g} to {100 * MOST:g}"
    met: bool | None = LEAST <= covered <= MOST
    if moves:
        bar, met = f"at least {100 * LEAST_MOVING:g}", either >= LEAST_MOVING
    return (
        world.name,
        len(found),
        sum(o.covered for o in found),
        100 * covered,
        sum(o.flagged for o in found),
        100 * either,
        sum(o.converged for o in found),
        sum(o.rounds for o in found) / len(found),
        bar,
        met,
    )


def _share(found: Sequence[Outcome], name: str) -> float:
    return sum(getattr(o, name) for o in found) / len(found)
