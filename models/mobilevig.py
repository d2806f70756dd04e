"""MobileViG: Graph-Based Sparse Attention for Mobile Vision Applications. Munir et al., arXiv 2307.00395.

Inverted residuals in three stages, then graph blocks on the last map (section 3, figure 3): Sparse Vision
Graph Attention (SVGA) joins each position with every second one of its row and column. The published code
gives the convolutions before a BatchNorm biases, which the BatchNorm cancels; here they have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.folding import fold_into_previous, replaced
from models.heads import DistilledHead
from models.layers import ConvBN, LayerScale

MLP_RATIO = 4
HOP = 2  # K in the paper: distance between the joined positions of a row or column


class InvertedResidual(nn.Module):
    """`x + ls * (1x1, BN, GELU, depthwise 3x3, BN, GELU, 1x1, BN)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels
        self.expand = ConvBN(channels, hidden, kernel_size=1)
        self.depthwise = ConvBN(hidden, hidden, kernel_size=3, groups=hidden)
        self.project: nn.Module = ConvBN(hidden, channels, kernel_size=1)
        self.layer_scale: nn.Module = LayerScale(channels, initial=1e-5)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = self.act(self.depthwise(self.act(self.expand(x))))  # (B, 4*C, H, W)
        out: Tensor = x + self.layer_scale(self.project(y))
        return out

    def fuse(self) -> nn.Module:
        project = fold_into_previous(self.project, self.layer_scale)
        return replaced(self, project=project, layer_scale=nn.Identity())


class MaxRelative(nn.Module):
    """`max(x - y)` over the position itself and every HOP-th one of its column and row, as it is published: a
    shift round the border, a difference and a maximum for each (section 3.1).
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        most = torch.zeros_like(x)
        for dim in (2, 3):
            for shift in shifts(x.shape[dim]):
                most = torch.maximum(most, x - x.roll(shift, dims=dim))
        return most


def shifts(side: int) -> range:
    """How far the joined positions of a row or column are."""
    return range(HOP, side, HOP)


class SVGA(nn.Module):
    """Sparse Vision Graph Attention (section 3.1) between two 1x1 convolutions with BatchNorm; shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = ConvBN(channels, channels, kernel_size=1)
        self.relative = MaxRelative()
        self.graph_conv = ConvBN(2 * channels, 2 * channels, kernel_size=1)
        self.act = nn.GELU()
        self.fc2 = ConvBN(2 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = self.fc1(x)
        y = torch.cat((y, self.relative(y)), dim=1)  # (B, 2*C, H, W)
        out: Tensor = x + self.fc2(self.act(self.graph_conv(y)))
        return out


class FFN(nn.Module):
    """`x + (1x1, BN, GELU, 1x1, BN)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = ConvBN(channels, MLP_RATIO * channels, kernel_size=1)
        self.act = nn.GELU()
        self.fc2 = ConvBN(MLP_RATIO * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = x + self.fc2(self.act(self.fc1(x)))
        return out


def local_stages(widths: Sequence[int], depths: Sequence[int]) -> nn.Sequential:
    """Stages of inverted residuals; all but the first halve the sides before."""
    stages, channels = nn.Sequential(), widths[0]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        down = [] if index == 0 else [ConvBN(channels, width, kernel_size=3, stride=2)]
        stages.append(nn.Sequential(*down, *(InvertedResidual(width) for _ in range(depth))))
        channels = width
    return stages


class MobileViG(nn.Module):
    """Stem, three local stages, one graph stage, pooling, 1x1 convolution, two classifiers averaged."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        first = variant.local_channels[0]
        self.stem = nn.Sequential(
            ConvBN(in_chans, first // 2, kernel_size=3, stride=2),
            nn.GELU(),
            ConvBN(first // 2, first, kernel_size=3, stride=2),
            nn.GELU(),
        )
        self.stages = local_stages(variant.local_channels, variant.local_depths)
        channels = variant.local_channels[-1]
        width = variant.graph_channels
        graph = [block for _ in range(variant.graph_depth) for block in (SVGA(width), FFN(width))]
        self.stages.append(nn.Sequential(ConvBN(channels, width, kernel_size=3, stride=2), *graph))
        self.neck = ConvBN(width, variant.head_channels, kernel_size=1)
        self.act = nn.GELU()
        self.head = DistilledHead(variant.head_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stages(self.stem(x))  # (B, C, H/32, W/32)
        x = self.act(self.neck(x.mean(dim=(2, 3), keepdim=True)))  # (B, head, 1, 1)
        out: Tensor = self.head(x.flatten(1))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        names = {InvertedResidual: "inverted residual", SVGA: "SVGA", FFN: "FFN"}
        kinds = {"stem": "stem", "neck": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                kinds[f"stages.{index}.{place}"] = names.get(type(block), "downsampling")
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """One column of the paper's table of variants."""

    local_channels: tuple[int, int, int]
    local_depths: tuple[int, int, int]
    graph_channels: int
    graph_depth: int
    head_channels: int


VARIANTS = {
    "mobilevig_ti": Variant((42, 84, 168), (2, 2, 6), 256, 2, 512),
    "mobilevig_s": Variant((42, 84, 176), (3, 3, 9), 256, 3, 512),
    "mobilevig_m": Variant((42, 84, 224), (3, 3, 9), 400, 3, 768),
    "mobilevig_b": Variant((42, 84, 240), (5, 5, 15), 464, 5, 768),
}


def mobilevig_ti(*, num_classes: int = 1000, in_chans: int = 3) -> MobileViG:
    """MobileViG-Ti: 5.2 M parameters, 0.7 GMACs at 224."""
    return MobileViG(VARIANTS["mobilevig_ti"], num_classes=num_classes, in_chans=in_chans)


def mobilevig_s(*, num_classes: int = 1000, in_chans: int = 3) -> MobileViG:
    """MobileViG-S: 7.2 M parameters, 1.0 GMACs at 224."""
    return MobileViG(VARIANTS["mobilevig_s"], num_classes=num_classes, in_chans=in_chans)


def mobilevig_m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileViG:
    """MobileViG-M: 14.0 M parameters, 1.5 GMACs at 224."""
    return MobileViG(VARIANTS["mobilevig_m"], num_classes=num_classes, in_chans=in_chans)


def mobilevig_b(*, num_classes: int = 1000, in_chans: int = 3) -> MobileViG:
    """MobileViG-B: 26.7 M parameters, 2.8 GMACs at 224."""
    return MobileViG(VARIANTS["mobilevig_b"], num_classes=num_classes, in_chans=in_chans)
