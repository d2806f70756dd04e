"""CSWin: a General Vision Transformer Backbone with Cross-Shaped Windows. Dong et al., arXiv 2107.00652.

Half of the channels attend inside vertical stripes, half inside horizontal ones (section 3.2); a depthwise
3x3 on the values inside each stripe tells positions (LePE, section 3.3). The last stage attends globally.
Stripes of 1, 2 and 7 positions must divide their maps: sides are multiples of 112.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.transformer import Mlp

STRIPES = (1, 2, 7, 0)  # width of the stripes by stage; 0: one window over the whole map


def to_columns(x: Tensor, width: int) -> Tensor:
    """Vertical stripes: (B, H, W, C) -> (B*W/width, H, width, C). Rank 5 at most, where Core ML ends."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w // width, width, c).transpose(1, 2).reshape(-1, h, width, c)


def from_columns(x: Tensor, w: int) -> Tensor:
    """The map of vertical stripes: (B*W/width, H, width, C) -> (B, H, W, C)."""
    _, h, width, c = x.shape
    return x.reshape(-1, w // width, h, width, c).transpose(1, 2).reshape(-1, h, w, c)


def to_rows(x: Tensor, width: int) -> Tensor:
    """Horizontal stripes, which lie in one piece: (B, H, W, C) -> (B*H/width, width, W, C)."""
    _, _, w, c = x.shape
    return x.reshape(-1, width, w, c)


class WindowAttention(nn.Module):
    """Multi-head attention inside each window, plus a depthwise 3x3 of the values there (LePE)."""

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.lepe = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # 3 x (windows, H', W', C)
        windows, h, w, c = q.shape
        lepe: Tensor = self.lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (windows, H', W', C)
        q, k, v = (t.reshape(windows, h * w, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        attention = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (windows, heads, N, N), N = H'*W'
        y = attention.softmax(dim=3) @ v  # (windows, heads, N, C/heads)
        out: Tensor = y.transpose(1, 2).reshape(windows, h, w, c) + lepe
        return out


class CrossShapedAttention(nn.Module):
    """Half of the heads in vertical stripes, half in horizontal ones; or all in one window."""

    def __init__(self, channels: int, *, heads: int, stripe: int) -> None:
        super().__init__()
        self.stripe = stripe
        self.qkv = nn.Linear(channels, 3 * channels)
        branches = 2 if stripe else 1
        self.branches = nn.ModuleList(
            WindowAttention(channels // branches, heads=heads // branches) for _ in range(branches)
        )
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        b, h, w, c = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=3)
        if not self.stripe:
            whole: Tensor = self.proj(self.branches[0](q, k, v))
            return whole
        half = c // 2
        columns = (to_columns(t[..., :half], self.stripe) for t in (q, k, v))
        rows = (to_rows(t[..., half:], self.stripe) for t in (q, k, v))
        left = from_columns(self.branches[0](*columns), w)
        right = self.branches[1](*rows).reshape(b, h, w, half)
        out: Tensor = self.proj(torch.cat((left, right), dim=3))
        return out


class CSWinBlock(nn.Module):
    """`x + attention(LN(x))`, then `x + MLP(LN(x))`."""

    def __init__(self, channels: int, *, heads: int, stripe: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = CrossShapedAttention(channels, heads=heads, stripe=stripe)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, ratio=4)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Downsample(nn.Module):
    """Strided convolution and LayerNorm; takes and gives channels-last maps."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> (B, H/stride, W/stride, C')
        out: Tensor = self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return out


class CSWin(nn.Module):
    """Convolutional token embedding, four stages, LayerNorm, global average pooling, classifier."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        width = variant.width
        self.stages = nn.Sequential()
        for index, depth in enumerate(variant.depths):
            if index == 0:
                stage = nn.Sequential(Downsample(in_chans, width, kernel_size=7, stride=4, padding=2))
            else:
                stage = nn.Sequential(Downsample(width, 2 * width, kernel_size=3, stride=2, padding=1))
                width *= 2
            for _ in range(depth):
                stage.append(CSWinBlock(width, heads=variant.heads[index], stripe=STRIPES[index]))
            self.stages.append(stage)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stages(x.permute(0, 2, 3, 1))  # (B, H/32, W/32, C)
        out: Tensor = self.head(self.norm(x).mean(dim=(1, 2)))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"norm": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                path = f"stages.{index}.{place}"
                if isinstance(block, CSWinBlock):
                    kinds |= {f"{path}.attention": "CSWin attention", f"{path}.mlp": "MLP"}
                else:
                    kinds[path] = "token embedding"
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """Width of the first stage, which doubles; depths and heads by stage."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]


VARIANTS = {
    "cswin_tiny": Variant(64, (1, 2, 21, 1), (2, 4, 8, 16)),
    "cswin_small": Variant(64, (2, 4, 32, 2), (2, 4, 8, 16)),
    "cswin_base": Variant(96, (2, 4, 32, 2), (4, 8, 16, 32)),
}


def cswin_tiny(*, num_classes: int = 1000, in_chans: int = 3) -> CSWin:
    """CSWin-T: 23 M parameters, 4.3 GMACs at 224."""
    return CSWin(VARIANTS["cswin_tiny"], num_classes=num_classes, in_chans=in_chans)


def cswin_small(*, num_classes: int = 1000, in_chans: int = 3) -> CSWin:
    """CSWin-S: 35 M parameters, 6.9 GMACs at 224."""
    return CSWin(VARIANTS["cswin_small"], num_classes=num_classes, in_chans=in_chans)


def cswin_base(*, num_classes: int = 1000, in_chans: int = 3) -> CSWin:
    """CSWin-B: 78 M parameters, 15.0 GMACs at 224."""
    return CSWin(VARIANTS["cswin_base"], num_classes=num_classes, in_chans=in_chans)
