"""The timing loop on synthetic clocks: what it counts, when it stops, and what it refuses."""

from __future__ import annotations

import gc
import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import timing
from runners.measurement import Timing

MS = 1_000_000


class Machine:
    """A clock that only an inference advances, by `latency_ns(count, now_ns)`."""

    def __init__(self, latency_ns: Callable[[int, int], float]) -> None:
        self.latency_ns = latency_ns
        self.now = 5_000_000_000
        self.begun = self.now
        self.inputs: list[int] = []

    def clock(self) -> int:
        return self.now

    def step(self, index: int) -> None:
        self.now += round(self.latency_ns(len(self.inputs), self.now - self.begun))
        self.inputs.append(index)


def constant(latency_ns: float) -> Machine:
    return Machine(lambda count, now: latency_ns)


def run(machine: Machine, policy: Timing, *, inputs: int = 4) -> tuple[timing.WarmUp, np.ndarray]:
    warm = timing.warm_up(machine.step, inputs, policy, clock=machine.clock)
    return warm, timing.take(machine.step, warm, policy, clock=machine.clock)


def test_steady_machine_warms_up_for_the_least_time_and_fills_the_round() -> None:
    machine = constant(2 * MS)
    policy = Timing(round_seconds=0.6, warmup_seconds=0.2)
    warm, samples = run(machine, policy)
    assert warm.steady
    assert warm.loop_count == 1
    assert warm.samples_ns.sum() == 200 * MS
    assert len(samples) == 300
    assert np.all(samples == 2 * MS)


@pytest.mark.parametrize(("latency_ns", "loops"), [(300, 4000), (1000, 1200), (70_000, 18), (1_200_000, 1)])
def test_short_inferences_are_looped_until_a_sample_is_long_enough(latency_ns: int, loops: int) -> None:
    warm, samples = run(constant(latency_ns), Timing())
    assert warm.loop_count == loops
    assert samples.min() >= MS


@settings(deadline=None, max_examples=60)
@given(st.floats(200, 3e8), st.floats(0.01, 20))
def test_calibration_is_long_enough_and_not_wasteful(latency_ns: float, min_ms: float) -> None:
    machine = constant(latency_ns)
    wanted = round(min_ms * MS)
    loops, elapsed = timing.calibrate(machine.step, 3, clock=machine.clock, min_sample_ns=wanted)
    assert elapsed >= wanted * timing.HEADROOM - 1
    assert loops == 1 or (loops - 1) * latency_ns < 1.3 * wanted * timing.HEADROOM + latency_ns


def test_runtime_that_gets_faster_while_warming_up_is_calibrated_again() -> None:
    machine = Machine(lambda count, now: 2 * MS if now < 50 * MS else 0.1 * MS)
    warm, samples = run(machine, Timing())
    assert warm.loop_count >= 10
    assert samples.min() >= MS


def test_slow_start_is_waited_out_and_stored_apart() -> None:
    """The first second is up to four times slower, and decays: no window agrees with the next."""
    machine = Machine(lambda count, now: 2 * MS * (1 + 3 * math.exp(-now / 3e8)))
    warm, samples = run(machine, Timing())
    assert warm.steady
    assert warm.samples_ns.sum() > 500 * MS
    assert warm.samples_ns[0] > 3 * warm.samples_ns[-1] * 0.8
    assert samples.max() < 1.25 * samples.min()


def test_drifting_machine_is_not_steady_and_its_warm_up_is_bounded() -> None:
    machine = Machine(lambda count, now: 2 * MS * math.exp(now / 1e9))
    policy = Timing(max_warmup_seconds=2.0)
    warm, samples = run(machine, policy)
    assert not warm.steady
    assert 2000 * MS <= warm.samples_ns.sum() < 2700 * MS
    assert len(samples) >= policy.min_samples


def test_growing_spread_with_equal_medians_is_not_steady() -> None:
    """The median absolute deviation grows by 18 % of the median per window."""
    machine = Machine(lambda count, now: 2 * MS * (1 + 1.8e-9 * now * (count % 3 - 1)))
    warm = timing.warm_up(machine.step, 4, Timing(max_warmup_seconds=0.5), clock=machine.clock)
    assert {round(float(np.median(warm.samples_ns[i : i + 45])) / MS, 6) for i in (0, 45, 90, 135)} == {2.0}
    assert not warm.steady


def test_bimodal_latencies_are_steady_and_kept_raw() -> None:
    random = np.random.default_rng(0)
    slow = random.random(100_000) < 0.3
    machine = Machine(lambda count, now: (2.6 if slow[count] else 2.0) * MS)
    warm, samples = run(machine, Timing())
    assert warm.steady
    assert set(samples.tolist()) == {2_000_000, 2_600_000}
    assert 0.15 < np.mean(samples > 2.3 * MS) < 0.45


def test_step_inside_the_round_is_recorded_in_order() -> None:
    machine = Machine(lambda count, now: 2 * MS if now < 500 * MS else 4 * MS)
    warm, samples = run(machine, Timing(round_seconds=1.0))
    change = int(np.argmax(samples > 3 * MS))
    assert warm.steady
    assert np.all(samples[:change] == 2 * MS)
    assert np.all(samples[change:] == 4 * MS)
    assert 0 < change < len(samples)


