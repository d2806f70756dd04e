"""A gate's judgement: against known truth, and where it must not decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.regression import State, judge
from reports.verdicts import MAX_ROUNDS_NEEDED, judge_pairs


def comparison(ratio: float, *, spread: float = 0.004, rounds: int = 10, seed: int = 0):
    """A paired comparison whose estimate is exactly `ratio`, with exactly that spread of its pairs."""
    noise = np.random.default_rng(seed).standard_normal(rounds)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return judge_pairs(math.log(ratio) + spread * noise)


@pytest.mark.parametrize(
    ("ratio", "bound", "state"),
    [
        (1.03, 0.01, State.REGRESSED),
        (1.03, 0.05, State.PASSED),
        (1.0, 0.01, State.PASSED),
        (0.9, 0.01, State.PASSED),
        (1.011, 0.01, State.UNDECIDED),  # beyond the bound, and not beyond chance
        (1.009, 0.01, State.UNDECIDED),
        (1.005, 0.0, State.REGRESSED),
        (1.0, 0.0, State.UNDECIDED),
    ],
)
def test_a_case_by_itself(ratio, bound, state):
    found = judge({"case": comparison(ratio)}, bound)["case"]
    assert found.state is state
    assert (found.rounds_needed is not None) == (state is State.UNDECIDED)


def test_the_interval_decides_as_the_numbers_say():
    """Alone, a case regresses exactly where the lower end of its 95 % interval is above the bound."""
    for ratio in np.linspace(1.005, 1.02, 61):
        found = comparison(float(ratio))
        state = judge({0: found}, 0.01)[0].state
        assert (state is State.REGRESSED) == (found.ratio.low > 1.01)
        assert (state is State.PASSED) == (found.ratio.high < 1.01)


def test_among_many_cases_one_has_to_be_clearer():
    alone = comparison(1.0133)
    assert judge({0: alone}, 0.01)[0].state is State.REGRESSED
    family = {place: comparison(1.0, seed=place) for place in range(1, 20)}
    assert judge({0: alone, **family}, 0.01)[0].state is State.UNDECIDED
    assert judge({0: comparison(1.03), **family}, 0.01)[0].state is State.REGRESSED


def test_false_alarms_of_a_whole_suite_are_rare():
    """8 cases exactly at the bound, 120 times: any alarm at all in 2.5 % of the suites, give or take."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(120):
        cases = {i: judge_pairs(math.log1p(0.01) + random.normal(0, 0.01, 8)) for i in range(8)}
        alarms += any(found.state is State.REGRESSED for found in judge(cases, 0.01).values())
    assert alarms <= 10  # 3 are expected; more than 10 have a chance below 1 in 3,000


def test_the_rounds_that_are_told_settle_it_mostly():
    found = judge({0: comparison(1.006, spread=0.02, rounds=8)}, 0.01)[0]
    assert found.rounds_needed is not None
    random = np.random.default_rng(2)
    settled = [
        judge({0: judge_pairs(math.log(1.006) + random.normal(0, 0.02, found.rounds_needed))}, 0.01)[0].state
        for _ in range(200)
    ]
    assert sum(state is State.PASSED for state in settled) >= 140  # told for a chance of 80 %


def test_one_round_decides_nothing_and_a_hopeless_case_says_so():
    assert judge({0: judge_pairs(np.array([0.5]))}, 0.01)[0].state is State.UNDECIDED
    hopeless = judge({0: comparison(1.0100001, spread=0.3)}, 0.01)[0]
    assert hopeless.rounds_needed == MAX_ROUNDS_NEEDED
    assert judge({}, 0.01) == {}
    with pytest.raises(ValueError, match="0 or more"):
        judge({}, -0.01)


def test_pairs_without_any_spread():
    same = judge_pairs(np.zeros(5))
    assert judge({0: same}, 0.01)[0].state is State.PASSED
    assert judge({0: judge_pairs(np.full(5, 0.02))}, 0.01)[0].state is State.REGRESSED
