"""A GPU that is not there: `runners.cuda.Cuda` in memory, with a virtual clock and an asynchronous queue.

What is enqueued changes no memory before the host synchronizes with an event recorded after it, so a
missing synchronize shows stale bytes, a wrong order of events shows wrong spans, and reading an unfinished
event fails as CUDA's does. It is used by tests alone and proves the logic around CUDA, not the calls into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runners.cuda import DeviceFacts, fail

CALL_NS = 500  # host time of one call


@dataclass
class Operation:
    """Work on a stream: how long the device takes, what it does to memory, what it waits for."""

    duration_ns: int
    effect: Callable[[], None] = lambda: None


@dataclass
class Event:
    time_ns: int = 0
    recorded: bool = False
    finished: bool = False
    stream: Stream | None = None
    place: int = 0  # operations of the stream that come before it


@dataclass
class Stream:
    address: int
    ready_ns: int = 0
    pending: deque[Callable[[], None]] = field(default_factory=deque)
    done: int = 0
    captured: list[Operation] | None = None


class StandInCuda:
    """`memory_bytes` bounds what can be allocated; `fault` is "", "capture" or "lost" (after 40 launches)."""

    name = "stand-in 1"
    Operation = Operation

    def __init__(self, *, memory_bytes: int = 1 << 30, fault: str = "") -> None:
        self.now_ns = 1_000_000
        self.fault = fault
        self.blocking: bool | None = None
        self.launches = 0
        self.synchronizations = 0
        self._total = self._free = memory_bytes
        self._next = 0x1000
        self.buffers: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self._pinned: list[np.ndarray] = []

    # -- as the opening function and the clock of a runner --

    def open_device(self, index: int, *, blocking: bool, binding: str = "") -> StandInCuda:
        self.blocking = blocking
        return self

    def clock(self) -> int:
        self.now_ns += 20
        return self.now_ns

    # -- the interface --

    def facts(self) -> DeviceFacts:
        return DeviceFacts("Stand-in GPU", "sm89", 4, self._total, 13000, "0000:01:00.0")

    def memory(self) -> tuple[int, int]:
        return self._free, self._total

    def allocate(self, size_bytes: int) -> int:
        if size_bytes > self._free:
            fail("cudaMalloc", "cudaErrorMemoryAllocation", "out of memory")
        self._free -= size_bytes
        self._next += 0x100000
        self.buffers[self._next] = np.full(size_bytes, 0xAB, dtype=np.uint8)
        return self._next

    def pinned(self, shape: Any, dtype: Any) -> np.ndarray:
        self._pinned.append(np.zeros(shape, dtype))
        return self._pinned[-1]

    def copy_in(self, address: int, source: np.ndarray, stream: Stream) -> None:
        self._require_pinned(source)

        def effect() -> None:
            self.buffers[address][: source.nbytes] = np.frombuffer(source.tobytes(), np.uint8)

        self.submit(stream, Operation(source.nbytes, effect))

    def copy_out(self, target: np.ndarray, address: int, stream: Stream) -> None:
        self._require_pinned(target)

        def effect() -> None:
            target[...] = self.buffers[address][: target.nbytes].view(target.dtype).reshape(target.shape)

        self.submit(stream, Operation(2 * target.nbytes, effect))

    def stream(self) -> Stream:
        self._next += 0x100000
        return self.streams.setdefault(self._next, Stream(self._next))

    def stream_address(self, stream: Stream) -> int:
        return stream.address

    def event(self) -> Event:
        return Event()

    def record(self, event: Event, stream: Stream) -> None:
        self.now_ns += CALL_NS
        if stream.captured is not None:
            fail("cudaEventRecord", "cudaErrorStreamCaptureUnsupported", "the stream is capturing")
        event.time_ns = max(stream.ready_ns, self.now_ns)
        event.recorded, event.finished, event.stream = True, False, stream
        stream.pending.append(lambda: setattr(event, "finished", True))
        event.place = stream.done + len(stream.pending)

    def wait(self, stream: Stream, event: Event) -> None:
        self.now_ns += CALL_NS
        assert event.recorded, "a stream waits for an event that was never recorded: CUDA would not wait"
        stream.ready_ns = max(stream.ready_ns, event.time_ns)
        origin, place = event.stream, event.place
        stream.pending.append(lambda: self._run(origin, place))

    def synchronize(self, event: Event) -> None:
        self.synchronizations += 1
        assert event.recorded, "the host waits for an event that was never recorded: CUDA would not wait"
        self.now_ns = max(self.now_ns, event.time_ns) + CALL_NS
        self._run(event.stream, event.place)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        for event in (start, end):
            if not event.recorded:
                fail("cudaEventElapsedTime", "cudaErrorInvalidResourceHandle", "never recorded")
            if not event.finished:
                fail("cudaEventElapsedTime", "cudaErrorNotReady", "device not ready")
        return float(np.float32((end.time_ns - start.time_ns) / 1e6))

    def begin_capture(self, stream: Stream) -> None:
        stream.captured = []

    def end_capture(self, stream: Stream) -> list[Operation]:
        graph, stream.captured = stream.captured, None
        assert graph is not None
        if self.fault == "capture":
            fail("cudaStreamEndCapture", "cudaErrorStreamCaptureInvalidated", "an operation invalidated it")
        return graph

    def launch(self, graph: list[Operation], stream: Stream) -> None:
        self.launches += 1
        if self.fault == "lost" and self.launches > 40:
            fail("cudaGraphLaunch", "cudaErrorLaunchFailure", "unspecified launch failure")
        self.now_ns += CALL_NS
        for operation in graph:
            self.submit(stream, operation, call_ns=0)

    def close(self) -> None:
        self.buffers.clear()

    # -- what the stand-in engine uses --

    def submit(self, stream: Stream, operation: Operation, *, call_ns: int = CALL_NS) -> None:
        self.now_ns += call_ns
        if stream.captured is not None:
            stream.captured.append(operation)
            return
        stream.ready_ns = max(stream.ready_ns, self.now_ns) + operation.duration_ns
        stream.pending.append(operation.effect)

    def _run(self, stream: Stream | None, place: int) -> None:
        assert stream is not None
        while stream.done < place:
            effect = stream.pending.popleft()
            stream.done += 1
            effect()

    def _require_pinned(self, array: np.ndarray) -> None:
        assert any(array is known for known in self._pinned), "an asynchronous copy from pageable memory"
