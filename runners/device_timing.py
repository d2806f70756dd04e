"""Samples by CUDA events: the device's own clock on the streams that run the work, and the host's share.

A sample is the device pass over its inferences. It first enqueues one inference more per stream, which is not
timed: while it runs, the timed ones are enqueued behind it, so the span between the two events holds no wait
for the host unless the host is the slower of the two. That span is the sample.

Before some samples the same inferences run in a host pass. Each begins with an idle device and is waited for,
as by a caller who needs its result: `enqueue` sums the host's time until an inference is handed over, `host`
until it is finished. Waiting makes this pass slower than the other, several times so where inferences are
short; it takes a HOST_SHARE of the time, so there are fewer values of these two than samples, spread over the
round, and at least one.

With several lanes inference i runs on lane i modulo their number, and the span is that of the whole batch,
from the moment when every lane is free to the end of the last: divided by the loop count it is the inverse
of throughput, not a latency. So are `enqueue` and `host` then: a batch is enqueued back to back and waited
for once. With transfers every inference is copied in, computed and copied out on its stream, with an event
between each two; the sample sums the compute spans, `h2d` and `d2h` the others.

Events are float32 milliseconds in steps of about 0.5 µs, and only spans inside one sample are read. No card
has run this; a stand-in with a virtual device clock has (tests/runners/stand_in_cuda.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runners.measurement import Samples
from runners.runner import HOST_CLOCK, Clock

CLOCK_NAME = "CUDA events"
LOOPS_PER_LANE = 4  # so that filling and draining the lanes is a small part of a batch
HOST_SHARE = 0.25  # of the time of all samples, the passes included
PASSES = (
    "one untimed inference first, then the timed ones enqueued behind it between two CUDA events; host and"
    " enqueue from passes of their own, a quarter of the time at most, in which every inference (on several"
    " streams every batch) begins with an idle device and is waited for"
)


class Events(Protocol):
    """The events of one device: runners.cuda.Cuda has them, and torch."""

    def event(self) -> Any: ...

    def record(self, event: Any, stream: Any) -> None: ...

    def wait(self, stream: Any, event: Any) -> None: ...

    def synchronize(self, event: Any) -> None: ...

    def elapsed_ms(self, start: Any, end: Any) -> float: ...


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream, and what enqueues work on it: an inference on an input, and where asked its two copies."""

    stream: Any
    infer: Callable[[int], object]
    copy_in: Callable[[int], object] | None = None
    copy_out: Callable[[], object] | None = None

    def enqueue(self, index: int) -> None:
        if self.copy_in is not None:
            self.copy_in(index)
        self.infer(index)
        if self.copy_out is not None:
            self.copy_out()


