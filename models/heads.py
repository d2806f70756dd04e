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
        record("branch")
        return averaged(self.head, self.distilled)


def averaged(one: nn.Linear, two: nn.Linear) -> nn.Linear:
    """The mean of two Linear layers of one input as one Linear."""
    weight, bias = (
        nn.Parameter(((first.detach().double() + second.detach().double()) / 2).to(first.dtype))
        for first, second in ((one.weight, two.weight), (one.bias, two.bias))
    )
    return replaced(one, weight=weight, bias=bias)
