"""A converted Core ML program evaluated on any machine: what the file says, in torch on the CPU.

It verifies the converted program, not Apple's kernels: Core ML chooses the order of additions and the unit
that computes, and may compute in more or less precision than the program declares. With rounding, every
operator computes in fp32 and its result is rounded to the type that the program declares for it, so an fp16
program is rounded after each operator. Without, everything stays in fp32 or float64.

An operator or a setting that is not known is refused by name; none is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converters import (
    mil_ops_conv,
    mil_ops_elementwise,
    mil_ops_reduce,
    mil_ops_resize,
    mil_ops_shape,
    mil_ops_weights,
)
from converters.mil_call import Call, Implementation, Shape, UnsupportedOpError
from converters.mil_load import PackageError, load_function, opened
from converters.mil_values import ImageInput, Round, argument, fed, fits, images, rounder, shape_of, type_of
from converters.parity import Array

__all__ = [
    "OPS",
    "Evaluated",
    "PackageError",
    "Program",
    "UnsupportedOpError",
    "evaluate",
    "evaluated",
    "load",
    "run",
    "run_program",
]

OPS: Mapping[str, Implementation] = {
    **mil_ops_conv.OPS,
    **mil_ops_elementwise.OPS,
    **mil_ops_reduce.OPS,
    **mil_ops_resize.OPS,
    **mil_ops_shape.OPS,
    **mil_ops_weights.OPS,
}


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program: `function` is coremltools' own, with operations in the order of execution.

    `modules` is the module path by operator output where the package tells it; `constants` are values that
    take the place of constants, compressed ones too, of that name.
    """

    path: Path
    function: Any
    images: Mapping[str, ImageInput]
    modules: Mapping[str, str]
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.function.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.function.outputs)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One operator that was evaluated (coremltools' own value), with its outputs by name."""

    operation: Any
    outputs: Mapping[str, Tensor]


def run(package: Path, inputs: Sequence[Array], *, rounding: bool) -> tuple[Array, ...]:
    """The first output of a package (folder or zip) for each input of its one input.

    With `rounding` as the program declares its types, without in fp32. An image input takes pixels (B, 3, H,
    W) in the order red, green, blue, as whole numbers from 0 to 255. Raises PackageError and
    UnsupportedOpError.
    """
    return run_program(load(package), inputs, rounding=rounding)


def load(package: Path) -> Program:
    """Read and check a package; every operator is known to the interpreter afterwards.

    Raises PackageError and UnsupportedOpError.
    """
    from converters.mlpackage_facts import of_package

    with opened(package) as found:
        modules = of_package(found).modules
        program = Program(package, load_function(found), images(found), modules)
    check_operators(program)
    return program


def check_operators(program: Program) -> None:
    """Raises UnsupportedOpError naming the first operator that is not known, and those that are."""
    for operation in program.function.operations:
        if operation.op_type not in OPS and operation.op_type != "const":
            output = operation.outputs[0].name if operation.outputs else ""
            raise UnsupportedOpError(
                f"{program.path}: operator {operation.op_type} (output '{output}') is not known to the"
                f" interpreter; known are {', '.join(sorted(OPS))}"
            )


def run_program(
    program: Program, inputs: Sequence[Array], *, rounding: bool, dtype: torch.dtype = torch.float32
) -> tuple[Array, ...]:
    """Like `run`, for a program that is loaded already; `dtype` is computed in (fp32 or float64)."""
    name, output = only_input(program), program.outputs[0]
    return tuple(evaluate(program, {name: value}, rounding=rounding, dtype=dtype)[output] for value in inputs)


def only_input(program: Program) -> str:
    """Raises PackageError for a program with several inputs."""
    if len(program.inputs) != 1:
        raise PackageError(f"{program.path} has the inputs {', '.join(program.inputs)}; one is expected")
    return program.inputs[0]


def evaluate(
    program: Program, feeds: Mapping[str, Array], *, rounding: bool, dtype: torch.dtype = torch.float32
) -> dict[str, Array]:
    """The outputs by name for inputs by name. Raises PackageError and UnsupportedOpError."""
    found: dict[str, Tensor] = {}
    for step in evaluated(program, feeds, rounding=rounding, dtype=dtype):
        found.update({name: value for name, value in step.outputs.items() if name in program.outputs})
    missing = [name for name in program.outputs if name not in found]
    if missing:
        raise PackageError(f"{program.path}: no operator computes the output '{missing[0]}'")
    return {name: _as_array(found[name]) for name in program.outputs}


def evaluated(
    program: Program, feeds: Mapping[str, Array], *, rounding: bool, dtype: torch.dtype = torch.float32
) -> Iterator[Evaluated]:
    """Evaluate operator by operator, in order; a value is forgotten after its last use."""
    round_to = rounder(rounding, dtype)
    values = {name: value.to(dtype) for name, value in program.constants.items()}
    for name, variable in program.function.inputs.items():
        value = fed(variable, name, feeds, program.images.get(name))
        values[name] = round_to(value, type_of(variable))
    last = _last_uses(program)
    for index, operation in enumerate(program.function.operations):
        if operation.op_type == "const" or operation.outputs[0].name in program.constants:
            continue
        with torch.inference_mode():
            outputs = _computed(operation, values, round_to, dtype)
        values.update(outputs)
        yield Evaluated(operation, outputs)
        for name in last.get(index, ()):
            values.pop(name, None)


def _computed(
    operation: Any, values: Mapping[str, Tensor], round_to: Round, dtype: torch.dtype
) -> dict[str, Tensor]:
    given = {name: value for name, value in operation.inputs.items() if value is not None}
    call = Call(
        operation.op_type,
        operation.outputs[0].name,
        {name: argument(value, values, dtype) for name, value in given.items()},
    )
    try:
        result = OPS[call.type](call)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UnsupportedOpError(f"{call.type} '{call.name}': {type(error).__name__}: {error}") from error
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(operation.outputs):
        call.refuse(f"{len(results)} outputs; the program declares {len(operation.outputs)}")
    outputs = {}
    for output, value in zip(operation.outputs, results, strict=True):
        _check_shape(call, value, shape_of(output))
        outputs[output.name] = round_to(value, type_of(output))
    return outputs


def _check_shape(call: Call, value: Tensor, declared: Shape) -> None:
    """The result has the shape that the program declares: a check of both. A scalar may be of rank 0 or 1."""
    scalar = value.numel() == 1 and all(side in (1, None) for side in declared)
    if not (scalar or fits(tuple(value.shape), declared)):
        call.refuse(f"the result has shape {tuple(value.shape)}; the program declares {declared}")


def _last_uses(program: Program) -> dict[int, list[str]]:
    """Which values nobody reads after the operation at an index."""
    last: dict[str, int] = {}
    for index, operation in enumerate(program.function.operations):
        for value in operation.inputs.values():
            for item in value if isinstance(value, list | tuple) else [value]:
                if item is not None:
                    last[item.name] = index
        for output in operation.outputs:
            last.setdefault(output.name, index)
    uses: dict[int, list[str]] = {}
    for name, index in last.items():
        uses.setdefault(index, []).append(name)
    return uses


def _as_array(value: Tensor) -> Array:
    array: Array = np.ascontiguousarray(value.to(torch.float32).numpy())
    return array
