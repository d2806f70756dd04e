"""Every form for deployment computes the same: compared in float64, where only a wrong form is left."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import efficientformer, efficientformer_v2, levit, metaformer, swin_transformer
from timm.models.mobilevit import MobileVitV2Block
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import models
from converters.artifact import ConversionRequest
from converters.deployment_forms import FORMS, Form, formed, has
from converters.onnx_from_torch import convert
from models.fcaformer import CrossAttention
from models.folding import fuse_all
from models.mobilevig import MaxRelative
from models.spec import ModelSpec

BY_NAME = {form.name: form for form in FORMS}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random(net: nn.Module) -> nn.Module:
    """In eval mode, in float64, with no parameter at a value that would hide anything."""
    generator = torch.Generator().manual_seed(0)
    net.eval()  # timm has modules that return nothing here
    net.double()
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.3 + 0.1
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_equal(net: nn.Module, name: str, *given: Any, count: int = 1) -> nn.Module:
    """The form of that name, found `count` times, changes no output and leaves the network as it was."""
    before = copy.deepcopy(net.state_dict())
    after, found = formed(net, BY_NAME[name])
    assert found == count
    with torch.no_grad():
        expected, ours = net(*given), after(*given)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not formed(after, BY_NAME[name])[1]
    return after


class Operators(TorchDispatchMode):
    """The operators that ran, and how many axes the tensor with the most of them had."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.most_axes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.add(str(func.overloadpacket))
        self.most_axes = max(self.most_axes, out.ndim if isinstance(out, Tensor) else 0)
        return out


def run(net: nn.Module, x: Tensor) -> Operators:
    with torch.no_grad(), Operators() as operators:
        net(x)
    return operators


BIASED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "EfficientFormer": (lambda: efficientformer.Attention(32, resolution=7), (2, 49, 32)),
    "EfficientFormerV2": (lambda: efficientformer_v2.Attention2d(32, resolution=7), (2, 32, 7, 7)),
    "at half resolution": (
        lambda: efficientformer_v2.Attention2d(32, resolution=14, stride=2),
        (2, 32, 14, 14),
    ),
    "downsampling": (lambda: efficientformer_v2.Attention2dDownsample(32, resolution=14), (2, 32, 14, 14)),
    "LeViT": (lambda: levit.Attention(32, 16, resolution=(7, 7)), (2, 49, 32)),
    "Swin": (lambda: swin_transformer.WindowAttention(32, 4, window_size=7), (2, 49, 32)),
}


@pytest.mark.parametrize(("build", "shape"), BIASED.values(), ids=list(BIASED))
def test_biases_become_constants(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    net = random(build())
    after = assert_equal(net, "constant biases", values(*shape))
    gone = {name for name, _ in net.named_parameters()} - {name for name, _ in after.named_parameters()}
    assert len(gone) == 1
    assert "aten.index" not in run(after, values(*shape)).names


@pytest.mark.parametrize("cross_tokens", [0, 16])
def test_fcaformers_biases_become_constants(cross_tokens: int) -> None:
    net = random(CrossAttention(64, side=7, cross_tokens=cross_tokens))
    cross = [values(2, 4, 64) for _ in range(cross_tokens // 4)]
    assert_equal(net, "constant biases", values(2, 49, 64), cross)


@pytest.mark.parametrize(("name", "side"), [("efficientformer_l1", 224), ("swiftformer_xs", 64)])
def test_two_classifiers_become_one(name: str, side: int) -> None:
    net = random(timm.create_model(name, num_classes=10))
    after = assert_equal(net, "one classifier", values(1, 3, side, side))
    assert isinstance(after.head, nn.Linear)
    assert not hasattr(after, "head_dist")
    assert type(after).__name__ == type(net).__name__


def test_a_classifier_with_a_norm_before_it_is_left_alone() -> None:
    net = timm.create_model("levit_128s", num_classes=10).eval()
    assert has(net, BY_NAME["one classifier"])
    assert formed(net, BY_NAME["one classifier"])[1] == 0


def poolformer(mixer: type[nn.Module], norm: type[nn.Module]) -> nn.Module:
    return random(
        metaformer.MetaFormerBlock(
            8, token_mixer=mixer, norm_layer=norm, mlp_act=nn.GELU, layer_scale_init_value=1.0
        )
    )


def test_the_scale_of_pooling_goes_into_the_norm() -> None:
    net = poolformer(metaformer.Pooling, metaformer.GroupNorm1)
    after = assert_equal(net, "scaled norm", values(2, 8, 7, 9))
    assert isinstance(after.layer_scale1, nn.Identity)


def test_other_mixers_keep_their_scale() -> None:
    net = poolformer(metaformer.SepConv, metaformer.LayerNorm2d)
    assert formed(net, BY_NAME["scaled norm"])[1] == 0


@pytest.mark.parametrize(("side", "shift"), [(14, 0), (14, 3), (9, 3), (7, 0)])
def test_swins_windows(side: int, shift: int) -> None:
    block = swin_transformer.SwinTransformerBlock(32, (side, side), num_heads=4, shift_size=shift)
    after = assert_equal(random(block), "five axes", values(2, side, side, 32))
    assert run(block, values(2, side, side, 32)).most_axes == 6
    assert run(after, values(2, side, side, 32)).most_axes <= 5


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 4), (7, 5)])
def test_mobilevits_patches(height: int, width: int) -> None:
    block = random(MobileVitV2Block(16, patch_size=2))
    after = assert_equal(block, "five axes", values(2, 16, height, width))
    assert run(block, values(2, 16, height, width)).most_axes == 6
    assert run(after, values(2, 16, height, width)).most_axes <= 5


