from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import verdicts
from reports.verdicts import Comparison, Ratio, Verdict, adjust, compare, judge_pairs
from runners.measurement import Measurement


@pytest.fixture
def measure(sample):
    """A Measurement whose rounds have these medians (ns)."""

    def make(*medians: float) -> Measurement:
        rounds = tuple(
            sample.make_round(1e6, index=i, samples_ns=np.full(3, round(m)), loop_count=1)
            for i, m in enumerate(medians)
        )
        return Measurement(sample.protocol(), rounds)

    return make


logs = st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=12)


@settings(max_examples=100, deadline=None)
@given(logs, st.floats(0.0, 0.1))
def test_paired_verdicts_are_those_of_the_intervals(differences, delta):
    """95 % beyond the margin, or 90 % inside it; SciPy's t test gives the p value at delta = 0."""
    values = np.array(differences)
    found = judge_pairs(values, delta=delta)
    centre, error, degrees = values.mean(), values.std(ddof=1) / math.sqrt(values.size), values.size - 1
    margin = math.log1p(delta)
    low, high = centre + np.array([-1, 1]) * scipy.stats.t.ppf(0.975, degrees) * error
    inner = scipy.stats.t.ppf(0.95, degrees) * error
    assert (math.log(found.ratio.low), math.log(found.ratio.high)) == pytest.approx((low, high), abs=1e-12)
    near = min(abs(low - margin), abs(high + margin), abs(abs(centre) + inner - margin))
    if near > 1e-9:  # at an edge the last digit decides
        assert (found.verdict is Verdict.SLOWER) == (low > margin)
        assert (found.verdict is Verdict.FASTER) == (high < -margin)
        assert (found.verdict is Verdict.EQUIVALENT) == (abs(centre) + inner < margin)
    if delta == 0 and error > 1e-12:
        assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(values, 0.0).pvalue, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(logs, st.floats(0.0, 0.05))
def test_who_comes_first_only_turns_the_verdict(differences, delta):
    one, other = (judge_pairs(sign * np.array(differences), delta=delta) for sign in (1, -1))
    turned = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    assert other.verdict is turned.get(one.verdict, one.verdict)
    assert other.p_value == pytest.approx(one.p_value)
    assert other.ratio.value == pytest.approx(1 / one.ratio.value)


def test_unpaired_runs_are_compared_by_welch_s_test(measure):
    a, b = (1000, 1013, 988, 1007, 996, 1021), (1050, 1061, 1047, 1052)
    found = compare(measure(*a), measure(*b), delta=0.0, paired=False)
    expected = scipy.stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees == pytest.approx(expected.df)
    assert (found.ratio.low, found.ratio.high) == pytest.approx(
        (math.exp(interval.low), math.exp(interval.high))
    )
    assert found.verdict is Verdict.FASTER
    assert (found.paired, found.ratio.pairs) == (False, 4)


def test_pairing_finds_what_the_machine_s_drift_hides(measure):
    drift = np.array([1.0, 1.2, 0.8, 1.1, 0.9])
    a, b = measure(*(102_000 * drift)), measure(*(100_000 * drift * [1.0, 1.001, 0.999, 1.0, 1.0]))
    assert compare(a, b, delta=0.01, paired=True).verdict is Verdict.SLOWER
    assert compare(a, b, delta=0.01, paired=False).verdict is Verdict.INCONCLUSIVE


def test_a_sure_difference_of_less_than_delta_is_equivalence(measure):
    a, b = measure(*(1_005_000 + i for i in range(5))), measure(*(1_000_000 + i for i in range(5)))
    assert compare(a, b, delta=0.01, paired=True).verdict is Verdict.EQUIVALENT
    assert compare(a, b, delta=0.0, paired=True).verdict is Verdict.SLOWER


def test_nothing_is_equivalent_at_delta_0(measure):
    same = compare(measure(*[1000] * 5), measure(*[1000] * 5), delta=0.0, paired=True)
    assert same.verdict is Verdict.INCONCLUSIVE
    assert compare(measure(*[1000] * 5), measure(*[1000] * 5), paired=True).verdict is Verdict.EQUIVALENT


