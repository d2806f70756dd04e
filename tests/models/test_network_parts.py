"""A network as the parts that it is made of: nothing missing, nothing twice, each as it is in the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from converters import reparameterize
from models.counting import count
from models.errors import ModelError
from models.parts import PARTS, parts_of
from models.spec import ModelSpec


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def built(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return models.build(spec.name, **spec.build_options())


SPECS = [
    *(ModelSpec.of(name) for name in PARTS),
    ModelSpec.of("nextvit_small", resolution=256),
    ModelSpec.of("nextvit_small", resolution=96, in_chans=1, num_classes=10),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.resolution}")
def test_parts_are_the_networks_modules_and_add_up_to_it(spec):
    net, parts = built(spec), parts_of(spec)
    whole = count(net, spec.input_shape(1))
    counts = [count(built(part), part.input_shape(1)) for _, part in parts]
    assert sum(one.params_m for one in counts) == pytest.approx(whole.params_m, rel=1e-12)
    assert sum(one.gmacs for one in counts) == pytest.approx(whole.gmacs, rel=1e-12)
    for path, part in parts[:-1]:
        assert shapes_of(built(part)) == shapes_of(net.get_submodule(path)), path
    assert shapes_of(built(parts[-1][1])) == {
        name: shape for name, shape in shapes_of(net).items() if name.startswith(("norm.", "head."))
    }


def test_equal_parts_are_one_model():
    parts = parts_of(ModelSpec.of("nextvit_small"))
    assert len(parts) == 22
    assert len({spec for _, spec in parts}) == 14
    usual = ModelSpec.of("block/ncb", resolution=14, in_channels=384)
    assert [path for path, spec in parts if spec == usual] == [f"stages.2.{n}" for n in (1, 2, 3, 6, 7, 8)]


def test_parts_alone_compute_what_the_network_does():
    """The network's own weights in its parts, one after the other."""
    spec = ModelSpec.of("nextvit_small", resolution=64, num_classes=7)
    net = models.instantiate(spec).double()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    x = image
    with torch.no_grad():
        for path, part in parts_of(spec):
            alone = models.build(part.name, **part.build_options()).double()
            weights = net.state_dict() if path == "head" else net.get_submodule(path).state_dict()
            alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
            x = alone(x)
        torch.testing.assert_close(x, net(image))


def test_the_head_alone_is_fused_without_a_difference():
    head = models.instantiate(ModelSpec.of("nextvit_head", resolution=7, in_chans=64)).double()
    fused = reparameterize(head)
    x = torch.randn(2, 64, 7, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), head(x))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_another_network_has_no_parts():
    with pytest.raises(ModelError, match=r"timm/resnet50: its parts are not known; those of nextvit_small"):
        parts_of(ModelSpec.of("timm/resnet50"))


def test_peaks_do_what_they_say():
    side, channels = 6, 32
    gemm = models.instantiate(ModelSpec.of("peak/gemm", resolution=side, in_chans=channels))
    counts = count(gemm, (1, channels, side, side))
    assert counts.gmacs * 1e9 == pytest.approx(8 * channels**2 * side**2)
    assert counts.params_m * 1e6 == pytest.approx(8 * channels**2)
    copy = models.instantiate(ModelSpec.of("peak/copy", resolution=side, in_chans=channels))
    x = torch.randn(1, channels, side, side)
    factor = (copy(x) / x).flatten()
    torch.testing.assert_close(factor, factor[:1].expand_as(factor))
    assert factor[0].item() not in (0.0, 1.0)
