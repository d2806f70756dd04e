"""Tails, spread and outliers of samples. SciPy is imported on first use, only `scipy.special`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.rounds import Floats
from reports.student import two_sided_quantile

MIN_SAMPLES = {0.90: 64, 0.99: 662}  # what MLPerf's early stopping asks for, see docs/measurement.md
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Quantile:
    """An order statistic of the pooled samples and its 95 % interval, also order statistics (ns).

    `high_ns` is None where the samples amount to too few independent ones for an upper end.
    """

    level: float
    value_ns: float
    low_ns: float
    high_ns: float | None


def order_statistic(per_round: Sequence[Floats], level: float) -> Quantile:
    """Nearest-rank quantile of the pooled samples; `per_round` in nanoseconds, in any order.

    Samples of one process are alike, so their number alone promises too much. The interval reaches as far as
    the furthest of three: that of independent samples; Woodruff's for clusters, from the spread of the
    rounds' shares (1952, doi:10.1080/01621459.1952.10483443); and that of as many independent samples as
    these amount to, after Korn and Graubard (1998, Survey Methodology 24, 193-201). Far out in a tail the
    second is too short with a dozen rounds, and the third has no upper end where even the largest of so many
    samples may lie below the quantile.
    """
    ordered = np.sort(np.concatenate(per_round))
    last = ordered.size - 1
    rank = math.ceil(level * ordered.size) - 1
    below, above = binomial_ranks(ordered.size, level)
    error = _share_error(per_round, float(ordered[rank]))
    reach = two_sided_quantile(_CONFIDENCE, max(1, len(per_round) - 1)) * error
    alike = _effective_shares(ordered.size, level, reach)
    low = min(below, math.floor((min(level - reach, alike[0])) * ordered.size) - 1)
    value, lowest = float(ordered[rank]), float(ordered[max(low, 0)])
    if alike[1] is None:
        return Quantile(level, value, lowest, None)
    high = max(above, math.ceil(max(level + reach, alike[1]) * ordered.size) - 1)
    return Quantile(level, value, lowest, float(ordered[min(high, last)]))


@functools.lru_cache(maxsize=1024)
def binomial_ranks(count: int, level: float) -> tuple[int, int]:
    """Places, from 0, of the tightest samples with 2.5 % at most beyond each, for independent ones."""
    from scipy.special import bdtr

    below = np.asarray(bdtr(np.arange(count), count, level))  # P(at most k samples are below the quantile)
    tail = (1.0 - _CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1.0 - tail, side="left"))
    return max(low - 1, 0), min(high, count - 1)


def _effective_shares(count: int, level: float, reach: float) -> tuple[float, float | None]:
    """Clopper and Pearson's ends for the share `level` of as many independent samples as `count` amount to.

    `reach` is the half width that the rounds give the share, by Student's t, so it has their few degrees of
    freedom in it; that many samples would give the normal's. There is no upper end where the largest of them
    lies below the quantile more often than 1 time in 40. Nothing to add, `level` itself, where the rounds
    disagree no more than independent samples would.
    """
    from scipy.special import betaincinv, ndtri

    tail = (1.0 - _CONFIDENCE) / 2
    independent = float(ndtri(1.0 - tail)) * math.sqrt(level * (1.0 - level) / count)
    if reach <= independent:
        return level, level
    samples = count * (independent / reach) ** 2
    below = level * samples
    low = float(betaincinv(below, samples - below + 1.0, tail))
    if level**samples > tail:
        return low, None
    return low, float(betaincinv(below + 1.0, samples - below, 1.0 - tail))


def _share_error(per_round: Sequence[Floats], value: float) -> float:
    """Standard error of the share of samples up to `value`, from its spread over rounds; 0 with one."""
    if len(per_round) < 2:
        return 0.0
    sizes = np.array([values.size for values in per_round], dtype=np.float64)
    weights = sizes / sizes.sum()
    shares = np.array([np.count_nonzero(values <= value) / values.size for values in per_round])
    squares = (weights * (shares - weights @ shares)) ** 2
    count = len(per_round)
    return math.sqrt(count / (count - 1) * float(squares.sum()))


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
