"""Is A slower than B by more than a bound, is it not, or can one not tell? For several cases as one family.

With the log ratio of A to B, its standard error and m = log(1 + bound), at 2.5 % on either side:

- REGRESSED: the lower end of the interval is above the bound. The p values of "the ratio is at most
  1 + bound" are adjusted by Holm's method over all cases: any false alarm has a chance of 2.5 % at most.
- PASSED: the upper end of the case's own 95 % interval is below the bound. Nothing is adjusted here: "no case
  has regressed" is claimed only where every case shows it by itself (an intersection-union test, Berger
  1982, doi:10.1080/00401706.1982.10487790).
- UNDECIDED: neither; with an estimate of the rounds that would settle it, with a chance of 80 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from reports.verdicts import Comparison, holm, rounds_until

TAIL = 0.025

Key = TypeVar("Key", bound=Hashable)


class State(StrEnum):
    """What a gate says of a case."""

    REGRESSED = "regressed"
    PASSED = "passed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`p_value` is that of "slower by no more than the bound", one-sided and adjusted.

    It is None without an interval. `rounds_needed` is an estimate for what is UNDECIDED, at most
    MAX_ROUNDS_NEEDED, which then reads "or more".
    """

    state: State
    p_value: float | None = None
    rounds_needed: int | None = None


def judge(comparisons: Mapping[Key, Comparison], bound: float) -> dict[Key, Judgement]:
    """Every case's judgement, in the same order. Raises ValueError for a negative bound."""
    if bound < 0:
        raise ValueError(f"the bound is {bound:g}: a regression that is allowed is 0 or more")
    margin = math.log1p(bound)
    beyond = {key: p for key, found in comparisons.items() if (p := _p_above(found, margin)) is not None}
    adjusted = dict(zip(beyond, holm(np.array(list(beyond.values()))).tolist(), strict=True))
    return {
        key: _judgement(found, margin, adjusted[key], family=len(beyond)) if key in adjusted else _UNKNOWN
        for key, found in comparisons.items()
    }


_UNKNOWN = Judgement(State.UNDECIDED)


def _judgement(found: Comparison, margin: float, p: float, *, family: int) -> Judgement:
    if p <= TAIL:
        return Judgement(State.REGRESSED, p)
    if _p_below(found, margin) <= TAIL:
        return Judgement(State.PASSED, p)
    return Judgement(State.UNDECIDED, p, _rounds_needed(found, margin, family))


def _p_above(found: Comparison, margin: float) -> float | None:
    """Of "the ratio is at most the margin"; None without an interval."""
    from scipy.special import stdtr

    t = _t(found, margin)
    return None if t is None or found.degrees is None else float(stdtr(found.degrees, -t))


def _p_below(found: Comparison, margin: float) -> float:
    from scipy.special import stdtr

    t = _t(found, margin)
    return 1.0 if t is None or found.degrees is None else float(stdtr(found.degrees, t))


def _t(found: Comparison, margin: float) -> float | None:
    """Distance from the margin in standard errors; without any spread it is 0 or infinite."""
    if found.standard_error is None:
        return None
    distance = math.log(found.ratio.value) - margin
    if found.standard_error == 0.0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / found.standard_error


def _rounds_needed(found: Comparison, margin: float, family: int) -> int:
    """Above those that were taken, at the level that Holm's first step leaves a regression."""
    assert found.standard_error is not None
    taken = found.ratio.pairs
    distance = math.log(found.ratio.value) - margin
    tail = TAIL / family if distance > 0 else TAIL
    spread = found.standard_error * math.sqrt(taken)
    return rounds_until(abs(distance), spread, tail=tail, more=taken)
