"""Which rounds enter the numbers, and the logarithms of their medians: what every interval is made of."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from runners.measurement import Measurement, Round, is_disturbed

Floats = npt.NDArray[np.float64]


class Taken(Protocol):
    """What decides whether a round counts: a Round has it, and what a store tells of one."""

    @property
    def round_index(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def flags(self) -> tuple[str, ...]: ...


AnyRound = TypeVar("AnyRound", bound=Taken)


def counted_rounds(rounds: Sequence[AnyRound]) -> list[AnyRound]:
    """The rounds that enter the numbers: of a repeated round, the first undisturbed attempt, else the last.

    The choice looks at the disturbance flags, never at the times.
    """
    attempts: dict[int, list[AnyRound]] = defaultdict(list)
    for taken in sorted(rounds, key=lambda r: (r.round_index, r.attempt)):
        attempts[taken.round_index].append(taken)
    return [next((r for r in tried if not is_disturbed(r.flags)), tried[-1]) for tried in attempts.values()]


def per_inference_ns(taken: Round) -> Floats:
    return taken.samples_ns / taken.loop_count


def round_logs(measurement: Measurement) -> dict[int, float]:
    """Natural logarithm of each counted round's median (ns per inference), by round index."""
    return {
        r.round_index: math.log(float(np.median(per_inference_ns(r))))
        for r in counted_rounds(measurement.rounds)
    }
