"""The search for a setting of equal latency: on families of known truth with noise, and on real processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.latency_beside import BesideReference, NoRatioError
from commands.latency_match import FEW_ROUNDS, MAX_ROUNDS, match
from reports.verdicts import Verdict
from runners.measurement import Timing
from runners.overhead import null_job

DEPTHS = range(1, 33)
SPREAD = 0.012  # of one pair of rounds in turns on a shared machine: docs/decisions/0005-turns.md
MS = 1_000_000


class Family:
    """A made-up family: `times` by setting, over a reference of time 1, each pair of rounds with noise."""

    def __init__(self, times, *, seed: int = 0, spread: float = SPREAD) -> None:
        self.times, self.spread = dict(times), spread
        self.random = np.random.default_rng(seed)
        self.logs: dict[int, list[float]] = {}

    def __call__(self, setting: int, rounds: int) -> list[float]:
        known = self.logs.setdefault(setting, [])
        wanted = rounds - len(known)
        assert wanted > 0
        known += (math.log(self.times[setting]) + self.random.normal(0, self.spread, wanted)).tolist()
        return known


def affine(fixed: float, block: float, depths=DEPTHS):
    """A stem and a head that take `fixed`, and `block` for every block."""
    return {depth: fixed + block * depth for depth in depths}


# The match; no other setting is within 3.9 %, so there is one answer.
FAMILIES = {
    "a heavy block": (affine(0.3, 0.14), 5),
    "a light block": (affine(0.25, 0.05), 15),
    "hardly a stem": (affine(0.01, 0.33), 3),
    "the smallest": (affine(0.2, 0.8), 1),
    "the largest": (affine(0.04, 0.04, range(1, 25)), 24),
    "1 % above": (affine(0.31, 0.14), 5),
    "width": ({width: (width / 160) ** 2 for width in range(32, 513, 32)}, 160),
    "leaps": ({depth: 0.5 if depth < 20 else 1.0 + 0.2 * (depth - 20) for depth in DEPTHS}, 20),
}
UNMATCHED = {
    "between": (affine(0.2, 0.3), {2, 3}),
    "far apart": (affine(0.1, 0.62), {1, 2}),
    "all slower": (affine(0.7, 0.5), {1}),
    "all faster": (affine(0.1, 0.02), {32}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_match_is_found_in_95_of_100_searches(name):
    times, truth = FAMILIES[name]
    found = [match(list(times), Family(times, seed=seed)) for seed in range(100)]
    assert sum(each.matched and each.nearest.setting == truth for each in found) >= 95
    assert all(len(each.tried) <= 5 for each in found)
    assert np.mean([each.pairs for each in found]) <= 20  # five settings' first rounds


def test_of_several_within_the_tolerance_one_is_taken():
    times = {width: width / 60 for width in range(1, 101)}
    found = [match(list(times), Family(times, seed=seed)) for seed in range(100)]
    right = [each for each in found if each.matched and abs(math.log(times[each.nearest.setting])) < 0.0296]
    assert len(right) >= 95
    assert np.mean([each.pairs for each in found]) <= 24


@pytest.mark.parametrize("name", UNMATCHED)
def test_a_family_without_a_match_is_said_to_have_none(name):
    times, nearest = UNMATCHED[name]
    found = [match(list(times), Family(times, seed=seed)) for seed in range(100)]
    honest = [each for each in found if each.decided and not each.matched]
    assert len(honest) >= 95
    assert {each.nearest.setting for each in honest} <= nearest
    assert all("no depth from 1 to 32 is within 3 %" in each.finding("depth") for each in honest)
    assert all(len(each.tried) <= 5 for each in found)
    assert np.mean([each.pairs for each in found]) <= 20


def test_one_at_the_tolerance_is_undecided_or_one_of_both():
    """A single setting, whose true ratio is the tolerance itself: rounds end, and nothing else is claimed."""
    found = [match([7], Family({7: 1.03}, seed=seed)) for seed in range(100)]
    undecided = [each for each in found if not each.decided]
    assert len(undecided) >= 70
    assert all(each.pairs == MAX_ROUNDS for each in undecided)
    assert all("32 rounds do not tell" in each.finding("depth") for each in undecided)
    assert sum(each.matched for each in found) <= 20  # four looks at 5 % each


def test_twice_the_tolerance_is_never_taken_for_a_match():
    assert not any(match([7], Family({7: 1.06}, seed=seed)).matched for seed in range(200))


def test_the_interval_holds_the_truth():
    times, truth = FAMILIES["1 % above"]
    ratios = [match(DEPTHS, Family(times, seed=seed)).nearest.comparison.ratio for seed in range(200)]
    held = [ratio.low <= times[truth] <= ratio.high for ratio in ratios]
    assert sum(held) >= 180


def test_rounds_double_where_the_interval_does_not_decide():
    asked = []

    def measure(setting: int, rounds: int) -> list[float]:
        asked.append(rounds)
        return [-0.2, 0.2] * (rounds // 2)

    found = match([3], measure)
    assert asked == [4, 8, 16, 32]
    assert (found.decided, found.matched, found.pairs) == (False, False, 32)


def test_the_sentence_has_the_ratio_its_interval_and_the_judgement():
    found = match([3, 4], Family({3: 0.9, 4: 1.01}, spread=1e-3), start=4)
    assert found.finding("depth").startswith("depth 4 takes 1.01")
    assert ", 95 % CI [1.0" in found.finding("depth")
    assert found.finding("depth").endswith(": within 3 %")
    assert [each.setting for each in found.tried] == [4]


@given(
    times=st.lists(st.floats(0.01, 100), min_size=1, max_size=200, unique=True).map(sorted),
    start=st.integers(0, 199),
)
@settings(deadline=None, max_examples=200)
def test_any_rising_family_is_searched_without_noise_to_the_right_answer(times, start):
    named = dict(enumerate(times, start=1))
    family = Family(named, spread=0.0)
    found = match(list(named), family, start=1 + start % len(times))
    within = [setting for setting, time in named.items() if abs(math.log(time)) < math.log(1.03) - 1e-9]
    assert found.matched == bool(within) or not found.decided
    if found.matched:
        assert found.nearest.setting in within
    else:
        nearest = min(abs(math.log(time)) for time in times)
        assert found.nearest.distance == pytest.approx(nearest)
    assert len(found.tried) <= 4 * math.ceil(math.log2(len(times) + 1)) + 4


@pytest.mark.parametrize(
    ("values", "changes", "named"),
    [
        ([], {}, "settings"),
        ([0, 1], {}, "positive and rise"),
        ([2, 1], {}, "positive and rise"),
        ([1, 2], {"start": 3}, "start=3"),
        ([1, 2], {"few_rounds": 1}, "few_rounds=1"),
        ([1, 2], {"max_rounds": 3}, "max_rounds=3"),
    ],
)
def test_what_cannot_be_searched_is_refused(values, changes, named):
    with pytest.raises(ValueError, match=named):
        match(values, Family({1: 1.0, 2: 2.0}), **changes)


def beside(tmp_path, *, of=2, **changes) -> BesideReference:
    """Sleeps of 1 ms per step of the knob, against one of `of` steps."""
    timing = Timing(round_seconds=0.05, warmup_seconds=0.02, turn_seconds=0.02, min_samples=2)
    jobs = {knob: null_job(timing, sleep_ns=knob * MS, lock_dir=str(tmp_path)) for knob in (1, 2, 4)}
    return BesideReference(jobs[of], jobs.__getitem__, timing, **changes)


def test_real_processes_take_turns_and_go_on_from_their_rounds(tmp_path):
    measure = beside(tmp_path)
    first = measure(4, 2)
    more = measure(4, 3)
    assert more[:2] == first
    assert len(more) == 3
    assert np.exp(np.median(more)) == pytest.approx(2.0, abs=0.5)
    for rounds in measure.rounds[4].values():
        assert all("turns" in taken.environment for taken in rounds)
        assert {taken.round_index for taken in rounds} == {0, 1, 2}


def test_a_side_that_fails_is_named(tmp_path):
    measure = beside(tmp_path)
    measure.job_of = lambda _: null_job(measure.timing, sleep_ns=-1, lock_dir=str(tmp_path))
    with pytest.raises(NoRatioError, match=r"setting \(at 9\)"):
        measure(9, 2)


def test_verdicts_are_those_of_the_reports():
    found = match([1, 2], Family({1: 0.5, 2: 2.0}, spread=1e-3), start=1, few_rounds=FEW_ROUNDS)
    assert [each.comparison.verdict for each in found.tried] == [Verdict.FASTER, Verdict.SLOWER]
    assert all(each.comparison.ratio.pairs == FEW_ROUNDS for each in found.tried)
