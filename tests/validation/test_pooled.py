"""Trials of two runs as one section."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.validation.document import Section
from tests.validation.pooled import pooled
from tests.validation.real import POWER_COLUMNS, power_met

MACHINE = {"cpu": "one", "commit": "a" * 40}


def section(*rows: tuple[str, int, int, float, float]) -> Section:
    """Rows of (case, trials, comparisons, found, bias)."""
    told = (
        (case, trials, count, 1.05, found, bias, 0.01, "bar", True)
        for case, trials, count, found, bias in rows
    )
    return Section(
        "real_power", "title", "About.", POWER_COLUMNS,
        tuple(told),
        "command", 10.0, taken_at="2026-11-22 01:46", machine=MACHINE,
    )  # fmt: skip


def test_counts_add_up_and_shares_are_those_of_all():
    both = pooled(
        section(("5% slower", 14, 84, 83 / 84, 0.002)),
        section(("5% slower", 28, 168, 1.0, -0.001)),
        power_met,
    )
    (row,) = both.rows
    told = dict(zip(both.columns, row, strict=True))
    assert (told["trials"], told["comparisons"]) == (42, 252)
    assert told["found"] == pytest.approx(251 / 252)
    assert told["bias"] == pytest.approx(0.0)
    assert told["met"] is True
    assert both.seconds == 20.0
    assert "2026-11-22 01:46 UTC, revision aaaaaaaaaaaa" in both.about


def test_a_bar_is_judged_of_all_trials():
    both = pooled(
        section(("5% slower", 14, 84, 83 / 84, 0.0)), section(("5% slower", 1, 6, 1.0, 0.0)), power_met
    )
    assert both.rows[0][-1] is False  # 89 of 90
    assert both.missed


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (section(("2% slower", 14, 84, 1.0, 0.0)), "other rows"),
        (
            replace(section(("5% slower", 14, 84, 1.0, 0.0)), machine={**MACHINE, "cpu": "two"}),
            "another machine",
        ),
        (replace(section(), name="real_loop"), "other columns"),
    ],
    ids=["rows", "machine", "section"],
)
def test_what_does_not_belong_together_is_refused(other, said):
    with pytest.raises(ValueError, match=said):
        pooled(other, section(("5% slower", 14, 84, 1.0, 0.0)), power_met)
