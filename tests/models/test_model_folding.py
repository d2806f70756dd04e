"""The folding algebra in float64: exact for any layer it takes, refused where it would not be."""

from __future__ import annotations

from collections import Counter

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.errors import FoldingError
from models.folding import (
    affine_of,
    fold_into_next,
    fold_into_previous,
    fuse_all,
    identity_conv,
    merge_branches,
    pool_minus_identity,
    replaced,
)
from models.layers import BranchSum, ConvBN, LayerScale
from models.nextvit_blocks import NTB

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def random_norm(norm: nn.Module) -> nn.Module:
    """A BatchNorm that is far from the identity, eval mode, float64."""
    norm = norm.double().eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def random_input(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


CONVS = st.fixed_dictionaries(
    {
        "groups": st.sampled_from([1, 2, 3]),
        "per_group_in": st.integers(1, 3),
        "per_group_out": st.integers(1, 3),
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 3)),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
        "seed": st.integers(0, 2**16),
    }
)


def drawn_conv(draw: dict, **fixed) -> nn.Conv2d:
    torch.manual_seed(draw["seed"])
    chosen = {name: draw[name] for name in ("kernel_size", "stride", "padding", "dilation", "bias")} | fixed
    groups = draw["groups"]
    return nn.Conv2d(
        groups * draw["per_group_in"], groups * draw["per_group_out"], groups=groups, **chosen
    ).double()


@settings(max_examples=60, deadline=None)
@given(CONVS)
def test_conv_then_batchnorm(draw):
    conv = drawn_conv(draw)
    norm = random_norm(nn.BatchNorm2d(conv.out_channels))
    x = random_input(2, conv.in_channels, 9, 8)
    torch.testing.assert_close(fold_into_previous(conv, norm)(x), norm(conv(x)), **EXACT)


@settings(max_examples=60, deadline=None)
@given(CONVS, st.booleans())
def test_batchnorm_then_conv_without_padding(draw, affine):
    conv = drawn_conv(draw, padding=0)
    norm = random_norm(nn.BatchNorm2d(conv.in_channels, affine=affine))
    x = random_input(2, conv.in_channels, 9, 8)
    (folded,) = fold_into_next(norm, conv)
    torch.testing.assert_close(folded(x), conv(norm(x)), **EXACT)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 2**16))
def test_linear_after_and_before_batchnorm(inputs, outputs, bias, seed):
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias=bias).double()
    x = random_input(4, inputs)
    after, before = random_norm(nn.BatchNorm1d(outputs)), random_norm(nn.BatchNorm1d(inputs))
    torch.testing.assert_close(fold_into_previous(linear, after)(x), after(linear(x)), **EXACT)
    torch.testing.assert_close(fold_into_next(before, linear)[0](x), linear(before(x)), **EXACT)


def test_one_dimensional_and_three_dimensional_convolutions():
    conv, norm, x = (
        nn.Conv1d(4, 6, 3, groups=2).double(),
        random_norm(nn.BatchNorm1d(6)),
        random_input(2, 4, 9),
    )
    torch.testing.assert_close(fold_into_previous(conv, norm)(x), norm(conv(x)), **EXACT)
    conv, norm = nn.Conv3d(4, 6, 2, groups=2).double(), random_norm(nn.BatchNorm3d(4))
    x = random_input(2, 4, 4, 5, 3)
    torch.testing.assert_close(fold_into_next(norm, conv)[0](x), conv(norm(x)), **EXACT)


def test_batchnorm_before_zero_padding_is_refused_unless_it_does_not_shift():
    conv, norm, x = (
        nn.Conv2d(3, 4, 3, padding=1).double(),
        random_norm(nn.BatchNorm2d(3)),
        random_input(1, 3, 5, 5),
    )
    with pytest.raises(FoldingError, match="pads with zeros"):
        fold_into_next(norm, conv)
    with pytest.raises(FoldingError, match="pads with zeros"):
        fold_into_next(norm, nn.Conv2d(3, 4, 3, padding="same"))
    norm.running_mean.zero_()
    nn.init.zeros_(norm.bias)
    torch.testing.assert_close(fold_into_next(norm, conv)[0](x), conv(norm(x)), **EXACT)


def test_padding_that_repeats_real_values_commutes_with_batchnorm():
    norm, x = random_norm(nn.BatchNorm2d(3)), random_input(1, 3, 5, 5)
    for mode in ("reflect", "replicate", "circular"):
        conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode).double()
        torch.testing.assert_close(fold_into_next(norm, conv)[0](x), conv(norm(x)), **EXACT)


def test_batchnorm_commutes_with_average_pooling():
    norm, x = random_norm(nn.BatchNorm2d(6)), random_input(2, 6, 7, 7)
    linear, pooled = nn.Linear(6, 3).double(), nn.AdaptiveAvgPool2d(1)
    (folded,) = fold_into_next(norm, linear)
    torch.testing.assert_close(folded(pooled(x).flatten(1)), linear(pooled(norm(x)).flatten(1)), **EXACT)


