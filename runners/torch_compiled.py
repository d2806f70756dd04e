"""PyTorch with torch.compile: inductor's kernels for the exported program, compiled while loading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from runners import probe
from runners.measurement import Job
from runners.runner import HOST_CLOCK, Array, Description, DeviceSide, RunnerError, runtime_options
from runners.torch_eager import (
    configure,
    description,
    enter_inference_mode,
    load_module,
    to_host,
    torch_device,
)

CALLS = 3  # graphs are captured in the second call on an input, and replayed from the third on


class TorchCompiledRunner:
    """Compilation, the first call included, belongs to `load`: its time is the load phase, never a sample.

    With the option `cuda_graph` it compiles in the mode "reduce-overhead", which captures graphs by itself
    and copies each input into one of its own.
    """

    timed = "torch.compile(module)(tensor), inductor's kernels for the exported program, in inference mode"

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False
        self.device_side: DeviceSide | None = None

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._compiler = _require_compiler()
        self._device = torch_device(job.device)
        self._mode_name = "reduce-overhead" if runtime_options(job)["cuda_graph"] else "default"
        self.asynchronous = self._device.type == "cuda"
        configure(job.threads)
        module = load_module(job, self._device)
        self._inputs = [torch.from_numpy(value).to(self._device) for value in inputs]
        self._mode = enter_inference_mode()
        self._module: Any = torch.compile(
            module, backend="inductor", fullgraph=True, dynamic=False, mode=self._mode_name
        )
        for _ in range(CALLS if self._mode_name != "default" else 1):
            for index in range(len(inputs)):
                self.infer(index)
        if self.asynchronous:
            from runners.torch_cuda import device_side

            self.device_side = device_side(self._device, self.infer)

    def infer(self, index: int) -> object:
        return self._module(self._inputs[index])

    def synchronize(self) -> None:
        torch.cuda.synchronize(self._device)

    def outputs(self, index: int) -> list[Array]:
        return to_host(self.infer(index))

    def describe(self) -> Description:
        options = {"backend": "inductor", "mode": self._mode_name, "fullgraph": "True", "dynamic": "False"}
        return description(
            self._device,
            self.timed,
            {**options, "compiler": self._compiler},
            cuda_graph=self._mode_name == "reduce-overhead",
        )

    def close(self) -> None:
        self._mode.__exit__(None, None, None)
        self.device_side = None
        del self._module, self._inputs


def _require_compiler() -> str:
    found = probe.compiler()
    if found is None:
        raise RunnerError(
            "unavailable",
            "torch.compile needs a C++ compiler and none is on PATH",
            "Install one (apt-get install g++), or name it in the environment variable CXX.",
        )
    return found
