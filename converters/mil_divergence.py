"""Where a Core ML program begins to differ: the first operator, and the module that it belongs to.

Packages of this project tell the module of each operator. Others do not; what they have are the names of
weights (`p_stages_0_mlp_conv1_weight_to_fp16`), which tell the module of an operator that has some, and the
operators behind it are taken to be near.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converters.divergence import module_outputs
from converters.mil_interpreter import Program, evaluated, only_input
from converters.parity import Array, is_close

# What the converter adds to a parameter's name: its kind before, passes and precisions behind.
_PREFIX = re.compile(r"^[pbc]_")
_PARAMETER = re.compile(r"_(weight|bias|running_mean|running_var|gamma|beta|scale)(_.*)?$")


@dataclass(frozen=True, slots=True)
class Divergence:
    """`difference` is the largest one divided by the largest value; infinite where a value is not finite.

    `scope` is a module's path, its name with underscores where the network is not known, and empty before the
    first operator of which it is told. `after` is the output of the last operator that agrees, if one does.
    """

    output: str
    operator: str
    scope: str
    difference: float
    after: str = ""

    def __str__(self) -> str:
        where = f" in {self.scope}" if self.scope else ""
        after = f", after '{self.after}' that agrees" if self.after else ""
        return f"{self.operator} '{self.output}'{where}: {self.difference:.1e}{after}"


def first_rounded(
    program: Program, example: Array, tolerance: float, *, dtype: torch.dtype = torch.float32
) -> Divergence | None:
    """The first operator whose rounded output is off the exact one by more than `tolerance`.

    Both are evaluated side by side from the same input, so rounding adds up: what is found is where it
    becomes too much, or where fp16 overflows.
    """
    feeds = {only_input(program): example}
    scope = ""
    names = _Names(program, {})
    pairs = zip(
        evaluated(program, feeds, rounding=True, dtype=dtype),
        evaluated(program, feeds, rounding=False, dtype=dtype),
        strict=True,
    )
    for rounded, exact in pairs:
        scope = names.of(rounded.operation) or scope
        for name, value in rounded.outputs.items():
            difference = _difference(exact.outputs[name], value)
            if not difference <= tolerance:
                return Divergence(name, rounded.operation.op_type, scope, difference)
    return None


def first_from_eager(program: Program, example: Array, net: nn.Module, tolerance: float) -> Divergence | None:
    """The first operator with weights, after the last that agrees, whose output is no module's of `net`.

    Evaluated without rounding. The converter merges modules (a BatchNorm into its convolution), so an output
    agrees when it equals that of any module of its shape. None where the last operators agree.
    """
    expected = module_outputs(net, example)
    by_shape: dict[tuple[int, ...], list[Array]] = {}
    for theirs in expected.values():
        by_shape.setdefault(theirs.shape, []).append(theirs)
    names = _Names(program, {name.replace(".", "_"): name for name, _ in net.named_modules() if name})
    found: Divergence | None = None
    scope = agrees = ""
    for step in evaluated(program, {only_input(program): example}, rounding=False):
        own = names.of(step.operation)
        counts = bool(own) or _has_weights(step.operation)
        scope = own or scope
        for name, value in step.outputs.items():
            ours: Array = value.float().numpy()
            known = by_shape.get(ours.shape, [])
            if any(is_close(one, ours, tolerance) for one in known):
                found, agrees = None, name
            elif found is None and (counts or name in program.outputs):
                difference = _to_module(ours, expected.get(own), known)
                found = Divergence(name, step.operation.op_type, scope, difference, agrees)
    return found


def _to_module(ours: Array, own: Array | None, known: Iterable[Array]) -> float:
    """How far an output is from its own module's, or else from the nearest one of its shape."""
    theirs = [own] if own is not None and own.shape == ours.shape else list(known)
    return min(
        (_difference(torch.from_numpy(value), torch.from_numpy(ours)) for value in theirs), default=np.inf
    )


def _difference(exact: Tensor, value: Tensor) -> float:
    if not exact.is_floating_point() or not exact.numel():
        return 0.0 if torch.equal(exact, value) else float("inf")
    difference = float((value - exact).abs().max())
    largest = float(exact.abs().max())
    if np.isnan(difference) or difference == np.inf:
        return float("inf")
    return difference / largest if largest else (0.0 if difference == 0 else float("inf"))


@dataclass(frozen=True, slots=True)
class _Names:
    """`paths` is the path of a network's module by its name with underscores."""

    program: Program
    paths: Mapping[str, str]

    def of(self, operation: Any) -> str:
        """The module of an operator; empty where nothing tells it."""
        told = self.program.modules.get(operation.outputs[0].name, "")
        named = told or _by_weights(operation)
        return self.paths.get(named, named)


def _by_weights(operation: Any) -> str:
    """The module by the names of an operator's weights, dots as underscores; empty where it has none."""
    inputs: Mapping[str, Any] = operation.inputs
    for name in ("weight", "gamma", "bias", "mean", "y", "x"):
        if name in inputs and _is_constant(inputs[name]):
            stem = _PREFIX.sub("", str(inputs[name].name))
            if _PARAMETER.search(stem):
                return _PARAMETER.sub("", stem)
    return ""


def _has_weights(operation: Any) -> bool:
    """Also where passes of the converter gave them names of their own."""
    return any(_is_constant(operation.inputs.get(name)) for name in ("weight", "gamma", "mean"))


def _is_constant(value: Any) -> bool:
    if value is None or isinstance(value, list | tuple) or value.op is None:
        return False
    return bool(value.op.op_type == "const" or value.op.op_type.startswith("constexpr_"))
