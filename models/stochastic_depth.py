"""Stochastic depth (Huang et al., arXiv 1603.09382) on the residual branches of Next-ViT's blocks.

It is added by hooks: the network stays the one that is published, exported and measured, and in eval mode
nothing happens. timm's models have it as an option of their own.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import ModelError
from models.nextvit_blocks import MHSA_SHARE, NCB, NTB

# The branches of a block, and the share of its rate that each is dropped with (official code, nextvit.py).
BRANCHES: dict[type[nn.Module], dict[str, float]] = {
    NCB: {"mhca": 1.0, "mlp": 1.0},
    NTB: {"e_mhsa": MHSA_SHARE, "mhca": 1.0 - MHSA_SHARE, "mlp": 1.0},
}


def add_stochastic_depth(net: nn.Module, rate: float) -> None:
    """Drop whole branches of single images in training: never at the first block, by `rate` at the last.

    Raises ModelError for a network without such blocks.
    """
    blocks = [module for module in net.modules() if type(module) in BRANCHES]
    if not blocks:
        raise ModelError(
            f"stochastic_depth={rate:g}: {type(net).__name__} has no Next-ViT block for it: set it to 0"
        )
    for number, block in enumerate(blocks):
        block_rate = rate * number / max(1, len(blocks) - 1)
        for path, share in BRANCHES[type(block)].items():
            block.get_submodule(path).register_forward_hook(_Drop(block_rate * share))


class _Drop:
    """A forward hook: the branch's output is zero for some images, and scaled up for the others."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        from timm.layers import drop_path

        dropped: Tensor = drop_path(output, self.rate, module.training)
        return dropped
