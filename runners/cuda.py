"""What the runners need of CUDA, behind one small interface, and which binding provides it.

Two bindings do: NVIDIA's `cuda.bindings` (package cuda-bindings) and `pycuda`. One is chosen when a runner
loads, and its name and version are part of the protocol. No card has run this code: its calls were checked
against `cuda.bindings` without a driver, its logic against a stand-in in tests/runners/stand_in_cuda.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from runners import probe
from runners.runner import Array, RunnerError

BINDINGS = {
    "cuda-bindings": ("cuda.bindings", "runners.cuda_bindings:BindingsCuda"),
    "pycuda": ("pycuda", "runners.cuda_pycuda:PycudaCuda"),
}
INSTALL = "Install one: pip install 'deploybench[trt]' (it brings cuda-bindings), or 'deploybench[pycuda]'."
DRIVER = "Run it on a machine with an NVIDIA GPU and a driver as new as this CUDA."
MEMORY = "Use a smaller batch or resolution, fewer streams, or end what else uses this GPU."

UNAVAILABLE = {
    "cudaErrorNoDevice",
    "cudaErrorInsufficientDriver",
    "cudaErrorInvalidDevice",
    "cudaErrorInitializationError",
    "cudaErrorDevicesUnavailable",
    "cudaErrorSystemDriverMismatch",
    "cudaErrorSystemNotReady",
    "cudaErrorCompatNotSupportedOnDevice",
    "cudaErrorIncompatibleDriverContext",
    "cudaErrorCallRequiresNewerDriver",
    "cudaErrorStubLibrary",
    "cudaErrorDeviceNotLicensed",
}


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A GPU as CUDA describes it; `compute_capability` is written like `sm89`."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    driver_version: int
    pci_bus_id: str = ""


class Cuda(Protocol):
    """One device of this process. Addresses are integers; streams, events and graphs are the binding's own.

    Every method raises RunnerError where CUDA reports an error. Copies and launches only enqueue: nothing is
    finished before `synchronize` of an event that was recorded after them.
    """

    name: str

    def facts(self) -> DeviceFacts: ...

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the whole device, other processes' use included."""

    def allocate(self, size_bytes: int) -> int:
        """Device memory, kept until `close`."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> Array:
        """A page-locked host array, kept until `close`: from others a copy is not asynchronous."""

    def copy_in(self, address: int, source: Array, stream: Any) -> None:
        """Host to device."""

    def copy_out(self, target: Array, address: int, stream: Any) -> None:
        """Device to host."""

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""

    def stream_address(self, stream: Any) -> int:
        """What libraries with an interface of their own take as the stream."""

    def event(self) -> Any:
        """An event that keeps the time; `synchronize` spins or blocks as the device was opened."""

    def record(self, event: Any, stream: Any) -> None: ...

    def wait(self, stream: Any, event: Any) -> None:
        """Later work of the stream waits for the event; the host does not."""

    def synchronize(self, event: Any) -> None:
        """The host waits for the event."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Between two finished events: a float32, in steps of about 0.5 µs."""

    def begin_capture(self, stream: Any) -> None: ...

    def end_capture(self, stream: Any) -> Any:
        """The captured work as an executable graph."""

    def launch(self, graph: Any, stream: Any) -> None: ...

    def close(self) -> None:
        """Frees what was allocated."""


def installed() -> tuple[str, ...]:
    """Bindings that can be imported, the preferred one first; none is imported by asking."""
    return tuple(name for name, (package, _) in BINDINGS.items() if probe.findable(package))


def open_device(index: int, *, blocking: bool, binding: str = "") -> Cuda:
    """The device through the named binding, or the first installed one.

    `blocking`: the host sleeps while it waits, where it spins otherwise. Raises RunnerError: `load` for an
    unknown name, `unavailable` without a binding, a driver or the device.
    """
    if binding and binding not in BINDINGS:
        raise RunnerError("load", f"unknown CUDA binding '{binding}'", f"Name one of: {', '.join(BINDINGS)}.")
    wanted = binding or next(iter(installed()), "")
    if not wanted:
        raise RunnerError("unavailable", f"no CUDA binding is installed ({', '.join(BINDINGS)})", INSTALL)
    module, _, name = BINDINGS[wanted][1].partition(":")
    try:
        implementation = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise RunnerError(
            "unavailable", f"CUDA binding '{wanted}' cannot be imported: {error}", INSTALL
        ) from None
    opened: Cuda = implementation(index, blocking=blocking)
    return opened


def fail(call: str, name: str, text: str) -> NoReturn:
    """Raises the RunnerError of a CUDA error: `unavailable`, `out_of_memory`, or else `infer`."""
    message = f"{call} failed: {name} ({text})"
    if name in UNAVAILABLE:
        raise RunnerError("unavailable", message, DRIVER, cuda_error=name)
    if name in ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY"):
        raise RunnerError("out_of_memory", message, MEMORY, cuda_error=name)
    advice = "See CUDA's name for the error; after a launch failure the process's context is lost."
    raise RunnerError("infer", message, advice, cuda_error=name)
