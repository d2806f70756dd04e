"""Where two models begin to differ: the first module, by name, whose output is another one.

Runs only where parity failed. A correct fold changes what a module by itself returns (a convolution that took
up its BatchNorm), so an output counts as equal when it equals that of any module of the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converters.parity import Array, is_close

Outputs = Mapping[str, Array]


def module_outputs(net: nn.Module, example: Array) -> dict[str, Array]:
    """What every module that returns a tensor returned first, by name, in the order they finished."""
    net = copy.deepcopy(net)
    outputs: dict[str, Array] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and name not in outputs:
                outputs[name] = output.detach().float().cpu().numpy().copy()

        return hook

    for name, module in net.named_modules():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        net(torch.from_numpy(np.array(example)))
    return outputs


def first_divergence(reference: Outputs, other: Outputs, tolerance: float) -> str:
    """The name of the first module whose output differs, as deep as both sides have outputs.

    Goes down from the network: the first differing child in execution order, then its first differing child.
    Returns "" where the outputs are equal, `the network` where only the last one differs.
    """
    by_shape: dict[tuple[int, ...], list[Array]] = {}
    for value in reference.values():
        by_shape.setdefault(value.shape, []).append(value)

    def differs(name: str) -> bool:
        mine = other[name]
        if is_close(reference[name], mine, tolerance):
            return False
        return not any(is_close(value, mine, tolerance) for value in by_shape.get(mine.shape, ()))

    shared = [name for name in reference if name in other]
    found, below = "", [name for name in shared if name]
    while (step := next((name for name in _outermost(below) if differs(name)), None)) is not None:
        found, below = step, [name for name in below if name.startswith(f"{step}.")]
    if found or not ("" in shared and differs("")):
        return found
    return "the network"


def _outermost(names: list[str]) -> list[str]:
    """Those of the names that lie in no other of them, order kept."""
    known = set(names)

    def inside(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:depth]) in known for depth in range(1, len(parts)))

    return [name for name in names if not inside(name)]
