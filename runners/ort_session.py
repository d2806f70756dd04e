"""ONNX Runtime: one sequential session, the requested execution provider or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime as ort

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
# From here on QuantizeLinear pairs and what is between them become one 8-bit operator.
FUSING_LEVELS = ("extended", "all")
COMPUTES = "deploybench.computes"
STREAM = "user_compute_stream"
SPINNING = "session.intra_op.allow_spinning"

ELEMENT_PRECISIONS = {
    "tensor(float)": "fp32",
    "tensor(float16)": "fp16",
    "tensor(bfloat16)": "bf16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "int8",
}


class OrtSessionRunner:
    """`infer` is exactly `session.run(None, feed)` on host arrays, as a user would call it.

    On a GPU it is `run_with_iobinding`, inputs and outputs on the device (runners/ort_cuda.py).
    """

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False
        self.device_side: DeviceSide | None = None

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._job = job
        self._place = self._provider = _provider(job.device)
        self._asked = runtime_options(job)
        self._options = _session_options(job.threads, self._asked)
        if self._provider == PROVIDERS["cuda"]:
            self._load_on_gpu(job, inputs)
            return
        self._session: Any = self._new_session(job, self._provider)
        name = _input_name(self._session, job)
        self._feeds = [{name: value} for value in inputs]

    def _load_on_gpu(self, job: Job, inputs: Sequence[Array]) -> None:
        from runners import cuda as cuda_interface
        from runners import ort_cuda

        index = parse_device(job.device)[1]
        cuda = cuda_interface.open_device(index, blocking=False)
        self._place = f"{self._provider} on {cuda.facts().name}"
        free_before, stream = cuda.memory()[0], cuda.stream()
        options = ort_cuda.provider_options(cuda, stream, index)
        self._session = self._new_session(job, (self._provider, options))
        _input_name(self._session, job)
        bound = ort_cuda.BoundSession(self._session, cuda, stream, inputs, index=index)
        self.asynchronous = True
        self.infer = bound.infer  # type: ignore[method-assign]
        self.outputs = bound.outputs  # type: ignore[method-assign]
        self.synchronize = bound.synchronize  # type: ignore[method-assign]
        self.device_side = bound.device_side(free_before)

    def _new_session(self, job: Job, provider: str | tuple[str, dict[str, str]]) -> Any:
        session = ort.InferenceSession(str(job.artifact), self._options, providers=[provider])
        _check_provider(session.get_providers(), self._provider, job.device)
        return session

    def infer(self, index: int) -> object:
        return self._session.run(None, self._feeds[index])

    def synchronize(self) -> None:
        """Nothing is left to wait for: `run` returns with the outputs on the host."""

    def outputs(self, index: int) -> list[Array]:
        return as_arrays(self._session.run(None, self._feeds[index]))

    def describe(self) -> Description:
        on_gpu = self.device_side is not None
        bound = f"session.run_with_iobinding, inputs and outputs on the device, no TF32; {PASSES}"
        return Description(
            runtime=f"onnxruntime {ort.__version__} {self._place}",
            timed=bound
            if on_gpu
            else "session.run(None, feed) on host arrays, outputs allocated by the runtime",
            sync="cudaEventSynchronize after every sample, spinning" if on_gpu else BLOCKING,
            clock=CLOCK_NAME if on_gpu else "host",
            options=self._read_back(),
        )

    def profile(self) -> Mapping[str, int]:
        """Nanoseconds of one inference by layer, on the CPU. The timed session is given up for it."""
        from runners import ort_profile

        del self._session
        options = _session_options(self._job.threads, self._asked)
        return ort_profile.profile(self._job.artifact, options, self._provider, self._feeds)

    def close(self) -> None:
        self.device_side = None
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
            # The stream's address is another one in every process, and would make every round a protocol.
            **{f"provider.{key}": str(value) for key, value in sorted(provider.items()) if key != STREAM},
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


def _session_options(threads: int, asked: dict[str, Any]) -> Any:
    level = LEVELS[asked["graph_optimization"]]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.add_session_config_entry(SPINNING, "1" if asked["allow_spinning"] else "0")
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
    _check_precision(session, job)
    return str(inputs[0].name)


def _check_precision(session: Any, job: Job) -> None:
    """In which precision the graph computes: as its conversion read it from the types of all its nodes.

    A file of other origin says it by its input's type.
    """
    computes = session.get_modelmeta().custom_metadata_map.get(COMPUTES)
    if computes is not None:
        require_precision(job, computes, "the graph")
    else:
        kind = session.get_inputs()[0].type
        require_precision(job, ELEMENT_PRECISIONS.get(kind, kind), "the graph's input")
    level = runtime_options(job)["graph_optimization"]
    if job.precision == "int8" and level not in FUSING_LEVELS:
        raise RunnerError(
            "precision_mismatch",
            f"with graph_optimization={level} ONNX Runtime computes an int8 graph in fp32",
            f"Use one of: {', '.join(FUSING_LEVELS)}.",
            asked=job.precision,
            found="fp32",
        )
