"""Small Core ML programs: one operator at a time, and packages converted from tiny networks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.mil_interpreter import Program, evaluate
from converters.quiet import captured

if find_spec("coremltools") is None:
    pytest.skip("coremltools is not installed: pip install '.[coreml]'", allow_module_level=True)

with captured():
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb


def program(op: str, inputs: dict[str, Any], *, opset: str = "iOS17", **attributes: Any) -> Program:
    """A program of one operator whose `inputs` are the program's; `attributes` are constants in it."""
    with captured():
        specs = [
            mb.TensorSpec(value.shape, ct.converters.mil.mil.types.numpy_type_to_builtin_type(value.dtype))
            for value in inputs.values()
        ]

        def body(*values: Any) -> Any:
            return getattr(mb, op)(**dict(zip(inputs, values, strict=True)), **attributes)

        names = [f"in_{name}" for name in inputs]
        text = f"lambda {', '.join(names)}: body({', '.join(names)})"  # the builder reads the names
        function = eval(text, {"body": body})
        made = mb.program(input_specs=specs, opset_version=getattr(ct.target, opset))(function)
    return Program(Path("made by hand"), made.functions["main"], {}, {})


def interpreted(op: str, inputs: dict[str, Any], *, opset: str = "iOS17", **attributes: Any) -> list[Any]:
    """The outputs of one operator, by the interpreter, in fp32."""
    made = program(op, inputs, opset=opset, **attributes)
    feeds = {f"in_{name}": value for name, value in inputs.items()}
    return list(evaluate(made, feeds, rounding=False).values())


def inferred(op: str, inputs: dict[str, Any], *, opset: str = "iOS17", **attributes: Any) -> list[Any]:
    """The outputs of one operator, by coremltools' own evaluation of constants."""
    found: list[Any] = []

    def body(x: Any) -> Any:
        result = getattr(mb, op)(**inputs, **attributes)
        found.extend(result if isinstance(result, list | tuple) else [result])
        return mb.identity(x=x)

    with captured():
        target = getattr(ct.target, opset)
        mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=target)(body)
    values = [value.val for value in found]
    assert all(value is not None for value in values), f"coremltools does not evaluate {op}"
    return values


def converted(
    net: nn.Module, shape: tuple[int, ...], path: Path, *, precision: str = "fp16", **settings: Any
) -> Path:
    """The package of a network, as coremltools converts it."""
    with captured(), torch.no_grad():
        program = torch.export.export(net.eval(), (torch.zeros(shape),)).run_decompositions({})
        settings = {"minimum_deployment_target": ct.target.iOS16, **settings}
        model = ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            **settings,
        )
        model.save(str(path))
    return path


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
