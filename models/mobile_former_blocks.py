"""Mobile-Former's block (Chen et al., arXiv 2108.05895): a bottleneck, a transformer layer, and the bridges.

The two-way bridge is light-weight cross attention, which projects the tokens alone (section 3.1, figure 3).
The first token sets the activations of the bottleneck (dynamic ReLU, Chen et al., arXiv 2003.10027).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import ConvBN

BRIDGE_HEADS = 2
FORMER_HEADS = 4
FFN_RATIO = 2
REDUCTION = 4  # of a token on its way to the slopes of a dynamic ReLU


@dataclass(frozen=True, slots=True)
class Layer:
    """A block's output channels and its bottleneck's expansion; with a second one it halves the sides."""

    channels: int
    expansion: int
    second_expansion: int = 0


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, heads: int) -> Tensor:
    """Multi-head attention without projections: (B, N, C) of `queries`, and (B, M, C) of the others."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (queries, keys, values))
    attention = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (B, heads, N, M)
    out: Tensor = (attention.softmax(dim=3) @ v).transpose(1, 2).flatten(2)
    return out


class DynamicReLU(nn.Module):
    """`max(a x, b x)` with slopes per channel from the first token: a in [0, 2], b in [-1, 1]."""

    def __init__(self, channels: int, *, token_dim: int) -> None:
        super().__init__()
        self.slopes = nn.Sequential(
            nn.Linear(token_dim, token_dim // REDUCTION),
            nn.ReLU(),
            nn.Linear(token_dim // REDUCTION, 2 * channels),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor, token: Tensor) -> Tensor:  # (B, C, H, W), (B, d)
        one, two = (2 * self.slopes(token))[..., None, None].chunk(2, dim=1)  # 2 x (B, C, 1, 1)
        return torch.maximum(x * one, x * (two - 1))


class MobileToFormer(nn.Module):
    """`LN(z + proj(gate(z) * attention))`: the tokens ask, the map is keys and values (equation 1)."""

    def __init__(self, channels: int, *, token_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(token_dim, channels)
        self.gate = nn.Sequential(nn.Linear(token_dim, channels), nn.Hardsigmoid())
        self.proj = nn.Linear(channels, token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:  # (B, C, H, W), (B, T, d) -> (B, T, d)
        positions = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        y = attend(self.query(tokens), positions, positions, heads=BRIDGE_HEADS)
        out: Tensor = self.norm(tokens + self.proj(2 * self.gate(tokens) * y))
        return out


class Former(nn.Module):
    """Self-attention of the tokens, which are keys and values as they are, and FFN; LayerNorm after each."""

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(token_dim, token_dim)
        self.proj = nn.Linear(token_dim, token_dim)
        self.norm1 = nn.LayerNorm(token_dim)
        self.ffn = nn.Sequential(
            nn.Linear(token_dim, FFN_RATIO * token_dim),
            nn.GELU(),
            nn.Linear(FFN_RATIO * token_dim, token_dim),
        )
        self.norm2 = nn.LayerNorm(token_dim)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T, d)
        y = attend(self.query(tokens), tokens, tokens, heads=FORMER_HEADS)
        tokens = self.norm1(tokens + self.proj(y))
        out: Tensor = self.norm2(tokens + self.ffn(tokens))
        return out


class FormerToMobile(nn.Module):
    """`x + attention`: the map asks as it is, the tokens are keys and values (equation 2)."""

    def __init__(self, channels: int, *, token_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(token_dim, channels)
        self.value = nn.Linear(token_dim, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:  # (B, C, H, W), (B, T, d) -> (B, C, H, W)
        positions = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        y = attend(positions, self.key(tokens), self.value(tokens), heads=BRIDGE_HEADS)
        return x + y.transpose(1, 2).reshape(x.shape)


class Bottleneck(nn.Module):
    """1x1, dynamic ReLU, depthwise 3x3, dynamic ReLU, 1x1; a shortcut where the width stays."""

    def __init__(self, in_channels: int, layer: Layer, *, token_dim: int) -> None:
        super().__init__()
        hidden = layer.expansion * in_channels
        self.expand = ConvBN(in_channels, hidden, kernel_size=1)
        self.act1 = DynamicReLU(hidden, token_dim=token_dim)
        self.depthwise = ConvBN(hidden, hidden, kernel_size=3, groups=hidden)
        self.act2 = DynamicReLU(hidden, token_dim=token_dim)
        self.project = ConvBN(hidden, layer.channels, kernel_size=1)
        self.has_shortcut = in_channels == layer.channels

    def forward(self, x: Tensor, token: Tensor) -> Tensor:  # (B, C, H, W), (B, d) -> (B, C', H, W)
        y: Tensor = self.act1(self.expand(x), token)
        y = self.project(self.act2(self.depthwise(y), token))
        return x + y if self.has_shortcut else y


class DownsamplingBottleneck(nn.Module):
    """Two pairs of a depthwise 3x3 that widens and a 1x1 that narrows; the first halves the sides.

    No 1x1 widens here: a depthwise convolution has several outputs per channel (section 3.4). The second pair
    has a shortcut.
    """

    def __init__(self, in_channels: int, layer: Layer, *, token_dim: int) -> None:
        super().__init__()
        channels = layer.channels
        wide, second = layer.expansion * in_channels, layer.second_expansion * channels
        self.down = ConvBN(in_channels, wide, kernel_size=3, stride=2, groups=in_channels)
        self.act1 = DynamicReLU(wide, token_dim=token_dim)
        self.project1 = ConvBN(wide, channels, kernel_size=1)
        self.depthwise = ConvBN(channels, second, kernel_size=3, groups=channels)
        self.act2 = DynamicReLU(second, token_dim=token_dim)
        self.project2 = ConvBN(second, channels, kernel_size=1)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:  # (B, C, H, W), (B, d) -> (B, C', H/2, W/2)
        x = self.project1(self.act1(self.down(x), token))
        out: Tensor = x + self.project2(self.act2(self.depthwise(x), token))
        return out


class LiteBottleneck(nn.Module):
    """`x + (depthwise 3x3 that widens, ReLU6, 1x1)`: the block without tokens, behind the stem."""

    def __init__(self, channels: int, *, expansion: int) -> None:
        super().__init__()
        self.depthwise = ConvBN(channels, expansion * channels, kernel_size=3, groups=channels)
        self.act = nn.ReLU6()
        self.project = ConvBN(expansion * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = x + self.project(self.act(self.depthwise(x)))
        return out


class MobileFormerBlock(nn.Module):
    """Mobile to Former, Former, Mobile with the first token that comes out, Former to Mobile."""

    def __init__(self, in_channels: int, layer: Layer, *, token_dim: int) -> None:
        super().__init__()
        self.to_former = MobileToFormer(in_channels, token_dim=token_dim)
        self.former = Former(token_dim)
        kind = DownsamplingBottleneck if layer.second_expansion else Bottleneck
        self.mobile = kind(in_channels, layer, token_dim=token_dim)
        self.to_mobile = FormerToMobile(layer.channels, token_dim=token_dim)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.former(self.to_former(x, tokens))  # (B, T, d)
        return self.to_mobile(self.mobile(x, tokens[:, 0]), tokens), tokens
