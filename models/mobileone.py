"""MobileOne: An Improved One millisecond Mobile Backbone. Vasu et al., arXiv 2206.04040, figure 3.

Without the squeeze-excitation that only the largest variant has.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import BranchSum, ConvBN


class MobileOneBlock(nn.Module):
    """A depthwise 3x3 and a pointwise part, each over-parameterized with parallel branches, each then ReLU.

    Depthwise: `branches` 3x3, one 1x1, and identity at stride 1. Pointwise: `branches` 1x1, and identity
    where the channels stay. Fused, one convolution each.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, branches: int = 4) -> None:
        super().__init__()
        self.depthwise = BranchSum(
            *(_depthwise(in_channels, kernel_size=3, stride=stride) for _ in range(branches)),
            _depthwise(in_channels, kernel_size=1, stride=stride),
            *([nn.BatchNorm2d(in_channels)] if stride == 1 else []),
        )
        self.pointwise = BranchSum(
            *(ConvBN(in_channels, out_channels, kernel_size=1) for _ in range(branches)),
            *([nn.BatchNorm2d(out_channels)] if in_channels == out_channels else []),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        x = self.act(self.depthwise(x))  # (B, C, H/stride, W/stride)
        out: Tensor = self.act(self.pointwise(x))
        return out


def mobileone(
    *, in_channels: int, out_channels: int | None = None, stride: int = 1, resolution: int, branches: int = 4
) -> MobileOneBlock:
    """One MobileOne block, 4 branches as in variant S0 (1 in S1 to S4); takes any resolution."""
    return MobileOneBlock(in_channels, out_channels or in_channels, stride=stride, branches=branches)


def _depthwise(channels: int, *, kernel_size: int, stride: int) -> ConvBN:
    return ConvBN(channels, channels, kernel_size=kernel_size, stride=stride, groups=channels)
