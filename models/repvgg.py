"""RepVGG: Making VGG-style ConvNets Great Again. Ding et al., arXiv 2101.03697, section 3.2 and figure 2."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import BranchSum, ConvBN


class RepVGGBlock(nn.Module):
    """3x3, 1x1 and, where the shape is kept, identity branch, each with BatchNorm; sum; ReLU.

    Fused, the branches are one 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        keeps_shape = stride == 1 and in_channels == out_channels
        self.branches = BranchSum(
            ConvBN(in_channels, out_channels, kernel_size=3, stride=stride),
            ConvBN(in_channels, out_channels, kernel_size=1, stride=stride),
            *([nn.BatchNorm2d(out_channels)] if keeps_shape else []),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        out: Tensor = self.act(self.branches(x))
        return out


def repvgg(
    *, in_channels: int, out_channels: int | None = None, stride: int = 1, resolution: int
) -> RepVGGBlock:
    """One RepVGG block; takes any resolution."""
    return RepVGGBlock(in_channels, out_channels or in_channels, stride=stride)
