"""Quantiles of Student's t distribution for whole degrees of freedom, without SciPy.

The machine that measures a bundle decides by them when a case is precise enough, and may have NumPy alone.
"""

from __future__ import annotations

import functools
import math

_STEPS = 200  # halvings of the bracket: far below the spacing of doubles


@functools.cache
def two_sided_quantile(confidence: float, degrees: int) -> float:
    """t such that |T| <= t with probability `confidence`, for T of `degrees` >= 1 degrees of freedom.

    The distribution function is a finite sum in the angle atan(t / sqrt(degrees)): Abramowitz and Stegun,
    Handbook of Mathematical Functions, 26.7.3 and 26.7.4. Raises ValueError out of range.
    """
    if degrees < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(f"no quantile for confidence {confidence} and {degrees} degrees of freedom")
    low, high = 0.0, math.pi / 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _probability(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.tan(high) * math.sqrt(degrees)


def _probability(angle: float, degrees: int) -> float:
    """That |T| <= sqrt(degrees) * tan(angle)."""
    squared_cosine = math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(1 if odd else 0, degrees - 1, 2):
        total += term
        term *= squared_cosine * (power + 1) / (power + 2)
    if odd:
        return 2.0 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
