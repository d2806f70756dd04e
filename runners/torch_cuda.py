"""PyTorch's work on a GPU: its events for the sampler, graphs of a module, and what the device tells.

No card has run this code. Its names are those of torch 2.14, looked up without a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runners.device_timing import EventSampler, Lane
from runners.runner import DeviceSide, RunnerError

WARM_UPS = 3  # runs before a capture, as torch.cuda.graphs asks for


class TorchEvents:
    """`torch.cuda.Event` with the methods that EventSampler wants."""

    def event(self) -> Any:
        return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def record(self, event: Any, stream: Any) -> None:
        event.record(stream)

    def wait(self, stream: Any, event: Any) -> None:
        stream.wait_event(event)

    def synchronize(self, event: Any) -> None:
        event.synchronize()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end))


class Graphs:
    """A captured graph of the module for each input, which lies where it was when it was captured.

    `replay` gives the same tensors each time for an input: their values are those of its last replay.
    Raises RunnerError `load` where the module cannot be captured.
    """

    def __init__(self, module: Callable[[Any], Any], inputs: Sequence[Any]) -> None:
        self._graphs: list[Any] = []
        self._outputs: list[Any] = []
        try:
            self._warm_up(module, inputs)
            for value in inputs:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._outputs.append(module(value))
                self._graphs.append(graph)
        except RuntimeError as error:
            raise RunnerError(
                "load", f"CUDA graph capture failed: {error}", "Time it without: cuda_graph=false."
            ) from error

    def replay(self, index: int) -> object:
        self._graphs[index].replay()
        return self._outputs[index]

    def _warm_up(self, module: Callable[[Any], Any], inputs: Sequence[Any]) -> None:
        """On a stream of its own: libraries allocate at first use, which a capture does not allow."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                for value in inputs:
                    module(value)
        torch.cuda.current_stream().wait_stream(side)


def device_side(device: torch.device, infer: Callable[[int], object]) -> DeviceSide:
    """One lane on the stream that is current for the device, where the modules run too."""
    sampler = EventSampler(TorchEvents(), [Lane(torch.cuda.current_stream(device), infer)])
    return DeviceSide(sampler, lambda: _peak_bytes(device), pci_bus_id=pci_bus_id(device))


def pci_bus_id(device: torch.device) -> str:
    """As NVML writes it; empty where this torch does not tell."""
    found: Any = torch.cuda.get_device_properties(device)
    if not all(hasattr(found, name) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")):
        return ""
    return f"{found.pci_domain_id:08X}:{found.pci_bus_id:02X}:{found.pci_device_id:02X}.0"


def _peak_bytes(device: torch.device) -> tuple[int, str]:
    peak = int(torch.cuda.max_memory_reserved(device))
    return peak, "torch.cuda.max_memory_reserved, without the context and libraries"
