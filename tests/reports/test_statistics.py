from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import statistics as stats
from reports.intervals import sequential_level
from reports.quantiles import order_statistic
from runners.measurement import Measurement


@pytest.fixture
def measure(sample):
    """A Measurement from per-round lists of nanoseconds."""

    def make(*per_round, loops: int = 1, **changes) -> Measurement:
        rounds = tuple(
            sample.make_round(
                1e6, index=i, samples_ns=np.asarray(values, np.int64), loop_count=loops, **changes
            )
            for i, values in enumerate(per_round)
        )
        return Measurement(sample.protocol(), rounds)

    return make


def test_the_headline_is_the_geometric_mean_of_round_medians_with_a_t_interval_on_logs(measure):
    medians = [1000, 1010, 985, 1030, 1002]
    summary = stats.summarize(measure(*([m - 7, m, m + 9] for m in medians)), target=0.01)
    logs = np.log(medians)
    low, high = scipy.stats.t.interval(sequential_level(5), 4, loc=logs.mean(), scale=scipy.stats.sem(logs))
    assert summary.round_medians_ns == tuple(map(float, medians))
    assert summary.median_ns == pytest.approx(math.exp(logs.mean()))
    assert (summary.low_ns, summary.high_ns) == pytest.approx((math.exp(low), math.exp(high)))
    assert summary.half_width == pytest.approx(summary.high_ns / summary.median_ns - 1)
    assert summary.between_spread == pytest.approx(logs.std(ddof=1))
    assert not summary.converged


def test_one_round_has_a_median_and_no_interval(measure):
    summary = stats.summarize(measure([10, 20, 30]), target=0.5)
    assert summary.median_ns == pytest.approx(20)
    assert (summary.low_ns, summary.high_ns, summary.between_spread) == (None, None, None)
    assert summary.half_width == math.inf
    assert not summary.converged


def test_two_rounds_have_an_interval_and_a_wide_one(measure):
    summary = stats.summarize(measure([100] * 3, [101] * 3), target=0.01)
    assert summary.low_ns < 100 < 101 < summary.high_ns
    quantile = math.tan(math.pi / 2 * sequential_level(2))  # of one degree of freedom
    assert summary.half_width == pytest.approx(math.exp(quantile * abs(math.log(1.01)) / 2) - 1, rel=1e-3)


def test_no_rounds_is_an_error(sample):
    with pytest.raises(ValueError, match="without rounds"):
        stats.summarize(Measurement(sample.protocol(), ()), target=0.01)


def test_samples_are_divided_by_their_loop_count(measure):
    looped = stats.summarize(measure([1000, 1100, 1200], [1010, 1100, 1190], loops=10), target=0.01)
    assert looped.median_ns == pytest.approx(110)
    assert looped.min_ns == 100
    assert looped.loop_counts == (10,)


def test_throughput_is_images_over_the_wall_time_of_the_loop(measure):
    measured = measure([1_000_000, 3_000_000], [2_000_000, 2_000_000], loops=4)
    summary = stats.summarize(measured, target=0.01, batch_size=8)
    assert summary.throughput_per_s == pytest.approx(8 * 4 * 4 / 8e-3)


def test_throughput_counts_the_copies_that_are_timed_beside_the_samples(measure):
    copies = {"h2d": np.array([500_000, 500_000]), "d2h": np.array([250_000, 750_000])}
    others = {"enqueue": np.array([9_000_000]), "host": np.array([9_000_000])}
    measured = measure([1_000_000, 3_000_000], loops=4, parts={**copies, **others})
    assert stats.summarize(measured, target=0.01).throughput_per_s == pytest.approx(2 * 4 / 6e-3)


def test_samples_of_another_tool_give_no_throughput(measure):
    """Four streams of 4 ms each are 1000 inferences per second, and 250 by their sum."""
    measured = measure([4_000_000] * 8, flags=("other_tool",))
    assert stats.summarize(measured, target=0.01).throughput_per_s is None


def test_throughput_of_very_long_samples_does_not_overflow(measure):
    measured = measure([10**15] * 18_447)
    assert stats.summarize(measured, target=0.01).throughput_per_s == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_tails_are_published_from_enough_samples_only(measure, count, p90, p99):
    summary = stats.summarize(measure(range(1, count + 1)), target=0.01)
    assert (summary.p90 is not None, summary.p99 is not None) == (p90, p99)


