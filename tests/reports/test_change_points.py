"""Changes of level in a series of runs: found where they are, and seldom where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.change_points import MIN_RUNS, find_changes


def series(*levels: tuple[int, float], noise: float = 0.01, seed: int = 0):
    random = np.random.default_rng(seed)
    return np.concatenate([math.log(level) + random.normal(0, noise, runs) for runs, level in levels])


def test_a_step_is_found_where_it_is():
    (change,) = find_changes(series((12, 1e6), (10, 1.05e6)))
    assert change.place == 12
    assert change.ratio == pytest.approx(1.05, abs=0.02)
    assert change.p_value <= 0.01


def test_two_steps_back_and_forth():
    found = find_changes(series((15, 1e6), (15, 1.06e6), (15, 1e6)))
    assert [change.place for change in found] == [15, 30]
    assert found[0].ratio > 1.04
    assert found[1].ratio < 0.97


def test_one_odd_run_is_no_change():
    logs = series((20, 1e6))
    logs[10] += 0.2
    assert find_changes(logs) == []


def test_a_change_needs_runs_enough():
    steep = np.log([1e6] * (MIN_RUNS - 4) + [2e6] * 3)
    assert find_changes(steep) == []
    assert find_changes(np.array([])) == []
    assert find_changes(np.log([1e6])) == []
    assert find_changes(np.log([1e6] * 12 + [2e6] * 2)) == []  # two runs have followed: a third must


def test_equal_runs_and_small_steps_are_none():
    assert find_changes(np.zeros(30)) == []
    assert find_changes(series((15, 1e6), (15, 1.004e6), noise=1e-5)) == []


def test_false_changes_are_rare():
    """300 series of 20 independent runs: 1 in 100 is expected."""
    found = sum(bool(find_changes(series((20, 1e6), noise=0.02, seed=seed))) for seed in range(300))
    assert found <= 10  # more have a chance below 1 in 1,000


def test_the_same_series_gives_the_same_changes():
    logs = series((12, 1e6), (10, 1.03e6), noise=0.015)
    assert find_changes(logs) == find_changes(logs)
