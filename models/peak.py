"""What a machine can do at most, as networks: matrix products, and a copy through memory.

The two roofs of Williams et al., Roofline: an insightful visual performance model for multicore
architectures, Communications of the ACM 52(4), 2009. They are built, converted and timed like any other
network, so each is a peak of one runtime on one machine, with its precision and its threads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PRODUCTS = 8  # one after the other, so that a runtime's conversion of the fp32 input hardly counts


class MatrixProducts(nn.Module):
    """1x1 convolutions without bias: each the product of a (C, C) matrix with the pixels, (C, H*W).

    Of a single one, a runtime that computes in bf16 spends much of the time on converting input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.products = nn.Sequential(
            *(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(PRODUCTS))
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = self.products(x)
        return out


class ScaledCopy(nn.Module):
    """Every element is read once, multiplied by one factor, and written once."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.75))  # at 1 a runtime would leave the multiplication out

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return x * self.factor


def gemm(*, in_chans: int = 3) -> MatrixProducts:
    """Products with matrices of side `in_chans`, with as many columns as the input has pixels."""
    return MatrixProducts(in_chans)


def copy(*, in_chans: int = 3) -> ScaledCopy:
    """A copy of the input; it has any number of channels."""
    return ScaledCopy()
