"""Orders of rounds: mirrored in fours, seeded, and unmoved by cases that come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runners.schedule import Order

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12, unique=True)


def order(
    names: Iterable[str], *, seed: int, round_index: int, groups: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    return Order(tuple(names), seed, groups or {}).of(round_index)


@given(NAMES, st.integers(0, 2**32), st.integers(0, 50))
def test_four_rounds_are_a_permutation_twice_and_its_mirror_twice(
    names: list[str], seed: int, turn: int
) -> None:
    first, again, *mirrored = (order(names, seed=seed, round_index=4 * turn + place) for place in range(4))
    assert sorted(first) == sorted(names)
    assert again == first
    assert mirrored == [first[::-1]] * 2


@given(NAMES, st.integers(0, 1000))
def test_linear_drift_hits_every_case_alike_over_four_rounds(names: list[str], seed: int) -> None:
    """Each case's places in time, over four rounds, add up to the same number."""
    turn = [order(names, seed=seed, round_index=i) for i in range(4)]
    times = {name: sum(i * len(names) + turn[i].index(name) for i in range(4)) for name in names}
    assert len(set(times.values())) == 1


def test_differences_of_neighbouring_rounds_are_not_alike_where_the_machine_wanders() -> None:
    """Two cases, a speed whose neighbouring places correlate by 0.57: the sum over neighbouring rounds."""

    def covariance(index: int) -> float:
        both = [order("ab", seed=0, round_index=i) for i in (index, index + 1)]
        signs = [(place, 1 if name == "a" else -1) for place, name in enumerate((*both[0], *both[1]))]
        return sum(
            one * two * 0.57 ** abs(here - there) for here, one in signs[:2] for there, two in signs[2:]
        )

    assert sum(covariance(index) for index in range(400)) / 400 < 0.01


@given(NAMES, st.data(), st.integers(0, 20))
def test_a_case_that_ends_does_not_move_the_others(names: list[str], data: st.DataObject, index: int) -> None:
    gone = data.draw(st.sampled_from(names))
    full = order(names, seed=3, round_index=index)
    rest = order([name for name in names if name != gone], seed=3, round_index=index)
    assert rest == tuple(name for name in full if name != gone)


def test_order_does_not_depend_on_how_cases_are_listed() -> None:
    names = [f"case{i}" for i in range(9)]
    assert order(names, seed=1, round_index=4) == order(names[::-1], seed=1, round_index=4)


def test_seed_and_turn_change_the_order() -> None:
    names = [f"case{i}" for i in range(12)]
    seen = {order(names, seed=seed, round_index=4 * turn) for seed in range(5) for turn in range(5)}
    assert len(seen) == 25


def test_this_order_is_the_same_on_every_machine() -> None:
    assert order("abcde", seed=0, round_index=0) == ("a", "c", "b", "d", "e")


@given(NAMES, st.integers(0, 50), st.data())
def test_a_group_is_never_torn_apart(names: list[str], index: int, data: st.DataObject) -> None:
    groups = {name: data.draw(st.sampled_from("xyz")) for name in names}
    placed = [groups[name] for name in order(names, seed=2, round_index=index, groups=groups)]
    changes = sum(before != after for before, after in pairwise(placed))
    assert changes == len(set(placed)) - 1


def test_an_order_asked_for_again_is_the_same() -> None:
    asked = Order(tuple("abcdef"), 7)
    assert [asked.of(i) for i in (0, 2, 8, 10, 0)] == [
        order("abcdef", seed=7, round_index=i) for i in (0, 2, 8, 10, 0)
    ]


def test_every_case_is_first_about_equally_often() -> None:
    firsts = Counter(order("abcd", seed=0, round_index=4 * k)[0] for k in range(2000))
    assert all(400 < firsts[name] < 600 for name in "abcd")
