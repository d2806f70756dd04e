"""Compressed weights of a Core ML package, whoever made it, against the weights of the network itself.

Outputs say little of them: with random weights half of a network's weights set to zero turn its outputs
anywhere, and a block that adds its input to a little computes much the same with other weights. So each
compressed weight is held to the network's own, and the program to its outputs with those in their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from converters.mil_interpreter import Program
from converters.mlpackage_layout import relayout

Values = npt.NDArray[Any]

# Largest root mean square error by stored bits, relative to the weight's (see mlpackage_compress); another
# network's weight is off by 1 or more.
BARS = {16: 0.01, 8: 0.05, 6: 0.1, 4: 0.3}
WIDEST = 0.7


@dataclass(frozen=True, slots=True)
class Matched:
    """`program` has the network's weights in place of the compressed ones.

    `wrong` tells of the first weight that is none of the network's; `note` of all of them.
    """

    program: Program
    wrong: str
    note: str


def matched(program: Program, net: nn.Module, fused: nn.Module) -> Matched:
    """Find every compressed weight of a program among those of a network, fused or not, laid out or not."""
    known = list(_weights((fused, relayout(fused)[0], net)))
    own: dict[str, torch.Tensor] = {}
    worst, worst_name = 0.0, ""
    for operation in program.function.operations:
        if not operation.op_type.startswith("constexpr_"):
            continue
        name, value = operation.outputs[0].name, np.asarray(operation.materialized_val_inference())
        error, weight = _nearest(value, known)
        bar = _bar(operation)
        if not error <= bar:
            near = "the network has none of its size" if math.isinf(error) else f"{100 * error:.0f} % off"
            wrong = f"weight '{name}' is none of the network's ({near}; at most {100 * bar:g} % is allowed)"
            return Matched(program, wrong, "")
        own[name] = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
        if error >= worst:
            worst, worst_name = error, name
    worst_text = f"the worst {100 * worst:.1f} % off ({worst_name})"
    note = f"{len(own)} compressed weights are the network's, {worst_text}"
    return Matched(replace(program, constants=own), "", note)


def _weights(nets: Sequence[nn.Module]) -> Iterator[Values]:
    for net in nets:
        for parameter in net.parameters():
            yield parameter.detach().to(torch.float32).numpy()


def _nearest(value: Values, known: Sequence[Values]) -> tuple[float, Values]:
    """(error, weight in the shape of `value`); infinity where none has its size."""
    best, found = math.inf, value
    for weight in known:
        if weight.size != value.size:
            continue
        for form in (weight, weight.T) if weight.ndim == 2 else (weight,):
            shaped = form.reshape(value.shape)
            error = _error(shaped, value)
            if error < best:
                best, found = error, shaped
    return best, found


def _error(weight: Values, value: Values) -> float:
    """Relative root mean square error of the values that were kept; of pruned ones the larger are kept."""
    wanted, given = weight.astype(np.float64), value.astype(np.float64)
    zeros = given == 0
    kept = ~zeros if zeros.mean() > 0.1 else np.ones(given.shape, bool)
    scale = math.sqrt(float(np.mean(wanted**2)))
    if not kept.any() or not scale:
        return math.inf
    if not kept.all() and np.abs(wanted[~kept]).mean() > np.abs(wanted[kept]).mean():
        return math.inf
    return math.sqrt(float(np.mean(((given - wanted) * kept) ** 2))) / scale


def _bar(operation: Any) -> float:
    """By the number of values that the stored form tells apart."""
    given = operation.inputs
    if (table := given.get("lut")) is not None:
        levels = np.asarray(table.val).shape
        count = levels[0] if len(levels) == 1 else levels[-2]
    elif (stored := given.get("quantized_data") or given.get("data")) is not None:
        count = np.unique(np.asarray(stored.val)).size
    else:
        count = 2**16
    bits = math.log2(max(count, 2))
    return min((bar for least, bar in BARS.items() if bits > least - 1), default=WIDEST)
