"""ViT: An Image is Worth 16x16 Words. Dosovitskiy et al., arXiv 2010.11929, section 3.1, equations 2 and 3.

The pre-norm encoder block on a feature map: every position is a token, attention is global.
"""

from __future__ import annotations

from torch import Tensor, nn


class MHSA(nn.Module):
    """Multi-head self-attention over all tokens of a batch entry."""

    def __init__(self, channels: int, *, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, c // self.head_dim, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, heads, N, head_dim)
        attention = (q * self.head_dim**-0.5) @ k.transpose(2, 3)  # (B, heads, N, N)
        x = attention.softmax(dim=3) @ v  # (B, heads, N, head_dim)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(b, n, c))
        return out


class Mlp(nn.Module):
    """Two Linear layers with a GELU between."""

    def __init__(self, channels: int, *, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, int(channels * ratio))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(int(channels * ratio), channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class TransformerBlock(nn.Module):
    """`x + MHSA(LN(x))`, then `x + MLP(LN(x))`, on the tokens of a feature map."""

    def __init__(self, channels: int, *, head_dim: int = 32, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attention = MHSA(channels, head_dim=head_dim)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x.transpose(1, 2).reshape(b, c, h, w)


def transformer(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    head_dim: int = 32,
    mlp_ratio: float = 4.0,
) -> TransformerBlock:
    """One encoder block; takes any resolution at a cost quadratic in its positions, keeps its shape."""
    return TransformerBlock(in_channels, head_dim=head_dim, mlp_ratio=mlp_ratio)
