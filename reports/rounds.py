"""Which rounds enter the numbers, and the logarithms of their medians: what every interval is made of."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from runners.measurement import Measurement, Round, is_disturbed

Floats = npt.NDArray[np.float64]
Pair = tuple[Round, Round]


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
    """The values of `logs_by_round`."""
    return list(logs_by_round(a, b).values())


def logs_by_round(a: Measurement, b: Measurement) -> dict[int, float]:
    """For each round that both have, by index, the logarithm of the time of `a` over that of `b`.

    Where both processes took turns with each other it is that of `turn_logs`, otherwise the ratio of the two
    rounds' medians.
    """
    left, right = round_logs(a), round_logs(b)
    in_turns = turn_logs([a, b]).get((0, 1), {})
    return {
        index: in_turns.get(index, left[index] - right[index]) for index in sorted(left.keys() & right.keys())
    }


def turn_logs(measurements: Sequence[Measurement]) -> dict[tuple[int, int], dict[int, float]]:
    """Of every two whose processes took turns, by their places, the first one's time over the other's.

    A logarithm for each round index in which they did: the median over the windows that they worked one right
    after the other, so what slowed the machine down for a second is in both. Of attempts the first counts
    that was undisturbed on both sides, else the last.
    """
    companies: dict[tuple[int, int], list[tuple[int, Round]]] = defaultdict(list)
    for place, measurement in enumerate(measurements):
        for taken in measurement.rounds:
            if company := _company(taken):
                companies[taken.round_index, company].append((place, taken))
    tried: dict[tuple[int, int], dict[int, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    windows: dict[int, Floats] = {}
    for (index, _), members in companies.items():
        windows |= {id(taken): _window_logs(taken) for _, taken in members if len(members) > 1}
        for (place, one), (later, other) in itertools.combinations(members, 2):
            tried[place, later][index].append((one, other))
    counted = {
        places: {index: _counted(pairs) for index, pairs in found.items()} for places, found in tried.items()
    }
    return {
        places: {index: _between(windows[id(a)], windows[id(b)]) for index, (a, b) in found.items()}
        for places, found in counted.items()
    }


def _counted(pairs: Sequence[Pair]) -> Pair:
    """The attempt that counts."""
    in_order = sorted(pairs, key=lambda pair: pair[0].attempt)
    calm = (pair for pair in in_order if not any(is_disturbed(taken.flags) for taken in pair))
    return next(calm, in_order[-1])


def _company(taken: Round) -> int:
    """Tells the processes that took turns with each other from others; 0 for one that did not."""
    return int(taken.environment.get("turns", {}).get("company", 0))


def _between(ours: Floats, theirs: Floats) -> float:
    """Median over the windows; one side may have a window more."""
    count = min(ours.size, theirs.size)
    return float(np.median(ours[:count] - theirs[:count]))


def _window_logs(taken: Round) -> Floats:
    """The logarithm of each window's median."""
    ends = np.cumsum(taken.environment["turns"]["windows"])
    windows = np.split(per_inference_ns(taken), ends[:-1])
    return np.array([math.log(float(np.median(window))) for window in windows])
