"""MobileNetV2: Inverted Residuals and Linear Bottlenecks. Sandler et al., arXiv 1801.04381, table 1.

ReLU6, as in that paper and in the MobileNetV2 that is compared: its output range is fixed, which INT8
quantization needs no calibration for. EfficientNet's variant (SiLU and squeeze-excitation) is another block.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import ConvBN


class MBConv(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection; a shortcut where the shape is kept."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: float = 6.0
    ) -> None:
        super().__init__()
        hidden = int(in_channels * expansion)
        self.expand = ConvBN(in_channels, hidden, kernel_size=1)
        self.depthwise = ConvBN(hidden, hidden, kernel_size=3, stride=stride, groups=hidden)
        self.project = ConvBN(hidden, out_channels, kernel_size=1)
        self.act = nn.ReLU6()
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        y = self.act(self.expand(x))  # (B, expansion*C, H, W)
        y = self.act(self.depthwise(y))  # (B, expansion*C, H/stride, W/stride)
        y = self.project(y)
        out: Tensor = x + y if self.has_shortcut else y
        return out


def mbconv(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    expansion: float = 6.0,
) -> MBConv:
    """One inverted residual block; takes any resolution."""
    return MBConv(in_channels, out_channels or in_channels, stride=stride, expansion=expansion)