class EventSampler:
    """Takes samples on one or more lanes of one device; see the module for what a sample is.

    Raises ValueError for transfers on several lanes: their copies and computations would overlap, and no span
    could be told from the other.
    """

    def __init__(self, events: Events, lanes: Sequence[Lane], *, clock: Clock = HOST_CLOCK) -> None:
        self._transfers = lanes[0].copy_in is not None
        if self._transfers and len(lanes) > 1:
            raise ValueError("transfers are timed on a single lane only")
        self.least_loops = LOOPS_PER_LANE * len(lanes) if len(lanes) > 1 else 1
        self._events, self._lanes, self._clock = events, tuple(lanes), clock
        self._enqueue = tuple(lane.enqueue if self._transfers else lane.infer for lane in lanes)
        self._done = tuple(events.event() for _ in lanes)
        self._start, self._end = events.event(), events.event()
        self._spans: list[tuple[Any, Any, Any, Any]] = []
        self._device_pass = self._transfer_pass if self._transfers else self._compute_pass
        self._host_pass = self._batch_host_pass if len(lanes) > 1 else self._waited_host_pass
        self.reserve(1)

    def reserve(self, count: int) -> None:
        names = ("host", "enqueue", *(("h2d", "d2h") if self._transfers else ()))
        self._parts = {name: np.full(count, -1, dtype=np.int64) for name in names}
        self._size, self._next, self._host_passes = count, 0, 0
        self._spent_ns = self._host_spent_ns = self._last_host_ns = 0
        self._orders: list[tuple[int, ...]] = []

    def parts(self, count: int) -> dict[str, Samples]:
        taken = {name: min(count, self._host_passes) for name in ("host", "enqueue")}
        return {name: values[: taken.get(name, count)].copy() for name, values in self._parts.items()}

    def sample(self, order: tuple[int, ...]) -> int:
        begin = self._clock()
        self._remember(order)
        if self._host_is_due():
            self._take_host()
        # While warming up the parts are not kept.
        elapsed_ns = self._device_pass(order, min(self._next, self._size - 1))
        self._next += 1
        self._spent_ns += self._clock() - begin
        return elapsed_ns

    def _remember(self, order: tuple[int, ...]) -> None:
        """Orders take turns in host passes too: those of the samples that have one may lack an input."""
        if self._orders and len(self._orders[0]) != len(order):
            self._orders.clear()
        if not any(order is known for known in self._orders):
            self._orders.append(order)

    def _host_is_due(self) -> bool:
        """Whether one more host pass, as long as the last, stays within the share; the first is free."""
        last_ns = self._last_host_ns
        return self._host_spent_ns + last_ns <= HOST_SHARE * (self._spent_ns + last_ns)

    def _take_host(self) -> None:
        order = self._orders[self._host_passes % len(self._orders)]
        place = min(self._host_passes, self._size - 1)
        begin = self._clock()
        self._parts["host"][place], self._parts["enqueue"][place] = self._host_pass(order)
        self._last_host_ns = self._clock() - begin
        self._host_spent_ns += self._last_host_ns
        self._host_passes += 1

    def _waited_host_pass(self, order: tuple[int, ...]) -> tuple[int, int]:
        clock, enqueue, finish = self._clock, self._enqueue[0], self._finish
        host_ns = enqueue_ns = 0
        for index in order:
            begin = clock()
            enqueue(index)
            handed_over = clock()
            finish()
            host_ns += clock() - begin
            enqueue_ns += handed_over - begin
        return host_ns, enqueue_ns

    def _batch_host_pass(self, order: tuple[int, ...]) -> tuple[int, int]:
        clock = self._clock
        begin = clock()
        self._enqueue_all(order)
        handed_over = clock()
        self._finish()
        return clock() - begin, handed_over - begin

    def _enqueue_all(self, order: tuple[int, ...]) -> None:
        if len(self._enqueue) == 1:
            enqueue = self._enqueue[0]
            for index in order:
                enqueue(index)
            return
        lane, lanes = 0, len(self._enqueue)
        for index in order:
            self._enqueue[lane](index)
            lane = (lane + 1) % lanes

    def _finish(self) -> None:
        """The host waits for everything that is enqueued."""
        for lane, done in zip(self._lanes, self._done, strict=True):
            self._events.record(done, lane.stream)
        for done in self._done:
            self._events.synchronize(done)

    def _compute_pass(self, order: tuple[int, ...], place: int) -> int:
        events, base = self._events, self._lanes[0].stream
        for enqueue in self._enqueue:
            enqueue(order[-1])
        self._join(base)
        events.record(self._start, base)
        for lane in self._lanes[1:]:
            events.wait(lane.stream, self._start)
        self._enqueue_all(order)
        self._join(base)
        events.record(self._end, base)
        events.synchronize(self._end)
        return _ns(events.elapsed_ms(self._start, self._end))

    def _join(self, base: Any) -> None:
        """Later work of the base stream waits for all other lanes."""
        for lane, done in zip(self._lanes[1:], self._done[1:], strict=True):
            self._events.record(done, lane.stream)
            self._events.wait(base, done)

    def _transfer_pass(self, order: tuple[int, ...], place: int) -> int:
        lane, record = self._lanes[0], self._events.record
        assert lane.copy_in is not None
        assert lane.copy_out is not None
        spans = self._enough_spans(len(order))
        lane.enqueue(order[-1])
        for index, (start, copied, computed, end) in zip(order, spans, strict=False):
            record(start, lane.stream)
            lane.copy_in(index)
            record(copied, lane.stream)
            lane.infer(index)
            record(computed, lane.stream)
            lane.copy_out()
            record(end, lane.stream)
        self._events.synchronize(spans[len(order) - 1][3])
        return self._read_spans(len(order), place)

    def _enough_spans(self, count: int) -> list[tuple[Any, Any, Any, Any]]:
        """Events are made while the loop is calibrated, which runs every loop count first."""
        event = self._events.event
        while len(self._spans) < count:
            self._spans.append((event(), event(), event(), event()))
        return self._spans

    def _read_spans(self, count: int, place: int) -> int:
        elapsed_ms = self._events.elapsed_ms
        copy_in = compute = copy_out = 0.0
        for start, copied, computed, end in self._spans[:count]:
            copy_in += elapsed_ms(start, copied)
            compute += elapsed_ms(copied, computed)
            copy_out += elapsed_ms(computed, end)
        self._parts["h2d"][place] = _ns(copy_in)
        self._parts["d2h"][place] = _ns(copy_out)
        return _ns(compute)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
