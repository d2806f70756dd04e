"""ConvNeXt: A ConvNet for the 2020s. Liu et al., arXiv 2201.03545, section 2.6 and figure 4.

The block keeps its shape: between stages the network downsamples with a LayerNorm and a 2x2 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.folding import fold_into_previous, replaced
from models.layers import LayerScale


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then LayerNorm and a GELU MLP over channels-last tokens, layer scale, shortcut."""

    def __init__(self, channels: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(hidden, channels)
        self.layer_scale: nn.Module = LayerScale(channels, initial=1e-6)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y))))  # (B, H, W, C)
        out: Tensor = x + self.layer_scale(y.permute(0, 3, 1, 2))
        return out

    def fuse(self) -> nn.Module:
        """The scale is per channel, so it commutes with the permutation after the last Linear."""
        return replaced(
            self, pwconv2=fold_into_previous(self.pwconv2, self.layer_scale), layer_scale=nn.Identity()
        )


def convnext(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    mlp_ratio: float = 4.0,
) -> ConvNeXtBlock:
    """One ConvNeXt block; takes any resolution, keeps its shape."""
    return ConvNeXtBlock(in_channels, mlp_ratio=mlp_ratio)
