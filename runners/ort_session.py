"""ONNX Runtime: one sequential session, the requested execution provider or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort

from runners import parse_device
from runners.measurement import Job
from runners.runner import (
    HOST_CLOCK,
    Array,
    Description,
    RunnerError,
    as_arrays,
    require_precision,
    runtime_options,
)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
SPINNING = "session.intra_op.allow_spinning"

# The runtime's own default: its workers spin between inferences. With one thread there are no workers.
DEFAULTS = {"allow_spinning": "1", "graph_optimization": "all"}

ELEMENT_PRECISIONS = {
    "tensor(float)": "fp32",
    "tensor(float16)": "fp16",
    "tensor(bfloat16)": "bf16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "int8",
}


class OrtSessionRunner:
    """`infer` is exactly `session.run(None, feed)` on host arrays, as a user would call it."""

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._job = job
        self._provider = _provider(job.device)
        self._asked = runtime_options(job, DEFAULTS)
        self._options = _session_options(job.threads, self._asked)
        self._session: Any = ort.InferenceSession(
            str(job.artifact), self._options, providers=[_with_options(self._provider, job.device)]
        )
        _check_provider(self._session.get_providers(), self._provider, job.device)
        name = _input_name(self._session, job)
        self._feeds = [{name: value} for value in inputs]

    def infer(self, index: int) -> object:
        return self._session.run(None, self._feeds[index])

    def synchronize(self) -> None:
        """Nothing is left to wait for: `run` returns with the outputs on the host."""

    def outputs(self, index: int) -> list[Array]:
        return as_arrays(self._session.run(None, self._feeds[index]))

    def describe(self) -> Description:
        return Description(
            runtime=f"onnxruntime {ort.__version__} {self._provider}",
            timed="session.run(None, feed) on host arrays, outputs allocated by the runtime",
            transfers="none" if self._provider == PROVIDERS["cpu"] else "host to device and back",
            options=self._read_back(),
        )

    def close(self) -> None:
        del self._session

    def _read_back(self) -> dict[str, str]:
        options, provider = self._options, self._session.get_provider_options()[self._provider]
        return {
            "intra_op_num_threads": str(options.intra_op_num_threads),
            "inter_op_num_threads": str(options.inter_op_num_threads),
            "execution_mode": options.execution_mode.name,
            "graph_optimization_level": options.graph_optimization_level.name,
            "allow_spinning": "no workers"
            if self._job.threads == 1
            else options.get_session_config_entry(SPINNING),
            **{f"provider.{key}": str(value) for key, value in sorted(provider.items())},
        }


def _provider(device: str) -> str:
    kind, _ = parse_device(device)
    provider = PROVIDERS.get(kind)
    available = ort.get_available_providers()
    if provider is None or provider not in available:
        raise RunnerError(
            "unavailable",
            f"this ONNX Runtime has no provider for device '{device}' (it has {', '.join(available)})",
            "Install onnxruntime-gpu on a machine with an NVIDIA GPU, or ask for device 'cpu'.",
        )
    return provider


def _with_options(provider: str, device: str) -> str | tuple[str, dict[str, str]]:
    if provider == PROVIDERS["cpu"]:
        return provider
    # Without use_tf32=0 the CUDA provider computes fp32 convolutions in TF32 from Ampere on.
    return provider, {"device_id": str(parse_device(device)[1]), "use_tf32": "0"}


def _session_options(threads: int, asked: dict[str, str]) -> Any:
    if asked["graph_optimization"] not in LEVELS or asked["allow_spinning"] not in ("0", "1"):
        raise RunnerError(
            "load",
            f"ONNX Runtime option out of range in {asked}",
            f"graph_optimization is one of {', '.join(LEVELS)}; allow_spinning is 0 or 1.",
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = LEVELS[asked["graph_optimization"]]
    options.log_severity_level = 3
    options.add_session_config_entry(SPINNING, asked["allow_spinning"])
    return options


def _check_provider(found: list[str], wanted: str, device: str) -> None:
    """ONNX Runtime falls back to the CPU with a warning when a provider cannot start; here it may not."""
    if not found or found[0] != wanted:
        raise RunnerError(
            "unavailable",
            f"ONNX Runtime started {', '.join(found)} where {wanted} was asked for (device '{device}')",
            "Check the GPU driver and that its CUDA and cuDNN versions fit this onnxruntime-gpu.",
        )


def _input_name(session: Any, job: Job) -> str:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise RunnerError(
            "load",
            f"the graph has {len(inputs)} inputs ({names}); one is supported",
            "Export a single-input graph.",
        )
    if job.precision in ("fp32", "fp16"):
        require_precision(job, ELEMENT_PRECISIONS.get(inputs[0].type, inputs[0].type), "the graph's input")
    return str(inputs[0].name)
