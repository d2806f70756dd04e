"""Classifiers of small images that differ in nothing but where they attend: Next-ViT's hybrid strategies.

Li et al., arXiv 2207.05501, section 3.4: a strategy says what each of four stages is made of. A stage C is
NCBs alone, T is NTBs alone, H ends with one NTB behind its NCBs. CHHH is the paper's, whose third stage
repeats the pattern in the larger networks: (NCB x N + NTB x 1) x L.

Stem, widths, sides, head and initialization are the same for all, and no variant's of the paper: two 3x3
convolutions that halve the image, and stages at 1/2, 1/4, 1/8 and 1/8 of its side. The last stage keeps the
side, as a map of 2x2 leaves nothing to attend to that a 3x3 convolution does not see. Blocks shrink the map
and change the channels themselves, as in Next-ViT.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from models.block_networks import hidden_ratio, initialize
from models.nextvit_blocks import NCB, NTB, ConvBNReLU
from models.nextvit_parts import MLP_RATIOS, Head

CHANNELS = (32, 64, 128, 192)
STRIDES = (1, 2, 2, 1)
REDUCTIONS = (4, 2, 1, 1)  # 16 keys in every stage of a 32x32 image, as the paper keeps 49 at 224
DEALT = (2, 1, 2, 2, 3, 2, 0, 2)  # the stages in the order in which they get another block
THIRD = 2


class HybridNetwork(nn.Module):
    """Stem, four stages, head. `strategy` has a letter C, T or H for every stage.

    `ncbs` is N in the third stage, where that is H; 0 makes it one pattern, whatever its depth. `depth` are
    the blocks of all stages together, `hidden` the hidden channels of every MLP in percent of the paper's.
    """

    def __init__(
        self, strategy: str, *, ncbs: int, num_classes: int, in_chans: int, depth: int, hidden: int
    ) -> None:
        super().__init__()
        channels = CHANNELS[0]
        self.stem = nn.Sequential(
            ConvBNReLU(in_chans, channels, stride=2), ConvBNReLU(channels, channels, stride=1)
        )
        self.stages = nn.Sequential()
        for index, (kind, count) in enumerate(zip(strategy, stage_depths(depth), strict=True)):
            pattern = stage_pattern(kind, count, ncbs=ncbs if index == THIRD else 0)
            self.stages.append(_stage(pattern, channels, index, hidden=hidden))
            channels = CHANNELS[index]
        self.head = Head(channels, num_classes)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stem(x)  # (B, 32, H/2, W/2)
        x = self.stages(x)  # (B, 192, H/8, W/8)
        out: Tensor = self.head(x)
        return out

    def module_kinds(self) -> dict[str, str]:
        """Stem, head, and every block by module path, with what makes its input smaller."""
        kinds = {"stem": "stem", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, block in stage.named_children():
                path = f"stages.{index}.{place}"
                kinds |= {path: type(block).__name__, f"{path}.patch_embed": "patch embedding"}
        return kinds


def stage_depths(depth: int) -> tuple[int, ...]:
    """Blocks of each stage: one each, and of every further eight the third gets five and the others one.

    12 are 2, 2, 6, 2 and 20 are 3, 3, 11, 3, near Next-ViT-S's 3, 4, 10, 3. No stage loses a block where the
    depth grows.
    """
    counts = [1] * len(CHANNELS)
    for further in range(depth - len(CHANNELS)):
        counts[DEALT[further % len(DEALT)]] += 1
    return tuple(counts)


def stage_pattern(kind: str, count: int, *, ncbs: int = 0) -> str:
    """The `count` blocks of a stage C, T or H in order, `CCT` for two NCBs and an NTB.

    H is (NCB x ncbs + NTB) x L with as many patterns as fit, one at least; NCBs that fill none stand before
    the first. With `ncbs` 0 one pattern takes the whole stage.
    """
    if kind != "H":
        return kind * count
    length = min(ncbs + 1, count) if ncbs else count
    repeats = count // length
    return "C" * (count - repeats * length) + ("C" * (length - 1) + "T") * repeats


class Builder(Protocol):
    """What a line of `models.MODELS` names."""

    def __call__(
        self, *, num_classes: int = 10, in_chans: int = 3, depth: int = 12, hidden: int = 100
    ) -> HybridNetwork: ...


def _builder(strategy: str, *, ncbs: int = 0) -> Builder:
    def build(
        *, num_classes: int = 10, in_chans: int = 3, depth: int = 12, hidden: int = 100
    ) -> HybridNetwork:
        return HybridNetwork(
            strategy, ncbs=ncbs, num_classes=num_classes, in_chans=in_chans, depth=depth, hidden=hidden
        )

    return build


cccc = _builder("CCCC")
ccct = _builder("CCCT")
cctt = _builder("CCTT")
cttt = _builder("CTTT")
chhh = _builder("CHHH")
n1 = _builder("CHHH", ncbs=1)
n2 = _builder("CHHH", ncbs=2)
n4 = _builder("CHHH", ncbs=4)


def _stage(pattern: str, in_channels: int, index: int, *, hidden: int) -> nn.Sequential:
    stage = nn.Sequential()
    channels, stride = CHANNELS[index], STRIDES[index]
    for kind in pattern:
        stage.append(_block(kind, in_channels, channels, stride, index, hidden=hidden))
        in_channels, stride = channels, 1
    return stage


def _block(kind: str, in_channels: int, channels: int, stride: int, index: int, *, hidden: int) -> nn.Module:
    ratio = hidden_ratio(channels, MLP_RATIOS[NTB if kind == "T" else NCB], percent=hidden)
    if kind == "T":
        return NTB(in_channels, channels, stride=stride, reduction=REDUCTIONS[index], mlp_ratio=ratio)
    return NCB(in_channels, channels, stride=stride, mlp_ratio=ratio)
