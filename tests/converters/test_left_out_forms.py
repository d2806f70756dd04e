"""Forms for deployment that are left out: refused by name, in the artifact's key and ledger, never silent."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from timm.models.metaformer import LayerNorm2d, MetaFormerBlock, SepConv
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.twins import LocallyGroupedAttn
from torch import Tensor, nn

import converters
from converters import exported_program_from_torch, mlpackage_from_torch, onnx_from_torch
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.deployment_forms import FORMS, places
from converters.keys import cache_key
from converters.left_out_forms import FORM_NAMES
from converters.mlpackage_layout import relayout
from converters.stages import source_request
from models.spec import Case, ModelSpec, Option, forms_left_out, sorted_options

MOBILEVIT = ModelSpec.of("timm/mobilevitv2_050", resolution=64)
EFFICIENTMOD = ModelSpec.of("efficientmod_xxs", resolution=64)
BLOCK = ModelSpec.of("block/bottleneck", resolution=7, in_channels=32)

needs_coremltools = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)


def asked(left_out: Option, model: ModelSpec = MOBILEVIT, kind: str = "onnx") -> ConversionRequest:
    build = sorted_options({"without_form": left_out} if left_out != "" else {})
    return ConversionRequest(model, kind, input_count=1, build=build)


def names(artifact: Artifact) -> list[str]:
    return [step.name for step in artifact.steps]


def most_axes(path: Path) -> int:
    """The longest permutation of a graph."""
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Transpose"]
    return max(len(onnx.helper.get_node_attr_value(node, "perm")) for node in nodes)


def refusal(convert: Callable[..., Artifact], request: ConversionRequest, folder: Path) -> ConversionFailure:
    with pytest.raises(ConversionError) as raised:
        convert(request, folder)
    return raised.value.failure


def test_the_names_that_are_checked_are_those_of_the_forms() -> None:
    assert tuple(form.name for form in FORMS) == FORM_NAMES


@pytest.mark.parametrize("kind", ["onnx", "exported_program", "mlpackage"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("five-axis", "without_form=five-axis: there is no form 'five-axis': did you mean five-axes"),
        ("five axes", "did you mean five-axes"),
        ("constant-biases+five_axes", "there is no form 'five_axes'"),
        ("zzz", "known: channels-first, constant-biases, five-axes, one-classifier, scaled-norm, sliced"),
        ("five-axes+", "there is no form ''"),
        (True, "there is no form 'True'"),
        ("five-axes+five-axes", "'five-axes' is given twice"),
    ],
)
def test_what_is_no_form_is_refused(kind: str, value: Option, message: str) -> None:
    with pytest.raises(ConversionError, match=message.replace("+", r"\+")) as raised:
        converters.check(asked(value, kind=kind))
    assert raised.value.failure.kind == "bad_input"


def test_what_has_no_forms_to_leave_out_is_refused() -> None:
    with pytest.raises(ConversionError, match="what is not fused is in none of its forms"):
        converters.check(dataclasses.replace(asked("five-axes"), fused=False))
    with pytest.raises(ConversionError, match=r"net\.onnx is an ONNX file, which is taken as it is"):
        converters.check(asked("five-axes", ModelSpec.of("net.onnx", weights="sha256:ab")))


@pytest.mark.parametrize("kind", ["onnx", "exported_program", "mlpackage"])
def test_several_forms_make_a_request_and_a_key_of_their_own(kind: str) -> None:
    every = "+".join(name.replace(" ", "-") for name in FORM_NAMES)
    request = asked(every, kind=kind)
    converters.check(request)
    assert forms_left_out(request.build) == FORM_NAMES
    assert len({cache_key(asked(value, kind=kind)) for value in ("", "five-axes", every)}) == 3


def test_checking_loads_no_toolchain(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys, converters; from converters.artifact import ConversionRequest;"
        "from models.spec import ModelSpec; converters.check(ConversionRequest(ModelSpec.of('nextvit_small'),"
        "'onnx', build=(('without_form', 'five-axes'),))); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_case_without_a_form_is_another_case_and_says_so() -> None:
    plain = Case(MOBILEVIT, "onnxruntime")
    without = dataclasses.replace(plain, build=(("without_form", "five-axes"),))
    assert plain.id != without.id
    assert without.label == f"{plain.label} without_form=five-axes"
    assert Case.from_dict(without.to_dict()) == without


def test_an_engine_is_built_from_the_onnx_file_without_the_form() -> None:
    build = sorted_options({"without_form": "five-axes", "optimization_level": 2, "max_batch": 4})
    source = source_request(ConversionRequest(MOBILEVIT, "engine", build=build, target="sm89"))
    assert source is not None
    assert source.build == (("dynamic_batch", True), ("without_form", "five-axes"))


def test_the_onnx_file_is_in_the_published_form(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    formed = onnx_from_torch.convert(asked(""), tmp_path / "with")
    without = onnx_from_torch.convert(asked("five-axes"), tmp_path / "without")
    assert names(formed) == ["fused", "five axes", "exported", "simplified"]
    assert names(without) == ["fused", "left out: five axes", "exported", "simplified"]
    step = without.steps[1]
    assert (step.parity, step.note) == (None, "3 modules stay as published")
    assert formed.facts["five_axes_replaced"] == 3
    assert "five_axes_replaced" not in without.facts
    assert (most_axes(formed.path), most_axes(without.path)) == (5, 6)
    assert without.build == (("without_form", "five-axes"),)
    told = {entry.key: entry.value for entry in onnx.load(without.path).metadata_props}
    assert told["deploybench.left_out"] == "five axes"
    assert Artifact.from_dict(without.to_dict()) == without


def test_the_exported_program_is_in_the_published_form(folder: Path) -> None:
    request = asked("channels-first", EFFICIENTMOD, "exported_program")
    artifact = exported_program_from_torch.convert(request, folder)
    assert names(artifact) == ["fused", "left out: channels first", "exported", "saved"]
    assert artifact.op_counts["linear"] > 20  # 1 where the form is taken: the classifier


class InWindows(nn.Module):
    """A module that takes (B, H, W, C), on (B, C, H, W)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


