"""Mobile-Former: Bridging MobileNet and Transformer. Chen et al., arXiv 2108.05895.

Bottlenecks of MobileNet beside a transformer of a few learned tokens, joined in every block by a bridge each
way (section 3, figure 1); the sizes are those of table 1 and of the appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.folding import fold_into_previous, replaced
from models.layers import ConvBN
from models.mobile_former_blocks import Layer, LiteBottleneck, MobileFormerBlock, MobileToFormer

LAST_RATIO = 6  # channels of the last convolution per channel of the map


class Head(nn.Module):
    """1x1, ReLU6, pooling, hard swish; with the first token through two Linear layers."""

    def __init__(self, channels: int, variant: Variant, *, num_classes: int) -> None:
        super().__init__()
        hidden = LAST_RATIO * channels
        self.conv = ConvBN(channels, hidden, kernel_size=1)
        self.relu = nn.ReLU6()
        self.fc = nn.Linear(hidden + variant.token_dim, variant.features)
        self.norm: nn.Module = nn.BatchNorm1d(variant.features)
        self.act = nn.Hardswish()
        self.classifier = nn.Linear(variant.features, num_classes)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:  # (B, C, H, W), (B, d) -> (B, classes)
        pooled = self.act(self.relu(self.conv(x)).mean(dim=(2, 3)))
        y = self.act(self.norm(self.fc(torch.cat((pooled, token), dim=1))))
        out: Tensor = self.classifier(y)
        return out

    def fuse(self) -> nn.Module:
        return replaced(self, fc=fold_into_previous(self.fc, self.norm), norm=nn.Identity())


class MobileFormer(nn.Module):
    """Stem, lite bottleneck, blocks, tokens read off the last map once more, head."""

    def __init__(self, variant: Variant, *, num_classes: int, in_chans: int) -> None:
        super().__init__()
        channels = variant.stem
        self.tokens = nn.Parameter(torch.randn(1, variant.tokens, variant.token_dim))
        self.stem = nn.Sequential(ConvBN(in_chans, channels, kernel_size=3, stride=2), nn.ReLU6())
        self.lite = LiteBottleneck(channels, expansion=2)
        self.blocks = nn.ModuleList()
        for layer in variant.layers:
            self.blocks.append(MobileFormerBlock(channels, layer, token_dim=variant.token_dim))
            channels = layer.channels
        self.to_former = MobileToFormer(channels, token_dim=variant.token_dim)
        self.head = Head(channels, variant, num_classes=num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        tokens: Tensor = self.tokens.repeat(x.shape[0], 1, 1)
        x = self.lite(self.stem(x))  # (B, C, H/2, W/2)
        for block in self.blocks:
            x, tokens = block(x, tokens)
        out: Tensor = self.head(x, self.to_former(x, tokens)[:, 0])
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"stem": "stem", "lite": "Mobile", "to_former": "Mobile to Former", "head": "head"}
        names = {"to_former": "Mobile to Former", "former": "Former", "mobile": "Mobile"}
        for place, _ in self.blocks.named_children():
            kinds |= {f"blocks.{place}.{part}": kind for part, kind in names.items()}
            kinds[f"blocks.{place}.to_mobile"] = "Former to Mobile"
        return kinds


@dataclass(frozen=True, slots=True)
class Variant:
    """Channels of the stem, the blocks, inputs of the classifier, and the tokens: how many, of which size."""

    stem: int
    layers: tuple[Layer, ...]
    features: int
    tokens: int = 6
    token_dim: int = 192


def _layers(*rows: tuple[int, int, int]) -> tuple[Layer, ...]:
    """From (channels, expansion, second expansion or 0)."""
    return tuple(Layer(*row) for row in rows)


_508M = _layers(
    *((40, 6, 4), (40, 3, 0), (72, 6, 4), (72, 3, 0), (128, 6, 4), (128, 4, 0), (176, 6, 0), (176, 6, 0)),
    *((240, 6, 4), (240, 6, 0), (240, 6, 0)),
)
_294M = _layers(
    *((24, 6, 4), (24, 4, 0), (48, 6, 4), (48, 4, 0), (96, 6, 4), (96, 4, 0), (128, 6, 0), (128, 6, 0)),
    *((192, 6, 4), (192, 6, 0), (192, 6, 0)),
)
_214M = _layers(
    *((20, 6, 4), (20, 3, 0), (40, 6, 4), (40, 4, 0), (80, 6, 4), (80, 4, 0), (112, 6, 0), (112, 6, 0)),
    *((160, 6, 4), (160, 6, 0), (160, 6, 0)),
)
_151M = _layers(
    *((16, 6, 4), (16, 3, 0), (32, 6, 4), (32, 3, 0), (64, 6, 4), (64, 4, 0), (88, 6, 0), (88, 6, 0)),
    *((128, 6, 4), (128, 6, 0), (128, 6, 0)),
)
_96M = _layers(
    *((16, 6, 4), (32, 6, 4), (32, 3, 0), (64, 6, 4), (64, 4, 0), (88, 6, 0)),
    *((128, 6, 4), (128, 6, 0)),
)

VARIANTS = {
    "mobile_former_508m": Variant(24, _508M, 1920),
    "mobile_former_294m": Variant(16, _294M, 1920),
    "mobile_former_214m": Variant(12, _214M, 1600),
    "mobile_former_151m": Variant(12, _151M, 1280),
    "mobile_former_96m": Variant(12, _96M, 1280, tokens=4, token_dim=128),
}


def mobile_former_508m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileFormer:
    """Mobile-Former-508M: 14.0 M parameters, 0.508 GMACs at 224 with elementwise work."""
    return MobileFormer(VARIANTS["mobile_former_508m"], num_classes=num_classes, in_chans=in_chans)


def mobile_former_294m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileFormer:
    """Mobile-Former-294M: 11.4 M parameters, 0.294 GMACs at 224 with elementwise work."""
    return MobileFormer(VARIANTS["mobile_former_294m"], num_classes=num_classes, in_chans=in_chans)


def mobile_former_214m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileFormer:
    """Mobile-Former-214M: 9.4 M parameters, 0.214 GMACs at 224 with elementwise work."""
    return MobileFormer(VARIANTS["mobile_former_214m"], num_classes=num_classes, in_chans=in_chans)


def mobile_former_151m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileFormer:
    """Mobile-Former-151M: 7.6 M parameters, 0.151 GMACs at 224 with elementwise work."""
    return MobileFormer(VARIANTS["mobile_former_151m"], num_classes=num_classes, in_chans=in_chans)


def mobile_former_96m(*, num_classes: int = 1000, in_chans: int = 3) -> MobileFormer:
    """Mobile-Former-96M: 4.6 M parameters, 0.096 GMACs at 224 with elementwise work."""
    return MobileFormer(VARIANTS["mobile_former_96m"], num_classes=num_classes, in_chans=in_chans)
