"""A model file that a user names, as what a job sends: the file, seeded inputs of its shapes, its case."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from commands import UsageError, options
from converters.artifact import TensorInfo
from device_agents import archive
from device_agents.outbox import Sent
from models.spec import PRECISIONS, Case, ModelSpec
from models.tables import suggest

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo

INPUT_SETS = 4
BACKENDS = {"mlpackage-zip": "coreml", "onnx": "onnxruntime"}


def sent_of(path: Path, info: DriverInfo) -> Sent:
    """The file as the driver's agent takes it. Raises FormError and UsageError."""
    is_onnx = path.suffix == ".onnx"
    modules: Mapping[str, str] = {}
    if is_onnx != (info.model_format == "onnx"):
        wanted = "an .onnx file" if info.model_format == "onnx" else "an .mlpackage"
        raise UsageError(f"{path}: the driver {info.name} takes {wanted}")
    if is_onnx:
        data = path.read_bytes()
        inputs, minimum_os = _onnx_inputs(path, data), ""
    else:
        data = archive.pack(archive.package_files(path))
        inputs, minimum_os, modules = _package_inputs(path)
    values = [[_random(info_, index) for info_ in inputs] for index in range(INPUT_SETS)]
    names = tuple(i.name for i in inputs)
    return Sent(data, info.model_format, names, values, minimum_os, modules=modules)


def case_of(args: argparse.Namespace, path: Path, info: DriverInfo, sent: Sent, unit: str) -> Case:
    """Whose result it is: the file's name, unless --model says which network it holds."""
    precision = args.precision or ("fp32" if path.suffix == ".onnx" else "fp16")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}': {suggest(precision, PRECISIONS)}")
    shape = sent.inputs[0][0].shape
    side = options.positive("--resolution")(args.resolution) if args.resolution else int(shape[-1])
    return Case(
        ModelSpec(args.model or path.name.split(".")[0], side, weights="sha256:unknown"),
        BACKENDS[info.model_format],
        batch_size=int(shape[0]),
        precision=precision,
        device=info.name,
        compute_unit=unit,
    )


def _onnx_inputs(path: Path, data: bytes) -> tuple[TensorInfo, ...]:
    """Of a file that is whole: an agent is sent one file, so its weights must be inside."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise UsageError(
            f"{path} cannot be loaded as one file, with its weights inside: {str(error)[:200]}"
        ) from None
    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32"}
    return tuple(
        TensorInfo(i.name, kinds.get(i.type, i.type), tuple(s if type(s) is int else -1 for s in i.shape))
        for i in session.get_inputs()
    )


def _package_inputs(path: Path) -> tuple[tuple[TensorInfo, ...], str, Mapping[str, str]]:
    """The inputs, the oldest iOS, and the modules of operations where the package tells them."""
    from converters.mlpackage_facts import describe

    try:
        facts = describe(path)
    except ImportError:
        raise UsageError("reading an mlpackage needs coremltools: pip install 'coremltools>=9.0'") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if facts.input_kind != "tensor":
        raise UsageError(f"{path}: its input is an image; convert it with tensor inputs to measure it")
    oldest = re.fullmatch(r"iOS(\d{1,2})", facts.needs)
    return facts.inputs, f"{oldest[1]}.0" if oldest else "", facts.modules


def _random(info: TensorInfo, index: int) -> npt.NDArray[Any]:
    """Input k depends on its shape and k alone; real-valued, never zeros. Raises UsageError."""
    if any(side < 1 for side in info.shape) or info.dtype not in ("float32", "float16"):
        raise UsageError(
            f"input {info.name} is {info.dtype} {list(info.shape)}: agents take fixed shapes, fp32 or fp16"
        )
    values = np.random.default_rng((0, index)).standard_normal(info.shape, dtype=np.float32)
    return values.astype(info.dtype)