def test_two_batchnorms_around_pooling_fold_into_every_reader():
    """E-MHSA: norm1, average over tokens, BN, then k and v; norm1 alone, then q."""
    norm1, norm2, x = random_norm(nn.BatchNorm1d(8)), random_norm(nn.BatchNorm1d(8)), random_input(2, 8, 13)
    pool, convs = nn.AvgPool1d(4), [nn.Conv1d(8, 8, 1).double() for _ in range(3)]
    k, v = fold_into_next(norm2, *convs[1:])
    q, k, v = fold_into_next(norm1, convs[0], k, v)
    torch.testing.assert_close(q(x), convs[0](norm1(x)), **EXACT)
    for folded, conv in ((k, convs[1]), (v, convs[2])):
        torch.testing.assert_close(folded(pool(x)), conv(norm2(pool(norm1(x)))), **EXACT)


def test_layer_scale_folds_into_what_precedes_it():
    scale, x = LayerScale(6, initial=1.0).double(), random_input(2, 6, 5, 5)
    nn.init.normal_(scale.gamma)
    group_norm = nn.GroupNorm(2, 6).double()
    nn.init.normal_(group_norm.weight)
    nn.init.normal_(group_norm.bias)
    for layer in (nn.Conv2d(6, 6, 3, padding=1).double(), group_norm, random_norm(nn.BatchNorm2d(6))):
        torch.testing.assert_close(fold_into_previous(layer, scale)(x), scale(layer(x)), **EXACT)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(1, 3), (3, 3), (1, 1), (3, 5), (1, 3, 3, 5)]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_parallel_branches_become_one_convolution(kernels, stride, groups, identity, seed):
    torch.manual_seed(seed)
    branches = [ConvBN(4, 4, kernel_size=side, stride=stride, groups=groups) for side in kernels]
    for branch in branches:
        random_norm(branch.norm)
    if identity and stride == 1:
        branches.append(random_norm(nn.BatchNorm2d(4)))
    total = BranchSum(*branches).double().eval()
    fused, x = fuse_all(total), random_input(2, 4, 7, 6)
    assert isinstance(fused, nn.Conv2d)
    torch.testing.assert_close(fused(x), total(x), **EXACT)


def test_identity_convolution_returns_its_input():
    for groups in (1, 2, 6):
        conv, x = (
            identity_conv(6, groups=groups, like=torch.zeros(1, dtype=torch.float64)),
            random_input(2, 6, 4, 4),
        )
        assert torch.equal(conv(x), x)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=0),
        nn.Conv2d(4, 4, 2, padding=1),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
    ids=str,
)
def test_branches_that_do_not_match_are_refused(other):
    with pytest.raises(FoldingError):
        merge_branches([nn.Conv2d(4, 4, 3, padding=1), other])


@pytest.mark.parametrize("size", [3, 5])
def test_pooling_minus_identity_is_a_depthwise_convolution_where_padding_counts(size):
    pool, x = nn.AvgPool2d(size, stride=1, padding=size // 2), random_input(2, 3, 6, 7)
    conv = pool_minus_identity(pool, 3, like=x)
    torch.testing.assert_close(conv(x), pool(x) - x, **EXACT)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=1, padding=0),
        nn.AvgPool2d(3, stride=1, padding=1, divisor_override=5),
        nn.AvgPool2d(3, stride=1, padding=1, ceil_mode=True),
        nn.AvgPool2d((3, 1), stride=1, padding=(1, 0)),
    ],
    ids=str,
)
def test_pooling_that_is_no_convolution_is_refused(pool):
    with pytest.raises(FoldingError):
        pool_minus_identity(pool, 3, like=torch.zeros(1))


def test_what_is_not_affine_is_refused():
    conv = nn.Conv2d(3, 3, 1)
    with pytest.raises(FoldingError, match="training mode"):
        fold_into_previous(conv, nn.BatchNorm2d(3))
    with pytest.raises(FoldingError, match="running statistics"):
        fold_into_previous(conv, nn.BatchNorm2d(3, track_running_stats=False).eval())
    with pytest.raises(FoldingError, match="GELU"):
        fold_into_previous(conv, nn.GELU())
    with pytest.raises(FoldingError, match="LayerNorm"):
        fold_into_next(nn.LayerNorm(3), conv)


def test_a_batchnorm_subclass_that_also_activates_is_refused():
    norm = timm.layers.BatchNormAct2d(3).eval()
    with pytest.raises(FoldingError, match="BatchNormAct2d"):
        fold_into_previous(nn.Conv2d(3, 3, 1), norm)


def test_layers_without_a_weight_per_channel_are_refused():
    norm = random_norm(nn.BatchNorm2d(4))
    for layer in (nn.ConvTranspose2d(4, 4, 2), nn.ReLU(), nn.GroupNorm(2, 4, affine=False)):
        with pytest.raises(FoldingError):
            fold_into_previous(layer, norm)
    with pytest.raises(FoldingError):
        fold_into_next(norm, nn.ConvTranspose2d(4, 4, 2))