def test_means_of_several_inferences_have_no_tail(measure):
    rounds = [[1_000_000] * 500] * 2
    single, looped = (stats.summarize(measure(*rounds, loops=n), target=0.01) for n in (1, 4))
    assert (single.p90.value_ns, single.p99.value_ns) == (1_000_000, 1_000_000)
    assert (looped.p90, looped.p99) == (None, None)
    assert looped.median_ns == pytest.approx(250_000)
    assert looped.samples == 1000


def test_one_looped_round_is_enough_to_have_no_tail(measure):
    one, other = measure([1_000_000] * 700), measure([1_000_000] * 700, loops=2)
    rounds = (one.rounds[0], dataclasses.replace(other.rounds[0], round_index=1))
    assert stats.summarize(Measurement(one.protocol, rounds), target=0.01).p90 is None
    repeated = dataclasses.replace(other.rounds[0], flags=("disturbed",))
    again = dataclasses.replace(one.rounds[0], attempt=1)
    found = stats.summarize(Measurement(one.protocol, (repeated, again)), target=0.01)
    assert found.p90 is not None, "a round that does not count takes no tail away"


@pytest.mark.parametrize(("level", "count"), [(0.9, 64), (0.9, 300), (0.99, 662), (0.99, 5000)])
def test_quantile_intervals_are_the_tightest_order_statistics_of_each_tail(level, count):
    found = order_statistic([np.arange(1.0, count + 1.0)], level)
    binomial = scipy.stats.binom(count, level)
    low, high = int(found.low_ns), int(found.high_ns)  # sample i is the i-th order statistic
    assert binomial.cdf(low - 1) <= 0.025 < binomial.cdf(low)
    assert binomial.sf(high - 1) <= 0.025 < binomial.sf(high - 2)
    assert found.value_ns == math.ceil(level * count)
    assert low < found.value_ns < high


def test_rounds_that_disagree_widen_the_interval_of_a_quantile():
    random = np.random.default_rng(5)
    alike = [random.normal(100.0, 1.0, 200) for _ in range(6)]
    apart = [values + shift for values, shift in zip(alike, (-0.6, -0.4, -0.2, 0.2, 0.4, 0.6), strict=True)]
    one, other = (order_statistic(values, 0.9) for values in (alike, apart))
    pooled = order_statistic([np.concatenate(apart)], 0.9)
    assert other.value_ns == pooled.value_ns
    assert other.high_ns is not None
    assert pooled.high_ns is not None
    assert other.high_ns - other.low_ns > 2 * (pooled.high_ns - pooled.low_ns)
    assert one.low_ns < one.value_ns < one.high_ns


def test_few_processes_that_disagree_give_a_tail_no_upper_end():
    """Six processes of different speed are six draws: the slowest of a hundred is not among them."""
    random = np.random.default_rng(5)
    apart = [random.normal(100.0 + shift, 1.0, 200) for shift in (-3, -2, -1, 1, 2, 3)]
    alike = [random.normal(100.0, 1.0, 200) for _ in range(6)]
    assert order_statistic(apart, 0.99).high_ns is None
    assert order_statistic(alike, 0.99).high_ns is not None
    assert order_statistic([np.concatenate(apart)], 0.99).high_ns is not None


@pytest.mark.parametrize(("level", "rounds"), [(0.9, 12), (0.99, 12), (0.99, 20)])
def test_intervals_of_tails_hold_the_truth_where_processes_differ(level, rounds):
    """1 % between processes beside 2 % within, 120 samples each: Woodruff's alone held it in 91 of 100."""
    random = np.random.default_rng(rounds)
    truth = float(scipy.stats.norm.ppf(level)) * math.hypot(1.0, 0.5)
    held = 0
    for _ in range(400):
        shifts = 0.5 * random.standard_normal((rounds, 1))
        found = order_statistic(list(shifts + random.standard_normal((rounds, 120))), level)
        held += found.low_ns <= truth and (found.high_ns is None or truth <= found.high_ns)
    assert held >= 0.92 * 400  # 5 sd of a count below 97 %, 2 below 95 %


def test_outliers_are_counted_inside_their_round_and_stay_in(measure):
    quiet = [100, 101, 102, 103, 104, 105, 106, 107]
    summary = stats.summarize(measure([*quiet, 115], [v + 1000 for v in quiet]), target=0.01)
    assert (summary.mild_outliers, summary.severe_outliers) == (1, 0)
    summary = stats.summarize(measure([*quiet, 900], [*quiet, 20]), target=0.01)
    assert (summary.mild_outliers, summary.severe_outliers) == (0, 2)
    assert (summary.min_ns, summary.max_ns, summary.samples) == (20, 900, 18)