def test_one_pair_has_a_ratio_and_no_verdict(measure):
    for paired in (True, False):
        found = compare(measure(2000), measure(1000), paired=paired)
        assert found == Comparison(Ratio(2.0, None, None, 1), 0.01, Verdict.INCONCLUSIVE, None, paired, None)


def test_without_a_common_round_there_is_no_paired_comparison(measure):
    a, b = measure(1000, 1010), measure(1000)
    later = Measurement(b.protocol, (dataclasses.replace(b.rounds[0], round_index=7),))
    assert compare(a, later, paired=True) is None
    assert compare(a, later, paired=False) is not None


def test_protocols_differ_and_delta_is_not_negative(sample, measure):
    a = measure(1000, 1001)
    other = Measurement(sample.protocol(threads=2), a.rounds)
    with pytest.raises(verdicts.ProtocolMismatchError, match=r"threads \(1 and 2\)"):
        compare(a, other, paired=False)
    assert compare(a, other, paired=False, force=True).ratio.value == 1.0
    with pytest.raises(ValueError, match="0 or more"):
        compare(a, a, delta=-0.1, paired=True)


def test_rounds_needed_are_about_what_settles_it():
    """The promise of 80 % holds where the estimates are the truth."""
    random = np.random.default_rng(4)
    base = random.normal(0, 1, 6)
    base = (base - base.mean()) / base.std(ddof=1)
    for centre, spread, delta, wanted in (
        (0.006, 0.012, 0.0, Verdict.SLOWER),
        (0.0, 0.025, 0.01, Verdict.EQUIVALENT),
    ):
        found = judge_pairs(centre + spread * base, delta=delta)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert 6 < found.rounds_needed < 60
        settled = [
            judge_pairs(random.normal(centre, spread, found.rounds_needed), delta=delta).verdict is wanted
            for _ in range(300)
        ]
        assert 0.65 <= np.mean(settled) <= 0.95


def test_rounds_needed_are_bounded_and_only_for_what_is_open():
    noise = np.array([-0.02, 0.02, -0.02, 0.02])
    assert judge_pairs(noise, delta=0.0).rounds_needed == verdicts.MAX_ROUNDS_NEEDED
    assert judge_pairs(noise + 0.5, delta=0.0).rounds_needed is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_is_the_step_down_of_its_definition(p_values):
    adjusted = verdicts.holm(np.array(p_values))
    ordered = sorted(p_values)
    for alpha in (0.01, 0.05, 0.2):
        kept = 0
        while kept < len(ordered) and ordered[kept] * (len(ordered) - kept) <= alpha:
            kept += 1
        assert np.count_nonzero(adjusted <= alpha) == sum(p <= ordered[kept - 1] for p in p_values) * bool(
            kept
        )


def test_a_family_keeps_only_what_its_p_values_carry():
    random = np.random.default_rng(8)
    equal = {str(i): judge_pairs(random.normal(0, 0.01, 5), delta=0.0) for i in range(40)}
    sure = {"sure": judge_pairs(random.normal(0.2, 0.01, 8), delta=0.0)}
    bare = {"bare": judge_pairs(np.array([0.1]), delta=0.0)}
    assert sum(c.differs for c in equal.values()) > 0
    found = adjust({**equal, **sure, **bare})
    assert [key for key, c in found.items() if c.differs] == ["sure"]
    assert found["bare"] == bare["bare"]
    fallen = next(key for key, c in equal.items() if c.differs)
    assert found[fallen].verdict is Verdict.INCONCLUSIVE
    assert found[fallen].rounds_needed > 5
    assert found[fallen].ratio == equal[fallen].ratio
    assert found[fallen].p_value > 0.05 > equal[fallen].p_value


def test_a_family_of_one_is_itself_and_equivalence_stays():
    slower, same = judge_pairs(np.full(5, 0.1)), judge_pairs(np.zeros(5))
    assert adjust({"a": slower}) == {"a": slower}
    assert adjust({"a": slower, "b": same})["b"].verdict is Verdict.EQUIVALENT
    assert adjust({}) == {}
