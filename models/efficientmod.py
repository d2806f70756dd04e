"""EfficientMod: Efficient Modulation for Vision Networks. Ma et al., arXiv 2403.19963, section 3.

A block multiplies a context (depthwise 7x7) with values, r values for each channel of the context, r being 1
and `expansion` in turns; the last blocks of stages 3 and 4 are attention. Maps are channels-last throughout,
as published. There is no BatchNorm; the layer scales fold.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.folding import fold_into_previous, replaced
from models.layers import LayerScale
from models.transformer import Mlp

HEADS = 8
MINIMUM_HEAD_DIM = 32


class ChannelsLastScale(LayerScale):
    """A layer scale on (B, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        return x * self.gamma


class PatchEmbed(nn.Module):
    """Strided convolution and LayerNorm; takes and gives channels-last maps."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> (B, H/stride, W/stride, C')
        out: Tensor = self.norm(self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return out


class Context(nn.Module):
    """Linear, depthwise 7x7, GELU, Linear."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels)
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        y = self.act(self.dwconv(self.fc1(x).permute(0, 3, 1, 2)))  # (B, C, H, W)
        out: Tensor = self.fc2(y.permute(0, 2, 3, 1))
        return out


class ModulationBlock(nn.Module):
    """`x + ls * Linear(context(LN(x)) * values(LN(x)))`, with `ratio` values per channel of the context."""

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.norm = nn.LayerNorm(channels)
        self.context = Context(channels)
        self.values = nn.Linear(channels, ratio * channels)
        self.act = nn.Identity() if ratio == 1 else nn.GELU()
        self.proj = nn.Linear(ratio * channels, channels)
        self.layer_scale: nn.Module = ChannelsLastScale(channels, initial=1e-4)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        b, h, w, c = x.shape
        y = self.norm(x)
        values = self.act(self.values(y)).reshape(b, h, w, self.ratio, c)
        modulated = values * self.context(y)[:, :, :, None]  # (B, H, W, ratio, C)
        out: Tensor = x + self.layer_scale(self.proj(modulated.reshape(b, h, w, self.ratio * c)))
        return out

    def fuse(self) -> nn.Module:
        return replaced(self, proj=fold_into_previous(self.proj, self.layer_scale), layer_scale=nn.Identity())


class Attention(nn.Module):
    """Multi-head self-attention with 8 heads of at least 32 channels, which may be more than come in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head_dim = max(channels // HEADS, MINIMUM_HEAD_DIM)
        self.qkv = nn.Linear(channels, 3 * HEADS * self.head_dim, bias=False)
        self.proj = nn.Linear(HEADS * self.head_dim, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3 * HEADS, self.head_dim).transpose(1, 2)  # (B, 3*heads, N, d)
        q, k, v = qkv.chunk(3, dim=1)
        attention = (q * self.head_dim**-0.5) @ k.transpose(2, 3)  # (B, heads, N, N)
        x = attention.softmax(dim=3) @ v  # (B, heads, N, d)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(b, n, HEADS * self.head_dim))
        return out


class AttentionBlock(nn.Module):
    """`x + Attention(LN(x))`, then `x + MLP(LN(x))`."""

    def __init__(self, channels: int, *, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        b, h, w, c = x.shape
        x = x.reshape(b, h * w, c)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x.reshape(b, h, w, c)


class EfficientMod(nn.Module):
    """Four stages of patch embedding and blocks, LayerNorm, global average pooling, classifier."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        channels = in_chans
        for index, width in enumerate(variant.widths):
            kernel_size, stride = (7, 4) if index == 0 else (3, 2)
            stage = nn.Sequential(PatchEmbed(channels, width, kernel_size=kernel_size, stride=stride))
            for place in range(variant.depths[index]):
                stage.append(ModulationBlock(width, ratio=variant.expansion if place % 2 else 1))
            for _ in range(variant.attention_depths[index]):
                stage.append(AttentionBlock(width, mlp_ratio=variant.mlp_ratios[index]))
            self.stages.append(stage)
            channels = width
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stages(x.permute(0, 2, 3, 1))  # (B, H/32, W/32, C)
        out: Tensor = self.head(self.norm(x).mean(dim=(1, 2)))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        names = {PatchEmbed: "patch embedding", ModulationBlock: "modulation", AttentionBlock: "attention"}
        kinds = {"norm": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                kinds[f"stages.{index}.{place}"] = names[type(block)]
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """Widths, modulation and attention blocks, the MLP's ratio by stage; r is 1 and `expansion` in turns."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    attention_depths: tuple[int, int, int, int] = (0, 0, 0, 0)
    expansion: int = 6
    mlp_ratios: tuple[int, int, int, int] = (4, 4, 4, 4)


VARIANTS = {
    "efficientmod_xxs": Variant((32, 64, 128, 256), (2, 2, 6, 2), (0, 0, 1, 2)),
    "efficientmod_xs": Variant((32, 64, 144, 288), (3, 3, 4, 2), (0, 0, 3, 3), expansion=4),
    "efficientmod_s": Variant((32, 64, 144, 312), (4, 4, 8, 4), (0, 0, 4, 4), mlp_ratios=(4, 4, 4, 5)),
    "efficientmod_s_conv": Variant((40, 80, 160, 344), (4, 4, 12, 8)),
}


def efficientmod_xxs(*, num_classes: int = 1000, in_chans: int = 3) -> EfficientMod:
    """EfficientMod-xxs: 4.7 M parameters, 0.6 GMACs at 224."""
    return EfficientMod(VARIANTS["efficientmod_xxs"], num_classes=num_classes, in_chans=in_chans)


def efficientmod_xs(*, num_classes: int = 1000, in_chans: int = 3) -> EfficientMod:
    """EfficientMod-xs: 6.6 M parameters, 0.8 GMACs at 224."""
    return EfficientMod(VARIANTS["efficientmod_xs"], num_classes=num_classes, in_chans=in_chans)


def efficientmod_s(*, num_classes: int = 1000, in_chans: int = 3) -> EfficientMod:
    """EfficientMod-s: 12.9 M parameters, 1.4 GMACs at 224."""
    return EfficientMod(VARIANTS["efficientmod_s"], num_classes=num_classes, in_chans=in_chans)


def efficientmod_s_conv(*, num_classes: int = 1000, in_chans: int = 3) -> EfficientMod:
    """EfficientMod-s-Conv, without attention: 12.9 M parameters, 1.5 GMACs at 224."""
    return EfficientMod(VARIANTS["efficientmod_s_conv"], num_classes=num_classes, in_chans=in_chans)