def test_efficientmod_channels_first() -> None:
    net = random(models.build("efficientmod_xxs", num_classes=10))
    assert formed(net, BY_NAME["channels first"])[1] == 0  # its layer scales are not folded yet
    fused = fuse_all(net)
    after = assert_equal(fused, "channels first", values(2, 3, 96, 64))
    assert {path for path, _ in after.named_modules()} == {path for path, _ in fused.named_modules()}


@pytest.mark.parametrize("shape", [(7, 7), (8, 5), (2, 3), (1, 1)])
def test_mobilevigs_shifts_become_slices(shape: tuple[int, int]) -> None:
    """To the last bit: rounding keeps order."""
    block = MaxRelative()
    after = assert_equal(nn.Sequential(block), "sliced shifts", values(2, 3, *shape))
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(after(x), block(x))
    if min(shape) > 2:
        assert "aten.roll" in run(block, x).names
        assert "aten.roll" not in run(after, x).names


def test_a_form_of_a_whole_network_has_its_signature() -> None:
    """`torch.export` asks for it where the batch is open."""
    net = fuse_all(random(models.build("efficientmod_xxs", num_classes=10)))
    after, _ = formed(net, BY_NAME["channels first"])
    assert list(inspect.signature(after.forward).parameters) == ["x"]


def steps_of(model: ModelSpec, folder: Path, *, fused: bool = True) -> dict[str, Any]:
    request = ConversionRequest(model, "onnx", fused=fused, input_count=1)
    return {step.name: step for step in convert(request, folder).steps}


@pytest.mark.parametrize(
    ("name", "form", "count"),
    [
        ("timm/mobilevitv2_050", "five axes", 3),
        ("efficientmod_xxs", "channels first", 1),
        ("mobilevig_ti", "sliced shifts", 2),
    ],
)
def test_a_form_is_a_step_of_the_ledger(folder: Path, name: str, form: str, count: int) -> None:
    steps = steps_of(ModelSpec.of(name, resolution=64), folder)
    assert list(steps) == ["fused", form, "exported", "simplified"]
    step = steps[form]
    assert step.note == f"{count} replaced: {BY_NAME[form].what}"
    assert step.parity is not None
    assert step.parity.passed
    assert 0 < step.parity.max_relative < 1e-4


def test_what_is_not_fused_keeps_its_published_form(folder: Path) -> None:
    model = ModelSpec.of("timm/mobilevitv2_050", resolution=64)
    assert list(steps_of(model, folder, fused=False)) == ["exported", "simplified"]


def test_a_wrong_form_is_a_failed_conversion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from converters import ledger
    from converters.artifact import ConversionError

    def halved(module: nn.Conv2d) -> nn.Module | None:
        if module.weight.shape[1:] != (32, 1, 1) or getattr(module, "halved", False):
            return None
        made = copy.deepcopy(module)
        made.weight.data /= 2
        return made

    wrong = Form("halves", "weights halved", {"torch.nn.modules.conv.Conv2d": halved})
    monkeypatch.setattr(ledger, "FORMS", (wrong,))
    with pytest.raises(ConversionError) as raised:
        steps_of(ModelSpec.of("block/bottleneck", resolution=7, in_channels=32), folder)
    failure = raised.value.failure
    assert (failure.kind, failure.step) == ("parity_failed", "halves")
    assert failure.steps[-1].name == "halves"
