"""The aggregate of Apple's ModelBench, with which the MobileOne and FastViT papers' figures were made.

20 rounds of 50 predictions, the model loaded again for each round and run once before it; of all 1000 the
10 lowest and 10 highest are left out, and the rest is averaged. It is offered beside the median for
comparison with such papers, and is no headline: a trimmed mean has no interval across rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runners.measurement import Round

ROUNDS, PREDICTIONS, TRIMMED = 20, 50, 10


@dataclass(frozen=True, slots=True)
class ModelBench:
    """`mean_ns` of `used` predictions; `complete` is false where there were not 20 rounds of 50."""

    mean_ns: float
    used: int
    complete: bool


def aggregate(rounds: Sequence[Round]) -> ModelBench | None:
    """From the first 50 samples of the first 20 rounds; None where too few are left after trimming.

    Samples of several predictions cannot be trimmed one by one: then it is None as well.
    """
    if any(taken.loop_count != 1 for taken in rounds):
        return None
    parts = [taken.samples_ns[:PREDICTIONS] for taken in rounds[:ROUNDS]]
    values = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
    if len(values) <= 2 * TRIMMED:
        return None
    kept = values[TRIMMED:-TRIMMED]
    complete = len(parts) == ROUNDS and all(len(part) == PREDICTIONS for part in parts)
    return ModelBench(float(kept.mean()), len(kept), complete)


def drift(taken: Round) -> float:
    """Median of the last third of a round over that of its first third, less 1; 0 for under 6 samples."""
    samples = taken.samples_ns
    third = len(samples) // 3
    if third < 2:
        return 0.0
    return float(np.median(samples[-third:]) / np.median(samples[:third]) - 1)
