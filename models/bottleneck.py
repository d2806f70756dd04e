"""ResNet: Deep Residual Learning for Image Recognition.

He et al., arXiv 1512.03385, section 4.1, figure 5 (right). The v1.5 form that today's weights and benchmarks
use: the stride sits on the 3x3 convolution. Channels outside are `out_channels`, inside a quarter of them.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import ConvBN


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with BatchNorm around a shortcut, ReLU after each and after the sum.

    `ratio` are the channels of the 3x3 convolution per channel of the output.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, ratio: float = 0.25) -> None:
        super().__init__()
        width = int(out_channels * ratio)
        self.conv1 = ConvBN(in_channels, width, kernel_size=1)
        self.conv2 = ConvBN(width, width, kernel_size=3, stride=stride)
        self.conv3 = ConvBN(width, out_channels, kernel_size=1)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = (
            ConvBN(in_channels, out_channels, kernel_size=1, stride=stride) if changes else nn.Identity()
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        y = self.act(self.conv1(x))  # (B, C'/4, H, W)
        y = self.act(self.conv2(y))  # (B, C'/4, H/stride, W/stride)
        out: Tensor = self.act(self.shortcut(x) + self.conv3(y))
        return out


def bottleneck(
    *, in_channels: int, out_channels: int | None = None, stride: int = 1, resolution: int
) -> Bottleneck:
    """One BottleNeck block of ResNet-50; takes any resolution."""
    return Bottleneck(in_channels, out_channels or in_channels, stride=stride)
