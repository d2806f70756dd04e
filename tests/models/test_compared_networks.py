"""The networks that Next-ViT is compared with: fusion, names of parts, ONNX."""

from __future__ import annotations

import collections
import warnings

import onnx
import onnxruntime
import pytest
import torch

import models
from models.comparison import COMPARED
from models.folding import fuse_all
from models.paper_sizes import PAPER_SIZES
from models.spec import ModelSpec

SMALLEST = [
    "mobilevig_ti",
    "efficientmod_xxs",
    "fcaformer_l1",
    "cswin_tiny",
    "pvt_tiny",
    "vcmamba_s",
    "plainmamba_l1",
    "mobile_former_96m",
    "pyramid_vig_ti",
]


def test_every_compared_network_has_its_printed_size():
    assert set(COMPARED) <= {size.model for size in PAPER_SIZES}


# Of each family that has something to fold, the smallest; VCMamba folds in test_selective_scan.py.
QUICK = ["mobilevig_ti", "efficientmod_xxs", "fcaformer_l1", "mobile_former_96m"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in COMPARED if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_fused_network_is_equal_and_keeps_its_named_parts(scramble, name):
    net = scramble(models.build(name, num_classes=10))
    info = COMPARED[name]
    side = 224 if info.fixed_resolution else max(96, info.multiple_of)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    folded: collections.Counter[str] = collections.Counter()
    norms = sum("BatchNorm" in type(module).__name__ for module in net.modules())
    fused = fuse_all(net, folded=folded)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(fused(x), expected, rtol=1e-9, atol=1e-9)
    assert (expected[0] - expected[1]).std() > 1e-3  # the input reaches the output
    assert sum(folded[kind] for kind in ("conv_bn", "linear_bn", "bn_conv", "bn_linear")) == norms
    left = {type(module).__name__ for module in fused.modules()}
    assert not [kind for kind in left if "BatchNorm" in kind or "Scale" in kind]
    kinds = net.module_kinds()
    assert len(set(kinds.values())) > 2
    for one in (net, fused):
        assert set(kinds) <= {path for path, _ in one.named_modules()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_onnx(tmp_path, name):
    spec = ModelSpec.of(name)
    net, x = models.instantiate(spec), torch.randn(spec.input_shape(1))
    path = tmp_path / "net.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of the older exporter
        expected = net(x)
        torch.onnx.export(fuse_all(net), (x,), path, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert (torch.from_numpy(output) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
