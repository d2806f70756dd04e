"""The synthetic validation in short: every section runs, says what it counted, and is written as it is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.validation import coverage, document, interval_choice, sabotage, synthetic, verdict_rates
from tests.validation.instrument import alone, default_timing
from tests.validation.worlds import STATIONARY, Step, Wandering, world


def test_a_known_median_is_measured():
    for noise in (STATIONARY[1], STATIONARY[3]):
        found = alone(noise.seeded(1), default_timing())
        summary = coverage.summarize(found, target=0.01)
        assert summary.median_ns == pytest.approx(noise.truth_ns, rel=0.02)
        assert summary.rounds >= default_timing().min_rounds


def test_the_same_seed_is_the_same_measurement():
    first, again = (alone(STATIONARY[0].seeded(7), default_timing()) for _ in range(2))
    assert [r.samples_ns.tolist() for r in first.rounds] == [r.samples_ns.tolist() for r in again.rounds]
    assert Wandering((1, 2))(5) == Wandering((1, 2))(5) != Wandering((1, 3))(5)


def test_intervals_cover_and_steps_are_flagged():
    quiet = world("quiet", between_sigma=0.004)
    found = [coverage.judge(quiet, default_timing(), seed) for seed in range(60)]
    assert sum(outcome.covered for outcome in found) >= 51  # 95 %: fewer happens once in 10,000 times
    stepped = replace(quiet, machine=Step(3, 1.1))
    assert all(coverage.judge(stepped, default_timing(), seed).flagged for seed in range(5))


def test_five_percent_is_found_and_nothing_is_not():
    calm = verdict_rates.CALM
    slower = [verdict_rates.pair(calm, default_timing(), 1.05, seed).plain.verdict for seed in range(10)]
    assert set(slower) == {verdict_rates.Verdict.SLOWER}
    equal = [verdict_rates.pair(calm, default_timing(), 1.0, seed).margin for seed in range(20)]
    assert not any(comparison.differs for comparison in equal)


def test_the_rule_in_use_covers_for_every_spread():
    found = interval_choice.judge(interval_choice.RULES[-1], repetitions=10_000)
    assert min(found.coverage) > 0.938
    assert max(found.coverage) < 0.968
    plain = interval_choice.judge(interval_choice.RULES[0], repetitions=10_000)
    assert min(plain.coverage) < 0.93


@pytest.mark.parametrize("named", [sabotage.SABOTAGES[1], *sabotage.SABOTAGES[-2:]], ids=lambda s: s.expected)
def test_sabotage_is_answered(named):
    assert named.expected in sabotage.answer(named)


def test_sections_have_a_place_and_are_read_back(tmp_path):
    assert set(synthetic.sections(1.0, command="x", processes=0)) <= set(document.ORDER)
    rows = (("a", True), ("b", False), ("c", None))
    made = document.Section("power", "Title", "About.", ("noise", "met"), rows, "x", 1.0)
    assert made.missed == [("b", False)]
    document.store(made, tmp_path)
    (found,) = document.read(tmp_path)
    assert found == made
    text = document.render([found])
    assert "| b | **no** |" in text
    assert "Again: `x`." in text
    with pytest.raises(ValueError, match="no place"):
        document.store(replace(made, name="elsewhere"), tmp_path)


def test_a_newer_file_is_refused(tmp_path):
    (tmp_path / "power.json").write_text(json.dumps({"schema": document.SCHEMA + 1}))
    with pytest.raises(ValueError, match="schema"):
        document.read(tmp_path)


def test_the_document_is_what_its_results_say():
    if document.DOCUMENT.exists():
        assert document.DOCUMENT.read_text() == document.render(document.read())
