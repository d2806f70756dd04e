"""Pyramid ViG: Vision GNN, An Image is Worth Graph of Nodes. Han et al., arXiv 2206.00272, section 3.

Every position is joined to its nearest ones by their features, and takes over the largest difference to them
(max-relative graph convolution, section 3.2). In the first two stages the neighbours come from the map pooled
by 4 and 2. Every block has 9 neighbours (table 2) and reaches further by a dilation that grows with depth, up
to 5, as in the authors' code; another version of that code lets the neighbours grow to 18. Positions
learned for 224 fix the image at that side. The published code gives the convolutions before a BatchNorm
biases, which the BatchNorm cancels; here they have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import ConvBN
from models.mobilevig import FFN

SIDES = (56, 28, 14, 7)  # of the maps, at 224
REDUCTIONS = (4, 2, 1, 1)  # of the map that the neighbours come from
NEIGHBOURS = 9  # table 2
CANDIDATES = 49  # positions of the smallest map: no block looks at more of them
BLOCKS_A_DILATION = 4
GROUPS = 4  # of the graph convolution
HEAD_CHANNELS = 1024
RANDOM_GAIN = 1e-3


def position_closeness(channels: int, *, side: int, reduction: int) -> Tensor:
    """How alike the sine-cosine codes of positions are: (1, side**2, (side / reduction)**2), constant.

    Where the map is reduced, the published weights expect the list of its positions, and not the map, to be
    resized.
    """
    frequencies = 10000 ** (-torch.arange(channels // 4) / (channels // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phases = [place.flatten()[:, None] * frequencies for place in (columns, rows)]
    codes = torch.cat([wave for phase in phases for wave in (phase.sin(), phase.cos())], dim=1)  # (N, C)
    shrunk = nn.functional.interpolate(
        codes.T[None, None], size=(channels, side**2 // reduction**2), mode="bicubic"
    )  # (1, 1, C, M)
    return codes @ shrunk[0] / channels


class NearestNeighbours(nn.Module):
    """The positions of the largest cosine plus closeness, which is the least distance of unit features.

    Of the `count` x `dilation` nearest every `dilation`-th is taken.
    """

    closeness: Tensor

    def __init__(self, channels: int, *, count: int, dilation: int, side: int, reduction: int) -> None:
        super().__init__()
        self.count, self.dilation = count, dilation
        closeness = position_closeness(channels, side=side, reduction=reduction)
        self.register_buffer("closeness", closeness, persistent=False)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:  # (B, C, N), (B, C, M) -> (B, N, count)
        x, others = nn.functional.normalize(x, dim=1), nn.functional.normalize(others, dim=1)
        alike = x.transpose(1, 2) @ others + self.closeness  # (B, N, M)
        nearest: Tensor = alike.topk(self.count * self.dilation, dim=2).indices
        return nearest[:, :, :: self.dilation]


def largest_of(others: Tensor, nearest: Tensor) -> Tensor:
    """The largest value of each channel over the neighbours: (B, C, M), (B, N, K) -> (B, C, N)."""
    b, c, m = others.shape
    rows = others.transpose(1, 2).reshape(b * m, c)
    place = nearest + m * torch.arange(b, device=nearest.device)[:, None, None]
    found = rows[place.flatten()].reshape(*nearest.shape, c)  # (B, N, K, C)
    return found.amax(dim=2).transpose(1, 2)


class MaxRelativeConv(nn.Module):
    """A grouped 1x1 of each feature beside the largest difference of its neighbours to it, BN, GELU."""

    def __init__(self, channels: int, *, count: int, dilation: int, side: int, reduction: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(reduction) if reduction > 1 else nn.Identity()
        self.neighbours = NearestNeighbours(
            channels, count=count, dilation=dilation, side=side, reduction=reduction
        )
        self.mix = ConvBN(2 * channels, 2 * channels, kernel_size=1, groups=GROUPS)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 2*C, H, W)
        b, c, h, w = x.shape
        others, nodes = self.pool(x).flatten(2), x.flatten(2)  # (B, C, M), (B, C, N)
        relative = largest_of(others, self.neighbours(nodes, others)) - nodes
        y = torch.stack((nodes, relative), dim=2).reshape(b, 2 * c, h, w)
        out: Tensor = self.act(self.mix(y))
        return out

    def damp_random(self) -> None:
        """Random weights let the differences to neighbours count for little.

        Where two neighbours are equally near, rounding decides between them, and a node with another
        neighbour has another feature, by which further nodes choose. With differences at full weight that
        goes on until all outputs differ, whatever computes them.
        """
        self.mix.conv.weight[:, 1::2] *= RANDOM_GAIN


class Grapher(nn.Module):
    """`x + (1x1, BN, max-relative graph convolution, 1x1, BN)` (equation 7)."""

    def __init__(self, channels: int, *, count: int, dilation: int, side: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = ConvBN(channels, channels, kernel_size=1)
        self.graph_conv = MaxRelativeConv(
            channels, count=count, dilation=dilation, side=side, reduction=reduction
        )
        self.fc2 = ConvBN(2 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = x + self.fc2(self.graph_conv(self.fc1(x)))
        return out


class PyramidViG(nn.Module):
    """Stem, learned positions, four stages of Grapher and FFN, pooling, two 1x1 convolutions."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        first, last = variant.widths[0], variant.widths[-1]
        self.stem = nn.Sequential(
            ConvBN(in_chans, first // 2, kernel_size=3, stride=2),
            nn.GELU(),
            ConvBN(first // 2, first, kernel_size=3, stride=2),
            nn.GELU(),
            ConvBN(first, first, kernel_size=3),
        )
        self.positions = nn.Parameter(torch.zeros(1, first, SIDES[0], SIDES[0]))
        self.stages = nn.Sequential()
        dilations, channels = iter(dilations_of(sum(variant.depths))), first
        for index, (width, depth) in enumerate(zip(variant.widths, variant.depths, strict=True)):
            stage = nn.Sequential()
            if index:
                stage.append(ConvBN(channels, width, kernel_size=3, stride=2))
            for _ in range(depth):
                side, reduction, dilation = SIDES[index], REDUCTIONS[index], next(dilations)
                stage.append(
                    Grapher(width, count=NEIGHBOURS, dilation=dilation, side=side, reduction=reduction)
                )
                stage.append(FFN(width))
            self.stages.append(stage)
            channels = width
        self.neck = ConvBN(last, HEAD_CHANNELS, kernel_size=1)
        self.act = nn.GELU()
        self.head = nn.Linear(HEAD_CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, classes)
        x = self.stages(self.stem(x) + self.positions)  # (B, C, 7, 7)
        x = self.act(self.neck(x.mean(dim=(2, 3), keepdim=True)))  # (B, 1024, 1, 1)
        out: Tensor = self.head(x.flatten(1))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        names = {Grapher: "Grapher", FFN: "FFN"}
        kinds = {"stem": "stem", "neck": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                kinds[f"stages.{index}.{place}"] = names.get(type(block), "downsampling")
        return kinds


def dilations_of(blocks: int) -> list[int]:
    """Of each block's neighbours: it grows by one every fourth block, as far as the smallest map allows."""
    return [min(block // BLOCKS_A_DILATION + 1, CANDIDATES // NEIGHBOURS) for block in range(blocks)]


@dataclass(frozen=True, slots=True)
class Variant:
    """Widths and blocks by stage (table 2)."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


VARIANTS = {
    "pyramid_vig_ti": Variant((48, 96, 240, 384), (2, 2, 6, 2)),
    "pyramid_vig_s": Variant((80, 160, 400, 640), (2, 2, 6, 2)),
    "pyramid_vig_m": Variant((96, 192, 384, 768), (2, 2, 16, 2)),
    "pyramid_vig_b": Variant((128, 256, 512, 1024), (2, 2, 18, 2)),
}


def pyramid_vig_ti(*, num_classes: int = 1000, in_chans: int = 3) -> PyramidViG:
    """Pyramid ViG-Ti: 10.7 M parameters, 1.7 GMACs at 224."""
    return PyramidViG(VARIANTS["pyramid_vig_ti"], num_classes=num_classes, in_chans=in_chans)


def pyramid_vig_s(*, num_classes: int = 1000, in_chans: int = 3) -> PyramidViG:
    """Pyramid ViG-S: 27.3 M parameters, 4.6 GMACs at 224."""
    return PyramidViG(VARIANTS["pyramid_vig_s"], num_classes=num_classes, in_chans=in_chans)


def pyramid_vig_m(*, num_classes: int = 1000, in_chans: int = 3) -> PyramidViG:
    """Pyramid ViG-M: 49.5 M parameters (51.7 M with its constants), 8.9 GMACs at 224."""
    return PyramidViG(VARIANTS["pyramid_vig_m"], num_classes=num_classes, in_chans=in_chans)


def pyramid_vig_b(*, num_classes: int = 1000, in_chans: int = 3) -> PyramidViG:
    """Pyramid ViG-B: 92.9 M parameters, 16.8 GMACs at 224."""
    return PyramidViG(VARIANTS["pyramid_vig_b"], num_classes=num_classes, in_chans=in_chans)
