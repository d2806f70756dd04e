"""The parts that several block families share, each with its replacement for deployment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import folding
from models.folding import Affine


class ConvBN(nn.Module):
    """Convolution without bias, then BatchNorm; `fuse` gives one convolution with bias."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        out: Tensor = self.norm(self.conv(x))
        return out

    def fuse(self) -> nn.Module:
        return folding.fold_into_previous(self.conv, self.norm)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (CaiT, arXiv 2103.17239), on NCHW."""

    fold_kind = "layer_scale"

    def __init__(self, channels: int, *, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return x * self.gamma[:, None, None]

    def as_affine(self) -> Affine:
        scale = self.gamma.detach().double()
        return Affine(scale, torch.zeros_like(scale))


class BranchSum(nn.Module):
    """Parallel branches of one input, summed: ConvBN, or a BatchNorm alone as the identity branch.

    `fuse` gives one convolution (RepVGG, arXiv 2101.03697, figure 4; MobileOne, arXiv 2206.04040, figure 3).
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        first, *others = self.branches
        total: Tensor = first(x)
        for branch in others:
            total = total + branch(x)
        return total

    def fuse(self) -> nn.Module:
        branches = [branch.fuse() if isinstance(branch, ConvBN) else branch for branch in self.branches]
        convs = [branch for branch in branches if isinstance(branch, nn.Conv2d)]
        identities = [branch for branch in branches if not isinstance(branch, nn.Conv2d)]
        like, groups = convs[0].weight, convs[0].groups
        for norm in identities:
            unit = folding.identity_conv(len(folding.affine_of(norm).scale), groups=groups, like=like)
            convs.append(folding.fold_into_previous(unit, norm))
        return folding.merge_branches(convs)
