"""Next-ViT: Next Generation Vision Transformer for Efficient Deployment in Realistic Industrial Scenarios.

Li et al., arXiv 2207.05501. Convolution blocks (NCB) everywhere and one transformer block (NTB) at the end of
each pattern: the Next Hybrid Strategy (NHS, section 3.4), (NCB x N + NTB x 1) x L.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.folding import fold_into_next, replaced
from models.nextvit_blocks import NCB, NTB, ConvBNReLU


class NextViT(nn.Module):
    """Stem, stages, BatchNorm, global average pooling, classifier; stem and four stages as published."""

    def __init__(
        self,
        stages: tuple[Stage, ...],
        *,
        num_classes: int,
        in_chans: int,
        stem_channels: int = 64,
        stem_stride: int = 4,
    ) -> None:
        super().__init__()
        channels = stem_channels
        self.stem = nn.Sequential(
            ConvBNReLU(in_chans, channels, stride=2),
            ConvBNReLU(channels, channels // 2, stride=1),
            ConvBNReLU(channels // 2, channels, stride=1),
            ConvBNReLU(channels, channels, stride=stem_stride // 2),
        )
        self.stages = nn.Sequential()
        for index, stage in enumerate(stages):
            self.stages.append(_stage(stage, channels, stride=1 if index == 0 else 2))
            channels = stage.out_channels
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stem(x)  # (B, 64, H/4, W/4)
        x = self.stages(x)  # (B, 1024, H/32, W/32)
        x = self.norm(x)
        out: Tensor = self.head(x.mean(dim=(2, 3)))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        kinds = {"stem": "stem", "norm": "head", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                path = f"stages.{index}.{place}"
                kinds |= {path: type(block).__name__, f"{path}.patch_embed": "patch embedding"}
        return kinds

    def fuse(self) -> nn.Module:
        """The last BatchNorm commutes with global average pooling, so the classifier takes it."""
        (head,) = fold_into_next(self.norm, self.head)
        return replaced(self, head=head, norm=nn.Identity())

    def checkpoint_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for a state dict of the official code (`features.7.`) or timm (`stages.1.blocks.3.`)."""
        stages = self.stages.named_children()
        flat = [f"stages.{i}.{j}." for i, stage in stages for j, _ in stage.named_children()]
        return {_our_name(name, flat): _as_conv(name, tensor) for name, tensor in state.items()}


@dataclass(frozen=True, slots=True)
class Stage:
    """`(NCB x ncb + NTB x ntb) x repeats`: one row of the paper's table of variants."""

    ncb: int
    ntb: int
    repeats: int
    ncb_channels: int
    ntb_channels: int
    reduction: int

    @property
    def out_channels(self) -> int:
        return self.ntb_channels if self.ntb else self.ncb_channels


VARIANTS = {
    "nextvit_small": (
        Stage(ncb=3, ntb=0, repeats=1, ncb_channels=96, ntb_channels=96, reduction=8),
        Stage(ncb=3, ntb=1, repeats=1, ncb_channels=192, ntb_channels=256, reduction=4),
        Stage(ncb=4, ntb=1, repeats=2, ncb_channels=384, ntb_channels=512, reduction=2),
        Stage(ncb=2, ntb=1, repeats=1, ncb_channels=768, ntb_channels=1024, reduction=1),
    ),
    "nextvit_base": (
        Stage(ncb=3, ntb=0, repeats=1, ncb_channels=96, ntb_channels=96, reduction=8),
        Stage(ncb=3, ntb=1, repeats=1, ncb_channels=192, ntb_channels=256, reduction=4),
        Stage(ncb=4, ntb=1, repeats=4, ncb_channels=384, ntb_channels=512, reduction=2),
        Stage(ncb=2, ntb=1, repeats=1, ncb_channels=768, ntb_channels=1024, reduction=1),
    ),
    "nextvit_large": (
        Stage(ncb=3, ntb=0, repeats=1, ncb_channels=96, ntb_channels=96, reduction=8),
        Stage(ncb=3, ntb=1, repeats=1, ncb_channels=192, ntb_channels=256, reduction=4),
        Stage(ncb=4, ntb=1, repeats=6, ncb_channels=384, ntb_channels=512, reduction=2),
        Stage(ncb=2, ntb=1, repeats=1, ncb_channels=768, ntb_channels=1024, reduction=1),
    ),
}


def nextvit_small(*, num_classes: int = 1000, in_chans: int = 3) -> NextViT:
    """Next-ViT-S: 31.7 M parameters, 5.8 GMACs at 224."""
    return NextViT(VARIANTS["nextvit_small"], num_classes=num_classes, in_chans=in_chans)


def nextvit_base(*, num_classes: int = 1000, in_chans: int = 3) -> NextViT:
    """Next-ViT-B: 44.8 M parameters, 8.3 GMACs at 224."""
    return NextViT(VARIANTS["nextvit_base"], num_classes=num_classes, in_chans=in_chans)


def nextvit_large(*, num_classes: int = 1000, in_chans: int = 3) -> NextViT:
    """Next-ViT-L: 57.8 M parameters, 10.8 GMACs at 224."""
    return NextViT(VARIANTS["nextvit_large"], num_classes=num_classes, in_chans=in_chans)


def _stage(stage: Stage, in_channels: int, *, stride: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for is_ntb in ((False,) * stage.ncb + (True,) * stage.ntb) * stage.repeats:
        if is_ntb:
            blocks.append(NTB(in_channels, stage.ntb_channels, stride=stride, reduction=stage.reduction))
            in_channels = stage.ntb_channels
        else:
            blocks.append(NCB(in_channels, stage.ncb_channels, stride=stride))
            in_channels = stage.ncb_channels
        stride = 1
    return blocks


def _initialize(module: nn.Module) -> None:
    """As published; its truncation at 100 deviations cuts nothing and takes most of the time of building."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


OFFICIAL = re.compile(r"^features\.(\d+)\.")
TIMM = re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.")


def _our_name(name: str, blocks: Sequence[str]) -> str:
    """`blocks` are our prefixes in order: the official code numbers them through all stages."""
    if (official := OFFICIAL.match(name)) and int(official[1]) < len(blocks):
        name = blocks[int(official[1])] + name[official.end() :]
    name = TIMM.sub(r"stages.\1.\2.", name)
    name = name.replace(".mlp.fc1.", ".mlp.conv1.").replace(".mlp.fc2.", ".mlp.conv2.")
    return re.sub(r"^(proj_head\.0|head\.fc)\.", "head.", name)


def _as_conv(name: str, tensor: Tensor) -> Tensor:
    """Attention's Linear weights (C, C) as those of our 1x1 convolutions (C, C, 1, 1)."""
    is_matrix = ".e_mhsa." in name and name.endswith(".weight") and tensor.ndim == 2
    return tensor[:, :, None, None] if is_matrix else tensor
