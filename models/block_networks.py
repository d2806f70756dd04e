"""Classifiers of small images that differ in nothing but their block: what blocks learn at equal latency.

Stem, widths, downsampling, head and initialization are the same for all, and no paper's: two 3x3
convolutions that halve the image, three stages at 1/2, 1/4 and 1/8 of its side with a strided 3x3
convolution between them, BatchNorm, pooling and one Linear. No network has positions of its own: attention
knows them from the padding of those convolutions. A block keeps what its paper gives it inside: its norms,
its activation, its layer scale. Windows are of 4x4 positions, as 7x7 do not divide these maps. How many
channels it has inside is its paper's too, unless `hidden` moves that by some percent: a step of it is finer
than a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from models.bottleneck import Bottleneck
from models.convnext import ConvNeXtBlock
from models.layers import ConvBN
from models.mbconv import MBConv
from models.nextvit_blocks import HEAD_DIM, NCB, ConvBNReLU
from models.nextvit_parts import Head
from models.poolformer import PoolFormerBlock
from models.transformer import TransformerBlock
from models.twins import LSABlock

STAGES = 3
WINDOW = 4
DEALT = (1, 2, 0)  # the stages in the order in which they get another block
WHOLE = 8  # hidden channels come in multiples of it, whatever is asked for


class BlockNetwork(nn.Module):
    """Stem, three stages of one kind of block, head. `block` makes one for channels and percent hidden.

    `depth` are the blocks of all stages together; `width` times 32 are the channels of the first stage, and
    each stage has twice those of the one before. `hidden` are the channels inside of every block, in percent
    of its paper's.
    """

    def __init__(
        self,
        block: Callable[[int, int], nn.Module],
        *,
        num_classes: int,
        in_chans: int,
        depth: int,
        width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        channels = HEAD_DIM * width
        self.stem = nn.Sequential(
            ConvBNReLU(in_chans, channels, stride=2), ConvBNReLU(channels, channels, stride=1)
        )
        self.stages = nn.Sequential()
        for index, count in enumerate(stage_depths(depth)):
            stage = nn.Sequential()
            if index:
                stage.append(ConvBN(channels, 2 * channels, kernel_size=3, stride=2))
                channels *= 2
            stage.extend(block(channels, hidden) for _ in range(count))
            self.stages.append(stage)
        self.head = Head(channels, num_classes)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        x = self.stem(x)  # (B, 32*width, H/2, W/2)
        x = self.stages(x)  # (B, 128*width, H/8, W/8)
        out: Tensor = self.head(x)
        return out

    def module_kinds(self) -> dict[str, str]:
        """Stem, head, and every block and downsampling by module path."""
        kinds = {"stem": "stem", "head": "head"}
        for index, stage in self.stages.named_children():
            for place, part in stage.named_children():
                kind = "downsampling" if isinstance(part, ConvBN) else type(part).__name__
                kinds[f"stages.{index}.{place}"] = kind
        return kinds


def stage_depths(depth: int) -> tuple[int, ...]:
    """Blocks of each stage: the middle stage gets the odd one first, then the last.

    No stage loses a block where the depth grows, so latency rises with every step of it.
    """
    return tuple((depth + STAGES - 1 - DEALT.index(stage)) // STAGES for stage in range(STAGES))


def hidden_ratio(channels: int, usual: float, *, percent: int) -> float:
    """Hidden channels per channel: `percent` of the usual ones, rounded to whole 8s and at least 8.

    Half a channel more keeps a block, which cuts the product, from losing one to rounding.
    """
    hidden = max(WHOLE, round(channels * usual * percent / 100 / WHOLE) * WHOLE)
    return (hidden + 0.5) / channels


class Builder(Protocol):
    """What a line of `models.MODELS` names."""

    def __call__(
        self,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        depth: int = 12,
        width: int = 1,
        hidden: int = 100,
    ) -> BlockNetwork: ...


def _builder(block: Callable[[int, float], nn.Module], *, usual: float) -> Builder:
    """`block` makes one for channels and hidden channels per channel, `usual` in its paper."""

    def build(
        *, num_classes: int = 10, in_chans: int = 3, depth: int = 12, width: int = 1, hidden: int = 100
    ) -> BlockNetwork:
        return BlockNetwork(
            lambda channels, percent: block(channels, hidden_ratio(channels, usual, percent=percent)),
            num_classes=num_classes,
            in_chans=in_chans,
            depth=depth,
            width=width,
            hidden=hidden,
        )

    return build


ncb = _builder(lambda channels, ratio: NCB(channels, channels, mlp_ratio=ratio), usual=3.0)
bottleneck = _builder(lambda channels, ratio: Bottleneck(channels, channels, ratio=ratio), usual=0.25)
convnext = _builder(lambda channels, ratio: ConvNeXtBlock(channels, mlp_ratio=ratio), usual=4.0)
transformer = _builder(lambda channels, ratio: TransformerBlock(channels, mlp_ratio=ratio), usual=4.0)
lsa = _builder(lambda channels, ratio: LSABlock(channels, window=WINDOW, mlp_ratio=ratio), usual=4.0)
poolformer = _builder(lambda channels, ratio: PoolFormerBlock(channels, mlp_ratio=ratio), usual=4.0)
mbconv = _builder(lambda channels, ratio: MBConv(channels, channels, expansion=ratio), usual=6.0)


def initialize(module: nn.Module) -> None:
    """Of convolutions and Linear layers; all else keeps PyTorch's or its block's own."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
