"""FcaFormer: Forward Cross Attention in Hybrid Vision Transformer. Zhang et al., arXiv 2211.07198, section 3.

The hybrid models: two stages of ConvNeXt blocks, two of FcaFormer blocks, whose attention also reads cross
tokens, each earlier block's map merged by a depthwise 7x7 with stride 4. Position tables fix the image at
224. What the paper leaves open is as in the authors' code: a LayerNorm of the cross tokens' own, layer scales
on both branches, and one table entry for offsets of one size, whatever their sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.convnext import ConvNeXtBlock
from models.folding import fold_into_previous, replaced
from models.layers import ConvBN, LayerScale
from models.transformer import Mlp

HEAD_DIM = 32
MERGE_STRIDE = 4
MAXIMUM_SOURCES = 12  # an FcaFormer block reads the cross tokens of at most this many blocks before it
SIDES = (56, 28, 14, 7)  # of the maps, at 224


def relative_index(side: int) -> Tensor:
    """Which entry of a table of side**2 distances by row and column each pair of positions reads: (N, N),
    N = side**2."""
    rows, columns = torch.arange(side**2) // side, torch.arange(side**2) % side
    by_row = (rows[:, None] - rows[None]).abs()
    by_column = (columns[:, None] - columns[None]).abs()
    return by_row * side + by_column


class CrossAttention(nn.Module):
    """Multi-head attention of N tokens to themselves and to M cross tokens, with learned position bias.

    Each cross token is multiplied by a learned factor first, and all have a LayerNorm of their own. Queries
    and biases are of the N tokens alone.
    """

    index: Tensor

    def __init__(self, channels: int, *, side: int, cross_tokens: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_DIM
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_bias = nn.Parameter(torch.zeros(self.heads, side**2))
        self.register_buffer("index", relative_index(side).flatten(), persistent=False)
        self.has_cross = cross_tokens > 0
        if self.has_cross:
            self.factors = nn.Parameter(torch.ones(cross_tokens, 1))
            self.cross_norm = nn.LayerNorm(channels)
            self.cross_bias = nn.Parameter(torch.zeros(self.heads, 1, cross_tokens))

    def position_bias(self) -> Tensor:  # (heads, N, N+M)
        n = math.isqrt(len(self.index))
        bias = self.relative_bias[:, self.index].reshape(self.heads, n, n)
        return torch.cat((bias, self.cross_bias.expand(-1, n, -1)), dim=2) if self.has_cross else bias

    def forward(self, x: Tensor, cross: list[Tensor]) -> Tensor:  # (B, N, C), some (B, M', C) -> (B, N, C)
        b, n, c = x.shape
        if self.has_cross:
            read = self.cross_norm(torch.cat(cross, dim=1) * self.factors)  # (B, M, C)
            x = torch.cat((x, read), dim=1)  # (B, N+M, C)
        qkv = self.qkv(x).reshape(b, -1, 3 * self.heads, HEAD_DIM).transpose(1, 2)  # (B, 3*heads, N+M, 32)
        q, k, v = qkv.chunk(3, dim=1)
        attention = (q[:, :, :n] * HEAD_DIM**-0.5) @ k.transpose(2, 3)  # (B, heads, N, N+M)
        attention = attention + self.position_bias()
        y = attention.softmax(dim=3) @ v  # (B, heads, N, 32)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(b, n, c))
        return out


class FcaBlock(nn.Module):
    """Cross attention, token merge and enhancement (TME), MLP (figure 2); layer scales and shortcuts.

    TME: a depthwise 7x7 with stride 4 merges the map to cross tokens for the blocks after this one, a
    depthwise 3x3 with BatchNorm and no shortcut enhances it. The MLP has a LayerNorm of its own beside the
    block's.
    """

    def __init__(self, channels: int, *, side: int, cross_tokens: int, merges: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, side=side, cross_tokens=cross_tokens)
        self.attention_scale: nn.Module = LayerScale(channels, initial=1e-6)
        self.merge = (
            nn.Conv2d(channels, channels, 7, MERGE_STRIDE, padding=3, groups=channels, bias=False)
            if merges
            else None
        )
        self.enhance = ConvBN(channels, channels, kernel_size=3, groups=channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, ratio=4)
        self.mlp_scale: nn.Module = LayerScale(channels, initial=1e-6)

    def forward(self, x: Tensor, cross: list[Tensor]) -> tuple[Tensor, list[Tensor]]:  # (B, C, H, W), ...
        tokens = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        attended = self.attention(self.norm1(tokens), cross)
        x = x + self.attention_scale(attended.transpose(1, 2).reshape(x.shape))
        if self.merge is not None:
            cross = [*cross, self.merge(x).flatten(2).transpose(1, 2)]
        x = self.enhance(x)
        y = self.mlp(self.mlp_norm(self.norm2(x.flatten(2).transpose(1, 2))))
        return x + self.mlp_scale(y.transpose(1, 2).reshape(x.shape)), cross

    def fuse(self) -> nn.Module:
        """The scales are per channel: they commute with the transpositions behind the Linear layers."""
        proj = fold_into_previous(self.attention.proj, self.attention_scale)
        fc2 = fold_into_previous(self.mlp.fc2, self.mlp_scale)
        return replaced(
            self,
            attention=replaced(self.attention, proj=proj),
            attention_scale=nn.Identity(),
            mlp=replaced(self.mlp, fc2=fc2),
            mlp_scale=nn.Identity(),
        )


class FcaStage(nn.Module):
    """FcaFormer blocks in a row; each reads the cross tokens of those before it."""

    def __init__(self, channels: int, depth: int, *, side: int) -> None:
        super().__init__()
        merged = (-(-side // MERGE_STRIDE)) ** 2  # cross tokens of one block
        self.blocks = nn.ModuleList(
            FcaBlock(
                channels,
                side=side,
                cross_tokens=merged * min(place, MAXIMUM_SOURCES),
                merges=place < depth - 1,
            )
            for place in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        cross: list[Tensor] = []
        for block in self.blocks:
            x, cross = block(x, cross[-MAXIMUM_SOURCES:])
        return x


def _downsample(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBN(in_channels, out_channels, kernel_size=1),
        nn.GELU(),
        ConvBN(out_channels, out_channels, kernel_size=3, stride=2, groups=out_channels),
        nn.GELU(),
        ConvBN(out_channels, out_channels, kernel_size=1),
    )


class FcaFormer(nn.Module):
    """Stem, two convolution stages, two FcaFormer stages, pooling, LayerNorm, classifier."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        first = variant.widths[0]
        self.stem = nn.Sequential(
            ConvBN(in_chans, first // 2, kernel_size=3, stride=2),
            nn.GELU(),
            ConvBN(first // 2, first, kernel_size=3, stride=2),
        )
        self.downsamples = nn.ModuleList([nn.Identity()])
        self.stages = nn.ModuleList()
        for index, (width, depth) in enumerate(zip(variant.widths, variant.depths, strict=True)):
            if index:
                self.downsamples.append(_downsample(variant.widths[index - 1], width))
            if index < 2:
                self.stages.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(depth))))
            else:
                self.stages.append(FcaStage(width, depth, side=SIDES[index]))
        self.norm = nn.LayerNorm(variant.widths[-1], eps=1e-6)
        self.head = nn.Linear(variant.widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, classes)
        x = self.stem(x)  # (B, C, 56, 56)
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x = stage(downsample(x))
        out: Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"stem": "stem", "norm": "head", "head": "head"}
        kinds |= {f"downsamples.{index}": "downsampling" for index in range(1, len(self.downsamples))}
        for path, module in self.stages.named_modules(prefix="stages"):
            if isinstance(module, ConvNeXtBlock):
                kinds[path] = "ConvNeXt block"
            elif isinstance(module, FcaBlock):
                kinds |= {f"{path}.attention": "cross attention", f"{path}.mlp": "MLP"}
                kinds |= {f"{path}.enhance": "TME"}
                kinds |= {} if module.merge is None else {f"{path}.merge": "TME"}
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """Widths and depths by stage; heads have 32 channels."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


VARIANTS = {
    "fcaformer_l1": Variant((64, 128, 192, 320), (2, 2, 6, 2)),
    "fcaformer_l2": Variant((96, 192, 320, 480), (2, 2, 7, 2)),
    "fcaformer_l3": Variant((96, 192, 320, 512), (3, 6, 12, 3)),
    "fcaformer_l4": Variant((128, 256, 512, 768), (3, 6, 12, 3)),
}


def fcaformer_l1(*, num_classes: int = 1000, in_chans: int = 3) -> FcaFormer:
    """FcaFormer-L1: 6.2 M parameters, 1.4 GMACs at 224."""
    return FcaFormer(VARIANTS["fcaformer_l1"], num_classes=num_classes, in_chans=in_chans)


def fcaformer_l2(*, num_classes: int = 1000, in_chans: int = 3) -> FcaFormer:
    """FcaFormer-L2: 16.3 M parameters, 3.6 GMACs at 224."""
    return FcaFormer(VARIANTS["fcaformer_l2"], num_classes=num_classes, in_chans=in_chans)


def fcaformer_l3(*, num_classes: int = 1000, in_chans: int = 3) -> FcaFormer:
    """FcaFormer-L3: 28 M parameters, 6.7 GMACs at 224."""
    return FcaFormer(VARIANTS["fcaformer_l3"], num_classes=num_classes, in_chans=in_chans)


def fcaformer_l4(*, num_classes: int = 1000, in_chans: int = 3) -> FcaFormer:
    """FcaFormer-L4: 66 M parameters, 14.5 GMACs at 224."""
    return FcaFormer(VARIANTS["fcaformer_l4"], num_classes=num_classes, in_chans=in_chans)
