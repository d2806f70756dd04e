"""Which interval and which stopping rule: coverage for rounds of a known centre. Decision 0003.

Of normal values the mean is independent of the spread, so the coverage of a rule that looks at the spread
alone depends on one number: the spread between processes over the target. Bootstrap intervals look at the
shape too, so all rules are judged on skewed values as well. `python -m tests.validation.interval_choice`
prints the lowest and highest coverage over that number, and what it costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

from reports.intervals import sequential_level

SPREADS = (0.1, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 3.0, 5.0)  # over the target
MOST = 20
REPETITIONS, BOOTSTRAP_REPETITIONS, RESAMPLES = 40_000, 2_000, 999
SKEW = 0.6  # of the lognormal's own logarithm: skewness 2.3, as of processes that are slow now and then

Floats = npt.NDArray[np.float64]
Limits = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`limits` gives the ends of the intervals of rows of rounds.

    `more` rounds are taken after the criterion; `looks` limits when it is asked.
    """

    name: str
    limits: Limits
    more: int = 0
    twice: bool = False
    looks: tuple[int, ...] = ()
    resamples: bool = False


def student(level: Callable[[int], float], *, widened: float = 1.0) -> Limits:
    """Student's t, two-sided, with the quantile of a level by the number of rounds."""

    def limits(values: Floats) -> tuple[Floats, Floats]:
        count = values.shape[1]
        quantile = float(stdtrit(count - 1, 0.5 + level(count) / 2))
        half = widened * quantile * values.std(axis=1, ddof=1) / np.sqrt(count)
        return values.mean(axis=1) - half, values.mean(axis=1) + half

    return limits


def bootstrap_t(values: Floats) -> tuple[Floats, Floats]:
    """Studentized bootstrap of the mean (Efron and Tibshirani 1993, chapter 12.5)."""
    count = values.shape[1]
    mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(count)
    drawn = _resampled(values)
    errors = drawn.std(axis=2, ddof=1) / np.sqrt(count)
    distance = drawn.mean(axis=2) - mean[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample of one value only has no spread
        pivots = np.where(errors > 0, distance / errors, np.sign(distance) * np.inf)
    low, high = np.quantile(np.nan_to_num(pivots, nan=0.0), (0.025, 0.975), axis=1, method="lower")
    return mean - high * error, mean - low * error


def bca(values: Floats) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated bootstrap of the mean (Efron and Tibshirani 1993, chapter 14.3)."""
    mean = values.mean(axis=1)
    means = np.sort(_resampled(values).mean(axis=2), axis=1)
    below = ((means < mean[:, None]).sum(axis=1) + 0.5) / (RESAMPLES + 1)
    bias = ndtri(below)
    gaps = mean[:, None] - values  # a jackknife mean is off by a value's gap over the others' number
    acceleration = (gaps**3).sum(axis=1) / (6.0 * (gaps**2).sum(axis=1) ** 1.5)
    rows = np.arange(len(values))
    ends = []
    for tail in (0.025, 0.975):
        reach = bias + ndtri(tail)
        share = ndtr(bias + reach / (1.0 - acceleration * reach))
        ends.append(means[rows, np.clip((share * RESAMPLES).astype(int), 0, RESAMPLES - 1)])
    return ends[0], ends[1]


def _resampled(values: Floats) -> Floats:
    """(repetitions, resamples, rounds), with the same choice of rounds for every repetition."""
    count = values.shape[1]
    chosen = np.random.default_rng(count).integers(0, count, (RESAMPLES, count))
    return values[:, chosen]


RULES = (
    Rule("t at 95 %", student(lambda n: 0.95)),
    Rule("t at 95 %, one round more", student(lambda n: 0.95), more=1),
    Rule("t at 95 %, two rounds more", student(lambda n: 0.95), more=2),
    Rule("t at 95 %, precise twice in a row", student(lambda n: 0.95), twice=True),
    Rule("t at 95 %, looks at 5, 7, 10, 14, 20", student(lambda n: 0.95), looks=(5, 7, 10, 14, 20)),
    Rule("t at 95 %, one round more, x 1.05", student(lambda n: 0.95, widened=1.05), more=1),
    Rule("t at 96 %", student(lambda n: 0.96)),
    Rule("t at 96.5 %", student(lambda n: 0.965)),
    Rule("bootstrap-t", bootstrap_t, resamples=True),
    Rule("BCa", bca, resamples=True),
    Rule("the rule in use", student(sequential_level)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule over all spreads: share of intervals that hold the truth, and mean rounds, by spread."""

    coverage: tuple[float, ...]
    rounds: tuple[float, ...]


def judge(
    rule: Rule, *, least: int = 5, skewed: bool = False, repetitions: int = REPETITIONS, seed: int = 1
) -> Outcome:
    """Simulates every spread with the same draws, of mean 0 and spread 1."""
    draws = np.random.default_rng(seed).standard_normal((repetitions, MOST))
    if skewed:
        centre, spread = np.exp(SKEW**2 / 2), np.sqrt(np.expm1(SKEW**2)) * np.exp(SKEW**2 / 2)
        draws = (np.exp(SKEW * draws) - centre) / spread
    low, high = np.full((2, repetitions, MOST), np.inf)
    for count in range(max(2, least), MOST + 1):
        for part in np.array_split(np.arange(repetitions), max(1, repetitions // 1000)):
            low[part, count - 1], high[part, count - 1] = rule.limits(draws[part, :count])
    counts = range(1, MOST + 1)
    allowed = np.array([n >= least and (not rule.looks or n in rule.looks) for n in counts])
    found = [_at(rule, sigma * low, sigma * high, allowed) for sigma in SPREADS]
    return Outcome(tuple(c for c, _ in found), tuple(n for _, n in found))


def _at(rule: Rule, low: Floats, high: Floats, allowed: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(coverage, mean rounds) with a target of 1."""
    with np.errstate(invalid="ignore"):  # no interval yet
        precise = ((high - low) / 2 <= 1.0) & allowed
    if rule.twice:
        precise[:, 1:] &= precise[:, :-1]
        precise[:, 0] = False
    first = np.where(precise.any(axis=1), precise.argmax(axis=1), MOST - 1)
    last = np.minimum(first + rule.more, MOST - 1)
    every = np.arange(len(low))
    covered = (low[every, last] <= 0.0) & (high[every, last] >= 0.0)
    return float(covered.mean()), float(last.mean() + 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.validation.interval_choice")
    parser.add_argument("--least", type=int, default=5, help="rounds that every case gets")
    least = parser.parse_args().least
    spreads = ", ".join(f"{spread:g}" for spread in SPREADS)
    print(f"rule | lowest and highest, % | the same, skewed rounds | rounds at {spreads}")
    for rule in RULES:
        repetitions = BOOTSTRAP_REPETITIONS if rule.resamples else REPETITIONS
        both = [judge(rule, least=least, skewed=skewed, repetitions=repetitions) for skewed in (False, True)]
        ends = [f"{100 * min(found.coverage):.1f} to {100 * max(found.coverage):.1f}" for found in both]
        rounds = " ".join(f"{n:.1f}" for n in both[0].rounds)
        print(f"{rule.name} | {ends[0]} | {ends[1]} | {rounds}", flush=True)


if __name__ == "__main__":
    main()