def test_round_that_speeds_up_ends_when_its_buffer_is_full() -> None:
    machine = Machine(lambda count, now: 2 * MS if now < 500 * MS else 1.25 * MS / 4)
    policy = Timing(round_seconds=1.0)
    samples = run(machine, policy)[1]
    assert len(samples) == 2 * 500 + 1


@pytest.mark.parametrize(("seconds", "taken"), [(0.1, 6), (0.2, 5), (1.0, 5), (1.5, 4), (6.0, 1), (40.0, 1)])
def test_slow_models_get_the_least_samples_that_are_sensible(seconds: float, taken: int) -> None:
    policy = Timing(round_seconds=0.6, min_samples=5)
    machine = constant(seconds * 1e9)
    warm, samples = run(machine, policy)
    assert len(samples) == taken
    assert warm.loop_count == 1
    assert len(machine.inputs) <= 2 * len(samples) + 10


@pytest.mark.parametrize("seconds", [0.5, 1.0, 10.0])
def test_slow_steady_models_are_called_steady(seconds: float) -> None:
    policy = Timing(max_warmup_seconds=3.0 if seconds <= 1 else 25.0)
    machine = constant(seconds * 1e9)
    assert timing.warm_up(machine.step, 4, policy, clock=machine.clock).steady


def test_inputs_are_rotated_through_warm_up_and_round() -> None:
    machine = constant(2 * MS)
    warm = timing.warm_up(machine.step, 3, Timing(), clock=machine.clock)
    machine.inputs.clear()
    samples = timing.take(machine.step, warm, Timing(), clock=machine.clock)
    timed = machine.inputs[-len(samples) :]
    assert timed == list(itertools.islice(itertools.cycle(range(3)), len(timed)))


@given(st.integers(1, 9), st.integers(1, 50))
def test_rotation_takes_every_input_in_turn(inputs: int, loops: int) -> None:
    plan = timing.rotation(inputs, loops)
    used = [index for order in plan for index in order]
    assert all(len(order) == loops for order in plan)
    assert used == [i % inputs for i in range(len(used))]
    assert len(used) % inputs == 0


def test_clock_that_stands_still_is_refused() -> None:
    with pytest.raises(timing.ClockError, match="does not advance"):
        timing.calibrate(lambda index: None, 1, clock=lambda: 7, min_sample_ns=MS)


def test_clock_that_goes_backwards_in_a_round_is_refused() -> None:
    machine = constant(2 * MS)
    warm = timing.warm_up(machine.step, 4, Timing(), clock=machine.clock)
    machine.latency_ns = lambda count, now: -5 * MS if count % 50 == 0 else 2 * MS
    with pytest.raises(timing.ClockError, match="went backwards"):
        timing.take(machine.step, warm, Timing(), clock=machine.clock)


def test_clock_that_goes_backwards_in_the_warm_up_is_refused() -> None:
    machine = Machine(lambda count, now: -MS if count == 60 else 2 * MS)
    with pytest.raises(timing.ClockError, match="went backwards"):
        timing.warm_up(machine.step, 4, Timing(), clock=machine.clock)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_inside_and_restored(enabled: bool) -> None:
    seen: list[bool] = []
    machine = constant(2 * MS)

    def step(index: int) -> None:
        seen.append(gc.isenabled())
        machine.step(index)

    (gc.enable if enabled else gc.disable)()
    try:
        warm = timing.warm_up(step, 4, Timing(), clock=machine.clock)
        timing.take(step, warm, Timing(), clock=machine.clock)
        after = gc.isenabled()
    finally:
        gc.enable()
    assert after is enabled
    assert not any(seen)


def test_garbage_collection_is_restored_when_an_inference_raises() -> None:
    def step(index: int) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        timing.warm_up(step, 4, Timing(), clock=time.perf_counter_ns)
    assert gc.isenabled()


def test_loop_allocates_nothing_that_stays() -> None:
    """Blocks held by the interpreter before and after 5,000 iterations, the clock's integers included."""
    samples = np.full(5000, -1, dtype=np.int64)
    plan = timing.rotation(4, 1)
    blocks: list[int] = []

    def step(index: int) -> None:
        return None

    for _ in range(3):
        before = sys.getallocatedblocks()
        timing.record(samples, step, plan, clock=time.perf_counter_ns, span_ns=0, at_least=5000)
        blocks.append(sys.getallocatedblocks() - before)
    assert min(blocks) < 20
    assert samples.min() >= 0


@pytest.mark.parametrize("latency_ns", [20_000, 3 * MS, 700 * MS])
def test_every_policy_ends(latency_ns: int) -> None:
    """No warm-up, no least sample length, one sample: the smallest policy works."""
    policy = replace(Timing(), warmup_seconds=0.0, min_sample_ms=0.0, round_seconds=0.0, min_samples=1)
    warm, samples = run(constant(latency_ns), policy)
    assert warm.loop_count == 1
    assert len(samples) == 1
