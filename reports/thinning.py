"""Fewer points for drawing; the numbers are always computed from all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def share(budget: int, users: int, *, most: int, least: int) -> int:
    """How many points each of `users` may draw, so that a page of a thousand cases still opens at once."""
    return max(least, min(most, budget // max(1, users)))


def thinned(values: Floats, most: int) -> Floats:
    """At most `most` (3 or more) of the values, evenly spaced in order, the extremes always among them."""
    if values.size <= most:
        return values
    chosen = np.linspace(0, values.size - 1, most - 2).round().astype(int)
    kept: Floats = values[np.unique([*chosen, int(values.argmin()), int(values.argmax())])]
    return kept