@pytest.mark.parametrize(
    ("left_out", "steps"),
    [
        ("constant-biases", ["left out: constant biases", "five axes"]),
        ("five-axes", ["constant biases", "left out: five axes"]),
        ("five-axes+constant-biases", ["left out: constant biases", "left out: five axes"]),
    ],
)
def test_of_several_forms_those_that_are_named_are_left_out(
    folder: Path, network_named: Callable[[object], None], left_out: str, steps: list[str]
) -> None:
    network_named(InWindows(SwinTransformerBlock(32, (14, 14), num_heads=4).eval()))
    model = dataclasses.replace(BLOCK, resolution=14)
    made = exported_program_from_torch.convert(asked(left_out, model, "exported_program"), folder)
    assert names(made)[1:3] == steps
    kept = {f"{step.replace(' ', '_')}_replaced": 1 for step in steps if not step.startswith("left out")}
    assert dict(made.facts) == kept


def test_a_network_without_the_form_is_no_silent_equality(
    folder: Path, network_named: Callable[[object], None]
) -> None:
    network_named(InWindows(SwinTransformerBlock(32, (14, 14), num_heads=4).eval()))
    model = dataclasses.replace(BLOCK, resolution=14)
    failure = refusal(onnx_from_torch.convert, asked("scaled-norm", model), folder)
    assert (failure.kind, failure.step) == ("bad_input", "scaled norm")
    assert failure.message == (
        "there is no form 'scaled norm' to leave out: this network has constant biases and five axes"
    )
    assert failure.steps[0].name == "fused"
    assert not list(folder.iterdir())


def test_a_class_whose_instances_need_no_form_has_none_to_leave_out(
    folder: Path, network_named: Callable[[object], None]
) -> None:
    """The scale behind a convolution folds into it, so only that behind pooling goes into the norm."""
    parts = {"token_mixer": SepConv, "norm_layer": LayerNorm2d, "mlp_act": nn.GELU}
    network_named(MetaFormerBlock(32, layer_scale_init_value=1.0, **parts).eval())
    failure = refusal(onnx_from_torch.convert, asked("scaled-norm", BLOCK), folder)
    assert failure.message == "there is no form 'scaled norm' to leave out: this network has none"


class Tokens(nn.Module):
    """Attention of tokens, on a map."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        b, c, h, w = x.shape
        out: Tensor = self.inner(x.flatten(2).transpose(1, 2), (h, w))
        return out.transpose(1, 2).reshape(b, c, h, w)


def test_the_layout_for_core_ml_leaves_the_form_out_too() -> None:
    net = Tokens(LocallyGroupedAttn(32, num_heads=2, ws=7)).eval()
    assert relayout(net)[1] == {"LocallyGroupedAttn": 1}
    assert relayout(net, published=places(["five axes"]))[1] == {}


@needs_coremltools
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools' own folder
def test_six_axes_are_a_failed_core_ml_conversion(
    folder: Path, network_named: Callable[[object], None]
) -> None:
    network_named(Tokens(LocallyGroupedAttn(32, num_heads=2, ws=7)).eval())
    model = dataclasses.replace(BLOCK, resolution=14)
    request = asked("five-axes", model, "mlpackage")
    failure = refusal(mlpackage_from_torch.convert, request, folder)
    assert (failure.kind, failure.step) == ("unsupported", "mlpackage")
    assert "rank <= 5" in failure.message
    made = mlpackage_from_torch.convert(asked("", model, "mlpackage"), folder)
    assert made.facts["five_axes_replaced"] == 1