def test_spread_is_told_apart_within_and_between_rounds(measure):
    random = np.random.default_rng(3)
    within = [1e6 * np.exp(random.normal(0, 0.02, 400)) for _ in range(5)]
    summary = stats.summarize(measure(*within), target=0.01)
    assert summary.within_spread == pytest.approx(0.02, rel=0.15)
    assert summary.between_spread < 0.004
    shifted = [values * factor for values, factor in zip(within, (1, 1.1, 0.9, 1.05, 0.95), strict=True)]
    assert stats.summarize(measure(*shifted), target=0.01).between_spread == pytest.approx(0.08, rel=0.1)


def test_a_disturbed_round_that_was_repeated_is_left_out_by_its_flag_alone(sample):
    quiet = [sample.make_round(1e6, index=i) for i in range(4)]
    disturbed = sample.make_round(5e6, index=4, flags=("disturbed",))
    repeat = sample.make_round(1e6, index=4, attempt=1)
    measured = Measurement(sample.protocol(), (*quiet, disturbed, repeat))
    assert stats.counted_rounds(measured.rounds) == [*quiet, repeat]
    summary = stats.summarize(measured, target=0.01)
    assert (summary.rounds, summary.repeated_rounds) == (5, 1)
    assert summary.max_ns < 2e6


def test_of_two_disturbed_attempts_the_last_counts(sample):
    tried = [sample.make_round(1e6, attempt=a, flags=("throttled",)) for a in (0, 1)]
    assert stats.counted_rounds(tried) == [tried[1]]


def test_a_slow_but_undisturbed_first_attempt_is_not_replaced(sample):
    slow, fast = sample.make_round(5e6), sample.make_round(1e6, attempt=1)
    assert stats.counted_rounds([fast, slow]) == [slow]


@pytest.mark.parametrize(("between", "expected"), [(0.001, True), (0.1, False)])
def test_converged_asks_for_precision(sample, between, expected):
    rounds = sample.rounds_of(2e6, count=5, between=between)
    assert stats.converged(rounds, 0.01) is expected
    summary = stats.summarize(Measurement(sample.protocol(), rounds), target=0.01)
    assert summary.converged is expected


def test_converged_needs_two_rounds(sample):
    assert not stats.converged([], 0.5)
    assert not stats.converged([sample.make_round(1e6)], 0.5)
    repeated = [sample.make_round(1e6, attempt=a) for a in (0, 1)]
    assert not stats.converged(repeated, 0.5)


def test_paired_ratio_pairs_rounds_and_agrees_with_the_headlines(measure):
    a = measure([200] * 3, [208] * 3, [190] * 3, [204] * 3)
    b = measure([100] * 3, [103] * 3, [96] * 3, [101] * 3)
    found = stats.paired_ratio(a, b)
    logs = np.log([200 / 100, 208 / 103, 190 / 96, 204 / 101])
    expected = scipy.stats.t.interval(0.95, 3, loc=logs.mean(), scale=scipy.stats.sem(logs))
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(expected)))
    headlines = [stats.summarize(m, target=0.01).median_ns for m in (a, b)]
    assert found.value == pytest.approx(headlines[0] / headlines[1])
    assert found.pairs == 4
    assert found.resolved


def test_pairing_removes_the_drift_that_both_share(measure):
    drift = [1.0, 1.2, 0.8, 1.1, 0.9]
    a = measure(*([round(102_000 * f)] * 3 for f in drift))
    b = measure(*([round(100_000 * f)] * 3 for f in drift))
    found = stats.paired_ratio(a, b)
    assert found.value == pytest.approx(1.02, abs=1e-4)
    assert found.high - found.low < 1e-3


def test_paired_ratio_uses_common_rounds_only(measure):
    a, b = measure([10] * 3, [12] * 3, [14] * 3), measure([10] * 3)
    assert stats.paired_ratio(a, b).pairs == 1
    assert stats.paired_ratio(a, b).low is None
    assert not stats.paired_ratio(a, b).resolved
    elsewhere = Measurement(b.protocol, (dataclasses.replace(b.rounds[0], round_index=7),))
    assert stats.paired_ratio(a, elsewhere) is None


