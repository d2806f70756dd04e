"""The one timing loop: calibrate, warm up until steady, preallocate, time, check.

The clock is injected, so the same code runs on a host clock or a synthetic one. A Sampler takes its samples
on a device's clock: then the injected one tells how long warm-up and round last, and nothing else differs.
Inside the loop nothing is allocated that outlives an iteration, printed or logged, and garbage collection
is off.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runners.measurement import Samples, Timing
from runners.runner import Clock, Sampler

Step = Callable[[int], object]
Work = Step | Sampler  # timed by the injected clock, or by a device's own
Plan = tuple[tuple[int, ...], ...]

MAX_LOOPS = 1 << 20
MAX_SAMPLES = 1 << 20
CALIBRATIONS = 3
TRIALS = 3
HEADROOM = 1.2  # a calibrated sample may become this much faster in warm-up and still be long enough
MEDIAN_AGREEMENT = 0.05
SPREAD_AGREEMENT = 0.10  # of the median
DEVICE_WAKE_NS = 50_000_000
MAX_STRETCH = 10  # a round lasts at most about this many times `round_seconds`, however slow the inference


class ClockError(RuntimeError):
    """The clock stood still or went backwards, so no duration can be told."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A calibrated, warmed-up step: samples of `loop_count` inferences, the last `window` of them settled."""

    loop_count: int
    plan: Plan
    samples_ns: Samples
    window: int
    steady: bool

    @property
    def typical_ns(self) -> float:
        return float(np.median(self.samples_ns[-self.window :]))


def warm_up(step: Work, inputs: int, timing: Timing, *, clock: Clock) -> WarmUp:
    """Calibrates the loop and works until two consecutive windows agree, or `max_warmup_seconds` are over.

    A runtime that got so much faster that a sample is now too short is calibrated again.
    Raises ClockError.
    """
    limit_ns = clock() + round(timing.max_warmup_seconds * 1e9)
    with no_garbage_collection():
        for _ in range(CALIBRATIONS):
            loops, typical_ns = calibrate(step, inputs, clock=clock, min_sample_ns=min_sample_ns(timing))
            warm = _until_steady(
                step, rotation(inputs, loops), typical_ns, timing, clock=clock, limit_ns=limit_ns
            )
            if warm.typical_ns >= min_sample_ns(timing):
                break
    return warm


def take(step: Work, warm: WarmUp, timing: Timing, *, clock: Clock) -> Samples:
    """The timed part of a round: raw samples in order, each the nanoseconds of `warm.loop_count` inferences.

    It lasts `round_seconds` and at least `min_samples`, fewer only where those would take MAX_STRETCH times
    as long. Raises ClockError.
    """
    round_ns = max(1.0, timing.round_seconds * 1e9)
    typical_ns = max(1.0, warm.typical_ns)
    at_least = min(timing.min_samples, max(1, int(MAX_STRETCH * round_ns / typical_ns)))
    samples = _buffer(max(at_least, int(2 * round_ns / typical_ns) + 1))
    with no_garbage_collection():
        _wake(step, warm.plan, len(samples), clock=clock)
        count = record(samples, step, warm.plan, clock=clock, span_ns=int(round_ns), at_least=at_least)
    return _checked(samples[:count])


def record(samples: Samples, step: Work, plan: Plan, *, clock: Clock, span_ns: int, at_least: int) -> int:
    """Fills `samples` until `span_ns` passed and `at_least` are there, or it is full; returns how many."""
    if isinstance(step, Sampler):
        return _record_device(samples, step, plan, clock=clock, span_ns=span_ns, at_least=at_least)
    phases = len(plan)
    begin = clock()
    for i in range(len(samples)):
        order = plan[i % phases]
        start = clock()
        for index in order:
            step(index)
        stop = clock()
        samples[i] = stop - start
        if stop - begin >= span_ns and i + 1 >= at_least:
            return i + 1
    return len(samples)


def _record_device(
    samples: Samples, sampler: Sampler, plan: Plan, *, clock: Clock, span_ns: int, at_least: int
) -> int:
    phases = len(plan)
    begin = clock()
    for i in range(len(samples)):
        samples[i] = sampler.sample(plan[i % phases])
        if clock() - begin >= span_ns and i + 1 >= at_least:
            return i + 1
    return len(samples)


