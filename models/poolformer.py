"""PoolFormer: MetaFormer is Actually What You Need for Vision. Yu et al., arXiv 2111.11418, section 3.2.

The block keeps its shape: between stages the network downsamples with a 3x3 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.folding import fold_into_previous, pool_minus_identity, replaced
from models.layers import LayerScale


class Pooling(nn.Module):
    """3x3 average pooling minus its input: the token mixer.

    The papers leave padding out of the average (`count_padding=False`). Counted, the mixer is a depthwise
    convolution and `fuse` makes it one; left out, the divisor at the border differs and it stays as it is.
    """

    def __init__(self, channels: int, *, count_padding: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=count_padding)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y: Tensor = self.pool(x)
        return y - x

    def as_conv(self, like: Tensor) -> nn.Module:
        """The depthwise convolution that computes the same, or this module where none does."""
        return (
            pool_minus_identity(self.pool, self.channels, like=like) if self.pool.count_include_pad else self
        )


class ConvMlp(nn.Module):
    """Two 1x1 convolutions with a GELU between."""

    def __init__(self, channels: int, *, ratio: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, int(channels * ratio), 1)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(int(channels * ratio), channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = self.conv2(self.act(self.conv1(x)))
        return out


class PoolFormerBlock(nn.Module):
    """`x + ls1 * Pooling(GN(x))`, then `x + ls2 * MLP(GN(x))`, GN with one group."""

    def __init__(self, channels: int, *, mlp_ratio: float = 4.0, count_padding: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, channels)
        self.mixer: nn.Module = Pooling(channels, count_padding=count_padding)
        self.layer_scale1: nn.Module = LayerScale(channels, initial=1e-5)
        self.norm2 = nn.GroupNorm(1, channels)
        self.mlp = ConvMlp(channels, ratio=mlp_ratio)
        self.layer_scale2: nn.Module = LayerScale(channels, initial=1e-5)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        x = x + self.layer_scale1(self.mixer(self.norm1(x)))
        out: Tensor = x + self.layer_scale2(self.mlp(self.norm2(x)))
        return out

    def fuse(self) -> nn.Module:
        """The mixer is linear and treats channels alike, so the first scale moves through it into norm1."""
        mixer = self.mixer.as_conv(self.norm1.weight) if isinstance(self.mixer, Pooling) else self.mixer
        conv2 = fold_into_previous(self.mlp.conv2, self.layer_scale2)
        return replaced(
            self,
            norm1=fold_into_previous(self.norm1, self.layer_scale1),
            mixer=mixer,
            layer_scale1=nn.Identity(),
            mlp=replaced(self.mlp, conv2=conv2),
            layer_scale2=nn.Identity(),
        )


def poolformer(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    mlp_ratio: float = 4.0,
    count_padding: bool = False,
) -> PoolFormerBlock:
    """One PoolFormer block; takes any resolution, keeps its shape."""
    return PoolFormerBlock(in_channels, mlp_ratio=mlp_ratio, count_padding=count_padding)