def test_different_protocols_are_refused_unless_forced(sample, measure):
    a = measure([10] * 3, [11] * 3)
    other = Measurement(sample.protocol(threads=2), a.rounds)
    with pytest.raises(stats.ProtocolMismatchError, match=r"threads \(1 and 2\)"):
        stats.paired_ratio(a, other)
    assert stats.paired_ratio(a, other, force=True).value == 1.0


def ranks_of(measurements) -> dict[str, str]:
    return {name: str(rank) for name, rank in stats.rank_groups(measurements).items()}


def test_ranks_are_shared_inside_the_noise(measure):
    fast = measure(*([v] * 3 for v in (1000, 1010, 990, 1000, 1005)))
    same = measure(*([v] * 3 for v in (1010, 1000, 1000, 990, 1015)))
    slow = measure(*([v] * 3 for v in (1100, 1111, 1090, 1098, 1107)))
    assert ranks_of({"slow": slow, "fast": fast, "same": same}) == {"fast": "1–2", "same": "1–2", "slow": "3"}


def test_a_resolved_difference_of_less_than_one_percent_is_a_tie(measure):
    a = measure(*([100_000 + d] * 3 for d in range(5)))
    b = measure(*([100_900 + d] * 3 for d in range(5)))
    assert stats.paired_ratio(b, a).low > 1.0
    assert ranks_of({"a": a, "b": b}) == {"a": "1–2", "b": "1–2"}


def test_no_two_inside_the_noise_are_separated_and_no_two_beyond_it_joined(measure):
    steps = {name: measure(*([round(v) + d] * 3 for d in range(5))) for name, v in
             (("a", 100_000), ("b", 100_800), ("c", 101_600), ("d", 110_000))}  # fmt: skip
    assert stats.paired_ratio(steps["c"], steps["a"]).resolved
    assert ranks_of(steps) == {"a": "1–2", "b": "1–3", "c": "2–3", "d": "4"}


def test_one_noisy_case_does_not_join_the_others(measure):
    measured = {
        "a": measure(*([100_000 + d] * 3 for d in range(5))),
        "b": measure(*([150_000 + d] * 3 for d in range(5))),
        "wild": measure(*([v] * 3 for v in (60_000, 300_000, 80_000, 220_000, 90_000))),
    }
    assert ranks_of(measured) == {"a": "1–2", "b": "2–3", "wild": "1–3"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=7), st.integers(0, 2**31))
def test_ranks_are_consistent_with_every_pair(sample, logs, seed):
    random = np.random.default_rng(seed)

    def near(log: float) -> Measurement:
        medians = np.exp(log + random.normal(0, 0.01, 5)) * 1e6
        rounds = [
            sample.make_round(1e6, index=i, samples_ns=np.full(3, round(m)), loop_count=1)
            for i, m in enumerate(medians)
        ]
        return Measurement(sample.protocol(), tuple(rounds))

    measured = {str(i): near(log) for i, log in enumerate(logs)}
    ranks = stats.rank_groups(measured)
    for one, other in itertools.combinations(measured, 2):
        common = range(max(ranks[one].first, ranks[other].first), min(ranks[one].last, ranks[other].last) + 1)
        if not stats.paired_ratio(measured[one], measured[other]).resolved:
            assert common
    assert min(rank.first for rank in ranks.values()) == 1
    assert max(rank.last for rank in ranks.values()) == len(logs)


def test_cases_without_common_rounds_cannot_be_told_apart(measure):
    a, far = measure([100] * 3, [100] * 3), measure([500] * 3)
    late = Measurement(far.protocol, (dataclasses.replace(far.rounds[0], round_index=9),))
    assert ranks_of({"a": a, "late": late}) == {"a": "1–2", "late": "1–2"}


def test_ranking_nothing_and_one(measure):
    assert stats.rank_groups({}) == {}
    assert stats.rank_groups({"a": measure([100] * 3)}) == {"a": stats.Rank(1, 1)}


def test_ranking_over_protocols_is_refused(sample, measure):
    a = measure([10] * 3, [11] * 3)
    with pytest.raises(stats.ProtocolMismatchError, match="threads"):
        stats.rank_groups({"a": a, "b": Measurement(sample.protocol(threads=2), a.rounds)})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12))
def test_kendall_tau_is_scipy_s(points):
    signs = [(_sign(a[0] - b[0]), _sign(a[1] - b[1])) for a, b in itertools.combinations(points, 2)]
    x, y = zip(*points, strict=True)
    varies = len(set(x)) > 1 and len(set(y)) > 1
    expected = scipy.stats.kendalltau(x, y).statistic if varies else None
    assert stats.kendall_tau(signs) == pytest.approx(expected)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def test_kendall_tau_of_nothing():
    assert stats.kendall_tau([]) is None


