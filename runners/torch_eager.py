"""PyTorch eager: the exported program's graph, operator by operator, in inference mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from runners import parse_device
from runners.device_timing import CLOCK_NAME, PASSES
from runners.measurement import Job
from runners.runner import (
    BLOCKING,
    HOST_CLOCK,
    Array,
    Description,
    DeviceSide,
    RunnerError,
    require_precision,
    runtime_options,
)

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class TorchEagerRunner:
    """`infer` calls the module on a tensor that already lies on the device.

    With the option `cuda_graph` it replays a graph that was captured for that input.
    """

    timed = "module(tensor) of the exported program's graph, without its input guards, in inference mode"

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False
        self.device_side: DeviceSide | None = None
        self._graphs: Any = None

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._device = torch_device(job.device)
        graphed = runtime_options(job)["cuda_graph"]
        self.asynchronous = self._device.type == "cuda"
        configure(job.threads)
        self._module: Any = load_module(job, self._device)
        self._inputs = [torch.from_numpy(value).to(self._device) for value in inputs]
        self._mode = enter_inference_mode()
        if graphed:
            from runners.torch_cuda import Graphs

            self._graphs = Graphs(self._module, self._inputs)
            self.infer = self._graphs.replay  # type: ignore[method-assign]
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
        timed = "replay of a captured torch.cuda.CUDAGraph" if self._graphs else self.timed
        return description(self._device, timed, {}, cuda_graph=self._graphs is not None)

    def close(self) -> None:
        self._mode.__exit__(None, None, None)
        self.device_side = self._graphs = None
        del self._module, self._inputs


def torch_device(device: str) -> torch.device:
    """The device, checked to be here and made the current one; raises RunnerError `unavailable`."""
    kind, index = parse_device(device)
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "cuda" and torch.cuda.is_available() and index < torch.cuda.device_count():
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    raise RunnerError(
        "unavailable",
        f"torch sees no device '{device}' here ({torch.cuda.device_count()} CUDA devices)",
        "Install a CUDA build of torch on a machine with an NVIDIA GPU, or ask for device 'cpu'.",
    )


def configure(threads: int) -> None:
    """Thread counts, and fp32 that is fp32: cuDNN computes convolutions in TF32 unless told not to."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def load_module(job: Job, device: torch.device) -> torch.nn.Module:
    """The exported program as a module on the device, its parameters' type checked against the request."""
    module = torch.export.load(job.artifact).module(check_guards=False).to(device)
    for value in module.parameters():
        if value.is_floating_point():
            require_precision(job, PRECISIONS.get(value.dtype, str(value.dtype)), "the exported program")
    return module


def enter_inference_mode() -> torch.inference_mode:
    """Inference mode for as long as the returned guard is kept: entering it at each call would be timed."""
    mode = torch.inference_mode()
    mode.__enter__()
    return mode


def to_host(result: Any) -> list[Array]:
    values = result if isinstance(result, (tuple, list)) else [result]
    return [value.detach().cpu().numpy().copy() for value in values]


def description(
    device: torch.device, timed: str, options: dict[str, str], *, cuda_graph: bool = False
) -> Description:
    """Version and settings as torch itself reports them."""
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability()
    return Description(
        runtime=f"torch {torch.__version__} {name}",
        timed=f"{timed}; {PASSES}" if cuda else timed,
        sync="torch.cuda.Event.synchronize after every sample" if cuda else BLOCKING,
        clock=CLOCK_NAME if cuda else "host",
        cuda_graph=cuda_graph,
        options={
            "inference_mode": str(torch.is_inference_mode_enabled()),
            "num_threads": str(torch.get_num_threads()),
            "interop_threads": str(torch.get_num_interop_threads()),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn.allow_tf32": str(torch.backends.cudnn.allow_tf32),
            "cudnn.benchmark": str(torch.backends.cudnn.benchmark),
            **options,
        },
    )
