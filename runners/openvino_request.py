"""OpenVINO: one compiled model, one stream, one infer request that is reused."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov

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

# An int8 graph says itself what is computed in 8 bits; the rest of it stays fp32.
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
TYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}

REPORTED = (
    "EXECUTION_DEVICES",
    "PERFORMANCE_HINT",
    "EXECUTION_MODE_HINT",
    "NUM_STREAMS",
    "INFERENCE_NUM_THREADS",
    "ENABLE_CPU_PINNING",
    "ENABLE_HYPER_THREADING",
)
HEAVY_LAYERS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")


class OpenVinoRunner:
    """`infer` sets the input tensor, which shares the host array, and runs the request to its end."""

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._job = job
        self._compiled: Any = _compile(job)
        _check_inputs(self._compiled)
        self._precisions = _check_precision(self._compiled, job)
        self._request: Any = self._compiled.create_infer_request()
        self._arrays = list(inputs)  # the tensors below share this memory
        self._tensors = [ov.Tensor(value, shared_memory=True) for value in self._arrays]

    def infer(self, index: int) -> object:
        self._request.set_input_tensor(self._tensors[index])
        return self._request.infer(share_outputs=True)

    def synchronize(self) -> None:
        """Nothing is left to wait for: `infer` blocks."""

    def outputs(self, index: int) -> list[Array]:
        self.infer(index)
        return as_arrays([tensor.data for tensor in self._request.output_tensors])

    def describe(self) -> Description:
        version = ov.__version__.partition("-releases")[0]
        return Description(
            runtime=f"openvino {version}",
            timed="set_input_tensor and InferRequest.infer, input shared with the host, outputs not copied",
            options={
                **{name: str(self._compiled.get_property(name)) for name in REPORTED},
                "INFERENCE_PRECISION_HINT": self._compiled.get_property(
                    "INFERENCE_PRECISION_HINT"
                ).get_type_name(),
                "executed_precision": self._precisions,
            },
        )

    def profile(self) -> Mapping[str, int]:
        """Nanoseconds of one inference by layer. The timed request is given up for it."""
        from runners import openvino_profile

        del self._request, self._compiled
        return openvino_profile.profile(_compile(self._job, PERF_COUNT=True), self._tensors)

    def close(self) -> None:
        del self._request, self._compiled


def _compile(job: Job, **properties: Any) -> Any:
    """The compiled model; without a precision hint OpenVINO runs fp32 graphs in bf16 on CPUs with AMX."""
    kind, _ = parse_device(job.device)
    core = ov.Core()
    if kind != "cpu" or "CPU" not in core.available_devices:
        found = ", ".join(core.available_devices)
        raise RunnerError(
            "unavailable",
            f"OpenVINO has no device '{job.device}' here (it has {found})",
            "Ask for device 'cpu'.",
        )
    if job.precision not in HINTS:
        raise RunnerError(
            "precision_mismatch",
            f"the OpenVINO runner cannot be told to run {job.precision}",
            f"Ask for one of: {', '.join(HINTS)}.",
        )
    return core.compile_model(str(job.artifact), "CPU", {**_properties(job), **properties})


def _properties(job: Job) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": job.threads,
        "INFERENCE_PRECISION_HINT": HINTS[job.precision],
        # Empty: the runtime's own default, which is read back and recorded.
        **{name: value for name, value in runtime_options(job).items() if value},
    }


def _check_inputs(compiled: Any) -> None:
    if len(compiled.inputs) != 1:
        names = ", ".join(port.any_name for port in compiled.inputs)
        raise RunnerError(
            "load", f"the graph has {len(compiled.inputs)} inputs ({names})", "Export a single-input graph."
        )


def _check_precision(compiled: Any, job: Job) -> str:
    """The precision that the executed graph's heavy layers really run in, checked against the request.

    In int8 it is that of most of them: how many stay in fp32 is the network's own, and no other protocol.
    """
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    heavy = [precision for layer, precision in _executed_layers(compiled) if layer in HEAVY_LAYERS]
    counts = collections.Counter(TYPES.get(precision, precision) for precision in heavy)
    if job.precision == "int8":  # products of two activations, as in attention, stay fp32 here
        for found, _ in counts.most_common(1):
            require_precision(job, found, "most of the heavy layers of OpenVINO's executed graph")
        return job.precision if heavy else ""
    require_precision(job, TYPES.get(hint, hint), "OpenVINO (INFERENCE_PRECISION_HINT read back)")
    for found in sorted(counts):
        require_precision(job, found, "a layer of OpenVINO's executed graph")
    return ",".join(sorted(set(heavy)))


def _executed_layers(compiled: Any) -> list[tuple[str, str]]:
    infos = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    return [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in infos]
