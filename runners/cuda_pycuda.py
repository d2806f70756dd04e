"""The interface of runners/cuda.py over `pycuda`, for machines that have it and not NVIDIA's own binding.

It compiles against a driver, so it could be neither installed nor run where this was written: the calls
follow pycuda's reference and sources. CUDA graphs are left to the other binding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pycuda
import pycuda.driver as driver

from runners.cuda import DeviceFacts, fail
from runners.runner import Array, RunnerError


class PycudaCuda:
    """Device `index` in a context of its own, current in this thread, which libraries then use too."""

    def __init__(self, index: int, *, blocking: bool) -> None:
        self.name = f"pycuda {pycuda.VERSION_TEXT}"
        flags = driver.ctx_flags
        with _errors("cuInit", kind="unavailable"):
            driver.init()
            count = driver.Device.count()
            if index >= count:
                fail("cuDeviceGet", "cudaErrorInvalidDevice", f"device {index} of {count}")
            self._device = driver.Device(index)
            self._context = self._device.make_context(flags.BLOCKING_SYNC if blocking else flags.SCHED_SPIN)
        events = driver.event_flags
        self._event_flags = events.BLOCKING_SYNC if blocking else events.DEFAULT
        self._kept: list[Any] = []  # pycuda frees what nobody refers to

    def facts(self) -> DeviceFacts:
        attribute = driver.device_attribute.MULTIPROCESSOR_COUNT
        with _errors("cuDeviceGetAttribute"):
            major, minor = self._device.compute_capability()
            return DeviceFacts(
                name=str(self._device.name()),
                compute_capability=f"sm{major}{minor}",
                multiprocessors=int(self._device.get_attribute(attribute)),
                memory_bytes=int(self._device.total_memory()),
                driver_version=int(driver.get_driver_version()),
                pci_bus_id=str(self._device.pci_bus_id()),
            )

    def memory(self) -> tuple[int, int]:
        with _errors("cuMemGetInfo"):
            free, total = driver.mem_get_info()
        return int(free), int(total)

    def allocate(self, size_bytes: int) -> int:
        with _errors("cuMemAlloc"):
            self._kept.append(driver.mem_alloc(size_bytes))
        return int(self._kept[-1])

    def pinned(self, shape: Sequence[int], dtype: Any) -> Array:
        with _errors("cuMemHostAlloc"):
            self._kept.append(driver.pagelocked_empty(tuple(shape), dtype))
        made: Array = self._kept[-1]
        return made

    def copy_in(self, address: int, source: Array, stream: Any) -> None:
        with _errors("cuMemcpyHtoDAsync"):
            driver.memcpy_htod_async(address, source, stream)

    def copy_out(self, target: Array, address: int, stream: Any) -> None:
        with _errors("cuMemcpyDtoHAsync"):
            driver.memcpy_dtoh_async(target, address, stream)

    def stream(self) -> Any:
        with _errors("cuStreamCreate"):
            return driver.Stream()

    def stream_address(self, stream: Any) -> int:
        return int(stream.handle)

    def event(self) -> Any:
        with _errors("cuEventCreate"):
            return driver.Event(self._event_flags)

    def record(self, event: Any, stream: Any) -> None:
        with _errors("cuEventRecord"):
            event.record(stream)

    def wait(self, stream: Any, event: Any) -> None:
        with _errors("cuStreamWaitEvent"):
            stream.wait_for_event(event)

    def synchronize(self, event: Any) -> None:
        with _errors("cuEventSynchronize"):
            event.synchronize()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        with _errors("cuEventElapsedTime"):
            return float(end.time_since(start))

    def begin_capture(self, stream: Any) -> None:
        raise RunnerError(
            "load",
            "CUDA graphs are captured through cuda-bindings only, and this is pycuda",
            "Install it: pip install 'deploybench[trt]', or set cuda_graph=false.",
        )

    def end_capture(self, stream: Any) -> Any:
        self.begin_capture(stream)

    def launch(self, graph: Any, stream: Any) -> None:
        self.begin_capture(stream)

    def close(self) -> None:
        self._kept.clear()
        with _errors("cuCtxDetach"):
            self._context.pop()
            self._context.detach()


@contextmanager
def _errors(call: str, *, kind: str = "") -> Iterator[None]:
    """Turns pycuda's exceptions into RunnerError; its messages hold CUDA's own text."""
    try:
        yield
    except driver.MemoryError as error:
        fail(call, "CUDA_ERROR_OUT_OF_MEMORY", str(error))
    except driver.Error as error:
        fail(call, "cudaErrorInitializationError" if kind else type(error).__name__, str(error))