def test_a_steady_measurement_has_no_drift(sample):
    rounds = sample.rounds_of(2e6, count=8, between=0.003)
    assert not stats.summarize(Measurement(sample.protocol(), rounds), target=0.01).drift.found


def test_drift_across_rounds_is_found_in_their_order_whatever_the_wall_clock_says(sample):
    rounds = [sample.make_round(2e6 * (1 + 0.01 * i), index=i) for i in range(6)]
    drift = stats.summarize(Measurement(sample.protocol(), tuple(rounds)), target=0.01).drift
    assert drift.across_rounds == pytest.approx(0.05, abs=0.01)
    set_back = [
        dataclasses.replace(r, started_at_ns=t) for r, t in zip(rounds, (3, 0, 5, 1, 4, 2), strict=True)
    ]
    again = stats.summarize(Measurement(sample.protocol(), tuple(set_back)), target=0.01).drift
    assert again == drift
    shuffled = [
        dataclasses.replace(r, round_index=t) for r, t in zip(rounds, (3, 0, 5, 1, 4, 2), strict=True)
    ]
    again = stats.summarize(Measurement(sample.protocol(), tuple(shuffled)), target=0.01).drift
    assert again.across_rounds == 0.0


def test_a_step_between_rounds_is_found(sample):
    factors = (1.0, 1.001, 0.999, 1.05, 1.051, 1.049, 1.05, 1.05)
    rounds = tuple(sample.make_round(2e6 * factor, index=i) for i, factor in enumerate(factors))
    drift = stats.summarize(Measurement(sample.protocol(), rounds), target=0.01).drift
    assert drift.across_rounds == pytest.approx(0.05, abs=0.005)


def test_drift_inside_rounds_is_found(sample):
    random = np.random.default_rng(1)
    ramp = np.linspace(1.0, 1.06, 90)
    rounds = tuple(
        sample.make_round(
            2e6, index=i, samples_ns=(2e6 * ramp * np.exp(random.normal(0, 0.005, 90))).astype(int)
        )
        for i in range(4)
    )
    drift = stats.summarize(Measurement(sample.protocol(), rounds), target=0.01).drift
    assert drift.within_rounds == pytest.approx(0.04, abs=0.01)
    assert drift.across_rounds == 0.0


def test_the_exact_trend_test_counts_permutations():
    from reports.drift import _trend_p

    values = range(5)
    inversions = [
        sum(a > b for a, b in itertools.combinations(order, 2)) for order in itertools.permutations(values)
    ]
    for found in range(11):
        extreme = min(found, 10 - found)
        expected = min(1.0, 2 * sum(i <= extreme for i in inversions) / len(inversions))
        assert _trend_p(found, 5) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(factor=st.integers(2, 1000))
def test_statistics_scale_with_the_unit_of_time(sample, factor):
    rounds = sample.rounds_of(2e6, count=5)
    scaled = tuple(dataclasses.replace(r, samples_ns=r.samples_ns * factor) for r in rounds)
    one, many = (stats.summarize(Measurement(sample.protocol(), r), target=0.01) for r in (rounds, scaled))
    for name in ("median_ns", "low_ns", "high_ns", "mean_ns", "min_ns", "max_ns", "mad_ns"):
        assert getattr(many, name) == pytest.approx(factor * getattr(one, name))
    for name in ("half_width", "iqr_ratio", "within_spread", "between_spread", "mild_outliers"):
        assert getattr(many, name) == pytest.approx(getattr(one, name))


def test_the_interval_covers_a_known_median_as_often_as_it_says(sample):
    """400 measurements of 6 rounds with a between-process component: about 95 % must hold the truth."""
    random = np.random.default_rng(11)
    truth, covered = 2_000_000.0, 0
    for _ in range(400):
        centres = truth * np.exp(random.normal(0.0, 0.01, 6))
        rounds = [
            sample.make_round(
                2e6,
                index=i,
                samples_ns=(c * np.exp(random.normal(0, 0.01, 30))).astype(np.int64),
                loop_count=1,
            )
            for i, c in enumerate(centres)
        ]
        summary = stats.summarize(Measurement(sample.protocol(), tuple(rounds)), target=0.01)
        covered += summary.low_ns <= truth <= summary.high_ns
    assert 0.92 <= covered / 400 <= 0.98
