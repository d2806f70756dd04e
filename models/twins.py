"""Twins: Revisiting the Design of Spatial Attention in Vision Transformers.

Chu et al., arXiv 2104.13840, section 3.2: the locally-grouped self-attention (LSA) block of Twins-SVT. The
map must divide into whole windows, as in the paper: padding would let real positions attend to zeros.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.transformer import MHSA, Mlp


class LSA(nn.Module):
    """Self-attention inside each window of `window` x `window` positions."""

    def __init__(self, channels: int, *, window: int, head_dim: int) -> None:
        super().__init__()
        self.window = window
        self.attention = MHSA(channels, head_dim=head_dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        b, h, w, c = x.shape
        side, rows, columns = self.window, h // self.window, w // self.window
        # Batch and window rows share an axis: rank 5, where Core ML ends, in place of the usual 6.
        x = x.reshape(b * rows, side, columns, side, c).transpose(1, 2)  # (B*rows, columns, side, side, C)
        x = self.attention(x.reshape(b * rows * columns, side * side, c))  # (B*windows, side*side, C)
        x = x.reshape(b * rows, columns, side, side, c).transpose(1, 2)  # (B*rows, side, columns, side, C)
        return x.reshape(b, h, w, c)


class LSABlock(nn.Module):
    """`x + LSA(LN(x))`, then `x + MLP(LN(x))`."""

    def __init__(self, channels: int, *, window: int = 7, head_dim: int = 32, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.lsa = LSA(channels, window=window, head_dim=head_dim)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self.lsa(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x.permute(0, 3, 1, 2)


def lsa(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    window: int = 7,
    head_dim: int = 32,
    mlp_ratio: float = 4.0,
) -> LSABlock:
    """One LSA block; takes multiples of the window, keeps its shape."""
    return LSABlock(in_channels, window=window, head_dim=head_dim, mlp_ratio=mlp_ratio)
