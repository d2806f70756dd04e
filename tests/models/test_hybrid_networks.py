"""Hybrid strategies: blocks where the strategy says, fused and exported alike, equal in everything else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import models
from models.block_network_facts import HYBRID_NETWORKS
from models.hybrid_networks import stage_depths, stage_pattern
from models.info import check
from models.nextvit_blocks import NCB, NTB
from models.spec import ModelSpec

STAGES_AT_12 = {
    "hybrid/cccc": ("CC", "CC", "CCCCCC", "CC"),
    "hybrid/ccct": ("CC", "CC", "CCCCCC", "TT"),
    "hybrid/cctt": ("CC", "CC", "TTTTTT", "TT"),
    "hybrid/cttt": ("CC", "TT", "TTTTTT", "TT"),
    "hybrid/chhh": ("CC", "CT", "CCCCCT", "CT"),
    "hybrid/n1": ("CC", "CT", "CTCTCT", "CT"),
    "hybrid/n2": ("CC", "CT", "CCTCCT", "CT"),
    "hybrid/n4": ("CC", "CT", "CCCCCT", "CT"),
}


def patterns(net) -> tuple[str, ...]:
    """The blocks of every stage of a built network."""
    letters = {NCB: "C", NTB: "T"}
    return tuple("".join(letters[type(block)] for block in stage) for stage in net.stages)


@pytest.mark.parametrize("name", HYBRID_NETWORKS)
def test_blocks_stand_where_the_strategy_says(name):
    assert patterns(models.build(name)) == STAGES_AT_12[name]


def test_nothing_but_the_blocks_differs():
    def rest(name: str) -> dict[str, torch.Size]:
        state = models.build(name).state_dict()
        return {key: tensor.shape for key, tensor in state.items() if not key.startswith("stages.")}

    shared = [rest(name) for name in HYBRID_NETWORKS]
    assert all(found == shared[0] for found in shared)
    assert {key.split(".")[0] for key in shared[0]} == {"stem", "head"}


@pytest.mark.parametrize("name", ["hybrid/cccc", "hybrid/cttt"])
def test_every_stage_has_its_own_map_and_16_keys(name):
    net = models.build(name)
    x = net.stem(torch.zeros(1, 3, 32, 32))
    for stage, shape in zip(net.stages, [(32, 16), (64, 8), (128, 4), (192, 4)], strict=True):
        keys = [block.e_mhsa.pool for block in stage if isinstance(block, NTB)]
        x = stage(x)
        assert x.shape[1:] == (shape[0], shape[1], shape[1])
        assert {pool(torch.zeros(1, 1, 1, shape[1] ** 2)).numel() for pool in keys} <= {16}


def test_the_smallest_image_is_one_position_at_the_end():
    net = models.build("hybrid/cttt", depth=4)
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@given(st.integers(4, 300))
def test_a_deeper_network_has_one_block_more_and_every_other_as_before(depth):
    one, more = stage_depths(depth), stage_depths(depth + 1)
    assert sum(one) == depth
    assert sorted(b - a for a, b in zip(one, more, strict=True)) == [0, 0, 0, 1]
    assert min(one) >= 1


def test_the_third_stage_is_dealt_five_of_eight():
    assert [stage_depths(depth) for depth in (4, 5, 12, 20)] == [
        (1, 1, 1, 1),
        (1, 1, 2, 1),
        (2, 2, 6, 2),
        (3, 3, 11, 3),
    ]


@given(st.sampled_from("CTH"), st.integers(1, 60), st.integers(0, 9))
def test_a_stage_grows_by_a_block_of_one_kind(kind, count, ncbs):
    one, more = stage_pattern(kind, count, ncbs=ncbs), stage_pattern(kind, count + 1, ncbs=ncbs)
    assert (len(one), len(more)) == (count, count + 1)
    assert more.count("T") - one.count("T") in (0, 1)
    assert one.endswith("T") == (kind != "C")


@given(st.integers(1, 9), st.integers(1, 60))
def test_as_many_patterns_as_fit(ncbs, count):
    found = stage_pattern("H", count, ncbs=ncbs)
    repeats = max(1, count // (ncbs + 1))
    assert found.count("T") == repeats
    if count > ncbs:
        assert found.endswith(("C" * ncbs + "T") * repeats)
        assert set(found[: -(ncbs + 1) * repeats]) <= {"C"}


def test_hidden_moves_the_mlps_alone():
    usual, moved = (models.build("hybrid/chhh", hidden=hidden) for hidden in (100, 90))
    assert [block.mlp.conv1.out_channels for block in usual.stages[3]] == [576, 384]
    assert [block.mlp.conv1.out_channels for block in moved.stages[3]] == [520, 344]
    differing = {
        key for key, tensor in usual.state_dict().items() if tensor.shape != moved.state_dict()[key].shape
    }
    assert differing
    assert all(".mlp.conv" in key for key in differing)


def test_parts_have_names():
    kinds = models.build("hybrid/n2").module_kinds()
    assert [kinds[f"stages.2.{place}"] for place in range(6)] == ["NCB", "NCB", "NTB"] * 2
    assert {"stem", "head", "patch embedding", "NCB", "NTB"} == set(kinds.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, "depth=3: must be an integer of at least 4"),
        ({"hidden": 10}, "hidden=10: must be an integer of at least 25"),
        ({"resolution": 4}, "resolution=4: must be an integer of at least 8"),
        ({"ncbs": 2}, "unknown option 'ncbs=2'"),
    ],
)
def test_what_cannot_be_built_is_refused_before(options, message):
    with pytest.raises(models.ModelError, match=message):
        check(ModelSpec.of("hybrid/chhh", **{"resolution": 32, **options}))
