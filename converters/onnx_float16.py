"""Which nodes of a graph can be computed in 16 bits: all of them, or all but the fewest that parity asks for.

No list of operators decides. The whole graph is tried first; where its outputs are off, every node is
measured alone on the values that the fp32 graph gives it, and the worst stay fp32: those that overflow, then
as many more as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from converters import onnx_rounding
from converters.onnx_cast import Lowered, lower, prepare
from converters.parity import Array

# Refining how many nodes stay fp32 stops after this many graphs: the last that passed is used.
MAX_GRAPHS = 16


@dataclass(frozen=True, slots=True)
class Choice:
    """A 16-bit graph, its outputs, and the nodes that stay fp32 with the error that each has alone in 16
    bits.

    `passed` is false where no choice of islands is accurate enough: then it is the graph without islands.
    """

    lowered: Lowered
    outputs: tuple[Array, ...]
    islands: Mapping[str, float]
    nodes: int
    passed: bool

    def note(self) -> str:
        """`2 of 30 nodes stay fp32: Pow 'pow' overflows, Add 'add' is off by 3.1e-02`."""
        if not self.islands:
            return "no node stays fp32"
        operators = {node.name: node.op_type for node in self.lowered.proto.graph.node}
        worst = [
            f"{operators.get(name, 'node')} '{name}' {_described(error)}"
            for name, error in self.islands.items()
        ]
        more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        return f"{len(worst)} of {self.nodes} nodes stay fp32: {', '.join(worst[:_NAMED])}{more}"


_NAMED = 3


def choose(
    proto: onnx.ModelProto,
    precision: str,
    inputs: Sequence[Array],
    *,
    passes: Callable[[Sequence[Array]], bool],
) -> Choice:
    """`proto`, an fp32 graph, in `precision` (`fp16`, `bf16`) with as few islands as `passes` needs.

    `passes` judges the outputs for `inputs`. Raises ConversionError `unsupported` for operators that hold a
    graph of their own.
    """
    prepared = prepare(proto, precision)

    def attempt(islands: Mapping[str, float]) -> Choice:
        lowered = lower(prepared, precision, islands.keys())
        outputs = onnx_rounding.run(lowered.proto, inputs)
        return Choice(lowered, outputs, islands, len(prepared.graph.node), passes(outputs))

    whole = attempt({})
    if whole.passed:
        return whole
    errors = onnx_rounding.node_errors(prepared, precision, inputs)
    ranked = sorted(errors.items(), key=lambda item: -item[1])
    overflowing = sum(math.isinf(error) for error in errors.values())
    return _fewest(lambda count: attempt(dict(ranked[:count])), overflowing, len(ranked)) or whole


def _fewest(attempt: Callable[[int], Choice], least: int, most: int) -> Choice | None:
    """The choice with the fewest islands, at least `least`: doubled until one passes, then bisected."""
    failing, count = max(least - 1, 0), max(least, 1)
    for graphs in range(1, MAX_GRAPHS):
        best = attempt(count)
        if best.passed:
            return _bisected(attempt, failing, best, graphs)
        if count >= most:
            return None
        failing, count = count, min(2 * count, most)
    return None


def _bisected(attempt: Callable[[int], Choice], failing: int, best: Choice, graphs: int) -> Choice:
    passing = len(best.islands)
    while passing - failing > 1 and graphs < MAX_GRAPHS:
        middle, graphs = (failing + passing) // 2, graphs + 1
        found = attempt(middle)
        if found.passed:
            passing, best = middle, found
        else:
            failing = middle
    return best


def _described(error: float) -> str:
    return "overflows" if math.isinf(error) else f"is off by {error:.1e}"
