"""What rounding and wrong graphs do to Pyramid ViG with random weights, and what their damping is for.

`python -m tests.validation.graph_rounding` prints the table of docs/networks.md: the largest difference from
the float64 outputs over the largest of these, of one input, from the least to the largest of four sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from models import instantiate
from models.folding import fuse_all
from models.pyramid_vig import RANDOM_GAIN, VARIANTS, Grapher, MaxRelativeConv, NearestNeighbours
from models.spec import ModelSpec

T = TypeVar("T", bound=nn.Module)
BLOCKS = 8  # whose bias is put wrong, one at a time
WRONG_BIAS = 0.2  # of the layer's largest


def off(net: nn.Module, x: Tensor, exact: Tensor) -> float:
    with torch.no_grad():
        return float((net(x) - exact).abs().max() / exact.abs().max())


def roll_neighbours(net: nn.Module) -> None:
    """Each position with the neighbours of the next one."""
    for module in _of_type(net, NearestNeighbours):
        module.register_forward_hook(lambda module, inputs, nearest: nearest.roll(1, dims=1))


def drop_a_neighbour(net: nn.Module) -> None:
    for module in _of_type(net, NearestNeighbours):
        module.register_forward_hook(lambda module, inputs, nearest: nearest[:, :, :-1])


def forget_positions(net: nn.Module) -> None:
    for module in _of_type(net, NearestNeighbours):
        module.closeness.zero_()


def undamp(net: nn.Module) -> None:
    """Differences to neighbours at full weight, as without `damp_random`."""
    for module in _of_type(net, MaxRelativeConv):
        module.mix.conv.weight.data[:, 1::2] /= RANDOM_GAIN


GRAPHS: dict[str, Callable[[nn.Module], None]] = {
    "neighbours of the next position": roll_neighbours,
    "one neighbour too few": drop_a_neighbour,
    "no closeness of positions": forget_positions,
}


def errors(name: str) -> dict[str, list[float]]:
    """What is done to the network, and how far that is off."""
    net = instantiate(ModelSpec.of(name)).eval()
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    exact, fused = _exact(net, x), fuse_all(net)
    found = {"fp32, eager or fused": [off(net, x, exact), off(fused, x, exact)]}
    for words, change in GRAPHS.items():
        found[words] = [off(_changed(net, change), x, exact)]
    found["one fused bias wrong, in eight layers"] = [
        off(_with_wrong_bias(fused, place), x, exact) for place in range(BLOCKS)
    ]
    whole = _changed(net, undamp)
    found["differences to neighbours at full weight, fp32 eager"] = [off(whole, x, _exact(whole, x))]
    return found


def _exact(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = copy.deepcopy(net).double()(x.double())
    return outputs


def _changed(net: nn.Module, change: Callable[[nn.Module], None]) -> nn.Module:
    changed = copy.deepcopy(net)
    change(changed)
    return changed


def _with_wrong_bias(fused: nn.Module, place: int) -> nn.Module:
    """One channel of the first convolution of a block, off by a fifth of the layer's largest bias."""
    wrong = copy.deepcopy(fused)
    blocks = _of_type(wrong, Grapher)
    bias = blocks[place * len(blocks) // BLOCKS].fc1.bias
    with torch.no_grad():
        bias[1] += WRONG_BIAS * bias.abs().max()
    return wrong


def _of_type(net: nn.Module, kind: type[T]) -> list[T]:
    return [module for module in net.modules() if isinstance(module, kind)]


def main() -> None:
    found = [errors(name) for name in VARIANTS]
    print("| what is done | largest difference from the float64 outputs |\n|---|---|")
    for words in found[0]:
        values = [value for one in found for value in one[words]]
        print(f"| {words} | {min(values):.1e} to {max(values):.1e} |")


if __name__ == "__main__":
    main()
