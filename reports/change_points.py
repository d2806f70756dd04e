"""Where a series of run medians changes its level: binary segmentation with a permutation test.

The unit is the run: what varies between runs (the machine's state, its neighbours) is the noise that a
change is held against, and it is estimated from the runs themselves. For a stretch of n runs and every
split into k and n - k of them, the statistic is k (n - k) / n times the squared difference of the two
means of log medians; the largest over all splits is compared with that of random orders of the same runs,
so no distribution is assumed. Where it is larger than all but 1 % of them and the change at least
MIN_CHANGE, the stretch is cut there and both halves are searched in the same way (Scott and Knott 1974,
doi:10.2307/2529204; with permutations as in Matteson and James 2014, doi:10.1080/01621459.2013.849605).

A change is never seen before MIN_AFTER runs have followed it, so one odd run is none, nor in fewer than
MIN_RUNS runs. Runs that drift slowly are correlated, and then changes are found more often than 1 time in
100: MIN_CHANGE keeps the small ones out.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_RUNS = 8
MIN_AFTER = 3
MIN_CHANGE = 0.01
LEVEL = 0.01
_ORDERS = 1999


@dataclass(frozen=True, slots=True)
class Change:
    """The level is another one from run `place` on: `ratio` times that of the runs back to the last change.

    `p_value` is the share of random orders with a split as strong.
    """

    place: int
    ratio: float
    p_value: float


def find_changes(logs: Floats, *, seed: int = 0) -> list[Change]:
    """The changes of a series of logarithms of medians, one per run and in order of time."""
    random = np.random.default_rng(seed)
    cuts = sorted(_cuts(logs, 0, random))
    if not cuts:
        return []
    edges = [0, *(place for place, _ in cuts), logs.size]
    levels = [float(logs[a:b].mean()) for a, b in itertools.pairwise(edges)]
    return [
        Change(place, math.exp(after - before), p)
        for (place, p), before, after in zip(cuts, levels, levels[1:], strict=False)
    ]


def _cuts(logs: Floats, start: int, random: np.random.Generator) -> list[tuple[int, float]]:
    """(place, p value) of every cut of a stretch that begins at `start` of the whole series."""
    if logs.size < MIN_RUNS:
        return []
    place, strongest = _strongest(logs)
    change = abs(float(logs[place:].mean() - logs[:place].mean()))
    if change < math.log1p(MIN_CHANGE):
        return []
    orders = random.permuted(np.broadcast_to(logs, (_ORDERS, logs.size)), axis=1)
    as_strong = int(np.count_nonzero(_statistics(orders).max(axis=1) >= strongest * (1 - 1e-12)))
    p = (as_strong + 1) / (_ORDERS + 1)
    if p > LEVEL:
        return []
    return [
        *_cuts(logs[:place], start, random),
        (start + place, p),
        *_cuts(logs[place:], start + place, random),
    ]


def _strongest(logs: Floats) -> tuple[int, float]:
    """The split with the largest statistic: runs before it, and the statistic."""
    found = _statistics(logs[np.newaxis])[0]
    place = int(found.argmax())
    return place + MIN_AFTER, float(found[place])


def _statistics(series: Floats) -> Floats:
    """Of every split that leaves MIN_AFTER runs on either side; a row per series."""
    count = series.shape[1]
    before = np.arange(MIN_AFTER, count - MIN_AFTER + 1)
    centred = series - series.mean(axis=1, keepdims=True)
    sums = np.cumsum(centred, axis=1)[:, before - 1]
    return np.asarray(sums**2 * count / (before * (count - before)))
