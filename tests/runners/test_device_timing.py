"""Samples by device events, on a stand-in GPU with a virtual clock: no card has run this code."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from runners import timing
from runners.device_timing import HOST_SHARE, LOOPS_PER_LANE, EventSampler, Lane
from runners.measurement import Timing
from runners.runner import Sampler

US = 1000
MS = 1_000_000


class Bench:
    """Lanes that enqueue work of a known length on a stand-in GPU."""

    def __init__(
        self,
        stand_in: ModuleType,
        *,
        duration_ns: int = 200 * US,
        enqueue_ns: int = 10 * US,
        lanes: int = 1,
        copies_ns: tuple[int, int] | None = None,
    ) -> None:
        self.cuda = stand_in.StandInCuda()
        self.operation = stand_in.Operation
        self.duration_ns, self.enqueue_ns = duration_ns, enqueue_ns
        self.inputs: list[tuple[int, int]] = []
        made = [self._lane(number, copies_ns) for number in range(lanes)]
        self.sampler = EventSampler(self.cuda, made, clock=self.cuda.clock)

    def _lane(self, number: int, copies_ns: tuple[int, int] | None) -> Lane:
        stream = self.cuda.stream()

        def infer(index: int) -> None:
            self.cuda.now_ns += self.enqueue_ns
            self.inputs.append((number, index))
            self.cuda.submit(stream, self.operation(self.duration_ns), call_ns=0)

        if copies_ns is None:
            return Lane(stream, infer)
        into, out = copies_ns
        return Lane(
            stream,
            infer,
            lambda index: self.cuda.submit(stream, self.operation(into)),
            lambda: self.cuda.submit(stream, self.operation(out)),
        )


@pytest.fixture
def bench(stand_in_cuda: ModuleType) -> Any:
    return lambda **settings: Bench(stand_in_cuda, **settings)


@pytest.mark.parametrize("loops", [1, 2, 7])
def test_a_sample_is_the_device_s_time_alone(bench: Any, loops: int) -> None:
    """Enqueueing takes 10 µs each and is hidden behind the inference that runs first."""
    measured = bench().sampler.sample(tuple(range(loops)))
    assert measured == pytest.approx(loops * 200 * US, rel=1e-6)


def test_a_host_slower_than_the_device_is_in_the_sample_and_in_the_parts(bench: Any) -> None:
    sampler = bench(duration_ns=50 * US, enqueue_ns=300 * US).sampler
    measured = sampler.sample((0, 1, 2, 3))
    parts = sampler.parts(1)
    assert 3 * 300 * US < measured < 4 * 300 * US + 60 * US
    assert parts["enqueue"][0] >= 4 * 300 * US
    assert parts["enqueue"][0] > measured * 0.9


@pytest.mark.parametrize("loops", [1, 2, 7])
def test_host_time_is_that_of_inferences_that_are_waited_for_one_by_one(bench: Any, loops: int) -> None:
    """Each begins with an idle device, so none hides its 10 µs of enqueueing behind the one before."""
    sampler = bench(duration_ns=200 * US, enqueue_ns=10 * US).sampler
    sampler.sample(tuple(range(loops)))
    parts = sampler.parts(1)
    assert parts["enqueue"][0] / loops == pytest.approx(10 * US, rel=0.01)
    assert parts["host"][0] / loops == pytest.approx((10 + 200) * US, rel=0.01)


def test_host_time_on_several_lanes_is_that_of_a_batch(bench: Any) -> None:
    """Eight inferences on two lanes: four after one another on each, all enqueued before the first wait."""
    sampler = bench(duration_ns=200 * US, enqueue_ns=10 * US, lanes=2).sampler
    sampler.sample((0,) * 8)
    parts = sampler.parts(1)
    assert parts["enqueue"][0] == pytest.approx(8 * 10 * US, rel=0.01)
    assert parts["host"][0] == pytest.approx((2 * 10 + 4 * 200) * US, rel=0.01)


def host_passes(made: Bench) -> list[tuple[int, list[int]]]:
    """What each host pass of the lanes from here on takes in nanoseconds, and its inputs."""
    plain, found = made.sampler._host_pass, []

    def observed(order: tuple[int, ...]) -> tuple[int, int]:
        begun, before = made.cuda.now_ns, len(made.inputs)
        values: tuple[int, int] = plain(order)
        found.append((made.cuda.now_ns - begun, [index for _, index in made.inputs[before:]]))
        return values

    made.sampler._host_pass = observed
    return found


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize(("duration_ns", "enqueue_ns"), [(2 * MS, US), (10 * US, 30 * US), (90 * MS, US)])
def test_host_passes_take_their_share_of_the_time_and_are_spread_over_it(
    bench: Any, lanes: int, duration_ns: int, enqueue_ns: int
) -> None:
    made = bench(duration_ns=duration_ns, enqueue_ns=enqueue_ns, lanes=lanes)
    order = tuple(i % 3 for i in range(12))
    found = host_passes(made)
    made.sampler.reserve(40)
    begun, counts = made.cuda.now_ns, []
    for _ in range(40):
        made.sampler.sample(order)
        counts.append(len(found))
    share = sum(took for took, _ in found) / (made.cuda.now_ns - begun)
    assert 0.5 * HOST_SHARE < share <= HOST_SHARE
    assert counts[0] == 1
    assert counts[19] == pytest.approx(counts[39] / 2, abs=1)
    parts = made.sampler.parts(40)
    assert {name: len(values) for name, values in parts.items()} == dict.fromkeys(parts, len(found))
    assert all((values > 0).all() for values in parts.values())


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5])
def test_host_passes_go_through_all_inputs_too(bench: Any, inputs: int) -> None:
    """One inference a sample: every second or third sample has a host pass, in step with three inputs."""
    made = bench(duration_ns=2 * MS, enqueue_ns=US)
    found = host_passes(made)
    orders = tuple((index,) for index in range(inputs))
    made.sampler.reserve(60)
    for i in range(60):
        made.sampler.sample(orders[i % inputs])
    used = [index for _, indices in found for index in indices]
    assert {used.count(index) >= len(used) // inputs - 1 for index in range(inputs)} == {True}


def test_lanes_run_side_by_side_and_the_sample_is_their_throughput(bench: Any) -> None:
    made = bench(duration_ns=400 * US, enqueue_ns=2 * US, lanes=4)
    order = tuple(i % 3 for i in range(16))
    measured = made.sampler.sample(order)
    assert measured / 16 == pytest.approx(100 * US, rel=0.05)
    timed = made.inputs[-16:]
    assert [lane for lane, _ in timed] == [0, 1, 2, 3] * 4
    assert [index for _, index in timed] == list(order)


def test_a_batch_lasts_from_when_all_lanes_are_free_to_the_last_end(stand_in_cuda: ModuleType) -> None:
    """Before the batch lane 0 is busy for 400 µs and lane 1 for 50: it may not begin before the other."""
    cuda = stand_in_cuda.StandInCuda()
    durations_us = ({0: 10, 1: 400}, {0: 500, 1: 50})
    streams = [cuda.stream() for _ in durations_us]

    def lane(number: int) -> Lane:
        def infer(index: int) -> None:
            cuda.submit(streams[number], cuda.Operation(durations_us[number][index] * US))

        return Lane(streams[number], infer)

    sampler = EventSampler(cuda, [lane(0), lane(1)], clock=cuda.clock)
    assert sampler.sample((0, 0, 0, 1)) == pytest.approx(550 * US, abs=3 * US)  # lane 1 ends last
    assert sampler.sample((1, 1)) == pytest.approx(400 * US, abs=3 * US)  # lane 0 does


def test_transfers_are_told_apart_from_computing(bench: Any) -> None:
    sampler = bench(copies_ns=(30 * US, 20 * US)).sampler
    measured = sampler.sample((0, 1, 2))
    parts = sampler.parts(1)
    assert measured == pytest.approx(3 * 200 * US, rel=1e-5)
    assert parts["h2d"][0] == pytest.approx(3 * 30 * US, rel=1e-5)
    assert parts["d2h"][0] == pytest.approx(3 * 20 * US, rel=1e-5)
    assert parts["host"][0] >= 3 * 250 * US


def test_transfers_on_several_lanes_are_refused(bench: Any) -> None:
    with pytest.raises(ValueError, match="single lane"):
        bench(copies_ns=(1, 1), lanes=2)


def test_parts_of_warming_up_are_not_kept(bench: Any) -> None:
    made = bench(copies_ns=(30 * US, 20 * US))
    for _ in range(5):
        made.sampler.sample((0,))
    made.sampler.reserve(9)
    assert [len(values) for values in made.sampler.parts(0).values()] == [0, 0, 0, 0]
    made.enqueue_ns = 20 * US
    made.sampler.sample((0,))
    made.enqueue_ns = 40 * US
    for _ in range(4):
        made.sampler.sample((0,))
    parts = made.sampler.parts(5)
    assert [round(ns, -4) for ns in parts["enqueue"].tolist()][:2] == [20 * US, 40 * US]
    assert len(parts["host"]) == len(parts["enqueue"]) < 5
    assert [len(parts[name]) for name in ("h2d", "d2h")] == [5, 5]


def run(made: Bench, policy: Timing, *, inputs: int = 4) -> tuple[timing.WarmUp, np.ndarray]:
    warm = timing.warm_up(made.sampler, inputs, policy, clock=made.cuda.clock)
    return warm, timing.take(made.sampler, warm, policy, clock=made.cuda.clock)


@pytest.mark.parametrize(("duration_ns", "loops"), [(2 * MS, 1), (300 * US, 4), (10 * US, 120)])
def test_the_rules_of_the_host_clock_hold_for_the_device_s(bench: Any, duration_ns: int, loops: int) -> None:
    """Loops until 1 ms with headroom, steady warm-up, a round that lasts as long as it was told to."""
    made = bench(duration_ns=duration_ns, enqueue_ns=US)
    warm, samples = run(made, Timing(round_seconds=0.3))
    assert isinstance(made.sampler, Sampler)
    assert warm.loop_count == loops
    assert warm.steady
    assert samples.min() >= MS
    assert np.allclose(samples, loops * duration_ns, rtol=1e-5)
    parts = made.sampler.parts(len(samples))
    assert set(parts) == {"host", "enqueue"}
    assert 0.3e9 * 0.1 < sum(parts["host"]) < 0.3e9 * HOST_SHARE
    assert all((values > 0).all() for values in parts.values())
    assert np.allclose(parts["host"] / loops, duration_ns, atol=4 * US)


def test_loop_counts_are_multiples_of_what_fills_the_lanes(bench: Any) -> None:
    made = bench(duration_ns=130 * US, enqueue_ns=US, lanes=3)
    warm, samples = run(made, Timing(round_seconds=0.1))
    assert warm.loop_count % (3 * LOOPS_PER_LANE) == 0
    assert samples.min() >= MS
    assert np.median(samples) / warm.loop_count == pytest.approx(130 * US / 3, rel=0.1)


def test_inputs_are_rotated_through_the_timed_inferences(bench: Any) -> None:
    made = bench(duration_ns=2 * MS)
    warm = timing.warm_up(made.sampler, 3, Timing(), clock=made.cuda.clock)
    made.sampler._host_pass = lambda order: (1, 1)
    samples = timing.take(made.sampler, warm, Timing(), clock=made.cuda.clock)
    inferences = made.inputs[-2 * len(samples) :]  # those before only wake the device
    assert [index for _, index in inferences[1::2]] == [i % 3 for i in range(len(samples))]


def test_the_device_is_awake_when_the_timed_part_begins(bench: Any) -> None:
    """It dozed while its counters were read: the first 20 ms are three times slower, and in no sample."""
    made = bench(duration_ns=2 * MS)
    warm = timing.warm_up(made.sampler, 3, Timing(), clock=made.cuda.clock)
    begun = made.cuda.now_ns
    plain = made.cuda.submit

    def submit(stream: Any, work: Any, **options: Any) -> None:
        work.duration_ns = 6 * MS if made.cuda.now_ns - begun < 20 * MS else 2 * MS
        plain(stream, work, **options)

    made.cuda.submit = submit
    samples = timing.take(made.sampler, warm, Timing(round_seconds=0.1), clock=made.cuda.clock)
    assert np.allclose(samples, 2 * MS, rtol=1e-5)


def test_a_runtime_that_gets_faster_is_calibrated_again(bench: Any) -> None:
    made = bench(duration_ns=2 * MS)
    begun = made.cuda.now_ns
    plain = made.cuda.submit

    def submit(stream: Any, work: Any, **options: Any) -> None:
        work.duration_ns = 2 * MS if made.cuda.now_ns - begun < 50 * MS else 100 * US
        plain(stream, work, **options)

    made.cuda.submit = submit
    warm, samples = run(made, Timing(round_seconds=0.1))
    assert warm.loop_count >= 10
    assert samples.min() >= MS


class Nothing:
    """Events that cost and do nothing, for what the sampler itself costs."""

    def event(self) -> None:
        return None

    def record(self, event: None, stream: None) -> None:
        return None

    wait = record

    def synchronize(self, event: None) -> None:
        return None

    def elapsed_ms(self, start: None, end: None) -> float:
        return 1.5


def test_a_device_clock_that_stands_still_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nothing, "elapsed_ms", lambda self, start, end: 0.0)
    monkeypatch.setattr(timing, "MAX_LOOPS", 1000)
    sampler = EventSampler(Nothing(), [Lane(None, lambda index: None)])
    with pytest.raises(timing.ClockError, match="does not advance"):
        timing.calibrate(sampler, 1, clock=lambda: 0, min_sample_ns=MS)


def test_sampling_allocates_nothing_that_stays() -> None:
    sampler = EventSampler(Nothing(), [Lane(None, lambda index: None)])
    samples = np.full(3000, -1, dtype=np.int64)
    sampler.reserve(3000)
    blocks = []
    for _ in range(3):
        before = sys.getallocatedblocks()
        timing.record(samples, sampler, ((0,), (1,)), clock=lambda: 0, span_ns=1, at_least=3000)
        blocks.append(sys.getallocatedblocks() - before)
    assert min(blocks) < 20
    assert np.all(samples == 1_500_000)


def test_the_stand_in_tells_unfinished_work(stand_in_cuda: ModuleType) -> None:
    """What the tests above rest on: nothing is done, and no event can be read, before a synchronize."""
    from runners.runner import RunnerError

    cuda = stand_in_cuda.StandInCuda()
    stream, start, end = cuda.stream(), cuda.event(), cuda.event()
    address, host = cuda.allocate(4), cuda.pinned((4,), np.uint8)
    host[:] = 7
    cuda.record(start, stream)
    cuda.copy_in(address, host, stream)
    cuda.record(end, stream)
    with pytest.raises(RunnerError, match="cudaErrorNotReady"):
        cuda.elapsed_ms(start, end)
    assert cuda.buffers[address].tolist() == [0xAB] * 4
    cuda.synchronize(end)
    assert cuda.buffers[address].tolist() == [7] * 4
    assert cuda.elapsed_ms(start, end) > 0