def calibrate(step: Work, inputs: int, *, clock: Clock, min_sample_ns: int) -> tuple[int, int]:
    """(loop count, nanoseconds of one sample): the fewest loops found whose samples last `min_sample_ns`.

    Raises ClockError where MAX_LOOPS inferences are too short for the clock.
    """
    least = step.least_loops if isinstance(step, Sampler) else 1
    loops = least
    wanted_ns = round(min_sample_ns * HEADROOM)
    while True:
        elapsed_ns = _shortest(step, rotation(inputs, loops), clock=clock, enough_ns=20 * wanted_ns)
        if elapsed_ns >= wanted_ns:
            return loops, elapsed_ns
        if loops >= MAX_LOOPS:
            raise ClockError(f"{loops} inferences took {elapsed_ns} ns by this clock: it does not advance")
        loops = min(
            MAX_LOOPS, max(loops + 1, min(10 * loops, math.ceil(loops * wanted_ns / max(1, elapsed_ns))))
        )
        loops += -loops % least


def rotation(inputs: int, loops: int) -> Plan:
    """Which inputs a sample runs: sample i those of `plan[i % len(plan)]`, so that all take turns."""
    phases = inputs // math.gcd(inputs, loops)
    return tuple(tuple((phase * loops + i) % inputs for i in range(loops)) for phase in range(phases))


def min_sample_ns(timing: Timing) -> int:
    return round(timing.min_sample_ms * 1e6)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Garbage collection off inside, and as it was before afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _wake(step: Work, plan: Plan, count: int, *, clock: Clock) -> None:
    """One untimed run: what ran since the warm-up may have let the runtime's threads fall asleep.

    A GPU works for DEVICE_WAKE_NS: reading its counters takes milliseconds, in which its clocks may fall.
    """
    if not isinstance(step, Sampler):
        step(0)
        return
    end = clock() + DEVICE_WAKE_NS
    while clock() < end:
        step.sample(plan[-1])
    step.reserve(count)


def _shortest(step: Work, plan: Plan, *, clock: Clock, enough_ns: int) -> int:
    """The shortest of TRIALS samples; one is enough where it is far longer than what is asked for."""
    trial = _buffer(1)
    shortest = 1 << 62
    for i in range(TRIALS):
        record(trial, step, (plan[i % len(plan)],), clock=clock, span_ns=0, at_least=1)
        shortest = min(shortest, int(_not_backwards(trial)[0]))
        if shortest >= enough_ns:
            break
    return shortest


def _until_steady(
    step: Work, plan: Plan, typical_ns: int, timing: Timing, *, clock: Clock, limit_ns: int
) -> WarmUp:
    """Windows of work, one after the other, until two agree or the limit is reached."""
    span_ns = round(timing.warmup_seconds * 1e9 / 2)
    at_least = _window_samples(typical_ns, timing)
    samples = _buffer(2 * at_least + int(4e9 * timing.max_warmup_seconds / max(1, typical_ns)))
    before, start, filled, steady = 0, 0, 0, False
    while not steady and filled + at_least <= len(samples):
        before, start = start, filled
        turned = plan[filled % len(plan) :] + plan[: filled % len(plan)]
        filled += record(samples[filled:], step, turned, clock=clock, span_ns=span_ns, at_least=at_least)
        steady = start > 0 and _agree(samples[before:start], samples[start:filled])
        if clock() >= limit_ns:
            break
    return WarmUp(len(plan[0]), plan, _checked(samples[:filled].copy()), filled - start, steady)


def _window_samples(typical_ns: int, timing: Timing) -> int:
    """The fewest samples of a window, which lasts half the least warm-up: 3, where the bound leaves room."""
    room = int(timing.max_warmup_seconds * 1e9 / 4 / max(1, typical_ns))
    return max(1, min(3, room))


def _agree(earlier: Samples, later: Samples) -> bool:
    """Medians within MEDIAN_AGREEMENT, median absolute deviations within SPREAD_AGREEMENT of the median."""
    (centre, spread), (last_centre, last_spread) = _centre_and_spread(earlier), _centre_and_spread(later)
    return (
        abs(last_centre - centre) <= MEDIAN_AGREEMENT * centre
        and abs(last_spread - spread) <= SPREAD_AGREEMENT * centre
    )


def _centre_and_spread(values: Samples) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, float(np.median(np.abs(values - centre)))


def _buffer(size: int) -> Samples:
    """Written through once, so that its pages exist before the loop touches them."""
    return np.full(min(size, MAX_SAMPLES), -1, dtype=np.int64)


def _checked(samples: Samples) -> Samples:
    if not np.all(_not_backwards(samples)):
        raise ClockError("a sample lasted 0 ns by this clock: it is too coarse or stood still")
    return samples


def _not_backwards(samples: npt.NDArray[np.int64]) -> Samples:
    if np.any(samples < 0):
        raise ClockError(f"a sample lasted {int(samples.min())} ns: the clock went backwards")
    return samples
