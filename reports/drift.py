"""Does the latency move while it is measured? Across rounds (the machine) and inside them (the process)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIGNIFICANCE = 0.05
WITHIN_SIGNIFICANCE = 0.02
STEP_SIGNIFICANCE = 0.01
MIN_CHANGE = 0.02
MIN_CHANGE_WITHIN = 0.005  # every process does it, so it is found sooner and shifts all medians alike
FENCE, NORMAL_MAD = 2.5, 0.6745  # the latter is the MAD of a normal distribution of deviation 1
_MIN_ROUNDS = 5
_MIN_SAMPLES = 9


@dataclass(frozen=True, slots=True)
class Drift:
    """Relative change of the latency from first to last round, and from first to last third of a round.

    A change that chance explains (5 % level for a trend, 1 % for a step, 2 % within rounds) is reported as 0,
    and so is one of less than 2 % across rounds, or of less than 0.5 % within them.
    """

    across_rounds: float = 0.0
    within_rounds: float = 0.0

    @property
    def found(self) -> bool:
        return self.across_rounds != 0.0 or self.within_rounds != 0.0


def estimate_drift(per_round: Sequence[Floats], places: Sequence[tuple[int, int]]) -> Drift:
    """Judge both drifts of one measurement; `per_round` are samples in order, in any unit of time.

    `places` are each round's index and attempt, which tell the order: the wall clock may have been set.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    medians = np.array([np.median(per_round[i]) for i in order])
    logs = np.log(medians)
    return Drift(_trend(logs) or _step(logs), _within(per_round))


def _trend(logs: Floats) -> float:
    """Mann-Kendall's test for a trend, and the Theil-Sen slope over the whole span."""
    count = logs.size
    if count < _MIN_ROUNDS:
        return 0.0
    left, right = np.triu_indices(count, k=1)
    steps = logs[right] - logs[left]
    change = math.expm1(float(np.median(steps / (right - left))) * (count - 1))
    inversions = int(np.count_nonzero(steps < 0))
    return change if _trend_p(inversions, count) <= SIGNIFICANCE and abs(change) >= MIN_CHANGE else 0.0


def _step(logs: Floats) -> float:
    """The change at the split of the rounds that a pooled t test tells apart best, of all splits with two
    rounds or more on either side; their number is allowed for (Bonferroni)."""
    from scipy.special import stdtr

    count = logs.size
    if count < _MIN_ROUNDS:
        return 0.0
    best, change = 1.0, 0.0
    for split in range(2, count - 1):
        before, after = logs[:split], logs[split:]
        step = float(after.mean() - before.mean())
        pooled = (split * before.var() + after.size * after.var()) / (count - 2)
        error = math.sqrt(pooled * (1 / split + 1 / after.size))
        p = 2.0 * float(stdtr(count - 2, -abs(step) / error)) if error else float(step == 0)
        if p < best:
            best, change = p, math.expm1(step)
    return change if best * (count - 3) <= STEP_SIGNIFICANCE and abs(change) >= MIN_CHANGE else 0.0


def _within(per_round: Sequence[Floats]) -> float:
    """Mean slope of the rounds' logarithms, as the change over two thirds of a round, with a t interval."""
    from scipy.special import stdtrit

    logs = np.array([_slope(np.log(v)) * v.size * 2 / 3 for v in per_round if v.size >= _MIN_SAMPLES])
    if logs.size < 2:
        return 0.0
    mean = float(logs.mean())
    half = (
        float(stdtrit(logs.size - 1, 1 - WITHIN_SIGNIFICANCE / 2))
        * float(logs.std(ddof=1))
        / math.sqrt(logs.size)
    )
    change = math.expm1(mean)
    return change if abs(mean) > half and abs(change) >= MIN_CHANGE_WITHIN else 0.0


def _slope(logs: Floats) -> float:
    """Of the least-squares line over the samples' numbers; outliers are drawn in to FENCE deviations."""
    centre = float(np.median(logs))
    reach = FENCE * float(np.median(np.abs(logs - centre))) / NORMAL_MAD
    if reach:
        logs = np.clip(logs, centre - reach, centre + reach)
    places = np.arange(logs.size) - (logs.size - 1) / 2
    return float(places @ logs) / float(places @ places)


def _trend_p(inversions: int, count: int) -> float:
    """Exact two-sided p of so few (or so many) inversions in a random order of `count` values."""
    ways = np.ones(1)
    for size in range(2, count + 1):
        ways = np.convolve(ways, np.ones(size))
    extreme = min(inversions, ways.size - 1 - inversions)
    return min(1.0, 2.0 * float(ways[: extreme + 1].sum() / ways.sum()))
