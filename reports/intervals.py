"""The interval of a case's median across rounds, and how precise it is. NumPy alone."""

from __future__ import annotations

import math

from reports.rounds import Floats
from reports.student import two_sided_quantile

# A case's rounds end when they look precise, so they end soonest where chance made them look alike, and the
# plain 95 % t interval of what is left holds the truth in as few as 92 % of all cases. At the quantiles of
# these levels it does so in 94.1 to 96.4 %, whatever the spread: docs/decisions/0003-interval.md.
_LEVEL = 0.96
# (fewest rounds, level): where a case ends by looking precise, the sooner, the more by chance.
_SELECTED_LEVELS = ((20, _LEVEL), (10, 0.965), (6, 0.97))


def sequential_level(rounds: int) -> float:
    """The level whose t quantile gives a 95 % interval after so many rounds, stopped by precision."""
    return next((level for fewest, level in _SELECTED_LEVELS if rounds >= fewest), _LEVEL)


def median_interval(logs: Floats) -> tuple[float, float | None, float | None]:
    """(centre, low, high): the geometric mean of the round medians and its 95 % interval, from their logs.

    Student's t on the logarithms, with the quantile corrected for stopping on precision. No interval from a
    single value.
    """
    centre = float(logs.mean())
    if logs.size < 2:
        return math.exp(centre), None, None
    quantile = two_sided_quantile(sequential_level(logs.size), logs.size - 1)
    half = quantile * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def half_width(median: float, high: float | None) -> float:
    """Of the wider side, relative to the median; infinite without an interval."""
    return math.inf if high is None else high / median - 1.0
