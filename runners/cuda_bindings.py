"""The interface of runners/cuda.py over NVIDIA's own Python bindings, `cuda.bindings.runtime`.

Each call returns a tuple that begins with a status. Signatures, constants and tuple lengths were checked
against version 13.5 on a machine without a driver, where every call answers with an error; no card has run
it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from cuda.bindings import runtime as rt

from runners.cuda import DeviceFacts, fail
from runners.runner import Array, RunnerError

SUCCESS = rt.cudaError_t.cudaSuccess
TO_DEVICE = rt.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
# Only calls of this thread are checked while it captures: a runtime's helper threads may allocate.
CAPTURE_MODE = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
PCI_TEXT = 32


class BindingsCuda:
    """Device `index` of this process through the CUDA runtime's primary context."""

    def __init__(self, index: int, *, blocking: bool) -> None:
        self.name = f"cuda-bindings {metadata.version('cuda-bindings')}"
        count = call("cudaGetDeviceCount")
        if index >= count:
            raise RunnerError(
                "unavailable",
                f"there is no CUDA device {index}: CUDA sees {count}",
                "Ask for a smaller index, or see CUDA_VISIBLE_DEVICES.",
            )
        self._index = index
        self._event_flags = rt.cudaEventBlockingSync if blocking else rt.cudaEventDefault
        self._addresses: list[int] = []
        self._host: list[int] = []
        call("cudaSetDevice", index)
        call(
            "cudaSetDeviceFlags", rt.cudaDeviceScheduleBlockingSync if blocking else rt.cudaDeviceScheduleSpin
        )

    def facts(self) -> DeviceFacts:
        kind = rt.cudaDeviceAttr
        major, minor, multiprocessors = (
            int(call("cudaDeviceGetAttribute", attribute, self._index))
            for attribute in (
                kind.cudaDevAttrComputeCapabilityMajor,
                kind.cudaDevAttrComputeCapabilityMinor,
                kind.cudaDevAttrMultiProcessorCount,
            )
        )
        return DeviceFacts(
            name=_text(call("cudaGetDeviceProperties", self._index).name),
            compute_capability=f"sm{major}{minor}",
            multiprocessors=multiprocessors,
            memory_bytes=self.memory()[1],
            driver_version=int(call("cudaDriverGetVersion")),
            pci_bus_id=_text(call("cudaDeviceGetPCIBusId", PCI_TEXT, self._index)),
        )

    def memory(self) -> tuple[int, int]:
        free, total = call("cudaMemGetInfo")
        return int(free), int(total)

    def allocate(self, size_bytes: int) -> int:
        address = int(call("cudaMalloc", size_bytes))
        self._addresses.append(address)
        return address

    def pinned(self, shape: Sequence[int], dtype: Any) -> Array:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        address = int(call("cudaHostAlloc", count * kind.itemsize, rt.cudaHostAllocDefault))
        self._host.append(address)
        memory = (ctypes.c_uint8 * (count * kind.itemsize)).from_address(address)
        return np.frombuffer(memory, dtype=kind, count=count).reshape(shape)

    def copy_in(self, address: int, source: Array, stream: Any) -> None:
        status = rt.cudaMemcpyAsync(address, source.ctypes.data, source.nbytes, TO_DEVICE, stream)[0]
        if status != SUCCESS:
            _fail("cudaMemcpyAsync", status)

    def copy_out(self, target: Array, address: int, stream: Any) -> None:
        status = rt.cudaMemcpyAsync(target.ctypes.data, address, target.nbytes, TO_HOST, stream)[0]
        if status != SUCCESS:
            _fail("cudaMemcpyAsync", status)

    def stream(self) -> Any:
        return call("cudaStreamCreateWithFlags", rt.cudaStreamNonBlocking)

    def stream_address(self, stream: Any) -> int:
        return int(stream)

    def event(self) -> Any:
        return call("cudaEventCreateWithFlags", self._event_flags)

    def record(self, event: Any, stream: Any) -> None:
        status = rt.cudaEventRecord(event, stream)[0]
        if status != SUCCESS:
            _fail("cudaEventRecord", status)

    def wait(self, stream: Any, event: Any) -> None:
        status = rt.cudaStreamWaitEvent(stream, event, 0)[0]
        if status != SUCCESS:
            _fail("cudaStreamWaitEvent", status)

    def synchronize(self, event: Any) -> None:
        status = rt.cudaEventSynchronize(event)[0]
        if status != SUCCESS:
            _fail("cudaEventSynchronize", status)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        status, elapsed = rt.cudaEventElapsedTime(start, end)
        if status != SUCCESS:
            _fail("cudaEventElapsedTime", status)
        return float(elapsed)

    def begin_capture(self, stream: Any) -> None:
        call("cudaStreamBeginCapture", stream, CAPTURE_MODE)

    def end_capture(self, stream: Any) -> Any:
        """The template graph is not freed: a measuring process ends soon, and it holds no device memory."""
        return call("cudaGraphInstantiate", call("cudaStreamEndCapture", stream), 0)

    def launch(self, graph: Any, stream: Any) -> None:
        status = rt.cudaGraphLaunch(graph, stream)[0]
        if status != SUCCESS:
            _fail("cudaGraphLaunch", status)

    def close(self) -> None:
        while self._addresses:
            call("cudaFree", self._addresses.pop())
        while self._host:
            call("cudaFreeHost", self._host.pop())


def call(name: str, *arguments: Any) -> Any:
    """A runtime call by its name: its result, several as a tuple, None for none. Raises RunnerError."""
    status, *values = getattr(rt, name)(*arguments)
    if status != SUCCESS:
        _fail(name, status)
    return (values[0] if len(values) == 1 else tuple(values)) if values else None


def _fail(name: str, status: Any) -> None:
    fail(name, _text(rt.cudaGetErrorName(status)[1]), _text(rt.cudaGetErrorString(status)[1]))


def _text(value: bytes | str) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.partition("\0")[0]
