"""Which interval and which stopping rule: coverage for normal logs, whatever their spread. Decision 0003.

The mean of normal values is independent of their spread, so the coverage of a rule that looks at the spread
alone depends on one number: the spread between processes over the target. `python -m
tests.validation.interval_choice` prints the lowest and highest coverage over that number, and what it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from reports.intervals import sequential_level

SPREADS = (0.1, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 3.0, 5.0)  # over the target
LEAST, MOST = 5, 20
REPETITIONS = 40_000


@dataclass(frozen=True, slots=True)
class Rule:
    """`level` of the t quantile by rounds; `more` rounds after the criterion; `looks` limits when."""

    name: str
    level: Callable[[int], float]
    more: int = 0
    twice: bool = False
    looks: tuple[int, ...] = ()
    widened: float = 1.0


RULES = (
    Rule("t at 95 %", lambda n: 0.95),
    Rule("t at 95 %, one round more", lambda n: 0.95, more=1),
    Rule("t at 95 %, two rounds more", lambda n: 0.95, more=2),
    Rule("t at 95 %, precise twice in a row", lambda n: 0.95, twice=True),
    Rule("t at 95 %, looks at 5, 7, 10, 14, 20", lambda n: 0.95, looks=(5, 7, 10, 14, 20)),
    Rule("t at 95 %, one round more, x 1.05", lambda n: 0.95, more=1, widened=1.05),
    Rule("t at 96 %", lambda n: 0.96),
    Rule("t at 96.5 %", lambda n: 0.965),
    Rule("the rule in use", sequential_level),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule over all spreads: share of intervals that hold the truth, and mean rounds, by spread."""

    coverage: tuple[float, ...]
    rounds: tuple[float, ...]


def judge(rule: Rule, *, repetitions: int = REPETITIONS, seed: int = 1) -> Outcome:
    """Simulates every spread with the same draws."""
    draws = np.random.default_rng(seed).standard_normal((repetitions, MOST))
    counts = np.arange(1, MOST + 1)
    means = draws.cumsum(axis=1) / counts
    squares = np.maximum((draws**2).cumsum(axis=1) - counts * means**2, 0.0)
    spread = np.sqrt(squares[:, 1:] / (counts[1:] - 1))  # from 2 rounds on
    quantiles = np.array([stdtrit(n - 1, 0.5 + rule.level(n) / 2) for n in counts[1:].tolist()])
    unit = np.full((repetitions, MOST), np.inf)
    unit[:, 1:] = rule.widened * quantiles * spread / np.sqrt(counts[1:])
    allowed = np.array([n >= LEAST and (not rule.looks or n in rule.looks) for n in counts.tolist()])
    found = [_at(rule, unit * sigma, means * sigma, allowed) for sigma in SPREADS]
    return Outcome(tuple(c for c, _ in found), tuple(n for _, n in found))


def _at(
    rule: Rule,
    half: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    means: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    allowed: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> tuple[float, float]:
    """(coverage, mean rounds) with a target of 1."""
    precise = (half <= 1.0) & allowed
    if rule.twice:
        precise[:, 1:] &= precise[:, :-1]
        precise[:, 0] = False
    first = np.where(precise.any(axis=1), precise.argmax(axis=1), MOST - 1)
    last = np.minimum(first + rule.more, MOST - 1)
    every = np.arange(len(half))
    covered = np.abs(means[every, last]) <= half[every, last]
    return float(covered.mean()), float(last.mean() + 1)


def main() -> None:
    print("rule | lowest, % | highest, % | rounds at " + ", ".join(f"{s:g}" for s in SPREADS))
    for rule in RULES:
        found = judge(rule)
        rounds = " ".join(f"{n:.1f}" for n in found.rounds)
        print(f"{rule.name} | {100 * min(found.coverage):.1f} | {100 * max(found.coverage):.1f} | {rounds}")


if __name__ == "__main__":
    main()
