"""Pyramid ViG's graph, against its definition; and what random weights of it can tell."""

from __future__ import annotations

import copy
import warnings

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import models
from models.folding import fuse_all
from models.pyramid_vig import Grapher, NearestNeighbours, dilations_of, largest_of, position_closeness
from models.spec import ModelSpec
from tests.validation.graph_rounding import off, roll_neighbours


def codes(channels: int, side: int) -> Tensor:
    """Sine-cosine codes of positions, one after the other."""
    found = torch.zeros(side**2, channels)
    quarter = channels // 4
    for position in range(side**2):
        row, column = divmod(position, side)
        for index in range(quarter):
            phase = 10000 ** (-index / quarter)
            for start, place in ((0, column), (2 * quarter, row)):
                found[position, start + index] = torch.tensor(place * phase).sin()
                found[position, start + quarter + index] = torch.tensor(place * phase).cos()
    return found


@pytest.mark.parametrize("reduction", [1, 2])
def test_closeness_is_that_of_codes_resized_along_the_positions(reduction):
    table = codes(8, 6) @ codes(8, 6).T / 8
    expected = nn.functional.interpolate(table[None, None], size=(36, 36 // reduction**2), mode="bicubic")[0]
    torch.testing.assert_close(position_closeness(8, side=6, reduction=reduction), expected)


@pytest.mark.parametrize("dilation", [1, 2])
def test_neighbours_are_the_nearest_by_distance(dilation):
    choose = NearestNeighbours(8, count=3, dilation=dilation, side=4, reduction=2).double()
    x, others = torch.randn(2, 8, 16).double(), torch.randn(2, 8, 4 * 1).double()
    if dilation == 2:
        choose = NearestNeighbours(8, count=3, dilation=2, side=4, reduction=1).double()
        others = x
    units = [nn.functional.normalize(y, dim=1).transpose(1, 2) for y in (x, others)]
    distances = torch.cdist(*units).square() - 2 * choose.closeness
    expected = distances.argsort(dim=2)[:, :, : 3 * dilation : dilation]
    assert torch.equal(choose(x, others), expected)


def test_largest_of_the_neighbours_of_each_image():
    others, nearest = torch.randn(2, 3, 5), torch.randint(5, (2, 4, 2))
    found = largest_of(others, nearest)
    for image in range(2):
        for node in range(4):
            expected = others[image][:, nearest[image, node]].amax(dim=1)
            assert torch.equal(found[image, :, node], expected)


def grapher() -> Grapher:
    return Grapher(48, count=9, dilation=1, side=8, reduction=2)


def test_grapher_in_onnx_runtime_chooses_the_same_neighbours(tmp_path, scramble):
    """At full weight of the differences, and with a batch of two."""
    block, x = scramble(grapher()).float(), torch.randn(2, 48, 8, 8)
    fused, path = fuse_all(block), tmp_path / "net.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of the older exporter
        expected = block(x)
        torch.onnx.export(fused, (x,), path, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    moved = (torch.from_numpy(output) - expected).abs().amax(dim=1) > 1e-4 * expected.abs().max()
    assert moved.sum() <= 1  # of 128 positions: two neighbours may be equally near but for rounding


def test_every_block_has_nine_neighbours_and_reaches_further_with_the_depth(tiny):
    assert dilations_of(12) == [1] * 4 + [2] * 4 + [3] * 4
    assert dilations_of(24)[-4:] == [5] * 4
    found = [m for m in tiny[0].modules() if isinstance(m, NearestNeighbours)]
    assert [(m.count, m.dilation) for m in found] == [(9, dilation) for dilation in dilations_of(12)]


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, Tensor, Tensor]:
    """Pyramid ViG-Ti as the suites have it, an input, and its outputs in float64."""
    net = models.instantiate(ModelSpec.of("pyramid_vig_ti"))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return net, x, copy.deepcopy(net).double()(x.double())


def test_rounding_stays_small_with_random_weights(tiny):
    net, x, exact = tiny
    assert off(net, x, exact) < 1e-4
    assert off(fuse_all(net), x, exact) < 1e-4


@pytest.mark.parametrize(
    "path",
    ["stem.0", "stages.0.0.fc1", "stages.0.2.graph_conv.mix", "stages.2.5.fc2", "stages.3.4.fc1", "neck"],
)
def test_one_weight_that_is_fused_wrong_shows(tiny, path):
    """The bias of one channel, off by a fifth of the bias that is largest."""
    net, x, exact = tiny
    fused = fuse_all(net)
    bias = fused.get_submodule(path).bias
    with torch.no_grad():
        bias[1] += 0.2 * bias.abs().max()
    assert off(fused, x, exact) > 2e-4


def test_wrong_neighbours_show(tiny):
    net, x, exact = tiny
    wrong = copy.deepcopy(net)
    roll_neighbours(wrong)
    assert off(wrong, x, exact) > 2e-4
