"""The ratio of two cases whose processes took turns: window by window; of others, round by round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from reports.ranking import order
from reports.rounds import paired_logs
from reports.verdicts import Verdict, compare
from runners.measurement import Measurement, Phases, Protocol, Round

PROTOCOL = Protocol("null", "null", "cpu", 1, "host", "call", "infer", "none", "none", 1)
SPEEDS = (1.0, 1.3, 0.8, 1.1)  # of the machine, one for every pair of windows
PER_WINDOW = 5


def taken(
    index: int,
    time_ns: float,
    *,
    company: int = 0,
    speeds: Sequence[float] = SPEEDS,
    attempt: int = 0,
    flags: tuple[str, ...] = (),
) -> Round:
    samples = np.array([round(time_ns * speed) for speed in speeds for _ in range(PER_WINDOW)], np.int64)
    turns = {"turns": {"company": company, "windows": [PER_WINDOW] * len(speeds)}} if company else {}
    return Round(*(index, 0, attempt, PROTOCOL, 1, samples, samples, True, 0.0, Phases(), 0), turns, flags)


def measured(*rounds: Round) -> Measurement:
    return Measurement(PROTOCOL, rounds)


def test_what_slows_both_windows_of_a_pair_is_not_in_the_ratio():
    a, b = taken(0, 2.02e6, company=7), taken(0, 2e6, company=7)
    (log,) = paired_logs(measured(a), measured(b))
    assert math.exp(log) == pytest.approx(1.01, rel=1e-6)


def test_one_disturbed_window_does_not_move_the_ratio():
    a = taken(0, 2.02e6, company=7, speeds=(1.0, 1.3, 5.0, 1.1, 1.0))
    b = taken(0, 2e6, company=7, speeds=(1.0, 1.3, 0.8, 1.1, 1.0))
    assert math.exp(paired_logs(measured(a), measured(b))[0]) == pytest.approx(1.01, rel=1e-6)


def test_one_side_may_have_a_window_more():
    a = taken(0, 2.02e6, company=7, speeds=(*SPEEDS, 9.0))
    assert math.exp(paired_logs(measured(a), measured(taken(0, 2e6, company=7)))[0]) == pytest.approx(1.01)


@pytest.mark.parametrize("companies", [(7, 8), (7, 0), (0, 0)])
def test_rounds_that_were_not_alive_together_are_compared_as_wholes(companies):
    a = taken(0, 2e6, company=companies[0], speeds=(1.0, 1.0, 1.0, 1.5))
    b = taken(0, 2e6, company=companies[1], speeds=(1.0, 1.5, 1.5, 1.5))
    (log,) = paired_logs(measured(a), measured(b))
    assert log == pytest.approx(math.log(1.0 / 1.5))


def test_of_attempts_the_first_counts_that_was_calm_on_both_sides():
    a = [taken(0, 2e6, company=7), taken(0, 3e6, company=8, attempt=1)]
    b = [taken(0, 2e6, company=7, flags=("disturbed",)), taken(0, 2e6, company=8, attempt=1)]
    (log,) = paired_logs(measured(*a), measured(*b))
    assert math.exp(log) == pytest.approx(1.5)


def test_of_attempts_that_were_all_disturbed_the_last_counts():
    flags = ("disturbed",)
    a = [taken(0, 2e6, company=7), taken(0, 3e6, company=8, attempt=1)]
    b = [taken(0, 2e6, company=7, flags=flags), taken(0, 2e6, company=8, attempt=1, flags=flags)]
    assert math.exp(paired_logs(measured(*a), measured(*b))[0]) == pytest.approx(1.5)


def test_a_comparison_in_turns_finds_what_whole_rounds_leave_open():
    """A machine that wanders by 5 % from window to window, and a true difference of 1.5 %."""
    draw = np.random.default_rng(1)
    speeds = np.exp(0.05 * draw.standard_normal((12, 10)))
    sides = []
    for slower in (1.015, 1.0):
        rounds = [
            taken(i, 2e6 * slower, company=i + 1, speeds=row * np.exp(0.002 * draw.standard_normal(10)))
            for i, row in enumerate(speeds)
        ]
        sides.append(measured(*rounds))
    found = compare(*sides, delta=0.0, paired=True)
    assert found is not None
    assert found.verdict is Verdict.SLOWER
    assert found.ratio.value == pytest.approx(1.015, abs=0.002)


def test_the_windows_survive_the_store(store, begin):
    info = begin(store)
    cases = [result.case for result in store.load_run(info.run_id).results]
    for case, time_ns in zip(cases, (2.02e6, 2e6), strict=True):
        store.append(info.run_id, case.id, taken(0, time_ns, company=7), artifact=None)
    one, other = (result.measurement for result in store.load_run(info.run_id).results)
    assert math.exp(paired_logs(one, other)[0]) == pytest.approx(1.01, rel=1e-6)


UNEQUAL = ((1.0, 1.0, 1.0, 1.5, 1.5), (1.0, 1.5, 1.0, 1.5, 1.5))  # one window apart, and so are their medians


def in_turns(time_ns: float, speeds: Sequence[float], *, company: int = 1) -> Measurement:
    """Six rounds, each of a company of its own; company 0 took no turns."""
    rounds = (taken(i, time_ns, company=company and company + i, speeds=speeds) for i in range(6))
    return measured(*rounds)


@pytest.mark.parametrize(("company", "signs"), [(1, (0, 1, 1)), (0, (-1, 1, 0))])
def test_a_ranking_takes_the_ratios_of_windows(company, signs):
    """As a comparison of two of its cases does; of whole rounds the medians alone are left."""
    cases = {
        "a": in_turns(2e6, UNEQUAL[0], company=company),
        "b": in_turns(2e6, UNEQUAL[1], company=company),
        "c": in_turns(3e6, UNEQUAL[0], company=company),
    }
    found = order(cases)
    pairs = (("a", "b"), ("c", "a"), ("c", "b"))
    assert tuple(found.sign(*pair) for pair in pairs) == signs
    for (one, other), sign in zip(pairs, signs, strict=True):
        pair = compare(cases[one], cases[other], paired=True)
        assert pair is not None
        assert pair.differs == bool(sign)


def test_companies_of_a_ranking_are_told_apart():
    """Where a case took turns with one of two others, only their ratio is that of the windows."""
    cases = {
        "a": in_turns(2e6, UNEQUAL[0]),
        "b": in_turns(2e6, UNEQUAL[1]),
        "c": in_turns(2e6, UNEQUAL[1], company=20),
    }
    found = order(cases)
    assert [found.sign("a", other) for other in ("b", "c")] == [0, -1]
