"""How large a report grows: what a case adds, and a page of a thousand cases as a whole."""

from __future__ import annotations

from types import ModuleType

import pytest

from commands.published import published_figures, published_points
from reports.html import render
from tests.reports.large_run import large_run

MAX_BYTES = 15_000_000  # of a report of 1,000 cases


def written(sample: ModuleType, cases: int) -> str:
    run = large_run(sample, cases)
    return render(run, published=published_figures(run), points=published_points(run))


def test_what_a_case_adds_leaves_room_for_a_thousand(sample):
    """Samples that are drawn have a budget of the whole page, which fewer cases fill as well."""
    from plotly.offline import get_plotlyjs

    few, more = (len(written(sample, cases).encode()) for cases in (20, 120))
    assert few < len(get_plotlyjs().encode()) + 1_500_000
    assert more - few < 100 * 20_000


@pytest.mark.slow
def test_a_thousand_cases_stay_under_the_bar(sample):
    text = written(sample, 1000)
    assert len(text.encode()) < MAX_BYTES
    assert text.count("data-search=") == 1000
    assert text.count("Every artifact, step by step</caption>") == 1
