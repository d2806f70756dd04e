"""In which order a case's history shows its runs, whatever the wall clock did."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.records import IMPORTED, RunInfo
from reports.run_order import taken_order

DATES = st.lists(st.integers(0, 9) | st.integers(0, 2**63 - 1), max_size=12)


def runs(own: list[int], imported: list[int]) -> list[RunInfo]:
    """The store's own, numbered from 1, and imported ones, from 101, with these dates."""
    blank = RunInfo(0, "blocks", "", 0, 0, None, "", {}, {}, ())
    return [
        *(dataclasses.replace(blank, run_id=n, started_at_ns=at) for n, at in enumerate(own, 1)),
        *(
            dataclasses.replace(blank, run_id=n, started_at_ns=at, config={IMPORTED: {}})
            for n, at in enumerate(imported, 101)
        ),
    ]


@pytest.mark.parametrize(
    ("own", "imported", "expected"),
    [
        ([], [], []),
        ([30, 10, 20], [], [1, 2, 3]),
        ([], [30, 10, 10], [102, 103, 101]),
        ([10, 20, 30], [25, 5, 40], [102, 1, 2, 101, 3, 103]),
        ([10, 20, 99, 40, 50], [45, 60, 15], [1, 103, 2, 3, 4, 101, 5, 102]),  # one clock was ahead
        ([10, 20, 0, 40, 50], [45, 25], [1, 2, 3, 102, 4, 101, 5]),  # one was behind
    ],
)
def test_the_order_that_dates_and_numbers_tell(
    own: list[int], imported: list[int], expected: list[int]
) -> None:
    assert taken_order(runs(own, imported)) == expected


@given(DATES, DATES, st.randoms())
def test_own_runs_keep_their_order_and_imported_ones_theirs(
    own: list[int], imported: list[int], random: Random
) -> None:
    known = runs(own, imported)
    random.shuffle(known)
    found = taken_order(known)
    assert sorted(found) == sorted(info.run_id for info in known)
    assert [n for n in found if n < 100] == list(range(1, len(own) + 1))
    dated = sorted((info.started_at_ns, info.run_id) for info in known if info.run_id > 100)
    assert [n for n in found if n > 100] == [n for _, n in dated]


@given(st.lists(st.integers(0, 2**62), max_size=12, unique=True), DATES)
def test_where_no_clock_was_set_all_dates_are_in_order(own: list[int], imported: list[int]) -> None:
    dates = {info.run_id: info.started_at_ns for info in runs(sorted(own), imported)}
    found = [dates[n] for n in taken_order(runs(sorted(own), imported))]
    assert found == sorted(found)
