"""Counts against published tables, and attention that must not be forgotten."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import models
from models.counting import count, params_m


@pytest.mark.parametrize(
    ("name", "resolution", "params", "gmacs"),
    [
        ("timm/resnet50", 224, 25.6, 4.1),
        ("timm/convnext_tiny", 224, 28.6, 4.5),
        ("timm/swin_tiny_patch4_window7_224", 224, 28.3, 4.5),
        ("timm/mobilenetv2_100", 224, 3.5, 0.3),
        ("timm/deit_small_patch16_224", 224, 22.1, 4.6),
        ("timm/nextvit_small", 224, 31.8, 5.8),
    ],
)
def test_published_counts(name, resolution, params, gmacs):
    counts = count(models.build(name), (1, 3, resolution, resolution))
    assert counts.params_m == pytest.approx(params, abs=0.06)
    assert counts.gmacs == pytest.approx(gmacs, abs=0.06)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return scaled_dot_product_attention(x, x, x)


def test_fused_attention_is_counted():
    assert count(Attention(), (1, 3, 50, 16)).gmacs == pytest.approx(2 * 3 * 50 * 50 * 16 / 1e9)


def test_grouped_and_strided_convolutions():
    net = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4)
    assert count(net, (1, 8, 9, 9)).gmacs == pytest.approx(5 * 5 * 16 * 2 * 9 / 1e9)


def test_counts_grow_with_the_batch():
    net = models.build("block/ncb", in_channels=32, resolution=7)
    assert count(net, (3, 32, 7, 7)).gmacs == pytest.approx(3 * count(net, (1, 32, 7, 7)).gmacs)


def test_buffers_are_no_parameters_and_shared_tensors_count_once():
    shared = nn.Linear(10, 10)
    assert params_m(nn.Sequential(shared, shared, nn.BatchNorm1d(10))) == pytest.approx((110 + 20) / 1e6)


def test_counting_leaves_type_and_mode_alone():
    net = models.build("block/ncb", in_channels=32, resolution=7).double()
    count(net, (1, 32, 7, 7))
    assert next(net.parameters()).dtype == torch.float64
    assert not net.training
