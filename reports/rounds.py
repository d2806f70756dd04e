"""Which rounds enter the numbers, and the logarithms of their medians: what every interval is made of."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
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


def paired_logs(a: Measurement, b: Measurement) -> list[float]:
    """For each round that both have, by index, the logarithm of the time of `a` over that of `b`.

    Where both processes took turns with each other it is the median over the windows that they worked one
    right after the other: what slowed the machine down for a second is in both. Of attempts the first counts
    that was undisturbed on both sides. Otherwise it is the ratio of the two rounds' medians.
    """
    left, right = round_logs(a), round_logs(b)
    in_turns = _in_turns(a, b)
    return [in_turns.get(index, left[index] - right[index]) for index in sorted(left.keys() & right.keys())]


def _in_turns(a: Measurement, b: Measurement) -> Mapping[int, float]:
    """The rounds whose processes were alive together, by index."""
    ours, theirs = ({company: r for r in side.rounds if (company := _company(r))} for side in (a, b))
    together = [(ours[company], theirs[company]) for company in ours.keys() & theirs.keys()]
    together = [pair for pair in together if pair[0].round_index == pair[1].round_index]
    together.sort(key=lambda pair: (pair[0].round_index, pair[0].attempt))
    found = {}
    for index, tried in itertools.groupby(together, key=lambda pair: pair[0].round_index):
        pairs = list(tried)
        calm = (pair for pair in pairs if not any(is_disturbed(r.flags) for r in pair))
        found[index] = _between(*next(calm, pairs[-1]))
    return found


def _company(taken: Round) -> int:
    """Tells the processes that took turns with each other from others; 0 for one that did not."""
    return int(taken.environment.get("turns", {}).get("company", 0))


def _between(one: Round, other: Round) -> float:
    """Median over the windows of the logarithm of one's median over the other's."""
    pairs = zip(_window_logs(one), _window_logs(other), strict=False)  # one may have a window more
    return float(np.median([left - right for left, right in pairs]))


def _window_logs(taken: Round) -> Floats:
    ends = np.cumsum(taken.environment["turns"]["windows"])
    windows = np.split(per_inference_ns(taken), ends[:-1])
    return np.array([math.log(float(np.median(window))) for window in windows])
