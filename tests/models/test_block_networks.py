"""Networks that differ only in their block: fused, exported, trained by one step, and equal elsewhere."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import models
from converters import reparameterize
from models.block_network_facts import BLOCK_NETWORKS, HYBRID_NETWORKS
from models.block_networks import hidden_ratio, stage_depths
from models.info import check
from models.learner import Learner
from models.processes import Processes
from models.recipe import Recipe
from models.spec import ModelSpec
from models.training_plan import plan
from models.training_request import TrainRequest

CPU = Processes(torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"depth": 4}) for name in BLOCK_NETWORKS),
        *((name, {"depth": 7, "hidden": 90}) for name in HYBRID_NETWORKS),
    ],
)
def test_fused_and_exported_it_computes_the_same(name, options, tmp_path):
    spec = ModelSpec.of(name, resolution=32, **options)
    net, x = models.instantiate(spec).double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    fused = reparameterize(net, x)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(fused(x), expected, rtol=1e-8, atol=1e-10)
    assert expected.shape == (2, 10)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of the older exporter
        torch.onnx.export(copy.deepcopy(fused).float(), (x.float(),), path, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.float().numpy()})
    assert np.abs(output - expected.numpy()).max() <= 1e-5 * expected.abs().max().item()


@pytest.mark.parametrize("name", BLOCK_NETWORKS)
def test_one_step_of_training_moves_every_weight(name, tmp_path):
    chosen = Recipe(resolution=32, epochs=2, batch_size=8, lr=1e-2, min_lr=1e-4, warmup_epochs=0)
    request = TrainRequest(name, chosen, tmp_path, options=(("depth", 3),))
    learner = Learner(plan(request, CPU), request, CPU.device)
    before = copy.deepcopy(learner.net)
    learner.net.train()
    learner.schedule.step_update(0)
    images = torch.randn(8, 3, 32, 32)
    learner.backward(learner.loss(learner.net, images, torch.arange(8)))
    learner.update(0)
    for (path, after), old in zip(learner.net.named_parameters(), before.parameters(), strict=True):
        assert after.isfinite().all(), path
        assert not torch.equal(after, old), path


def test_nothing_but_the_blocks_differs():
    def rest(name: str) -> dict[str, torch.Size]:
        net = models.build(name)
        inside = tuple(f"{path}." for path, kind in net.module_kinds().items() if kind == block_kind(net))
        return {key: tensor.shape for key, tensor in net.state_dict().items() if not key.startswith(inside)}

    shared = [rest(name) for name in BLOCK_NETWORKS]
    assert all(found == shared[0] for found in shared)
    assert {key.split(".")[0] for key in shared[0]} == {"stem", "stages", "head"}


def block_kind(net) -> str:
    """The class of its blocks: the first part of the first stage."""
    return str(net.module_kinds()["stages.0.0"])


def test_depth_and_width_are_what_they_say():
    net = models.build("blocknet/ncb", depth=7, width=2, num_classes=5)
    kinds = list(net.module_kinds().values())
    assert kinds.count("NCB") == 7
    assert kinds.count("downsampling") == 2
    with torch.no_grad():
        assert net.stages(net.stem(torch.zeros(1, 3, 64, 64))).shape == (1, 256, 8, 8)
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("name", BLOCK_NETWORKS)
def test_hidden_channels_are_the_papers_unless_they_are_moved(name):
    """The block's own shapes at 100 %; fewer or more parameters where they are moved, the rest alike."""
    with torch.device("meta"):
        few, usual, many = (models.build(name, depth=3, width=2, hidden=hidden) for hidden in (50, 100, 150))
        block = models.build(
            f"block/{name.removeprefix('blocknet/')}",
            **{"in_channels": 64, "resolution": 16, **({"window": 4} if name == "blocknet/lsa" else {})},
        )
    sizes = [sum(tensor.numel() for tensor in net.parameters()) for net in (few, usual, many)]
    assert sizes == sorted(set(sizes))
    inside = usual.stages[0][0]
    assert [tensor.shape for tensor in inside.parameters()] == [tensor.shape for tensor in block.parameters()]
    few_rest, many_rest = (
        {key: tensor.shape for key, tensor in net.state_dict().items() if "stages" not in key}
        for net in (few, many)
    )
    assert few_rest == many_rest


@given(
    st.sampled_from([32, 64, 96, 128, 192]),
    st.sampled_from([0.25, 2.0, 3.0, 4.0, 6.0]),
    st.integers(25, 400),
)
def test_hidden_channels_come_in_whole_eights(channels, usual, percent):
    hidden = int(channels * hidden_ratio(channels, usual, percent=percent))
    assert hidden % 8 == 0
    assert hidden >= 8
    assert abs(hidden - channels * usual * percent / 100) <= max(4, 8 - channels * usual * percent / 100)


@given(st.integers(3, 300))
def test_a_deeper_network_has_one_block_more_and_every_other_as_before(depth):
    one, more = stage_depths(depth), stage_depths(depth + 1)
    assert sum(one) == depth
    assert sorted(b - a for a, b in zip(one, more, strict=True)) == [0, 0, 1]
    assert max(one) - min(one) <= 1
    assert min(one) >= 1


def test_the_middle_stage_is_the_first_to_grow():
    assert [stage_depths(depth) for depth in (3, 4, 5, 6)] == [(1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 2}, "depth=2: must be an integer of at least 3"),
        ({"width": 0}, "width=0: must be an integer of at least 1"),
        ({"hidden": 24}, "hidden=24: must be an integer of at least 25"),
        ({"resolution": 48}, "resolution=48: must be a multiple of 32"),
    ],
)
def test_what_cannot_be_built_is_refused_before(options, message):
    with pytest.raises(models.ModelError, match=message):
        check(ModelSpec.of("blocknet/lsa", **{"resolution": 32, **options}))
