"""Runtimes that are timed: one file each, one timing loop, one fresh process per round.

Importing this package imports no runtime: planning, `list` and `doctor` read the literal tables below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.spec import WEIGHT_PRECISIONS
from runners.options import OPTIONS, RuntimeOption

RUNNERS: dict[str, str] = {
    "torch": "runners.torch_eager:TorchEagerRunner",
    "torch-compile": "runners.torch_compiled:TorchCompiledRunner",
    "onnxruntime": "runners.ort_session:OrtSessionRunner",
    "openvino": "runners.openvino_request:OpenVinoRunner",
    "trt": "runners.trt_engine:TrtEngineRunner",
    "simulated": "runners.simulated:SimulatedRunner",
    "null": "runners.null:NullRunner",
}


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What planning must know about a backend without importing it.

    `artifact_kind` is the file it loads (`onnx`, `exported_program`, `engine`, `simulation`, `none`);
    `package` the importable package, empty where none is needed, and `alternatives` those that do as well;
    `extra` the project's extra that installs it; `devices` the kinds without an index, and `precisions`, the
    usual one first; `agent_format` how the agent of a device takes the file (`mlpackage-zip`, `onnx`), empty
    where none runs it: the devices that are drivers of `device_agents` are measured that way;
    `flavour` where it wants a quantized graph's QuantizeLinear pairs; `options` the runtime options that a
    case may set (in this project those of runners/options.py); `file_precisions` the precision of the file
    where it is not the case's, because the runtime lowers an fp32 file by itself; `profiled` are the devices
    on which it tells where its time goes; `real` is false where no network runs.
    """

    name: str
    artifact_kind: str
    package: str
    description: str
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    extra: str = ""
    real: bool = True
    alternatives: tuple[str, ...] = ()
    flavour: str = ""
    options: Mapping[str, RuntimeOption] = field(default_factory=dict)
    file_precisions: Mapping[str, str] = field(default_factory=dict)
    agent_format: str = ""
    profiled: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Any one of these has to be installed; empty where none is needed."""
        return (self.package, *self.alternatives) if self.package else ()


BACKENDS: dict[str, BackendInfo] = {
    "torch": BackendInfo(
        "torch",
        "exported_program",
        "torch",
        "PyTorch, the exported program's graph run eagerly",
        ("cpu", "cuda"),
        options=OPTIONS["torch"],
    ),
    "torch-compile": BackendInfo(
        "torch-compile",
        "exported_program",
        "torch",
        "PyTorch, torch.compile with inductor",
        ("cpu", "cuda"),
        options=OPTIONS["torch-compile"],
    ),
    "onnxruntime": BackendInfo(
        "onnxruntime",
        "onnx",
        "onnxruntime",
        "ONNX Runtime session",
        ("cpu", "cuda", "local"),
        ("fp32", "int8"),
        flavour="cpu",
        options=OPTIONS["onnxruntime"],
        agent_format="onnx",
        profiled=("cpu",),
    ),
    "openvino": BackendInfo(
        "openvino",
        "onnx",
        "openvino",
        "OpenVINO infer request",
        ("cpu",),
        ("fp32", "bf16", "int8"),
        "openvino",
        flavour="cpu",
        options=OPTIONS["openvino"],
        file_precisions={"bf16": "fp32"},
        profiled=("cpu",),
    ),
    "trt": BackendInfo(
        "trt",
        "engine",
        "tensorrt",
        "TensorRT engine, timed by CUDA events",
        ("cuda",),
        ("fp32", "fp16", "bf16", "int8"),
        "trt",
        alternatives=("tensorrt_rtx",),
        flavour="trt",
        options=OPTIONS["trt"],
        profiled=("cuda",),
    ),
    "coreml": BackendInfo(
        "coreml",
        "mlpackage",
        "coremltools",
        "Core ML package, timed by the agent of a device",
        ("iphone", "mac", "coremltools", "simulated"),
        ("fp16", "fp32", *WEIGHT_PRECISIONS),
        "coreml",
        agent_format="mlpackage-zip",
    ),
    "simulated": BackendInfo(
        "simulated",
        "simulation",
        "",
        "a described latency on its own clock, and faults; runs no network",
        ("cpu",),
        ("fp32", "fp16", "bf16", "int8"),
        real=False,
    ),
    "null": BackendInfo(
        "null",
        "none",
        "",
        "does nothing, or sleeps a known time: the cost of the timing loop itself",
        ("cpu",),
        ("fp32", "fp16", "bf16", "int8"),
        real=False,
        options=OPTIONS["null"],
    ),
}


def backend_info(name: str) -> BackendInfo:
    """Facts about a backend; a registered one outside this project tells its own in the attribute `info`.

    Raises models.tables.UnknownNameError with the nearest known names.
    """
    if name in BACKENDS:
        return BACKENDS[name]
    from models import tables

    info: BackendInfo = tables.lookup(RUNNERS, "runners", name).info
    return info


def backend_names() -> tuple[str, ...]:
    """Every backend that can be asked for, this project's first."""
    from models import tables

    return tuple(dict.fromkeys((*BACKENDS, *tables.names(RUNNERS, "runners"))))


def parse_device(device: str) -> tuple[str, int]:
    """`cpu` -> (`cpu`, 0), `cuda:1` -> (`cuda`, 1); ValueError says what a device is written like."""
    kind, colon, index = device.partition(":")
    if not kind or (colon and not (index.isascii() and index.isdigit())):
        raise ValueError(f"device '{device}' is not written like 'cpu', 'cuda' or 'cuda:1'")
    return kind, int(index or 0)


def availability(backend: str, device: str = "cpu") -> str | None:
    """None where the backend can run on the device here, else the reason and the fix, in one sentence.

    Nothing is imported but the standard library: packages are looked for, drivers probed by their files.
    """
    from runners import probe

    return probe.reason(backend_info(backend), device)
