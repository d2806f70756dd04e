"""What a network's parts are called: written into the artifact, found again in the exported node names."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

import models
from converters import reparameterize
from converters.modules import module_kinds
from converters.onnx_exporters import export_torchscript
from converters.onnx_graph import simplify
from models.nextvit import NextViT, Stage
from reports.layer_names import kind_of


def narrow() -> NextViT:
    stages = (
        Stage(ncb=1, ntb=0, repeats=1, ncb_channels=32, ntb_channels=32, reduction=2),
        Stage(ncb=1, ntb=1, repeats=2, ncb_channels=64, ntb_channels=96, reduction=1),
    )
    return NextViT(stages, num_classes=10, in_chans=3).eval()


def test_next_vit_tells_its_own_names():
    kinds = module_kinds(narrow())
    blocks = {path: kind for path, kind in kinds.items() if kind in ("NCB", "NTB")}
    assert blocks == {
        "stages.0.0": "NCB",
        "stages.1.0": "NCB",
        "stages.1.1": "NTB",
        "stages.1.2": "NCB",
        "stages.1.3": "NTB",
    }
    assert kinds["stages.1.1.patch_embed"] == "patch embedding"
    assert (kinds["stem"], kinds["norm"], kinds["head"]) == ("stem", "head", "head")


def test_every_exported_convolution_and_product_belongs_to_a_kind():
    """Through fusion, export and simplification: the names that a runtime's profile will hold."""
    net = narrow()
    kinds = module_kinds(net)
    deployed = reparameterize(net, torch.randn(1, 3, 64, 64))
    proto = simplify(export_torchscript(deployed, torch.randn(1, 3, 64, 64)).proto)
    found = Counter(
        kind_of(node.name, kinds) for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")
    )
    assert set(found) == {"stem", "NCB", "NTB", "patch embedding", "head"}
    assert found["stem"] == 4
    assert found["head"] == 1
    assert found["NCB"] == 3 * 4  # MHCA's two convolutions, MLP's two
    adds = [kind_of(node.name, kinds) for node in proto.graph.node if node.op_type == "Add"]
    assert Counter(adds)["NCB"] == 3 * 2


def test_a_block_tells_its_parts():
    net = models.build("block/ntb", in_channels=64, resolution=14)
    assert set(module_kinds(net).values()) == {"patch embedding", "E-MHSA", "projection", "MHCA", "MLP"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm/resnet18", {"BasicBlock": 8, "conv1": 1, "fc": 1}),
        ("timm/convnext_tiny", {"ConvNeXtBlock": 18, "stem": 2}),
        (
            "timm/swin_tiny_patch4_window7_224",
            {"SwinTransformerBlock": 12, "PatchMerging": 3, "PatchEmbed": 1},
        ),
        ("timm/mobilenetv2_100", {"InvertedResidual": 16, "conv_stem": 1, "classifier": 1}),
    ],
)
def test_the_blocks_of_other_networks_are_called_by_their_class(name, expected):
    found = Counter(module_kinds(models.build(name)).values())
    assert {kind: found[kind] for kind in expected} == expected


def test_a_network_without_blocks_is_named_layer_by_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    assert module_kinds(net) == {"0": "0", "1": "1"}
