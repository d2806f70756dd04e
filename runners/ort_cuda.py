"""ONNX Runtime's CUDA provider on device buffers: bound once per input, run and timed on our stream.

No card has run this code. Binding and running were tried on the CPU provider of ONNX Runtime 1.31; those of
CUDA are in runners/cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from runners.cuda import Cuda
from runners.device_timing import EventSampler, Lane
from runners.runner import HOST_CLOCK, Array, Clock, DeviceSide

# Without it `run_with_iobinding` waits for the device before it returns, and nothing is queued behind it.
ASYNCHRONOUS = "disable_synchronize_execution_providers"


def provider_options(cuda: Cuda, stream: Any, index: int) -> dict[str, str]:
    """The CUDA provider on our stream; without use_tf32=0 it computes fp32 in TF32 from Ampere on."""
    return {
        "device_id": str(index),
        "use_tf32": "0",
        "user_compute_stream": str(cuda.stream_address(stream)),
    }


class BoundSession:
    """A session's inputs and outputs on the device, each input bound with the one output buffer.

    `infer` enqueues on the stream that the session was made with; `outputs` waits for what it gives. `memory`
    is what ONNX Runtime calls the place that `cuda` allocates in.
    """

    def __init__(
        self,
        session: Any,
        cuda: Cuda,
        stream: Any,
        inputs: Sequence[Array],
        *,
        index: int,
        memory: str = "cuda",
    ) -> None:
        self._session, self._cuda, self._stream, self._memory = session, cuda, stream, memory
        self._done = cuda.event()
        name = session.get_inputs()[0].name
        # The first run tells the outputs' shapes, which a graph with an open batch does not.
        found = session.run(None, {name: inputs[0]})
        self._host = [cuda.pinned(value.shape, value.dtype) for value in found]
        self._outputs = [cuda.allocate(value.nbytes) for value in found]
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(ASYNCHRONOUS, "1")
        self._bindings = [self._bound(name, value, index) for value in inputs]
        self._finish()
        self._run: Callable[[Any, Any], None] = session.run_with_iobinding

    def infer(self, index: int) -> object:
        self._run(self._bindings[index], self._options)
        return None

    def outputs(self, index: int) -> list[Array]:
        for value, address in zip(self._host, self._outputs, strict=True):
            value.fill(0)  # what an earlier inference left here must not pass for this one's
            self._cuda.copy_in(address, value, self._stream)
        self.infer(index)
        for target, address in zip(self._host, self._outputs, strict=True):
            self._cuda.copy_out(target, address, self._stream)
        self._finish()
        return [np.array(value) for value in self._host]

    def device_side(self, free_before: int, *, clock: Clock = HOST_CLOCK) -> DeviceSide:
        """`free_before` are the device's free bytes before the session was made."""
        cuda = self._cuda

        def peak_bytes() -> tuple[int, str]:
            used = max(0, free_before - cuda.memory()[0])
            return used, "cudaMemGetInfo, before loading less after the timed part, of the whole device"

        sampler = EventSampler(cuda, [Lane(self._stream, self.infer)], clock=clock)
        return DeviceSide(sampler, peak_bytes, pci_bus_id=cuda.facts().pci_bus_id)

    def synchronize(self) -> None:
        self._finish()

    def _bound(self, name: str, value: Array, index: int) -> Any:
        cuda = self._cuda
        address, host = cuda.allocate(value.nbytes), cuda.pinned(value.shape, value.dtype)
        host[...] = value
        cuda.copy_in(address, host, self._stream)
        binding = self._session.io_binding()
        binding.bind_input(name, self._memory, index, value.dtype.type, value.shape, address)
        for told, target, output in zip(self._session.get_outputs(), self._host, self._outputs, strict=True):
            kind = target.dtype.type
            binding.bind_output(told.name, self._memory, index, kind, target.shape, output)
        return binding

    def _finish(self) -> None:
        self._cuda.record(self._done, self._stream)
        self._cuda.synchronize(self._done)
