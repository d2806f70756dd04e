"""Tails, spread and outliers of samples. SciPy is imported on first use, only `scipy.special`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.rounds import Floats
from reports.student import two_sided_quantile

MIN_SAMPLES_P90 = 64  # the sample counts that MLPerf's early stopping asks for, see docs/measurement.md
MIN_SAMPLES_P99 = 662
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Quantile:
    """An order statistic of the pooled samples and its 95 % interval, also order statistics (ns)."""

    level: float
    value_ns: float
    low_ns: float
    high_ns: float


def order_statistic(per_round: Sequence[Floats], level: float) -> Quantile:
    """Nearest-rank quantile of the pooled samples; `per_round` in nanoseconds, in any order.

    Its interval is that of independent samples, or that which the rounds' disagreement gives, whichever
    reaches further: samples of one process are alike, so their number alone promises too much.
    """
    ordered = np.sort(np.concatenate(per_round))
    last = ordered.size - 1
    rank = math.ceil(level * ordered.size) - 1
    below, above = binomial_ranks(ordered.size, level)
    spread = _share_half_width(per_round, float(ordered[rank]))
    low = min(below, math.floor((level - spread) * ordered.size) - 1)
    high = max(above, math.ceil((level + spread) * ordered.size) - 1)
    ends = float(ordered[max(low, 0)]), float(ordered[min(high, last)])
    return Quantile(level, float(ordered[rank]), *ends)


@functools.lru_cache(maxsize=1024)
def binomial_ranks(count: int, level: float) -> tuple[int, int]:
    """Places, from 0, of the tightest samples with 2.5 % at most beyond each, for independent ones."""
    from scipy.special import bdtr

    below = np.asarray(bdtr(np.arange(count), count, level))  # P(at most k samples are below the quantile)
    tail = (1.0 - _CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1.0 - tail, side="left"))
    return max(low - 1, 0), min(high, count - 1)


def _share_half_width(per_round: Sequence[Floats], value: float) -> float:
    """Half width of the 95 % interval of the share of samples up to `value`, from its spread over rounds.

    With it the quantile's interval is Woodruff's (1952, doi:10.1080/01621459.1952.10483443) for a sample of
    clusters. 0 with one round.
    """
    if len(per_round) < 2:
        return 0.0
    sizes = np.array([values.size for values in per_round], dtype=np.float64)
    weights = sizes / sizes.sum()
    shares = np.array([np.count_nonzero(values <= value) / values.size for values in per_round])
    squares = (weights * (shares - weights @ shares)) ** 2
    count = len(per_round)
    error = math.sqrt(count / (count - 1) * float(squares.sum()))
    return two_sided_quantile(_CONFIDENCE, count - 1) * error


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The first, second and third quartile of one set of samples."""

    first: float
    median: float
    third: float

    @property
    def range(self) -> float:
        return self.third - self.first


def quartiles(values: Floats) -> Quartiles:
    return Quartiles(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


def outliers(per_round: Sequence[Floats], found: Sequence[Quartiles]) -> tuple[int, int]:
    """How many samples lie 1.5 to 3, and over 3, interquartile ranges outside their round's quartiles."""
    mild = severe = 0
    for values, quarters in zip(per_round, found, strict=True):
        first, third = quarters.first, quarters.third
        outside = np.maximum(first - values, values - third)
        far = outside > 3.0 * (third - first)
        severe += int(np.count_nonzero(far))
        mild += int(np.count_nonzero((outside > 1.5 * (third - first)) & ~far))
    return mild, severe
