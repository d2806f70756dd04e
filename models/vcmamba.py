"""VCMamba: Bridging Convolutions with Multi-Directional Mamba for Efficient Visual Representation.

Munir et al., arXiv 2509.04669. Convolutional blocks, and Mamba mixers in the last four blocks of the last
stage, which scan the 7x7 map in four snakes; a position map learned there fixes the image at 224.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.folding import fold_into_next, replaced
from models.heads import DistilledHead
from models.layers import ConvBN
from models.mobilevig import InvertedResidual, local_stages
from models.snake_scan import SnakeScan

SIDE = 7  # of the last map, at 224
MAMBA_BLOCKS = 4


class MambaMixer(nn.Module):
    """BN, 1x1, BN, depthwise 7x7, SiLU, four selective scans summed, LN, ReLU, 1x1, BN."""

    def __init__(self, channels: int, *, side: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.expand = ConvBN(channels, inner, kernel_size=1)
        self.dwconv = nn.Conv2d(inner, inner, 7, padding=3, groups=inner)
        self.act = nn.SiLU()
        self.scan = SnakeScan(inner, side=side, rank=math.ceil(channels / 16))
        self.scan_norm = nn.LayerNorm(inner)
        self.relu = nn.ReLU()
        self.project = ConvBN(inner, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = self.act(self.dwconv(self.expand(self.norm(x))))  # (B, 2*C, H, W)
        b, c, h, w = y.shape
        tokens = self.scan_norm(self.scan(y.flatten(2).transpose(1, 2)))  # (B, N, 2*C)
        out: Tensor = self.project(self.relu(tokens).transpose(1, 2).reshape(b, c, h, w))
        return out

    def fuse(self) -> nn.Module:
        (expand,) = fold_into_next(self.norm, self.expand)
        return replaced(self, expand=expand, norm=nn.Identity())


class NormedFFN(InvertedResidual):
    """`x + FFN(BN(x))`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.layer_scale = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = self.act(self.depthwise(self.act(self.expand(self.norm(x)))))  # (B, 4*C, H, W)
        out: Tensor = x + self.project(y)
        return out

    def fuse(self) -> nn.Module:
        (expand,) = fold_into_next(self.norm, self.expand)
        return replaced(self, expand=expand, norm=nn.Identity())


class MambaBlock(nn.Module):
    """`x + mixer(x)`, then an FFN with BatchNorm before it."""

    def __init__(self, channels: int, *, side: int) -> None:
        super().__init__()
        self.mixer = MambaMixer(channels, side=side)
        self.ffn = NormedFFN(channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = self.ffn(x + self.mixer(x))
        return out


class VCMamba(nn.Module):
    """Stem, four stages, learned positions before the Mamba blocks, LN, pooling, two classifiers averaged."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        first, last = variant.widths[0], variant.widths[-1]
        self.stem = nn.Sequential(
            ConvBN(in_chans, first // 2, kernel_size=3, stride=2),
            nn.ReLU(),
            ConvBN(first // 2, first, kernel_size=3, stride=2),
            nn.ReLU(),
        )
        *plain, mixed = variant.depths
        self.stages = local_stages(variant.widths, (*plain, mixed - MAMBA_BLOCKS))
        self.positions = nn.Parameter(torch.zeros(1, last, SIDE, SIDE))
        self.mamba = nn.Sequential(*(MambaBlock(last, side=SIDE) for _ in range(MAMBA_BLOCKS)))
        self.norm = nn.LayerNorm(last)
        self.head = DistilledHead(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, classes)
        x = self.stages(self.stem(x))  # (B, C, 7, 7)
        x = self.mamba(x + self.positions).flatten(2).transpose(1, 2)  # (B, N, C)
        out: Tensor = self.head(self.norm(x).mean(dim=1))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"stem": "stem", "norm": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                kind = "FFN" if isinstance(block, InvertedResidual) else "downsampling"
                kinds[f"stages.{index}.{place}"] = kind
        for place, _ in self.mamba.named_children():
            kinds |= {f"mamba.{place}.mixer": "Mamba", f"mamba.{place}.ffn": "FFN"}
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """Widths and depths by stage, Mamba blocks included."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


VARIANTS = {
    "vcmamba_s": Variant((32, 64, 144, 288), (4, 4, 12, 8)),
    "vcmamba_m": Variant((48, 96, 224, 448), (4, 4, 12, 6)),
    "vcmamba_b": Variant((64, 128, 320, 512), (4, 4, 12, 6)),
}


def vcmamba_s(*, num_classes: int = 1000, in_chans: int = 3) -> VCMamba:
    """VCMamba-S: 10.5 M parameters, 1.1 GMACs at 224."""
    return VCMamba(VARIANTS["vcmamba_s"], num_classes=num_classes, in_chans=in_chans)


def vcmamba_m(*, num_classes: int = 1000, in_chans: int = 3) -> VCMamba:
    """VCMamba-M: 21.0 M parameters, 2.3 GMACs at 224."""
    return VCMamba(VARIANTS["vcmamba_m"], num_classes=num_classes, in_chans=in_chans)


def vcmamba_b(*, num_classes: int = 1000, in_chans: int = 3) -> VCMamba:
    """VCMamba-B: 31.5 M parameters, 4.0 GMACs at 224."""
    return VCMamba(VARIANTS["vcmamba_b"], num_classes=num_classes, in_chans=in_chans)
