"""PVT: Pyramid Vision Transformer, version 1. Wang et al., arXiv 2102.12122, section 3.

Keys and values come from the map shrunk by a strided convolution: spatial-reduction attention (section 3.3).
Positions are learned for 224 and interpolated elsewhere; a class token joins in the last stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.transformer import Mlp

HEAD_DIM = 64
WIDTHS = (64, 128, 320, 512)
REDUCTIONS = (8, 4, 2, 1)
MLP_RATIOS = (8, 8, 4, 4)
PATCHES = (4, 2, 2, 2)
SIDES = (56, 28, 14, 7)  # of the maps, at 224


class SpatialReductionAttention(nn.Module):
    """Multi-head attention to the map after a convolution of `reduction` x `reduction` and LayerNorm."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_DIM
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.reduce: nn.Module | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, side: tuple[int, int]) -> Tensor:  # (B, N, C); N = H*W where it reduces
        b, n, c = x.shape
        source = x
        if self.reduce is not None:
            shrunk = self.reduce(x.transpose(1, 2).reshape(b, c, *side))  # (B, C, H/reduction, W/reduction)
            source = self.norm(shrunk.flatten(2).transpose(1, 2))  # (B, M, C)
        q = self.q(x).reshape(b, n, self.heads, HEAD_DIM).transpose(1, 2)  # (B, heads, N, 64)
        kv = self.kv(source).reshape(b, -1, 2 * self.heads, HEAD_DIM).transpose(1, 2)  # (B, 2*heads, M, 64)
        k, v = kv.chunk(2, dim=1)
        attention = (q * HEAD_DIM**-0.5) @ k.transpose(2, 3)  # (B, heads, N, M)
        y = attention.softmax(dim=3) @ v  # (B, heads, N, 64)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(b, n, c))
        return out


class PVTBlock(nn.Module):
    """`x + SRA(LN(x))`, then `x + MLP(LN(x))`."""

    def __init__(self, channels: int, *, reduction: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attention = SpatialReductionAttention(channels, reduction=reduction)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, ratio=mlp_ratio)

    def forward(self, x: Tensor, side: tuple[int, int]) -> Tensor:  # (B, N, C)
        x = x + self.attention(self.norm1(x), side)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, LayerNorm, learned positions."""

    def __init__(self, in_channels: int, out_channels: int, *, patch: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, patch, patch)
        self.norm = nn.LayerNorm(out_channels)
        self.positions = nn.Parameter(torch.zeros(1, out_channels, side, side))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:  # (B, C, H, W) -> (B, N, C'), side
        x = self.proj(x)
        side = (x.shape[2], x.shape[3])
        positions: Tensor = self.positions
        if side != positions.shape[2:]:
            positions = nn.functional.interpolate(positions, size=side, mode="bilinear")
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        return tokens + positions.flatten(2).transpose(1, 2), side


class Stage(nn.Module):
    """Patch embedding and blocks; where `has_class_token`, gives the class token's features alone."""

    def __init__(self, index: int, depth: int, *, in_channels: int, has_class_token: bool) -> None:
        super().__init__()
        width = WIDTHS[index]
        self.patch_embed = PatchEmbed(in_channels, width, patch=PATCHES[index], side=SIDES[index])
        self.has_class_token = has_class_token
        if has_class_token:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.class_position = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            PVTBlock(width, reduction=REDUCTIONS[index], mlp_ratio=MLP_RATIOS[index]) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H', W'), or (B, C')
        tokens: Tensor
        tokens, side = self.patch_embed(x)
        b, _, c = tokens.shape
        if self.has_class_token:
            class_token = (self.class_token + self.class_position).expand(b, -1, -1)
            tokens = torch.cat((class_token, tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens, side)
        if self.has_class_token:
            return tokens[:, 0]
        return tokens.transpose(1, 2).reshape(b, c, *side)


class PVT(nn.Module):
    """Four stages, LayerNorm of the class token, classifier."""

    def __init__(self, depths: tuple[int, int, int, int], *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        channels = in_chans
        for index, depth in enumerate(depths):
            self.stages.append(Stage(index, depth, in_channels=channels, has_class_token=index == 3))
            channels = WIDTHS[index]
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        out: Tensor = self.head(self.norm(self.stages(x)))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"norm": "head", "head": "head"}
        for path, module in self.stages.named_modules(prefix="stages"):
            if isinstance(module, PatchEmbed):
                kinds[path] = "patch embedding"
            elif isinstance(module, PVTBlock):
                kinds |= {f"{path}.attention": "SRA", f"{path}.mlp": "MLP"}
        return kinds


VARIANTS = {
    "pvt_tiny": (2, 2, 2, 2),
    "pvt_small": (3, 4, 6, 3),
    "pvt_medium": (3, 4, 18, 3),
    "pvt_large": (3, 8, 27, 3),
}


def pvt_tiny(*, num_classes: int = 1000, in_chans: int = 3) -> PVT:
    """PVT-Tiny: 13.2 M parameters, 1.9 GMACs at 224."""
    return PVT(VARIANTS["pvt_tiny"], num_classes=num_classes, in_chans=in_chans)


def pvt_small(*, num_classes: int = 1000, in_chans: int = 3) -> PVT:
    """PVT-Small: 24.5 M parameters, 3.8 GMACs at 224."""
    return PVT(VARIANTS["pvt_small"], num_classes=num_classes, in_chans=in_chans)


def pvt_medium(*, num_classes: int = 1000, in_chans: int = 3) -> PVT:
    """PVT-Medium: 44.2 M parameters, 6.7 GMACs at 224."""
    return PVT(VARIANTS["pvt_medium"], num_classes=num_classes, in_chans=in_chans)


def pvt_large(*, num_classes: int = 1000, in_chans: int = 3) -> PVT:
    """PVT-Large: 61.4 M parameters, 9.8 GMACs at 224."""
    return PVT(VARIANTS["pvt_large"], num_classes=num_classes, in_chans=in_chans)
