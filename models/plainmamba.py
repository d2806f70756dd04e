"""PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition. Yang et al., arXiv 2403.17695.

Equal blocks of one width on 14x14 tokens, each with four selective scans along snakes ("Continuous 2D
Scanning") that know which way they came ("Direction-Aware Updating"); learned positions fix the image at 224.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import ConvBN
from models.snake_scan import SnakeScan

SIDE = 14  # of the map of tokens, at 224
EXPANSION = 2
STEM_CHANNELS = 64


class PlainMambaBlock(nn.Module):
    """`x + project(SnakeScan(SiLU(dwconv(u))) * SiLU(z))`, u and z from LN(x); where `local`, BN and GELU of
    a depthwise 3x3 after it, without a shortcut."""

    def __init__(self, channels: int, *, local: bool) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * inner)
        self.dwconv = nn.Conv2d(inner, inner, 7, padding=3, groups=inner)
        self.act = nn.SiLU()
        self.scan = SnakeScan(inner, side=SIDE, rank=math.ceil(channels / 16))
        self.project = nn.Linear(inner, channels)
        self.local: nn.Module | None = None
        if local:
            self.local = nn.Sequential(ConvBN(channels, channels, kernel_size=3, groups=channels), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        u, gate = self.expand(self.norm(x)).chunk(2, dim=2)  # 2 x (B, N, 2*C)
        y = to_tokens(self.act(self.dwconv(to_map(u))))
        x = x + self.project(self.scan(y) * self.act(gate))
        return x if self.local is None else to_tokens(self.local(to_map(x)))


def to_map(tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, C, SIDE, SIDE)."""
    b, _, c = tokens.shape
    return tokens.transpose(1, 2).reshape(b, c, SIDE, SIDE)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C)."""
    return x.flatten(2).transpose(1, 2)


class PlainMamba(nn.Module):
    """Convolutions and patches of 16x16, learned positions, blocks, LayerNorm, pooling, classifier."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        width = variant.width
        stem: list[nn.Module] = [ConvBN(in_chans, STEM_CHANNELS, kernel_size=7, stride=2), nn.ReLU()]
        for _ in range(variant.stem_convs):
            stem += [ConvBN(STEM_CHANNELS, STEM_CHANNELS, kernel_size=3), nn.ReLU()]
        self.patch_embed = nn.Sequential(*stem, nn.Conv2d(STEM_CHANNELS, width, 8, 8))
        self.positions = nn.Parameter(torch.zeros(1, SIDE**2, width))
        self.blocks = nn.Sequential(
            *(PlainMambaBlock(width, local=variant.local and index == 0) for index in range(variant.depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, classes)
        tokens = self.blocks(to_tokens(self.patch_embed(x)) + self.positions)  # (B, 196, C)
        out: Tensor = self.head(self.norm(tokens).mean(dim=1))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"patch_embed": "stem", "norm": "head", "head": "head"}
        return kinds | {f"blocks.{place}": "PlainMamba block" for place, _ in self.blocks.named_children()}


@dataclass(frozen=True, slots=True)
class Variant:
    """Channels, blocks, 3x3 convolutions in the stem, and whether a depthwise 3x3 follows the first block."""

    width: int
    depth: int
    stem_convs: int
    local: bool = False


VARIANTS = {
    "plainmamba_l1": Variant(192, 24, 1, local=True),
    "plainmamba_l2": Variant(384, 24, 2),
    "plainmamba_l3": Variant(448, 36, 2),
}


def plainmamba_l1(*, num_classes: int = 1000, in_chans: int = 3) -> PlainMamba:
    """PlainMamba-L1: 7.3 M parameters but for the classifier, 3.0 GMACs at 224 with its scans."""
    return PlainMamba(VARIANTS["plainmamba_l1"], num_classes=num_classes, in_chans=in_chans)


def plainmamba_l2(*, num_classes: int = 1000, in_chans: int = 3) -> PlainMamba:
    """PlainMamba-L2: 25.7 M parameters but for the classifier, 8.1 GMACs at 224 with its scans."""
    return PlainMamba(VARIANTS["plainmamba_l2"], num_classes=num_classes, in_chans=in_chans)


def plainmamba_l3(*, num_classes: int = 1000, in_chans: int = 3) -> PlainMamba:
    """PlainMamba-L3: 50.5 M parameters but for the classifier, 14.4 GMACs at 224 with its scans."""
    return PlainMamba(VARIANTS["plainmamba_l3"], num_classes=num_classes, in_chans=in_chans)
