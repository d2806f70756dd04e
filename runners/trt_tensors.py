"""An engine's inputs and outputs: checked against the request, and given memory once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.cuda import Cuda
from runners.runner import Array, RunnerError
from runners.trt_loading import Loaded

# By TensorRT's names: its enum values differ between packages.
HOST_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
CASTS = ("FLOAT", "HALF")  # an fp16 input takes the request's fp32 values rounded, outside the timed part


@dataclass(frozen=True, slots=True)
class Tensors:
    """Names of the one input and of the outputs, and the type that the input has in the engine."""

    input: str
    outputs: tuple[str, ...]
    input_type: str


def find(loaded: Loaded) -> Tensors:
    """Raises RunnerError `load` unless the engine has one input and types that a host array can have."""
    trt, engine = loaded.trt, loaded.engine
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = tuple(name for name in names if name not in inputs)
    if len(inputs) != 1 or not outputs:
        raise RunnerError(
            "load",
            f"the engine has {len(inputs)} inputs ({', '.join(inputs)}) and {len(outputs)} outputs",
            "Build it from a graph with one input and an output.",
        )
    for name in names:
        _type_name(engine, name)
    return Tensors(inputs[0], outputs, _type_name(engine, inputs[0]))


def host_inputs(tensors: Tensors, inputs: Sequence[Array]) -> list[Array]:
    """The request's inputs in the engine's type; fp32 and fp16 are rounded into one another."""
    wanted = np.dtype(HOST_TYPES[tensors.input_type])
    given = inputs[0].dtype
    if given != wanted and (tensors.input_type not in CASTS or given not in (np.float32, np.float16)):
        raise RunnerError(
            "load",
            f"the engine's input '{tensors.input}' is {wanted}, the request's inputs are {given}",
            "Build the engine from a graph with fp32 or fp16 inputs.",
        )
    return [np.ascontiguousarray(value, dtype=wanted) for value in inputs]


def set_shape(loaded: Loaded, context: Any, tensors: Tensors, shape: tuple[int, ...], stream: int) -> None:
    """Tells a context the input's shape. `stream` is the address of the stream for a change of profile.

    Raises RunnerError `load` where the engine, or none of its optimization profiles, takes that shape.
    """
    engine, name = loaded.engine, tensors.input
    static = tuple(engine.get_tensor_shape(name))
    if -1 not in static:
        if static != shape:
            raise RunnerError(
                "load",
                f"the engine's input '{name}' has shape {static}, the request's inputs {shape}",
                "Build the engine for this batch and resolution.",
            )
        return
    profile = _profile(engine, name, shape)
    if profile and not context.set_optimization_profile_async(profile, stream):
        raise RunnerError("load", f"optimization profile {profile} cannot be set: {loaded.log.last()}")
    if not context.set_input_shape(name, shape):
        raise RunnerError("load", f"input shape {shape} is refused: {loaded.log.last()}")
    unknown = context.infer_shapes()
    if unknown:
        raise RunnerError("load", f"the shapes of {', '.join(unknown)} remain unknown with input {shape}")


def output_arrays(cuda: Cuda, loaded: Loaded, context: Any, tensors: Tensors) -> list[Array]:
    """Page-locked host arrays for the outputs, in the engine's types and the context's shapes.

    Raises RunnerError `load` for an output whose shape depends on the data.
    """
    made = []
    for name in tensors.outputs:
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise RunnerError(
                "load",
                f"output '{name}' of the engine has shape {shape}: it depends on the data",
                "Build the engine from a graph whose outputs have fixed shapes.",
            )
        made.append(cuda.pinned(shape, HOST_TYPES[_type_name(loaded.engine, name)]))
    return made


def _profile(engine: Any, name: str, shape: tuple[int, ...]) -> int:
    ranges = []
    for index in range(engine.num_optimization_profiles):
        least, _, most = (tuple(found) for found in engine.get_tensor_profile_shape(name, index))
        if all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return index
        ranges.append(f"{least} to {most}")
    raise RunnerError(
        "load",
        f"input shape {shape} lies outside the engine's optimization profile: {', '.join(ranges)}",
        "Ask for a batch inside it, or build with a larger max_batch.",
    )


def _type_name(engine: Any, name: str) -> str:
    found = str(engine.get_tensor_dtype(name).name)
    if found not in HOST_TYPES:
        raise RunnerError(
            "load",
            f"tensor '{name}' of the engine is {found}, which no host array can hold",
            "Build it from a graph whose inputs and outputs are fp32 or fp16.",
        )
    return found
