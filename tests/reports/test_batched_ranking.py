"""Runs in batches: cases of one batch are paired, those of different ones unpaired and judged at 5 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from reports.ranking import order
from reports.tables import build
from reports.verdicts import ratio_over_batches
from runners.measurement import Measurement

Take = Callable[..., Measurement]


@pytest.fixture
def take(sample) -> Take:
    """A measurement of five rounds of about so many milliseconds, from round index `first` on."""

    def measurement(ms: float, *, first: int = 0, seed: int = 0, spread: float = 0.001) -> Measurement:
        noise = np.exp(np.random.default_rng(seed).normal(0, spread, 5))
        rounds = [
            sample.make_round(1e6, index=first + i, samples_ns=np.full(3, round(ms * 1e6 * n)), loop_count=1)
            for i, n in enumerate(noise)
        ]
        return Measurement(sample.protocol(), tuple(rounds))

    return measurement


def test_another_batch_is_told_apart_beyond_five_percent_only(take: Take) -> None:
    near, far = take(1.03, first=5, seed=1), take(1.10, first=5, seed=2)
    found = order({"a": take(1.0), "near": near, "far": far}, batched=True)
    assert found.sign("a", "near") == 0
    assert found.sign("far", "a") == 1
    assert found.sign("far", "near") == 1  # neighbours in their batch: paired, at 1 %
    assert str(found.ranks()["far"]) == "3"


def test_a_run_that_is_not_batched_compares_no_unpaired_cases(take: Take) -> None:
    found = order({"a": take(1.0), "far": take(2.0, first=5)})
    assert found.sign("a", "far") == 0


def test_noise_and_single_rounds_are_ties(take: Take, sample) -> None:
    noisy = take(1.2, first=5, seed=3, spread=0.3)
    one = Measurement(sample.protocol(), take(3.0, first=20).rounds[:1])
    found = order({"a": take(1.0), "noisy": noisy, "one": one}, batched=True)
    assert found.sign("a", "noisy") == found.sign("a", "one") == 0


def test_equal_cases_of_different_batches_are_rarely_told_apart(take: Take) -> None:
    """Batches that drifted by 2 %, 200 times: Holm allows 5 %, and a margin of 5 % leaves next to none."""
    false = 0
    for seed in range(200):
        pair = {
            "a": take(1.0, seed=seed, spread=0.01),
            "b": take(1.02, first=5, seed=seed + 999, spread=0.01),
        }
        false += order(pair, batched=True).sign("a", "b") != 0
    assert false <= 2


def test_ratios_are_paired_where_they_can_be(take: Take) -> None:
    paired = ratio_over_batches(take(1.1, seed=4), take(1.0, seed=4))
    assert paired is not None
    assert paired.low == pytest.approx(1.1, abs=1e-4)
    apart = ratio_over_batches(take(1.1, first=5, seed=4), take(1.0, seed=4))
    assert apart is not None
    assert apart.value == pytest.approx(1.1, abs=1e-3)
    assert apart.low is not None
    assert apart.low < 1.0995


def test_a_table_of_a_batched_run_has_a_ratio_in_every_row(networks_run) -> None:
    results = tuple(
        replace(
            result, rounds=tuple(replace(r, round_index=r.round_index + 100 * place) for r in result.rounds)
        )
        for place, result in enumerate(networks_run.results)
    )
    info = replace(networks_run.info, config={**networks_run.info.config, "batched": True})
    rows = build(replace(networks_run, info=info, results=results)).rows
    others = [row for row in rows if row.rank and row.rank.first > 1]
    assert others
    assert all(row.versus_best for row in others)