def test_channel_counts_must_match():
    norm = random_norm(nn.BatchNorm2d(4))
    with pytest.raises(FoldingError, match="4 channels"):
        fold_into_previous(nn.Conv2d(3, 5, 1), norm)
    with pytest.raises(FoldingError, match="4 channels"):
        fold_into_next(norm, nn.Conv2d(5, 3, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_type_and_gradient_flag_stay(dtype):
    conv = nn.Conv2d(3, 4, 1, bias=False).to(dtype).requires_grad_(False)
    folded = fold_into_previous(conv, random_norm(nn.BatchNorm2d(4)).to(dtype))
    assert folded.weight.dtype == folded.bias.dtype == dtype
    assert not folded.weight.requires_grad
    assert not folded.bias.requires_grad


def test_sums_are_made_in_float64():
    """A tiny variance: in float32 the shift of 1e4 deviations would lose the digits that the bias needs."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(64, eps=1e-12).eval()
    norm.running_var.uniform_(1e-8, 2e-8)
    norm.running_mean.normal_()
    conv = nn.Conv2d(64, 8, 1)
    (folded,) = fold_into_next(norm, conv)
    affine = affine_of(norm)
    exact = conv.bias.double() + conv.weight.double().flatten(1) @ affine.shift
    torch.testing.assert_close(folded.bias.double(), exact, rtol=1e-7, atol=0)


def test_original_is_not_modified():
    conv, norm = nn.Conv2d(3, 4, 1, bias=False).double(), random_norm(nn.BatchNorm2d(4))
    weight = conv.weight.clone()
    folded = fold_into_previous(conv, norm)
    assert conv.bias is None
    assert torch.equal(conv.weight, weight)
    assert folded.bias is not None


def test_replaced_shares_no_tables_with_the_original():
    module = nn.Sequential(nn.ReLU(), nn.GELU())
    clone = replaced(module, **{"0": nn.Tanh()})
    clone.register_forward_hook(lambda *_: None)
    assert isinstance(module[0], nn.ReLU)
    assert not module._forward_hooks
    assert clone[1] is module[1]


def test_fuse_all_counts_what_it_removed(scramble):
    folded: Counter[str] = Counter()
    fuse_all(scramble(NTB(64, 128, stride=2, reduction=2)), folded=folded)
    # patch embedding, projection and MHCA; then norm1, E-MHSA's own and norm2
    assert folded == {"conv_bn": 3, "bn_conv": 3}


def test_fuse_all_counts_nothing_after_it_ended(scramble):
    folded: Counter[str] = Counter()
    net = scramble(NTB(64, 128, reduction=1))
    fuse_all(net, folded=folded)
    before = folded.copy()
    net.mhca.fuse()
    fuse_all(net)
    assert folded == before


def test_fuse_all_restores_the_ledger_after_an_error():
    with pytest.raises(FoldingError, match="eval"):
        fuse_all(ConvBN(3, 3, kernel_size=1))
    folded: Counter[str] = Counter()
    fuse_all(ConvBN(3, 3, kernel_size=1).eval(), folded=folded)
    assert folded == {"conv_bn": 1}


def test_fusing_twice_is_fusing_once(scramble):
    net = scramble(NTB(64, 128, stride=2, reduction=2))
    once, again = fuse_all(net), Counter()
    twice, x = fuse_all(once, folded=again), random_input(1, 64, 8, 8)
    assert not again
    with torch.no_grad():
        assert torch.equal(twice(x), once(x))


def test_fuse_of_a_module_whose_children_are_not_fused(scramble):
    """Called directly it handles its own members, and the rest still computes the same."""
    net, x = scramble(NTB(64, 128, stride=2, reduction=2)), random_input(1, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net.fuse()(x), net(x), **EXACT)
    assert isinstance(net.norm1, nn.BatchNorm2d)


def test_fuse_all_leaves_the_random_generator_alone(scramble):
    net = scramble(NTB(64, 128, stride=2, reduction=2))
    branches = BranchSum(ConvBN(4, 4, kernel_size=3), nn.BatchNorm2d(4)).eval()
    state = torch.get_rng_state()
    fuse_all(net)
    fuse_all(branches)
    assert torch.equal(torch.get_rng_state(), state)


def test_timm_modules_with_a_fuse_of_their_own_are_left_alone():
    """timm's contract is another one: its fuse() wants unfused children."""
    net = timm.create_model("repvit_m0_9").eval()
    assert hasattr(net.stages[0].blocks[0].token_mixer, "fuse")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fuse_all(net)(x), net(x))


def test_a_root_that_is_fusible_is_replaced():
    assert isinstance(fuse_all(ConvBN(3, 4, kernel_size=3).eval()), nn.Conv2d)


def test_fused_weights_can_be_saved_and_loaded(scramble):
    fused = fuse_all(scramble(NTB(64, 128, reduction=2)))
    state = fused.state_dict()
    assert not [name for name in state if "running" in name]
    fused.load_state_dict(state)
