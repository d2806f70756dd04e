"""Do the order-statistic intervals of p90 and p99 hold the true quantiles?"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

from scipy.special import ndtri

from reports.statistics import summarize
from runners.measurement import Timing
from tests.validation import instrument
from tests.validation.document import Cell, Section
from tests.validation.worlds import World, world

LEAST = 0.935
LEVELS = (0.90, 0.99)
WORLDS = (
    world("independent samples", median_ns=5e6, between_sigma=0.0),
    world("0.97 % between processes", median_ns=5e6),
    world("AR(1), correlation 0.9, and 0.97 % between processes", median_ns=5e6, correlation=0.9),
)


def section(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    begun = time.monotonic()
    policy = replace(instrument.default_timing(), min_rounds=6)  # over 662 samples
    rows = [
        row
        for noise in WORLDS
        for row in _rows(
            noise,
            instrument.over_all(partial(_covered, noise, policy), range(repetitions), processes=processes),
        )
    ]
    return Section(
        "tails",
        "Intervals of p90 and p99",
        "Lognormal noise of 2 % inside a process, at least 6 rounds of 120 samples. The truth is the quantile"
        " over all processes. An interval of order statistics may be too wide, so there is no upper bar;"
        " one that is open above has no upper end, as the samples amount to too few independent ones.",
        ("noise", "quantile", "measured", "covered", "%", "open above, %", "bar, %", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )


def _covered(noise: World, policy: Timing, seed: int) -> list[tuple[bool, bool]]:
    """For each level: does the interval hold the truth, and is it open above?"""
    summary = summarize(instrument.alone(noise.seeded(seed), policy), target=policy.target)
    held = []
    for level, found in zip(LEVELS, (summary.p90, summary.p99), strict=True):
        assert found is not None
        reaches = found.high_ns is None or _truth_ns(noise, level) <= found.high_ns
        held.append((found.low_ns <= _truth_ns(noise, level) and reaches, found.high_ns is None))
    return held


def _truth_ns(noise: World, level: float) -> float:
    s = noise.simulation
    return s.median_ns * math.exp(math.hypot(s.sigma, s.between_sigma) * float(ndtri(level)))


def _rows(noise: World, found: list[list[tuple[bool, bool]]]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for place, level in enumerate(LEVELS):
        covered, unbounded = (sum(held[place][told] for held in found) for told in (0, 1))
        share = covered / len(found)
        label = f"p{100 * level:.0f}"
        rows.append(
            (
                *(noise.name, label, len(found), covered, 100 * share, 100 * unbounded / len(found)),
                *(f"at least {100 * LEAST:g}", share >= LEAST),
            )
        )
    return rows
