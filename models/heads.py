"""Classifiers at the end of a network."""

from __future__ import annotations

from torch import Tensor, nn

from models.folding import record, replaced


class DistilledHead(nn.Module):
    """Two classifiers, the second trained on a teacher's answers (DeiT, arXiv 2012.12877): their average.

    `fuse` gives one Linear.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, num_classes)
        self.distilled = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, C) -> (B, classes)
        out: Tensor = (self.head(x) + self.distilled(x)) / 2
        return out

    def fuse(self) -> nn.Module:
        weight, bias = (
            nn.Parameter(((one.double() + two.double()) / 2).to(one.dtype))
            for one, two in (
                (self.head.weight.detach(), self.distilled.weight.detach()),
                (self.head.bias.detach(), self.distilled.bias.detach()),
            )
        )
        record("branch")
        return replaced(self.head, weight=weight, bias=bias)
