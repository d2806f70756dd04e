"""Where a channel axis goes through operators that move data without computing, or that only average it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.dataflow import Op, Trace, Value

RESHAPES = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "reshape_as",
        "view_as",
        "squeeze",
        "unsqueeze",
        "_unsafe_view",
        "contiguous",
        "clone",
        "alias",
        "detach",
    ]
)
POOLS = {"avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}
ADAPTIVE_POOLS = {"adaptive_avg_pool1d": 1, "adaptive_avg_pool2d": 2, "adaptive_avg_pool3d": 3}


def axis_before(trace: Trace, op: Op, axis: int) -> int | None:
    """The axis of the operator's input that becomes `axis` of its output; None where channels are mixed."""
    source, result = _shapes(trace, op)
    if op.name in RESHAPES:
        return _same_axis(result, source, axis)
    order = _order(op, len(source))
    return None if order is None else order[axis]


def axis_after(trace: Trace, op: Op, axis: int) -> int | None:
    """The axis of the operator's output that `axis` of its input becomes; None where channels are mixed.

    Averages over other axes are let through too: they commute with an affine map per channel.
    """
    source, result = _shapes(trace, op)
    if op.name in RESHAPES:
        return _same_axis(source, result, axis)
    order = _order(op, len(source))
    if order is not None:
        return order.index(axis)
    return _averaged(op, len(source), axis)


def _shapes(trace: Trace, op: Op) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return trace.shapes[main_input(op)], trace.shapes[op.writes[0]]


def main_input(op: Op) -> Value:
    return op.reads[0]


def _same_axis(source: Sequence[int], result: Sequence[int], axis: int) -> int | None:
    """The axis with the same extent and the same count of elements before it: row-major order keeps both."""
    wanted = _product(source[:axis])
    for candidate, size in enumerate(result):
        if size == source[axis] and _product(result[:candidate]) == wanted:
            return candidate
    return None


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _order(op: Op, dimensions: int) -> list[int] | None:
    """`order[i]` is the input axis that becomes output axis i."""
    if op.name == "permute":
        return [axis % dimensions for axis in op.arguments["dims"]]
    if op.name not in ("transpose", "swapaxes", "t"):
        return None
    names = ("axis0", "axis1") if op.name == "swapaxes" else ("dim0", "dim1")
    first, second = (
        op.arguments.get(name, default) % dimensions for name, default in zip(names, (0, 1), strict=True)
    )
    order = list(range(dimensions))
    order[first], order[second] = second, first
    return order


def _averaged(op: Op, dimensions: int, axis: int) -> int | None:
    if op.name in ADAPTIVE_POOLS:
        return axis if axis < dimensions - ADAPTIVE_POOLS[op.name] else None
    if op.name in POOLS:
        return axis if axis < dimensions - POOLS[op.name] and _true_average(op) else None
    return _mean_axis(op, dimensions, axis) if op.name == "mean" else None


def _true_average(op: Op) -> bool:
    """Whether the weights of every window sum to one: zeros of the padding must not count."""
    padding = op.arguments.get("padding") or 0
    padded = any(padding) if isinstance(padding, list | tuple) else padding != 0
    own_divisor = op.arguments.get("divisor_override") is not None
    return not own_divisor and not (padded and op.arguments.get("count_include_pad", True))


def _mean_axis(op: Op, dimensions: int, axis: int) -> int | None:
    reduced: Any = op.arguments.get("dim")
    if reduced is None:
        return None
    gone = {dim % dimensions for dim in reduced}
    if axis in gone:
        return None
    return axis if op.arguments.get("keepdim") else axis - sum(dim < axis for dim in gone)
