"""The timed part of a round: in one piece, or cut into windows between which other processes work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from runners import readings, timing
from runners.measurement import Samples, Timing
from runners.readings import Readings
from runners.runner import Clock

WAKE_SHARE = 0.2  # of a window, untimed before it: the caches hold what the others worked on
LEAST_SAMPLES = 4  # of a window, so that the untimed part stays small beside it
SETTLING_SECONDS = 0.12  # of untimed windows: the first ones after the others' warm-up are slower


@dataclass(frozen=True, slots=True)
class Timed:
    """Samples in order, what was read around them, and how many samples each window has (none: one piece)."""

    samples_ns: Samples
    before: Readings
    after: Readings
    windows: tuple[int, ...] = ()


def in_one_piece(
    step: timing.Work, warm: timing.WarmUp, policy: Timing, *, clock: Clock, read: Callable[[], Readings]
) -> Timed:
    """The whole timed part at once. Raises ClockError."""
    before = read()
    samples = timing.take(step, warm, policy, clock=clock)
    return Timed(samples, before, read())


def in_turns(
    step: timing.Work,
    warm: timing.WarmUp,
    policy: Timing,
    *,
    clock: Clock,
    read: Callable[[], Readings],
    pause: Callable[[], None],
) -> Timed:
    """As many windows of `policy.turn_seconds` as make `policy.round_seconds`, an even number of them.

    `pause` sleeps until this process may work again. A window holds at least LEAST_SAMPLES samples. Readings
    are taken around each window, so what others do between them is in no counter. Raises ClockError.
    """
    typical_s = max(1.0, warm.typical_ns) / 1e9
    window_s = max(policy.turn_seconds, LEAST_SAMPLES * typical_s)
    needed_s = min(max(policy.round_seconds, policy.min_samples * typical_s), _longest(policy))
    count = 2 * max(1, math.ceil(needed_s / window_s / 2))
    asked = replace(policy, round_seconds=window_s, min_samples=1)
    for _ in range(int(SETTLING_SECONDS / window_s)):
        pause()
        timing.take(step, warm, asked, clock=clock)
    taken: list[Samples] = []
    read_around: list[tuple[Readings, Readings]] = []
    for _ in range(count):
        pause()
        timing.take(step, warm, replace(asked, round_seconds=WAKE_SHARE * window_s), clock=clock)
        before = read()
        taken.append(timing.take(step, _turned(warm, sum(map(len, taken))), asked, clock=clock))
        read_around.append((before, read()))
    before, after = readings.joined(read_around)
    return Timed(np.concatenate(taken), before, after, tuple(map(len, taken)))


def _longest(policy: Timing) -> float:
    return timing.MAX_STRETCH * policy.round_seconds


def _turned(warm: timing.WarmUp, taken: int) -> timing.WarmUp:
    """The inputs go on where the last window stopped."""
    start = taken % len(warm.plan)
    return replace(warm, plan=warm.plan[start:] + warm.plan[:start])
