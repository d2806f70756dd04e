"""How often a gate is wrong: its pairs end by looking precise, its verdict is taken from the same rounds."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np

from reports.intervals import half_width
from reports.regression import State, judge
from reports.verdicts import judge_pairs
from runners.measurement import Timing
from tests.validation import instrument
from tests.validation.document import Cell, Section

BOUND = 0.01
SPREADS = (0.002, 0.005, 0.008, 0.01, 0.012, 0.015, 0.02, 0.03)  # of the logarithm of a pair's ratio
WRONG = 0.025


def section(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    """Cases that stand exactly at the bound, where a gate is wrong most often, and on both sides of it."""
    begun = time.monotonic()
    default = instrument.default_timing()
    policy = replace(default, target=BOUND / 2)
    rows = [
        _row(spread, ratio, policy, repetitions, processes)
        for spread in SPREADS
        for ratio in (1.0, 1.0 + BOUND, 1.0 + 2 * BOUND)
    ]
    return Section(
        "gate",
        "Gates",
        "A case whose pairs of rounds have a known ratio, under"
        f" `gate --max-regression {100 * BOUND:g}%` and the default rounds ({policy.min_rounds} to"
        f" {policy.max_rounds}), which end when the interval of the ratio is within half the bound. At the"
        f" bound itself, REGRESSED and PASSED are each wrong: at most {100 * WRONG:g} % and what chance adds"
        " to such a count (2.6 standard deviations).",
        ("spread of pairs, %", "true ratio", "gates", "regressed", "%", "passed", "%", "undecided",
         "pairs, mean", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )  # fmt: skip


def gated(spread: float, ratio: float, policy: Timing, seed: int) -> tuple[State, int]:
    """The state that a gate gives, and after how many pairs."""
    draws = np.random.default_rng(seed).normal(math.log(ratio), spread, policy.max_rounds)
    found = judge_pairs(draws)
    for count in range(policy.min_rounds, policy.max_rounds + 1):
        found = judge_pairs(draws[:count])
        if half_width(found.ratio.value, found.ratio.high) <= policy.target:
            break
    return judge({"case": found}, BOUND)["case"].state, found.ratio.pairs


def _row(
    spread: float, ratio: float, policy: Timing, repetitions: int, processes: int | None
) -> tuple[Cell, ...]:
    seeds = range(repetitions)
    found = instrument.over_all(partial(gated, spread, ratio, policy), seeds, processes=processes)
    states = Counter(state for state, _ in found)
    regressed, passed = states[State.REGRESSED], states[State.PASSED]
    allowed = WRONG * repetitions + 2.6 * math.sqrt(WRONG * (1 - WRONG) * repetitions)
    is_at_bound = ratio == 1.0 + BOUND
    return (
        100 * spread,
        ratio,
        repetitions,
        regressed,
        100 * regressed / repetitions,
        passed,
        100 * passed / repetitions,
        states[State.UNDECIDED],
        sum(pairs for _, pairs in found) / repetitions,
        max(regressed, passed) <= allowed if is_at_bound else None,
    )
