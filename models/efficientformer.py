"""EfficientFormer: Vision Transformers at MobileNet Speed. Li et al., arXiv 2206.01191, section 3.

The 4D block (MB4D), which keeps its shape: between stages the network downsamples with a 3x3 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.folding import fold_into_previous, replaced
from models.layers import LayerScale
from models.poolformer import Pooling


class ConvBNMlp(nn.Module):
    """1x1 convolution, BatchNorm, GELU, 1x1 convolution, BatchNorm."""

    def __init__(self, channels: int, *, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.norm1: nn.Module = nn.BatchNorm2d(hidden)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(hidden, channels, 1)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        x = self.act(self.norm1(self.conv1(x)))  # (B, ratio*C, H, W)
        out: Tensor = self.norm2(self.conv2(x))
        return out

    def fuse(self) -> ConvBNMlp:
        conv1 = fold_into_previous(self.conv1, self.norm1)
        conv2 = fold_into_previous(self.conv2, self.norm2)
        return replaced(self, conv1=conv1, norm1=nn.Identity(), conv2=conv2, norm2=nn.Identity())


class EfficientFormer4D(nn.Module):
    """`x + ls1 * Pooling(x)`, then `x + ls2 * MLP(x)`."""

    def __init__(self, channels: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.mixer = Pooling(channels)
        self.layer_scale1 = LayerScale(channels, initial=1e-5)
        self.mlp = ConvBNMlp(channels, ratio=mlp_ratio)
        self.layer_scale2: nn.Module = LayerScale(channels, initial=1e-5)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        x = x + self.layer_scale1(self.mixer(x))
        out: Tensor = x + self.layer_scale2(self.mlp(x))
        return out

    def fuse(self) -> nn.Module:
        """The second scale goes into the MLP; the first has no layer with weights before it and stays."""
        mlp = self.mlp.fuse()
        mlp = replaced(mlp, conv2=fold_into_previous(mlp.conv2, self.layer_scale2))
        return replaced(self, mlp=mlp, layer_scale2=nn.Identity())


def efficientformer4d(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    mlp_ratio: float = 4.0,
) -> EfficientFormer4D:
    """One 4D block; takes any resolution, keeps its shape."""
    return EfficientFormer4D(in_channels, mlp_ratio=mlp_ratio)
