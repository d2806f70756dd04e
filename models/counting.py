"""Parameters and multiply-accumulates of a network, counted while it runs once.

The vision literature calls multiply-accumulates "FLOPs"; here they are `gmacs`. Counted are convolutions,
linear layers and matrix products (attention included), as the papers do; normalization, activation, pooling
and elementwise work are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters in millions; multiply-accumulates in units of 1e9 for the whole input."""

    params_m: float
    gmacs: float


def count(net: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """Counts of `net` for one input (B, C, H, W); give B = 1, as tables of models do.

    Attention is run as two matrix products: PyTorch's counter (2.14) does not know the fused kernel of CPUs
    and would leave it out.
    """
    weight = next(net.parameters())
    x = torch.zeros(input_shape, dtype=weight.dtype, device=weight.device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        net(x)
    return Counts(params_m=params_m(net), gmacs=counter.get_total_flops() / 2 / 1e9)


def params_m(net: nn.Module) -> float:
    """Parameters in millions, each tensor once; buffers such as running statistics are not parameters."""
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6
