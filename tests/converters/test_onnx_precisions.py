"""Conversions in every precision from end to end, with the batch size fixed or open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import converters
from converters import onnx_from_torch, onnx_types
from converters.artifact import ConversionError, ConversionRequest
from models.spec import ModelSpec

UseNetwork = Callable[[object], None]
STEPS = {"fp16": "float16", "bf16": "bfloat16", "int8": "quantized"}
DYNAMIC = (("dynamic_batch", True),)


def request_in(request: ConversionRequest, precision: str, **changes: object) -> ConversionRequest:
    flavour = "cpu" if precision == "int8" else ""
    return dataclasses.replace(request, precision=precision, **{"flavour": flavour, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", STEPS)
def test_one_more_step(request_onnx: ConversionRequest, folder: Path, precision: str) -> None:
    seen: list[str] = []
    request = request_in(request_onnx, precision)
    artifact = onnx_from_torch.convert(request, folder, on_step=seen.append)
    assert seen == ["eager", "fused", "exported", "simplified", STEPS[precision]]
    step = artifact.steps[-1]
    assert step.name == STEPS[precision]
    assert step.parity is not None
    assert step.parity.passed
    assert step.parity.max_relative > artifact.steps[-2].parity.max_relative
    assert f"multiply-accumulates: 100 % {precision}" in step.note
    assert artifact.facts[f"macs_{precision}_percent"] == 100.0
    assert (artifact.precision, artifact.flavour) == (precision, request.flavour)
    proto = onnx.load(artifact.path)
    assert onnx_types.precision_of(proto) == precision
    facts = {entry.key.removeprefix("deploybench."): entry.value for entry in proto.metadata_props}
    assert (facts["precision"], facts["computes"]) == (precision, precision)
    assert {tensor.dtype for tensor in (*artifact.inputs, *artifact.outputs)} == {"float32"}


def test_notes_say_what_was_done(request_onnx: ConversionRequest, tmp_path: Path) -> None:
    notes = {}
    for precision in STEPS:
        folder = tmp_path / precision
        folder.mkdir()
        notes[precision] = onnx_from_torch.convert(request_in(request_onnx, precision), folder).steps[-1].note
    assert "no node stays fp32" in notes["fp16"]
    assert "the file agrees in ONNX Runtime" in notes["fp16"]
    assert "no runtime here loads bfloat16" in notes["bf16"]
    assert "flavour cpu" in notes["int8"]
    assert (
        "calibrated on 16 random inputs, for latency, not for accuracy; judged on 16 others" in notes["int8"]
    )


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_equal_requests_give_equal_bytes(
    request_onnx: ConversionRequest, tmp_path: Path, precision: str
) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(onnx_from_torch.convert(request_in(request_onnx, precision), tmp_path / name).sha256)
    assert made[0] == made[1]


class Overflowing(nn.Module):
    """Squares beyond fp16's range between two convolutions, as a LayerNorm written by hand has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(32, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) * 1000
        x = x - x.mean(1, keepdim=True)
        return self.second(x / (x * x).mean(1, keepdim=True).sqrt())


def test_network_that_overflows_is_correct_with_islands(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    torch.manual_seed(0)
    network_named(Overflowing().eval())
    artifact = onnx_from_torch.convert(request_in(request_onnx, "fp16"), folder)
    step = artifact.steps[-1]
    assert step.parity.max_relative < 0.01
    assert 2 <= artifact.facts["islands"] <= 5
    assert "overflows" in step.note
    assert artifact.facts["macs_fp16_percent"] == 100.0


class Saturating(nn.Module):
    """A convolution whose outputs are beyond fp16's range: nothing is left that fp16 could do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x * 1e9)).sqrt()


def test_fp16_that_would_be_a_label_is_refused(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    torch.manual_seed(0)
    network_named(Saturating().eval())
    with pytest.raises(ConversionError, match=r"fp16 was asked for and does 0\.0 %") as caught:
        onnx_from_torch.convert(request_in(request_onnx, "fp16"), folder)
    assert caught.value.failure.kind == "precision_mismatch"
    assert [step.name for step in caught.value.failure.steps][-1] == "float16"


@pytest.mark.parametrize("precision", ["fp32", *STEPS])
def test_open_batch_size(request_onnx: ConversionRequest, folder: Path, precision: str) -> None:
    request = request_in(request_onnx, precision, build=DYNAMIC)
    artifact = onnx_from_torch.convert(request, folder)
    assert artifact.inputs[0].shape == (-1, 32, 7, 7)
    assert artifact.outputs[0].shape == (-1, 32, 7, 7)
    assert artifact.build == DYNAMIC
    steps = [step for step in artifact.steps if step.name == "batch 2"]
    assert len(steps) == (1 if precision == "fp32" else 2)
    assert all(step.parity.passed for step in steps)
    if precision != "bf16":  # ONNX Runtime has no kernels for it
        session = ort.InferenceSession(artifact.path, providers=["CPUExecutionProvider"])
        for size in (1, 5):
            value = np.random.default_rng(size).standard_normal((size, 32, 7, 7), dtype=np.float32)
            assert session.run(None, {"input": value})[0].shape == (size, 32, 7, 7)


def test_second_exporter_leaves_the_batch_size_open_too(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    class Expm1(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return torch.expm1(super().forward(x))  # no TorchScript symbolic

    network_named(nn.Sequential(Expm1(32, 32, 1)).eval())
    artifact = onnx_from_torch.convert(request_in(request_onnx, "fp32", build=DYNAMIC), folder)
    assert "dynamo" in artifact.steps[1].tool
    assert artifact.inputs[0].shape == (-1, 32, 7, 7)


def test_model_that_fixes_its_batch_size_says_so(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    class Fixed(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).reshape(1, -1).softmax(-1)

    network_named(nn.Sequential(Fixed(32, 8, 1)).eval())
    with pytest.raises(ConversionError, match="fixes its batch size") as caught:
        onnx_from_torch.convert(request_in(request_onnx, "fp32", build=DYNAMIC), folder)
    assert caught.value.failure.kind == "unsupported"
    assert "dynamic_batch" in caught.value.failure.message


WRONG = {
    "no flavour": ({"precision": "int8"}, "int8 needs a flavour: onnx has cpu, trt"),
    "unknown flavour": ({"precision": "int8", "flavour": "npu"}, "unknown flavour 'npu'"),
    "flavour of another precision": ({"precision": "fp16", "flavour": "cpu"}, "flavour 'cpu' is for int8"),
    "unknown build option": (
        {"build": (("dyn", True),)},
        "no build option 'dyn': it has dynamic_batch",
    ),
    "value of a build option": ({"build": (("dynamic_batch", 3),)}, "dynamic_batch=3: true or false"),
    "build option of another kind": (
        {"kind": "exported_program", "build": DYNAMIC},
        "exported_program has no build option 'dynamic_batch': it has without_form",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_made_is_refused_at_once(
    request_onnx: ConversionRequest, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        converters.check(dataclasses.replace(request_onnx, **changes))  # type: ignore[arg-type]
    assert caught.value.failure.kind == "bad_input"


@pytest.mark.slow
@pytest.mark.parametrize("precision", STEPS)
def test_next_vit_small(folder: Path, precision: str) -> None:
    spec = ModelSpec.of("nextvit_small")
    request = request_in(ConversionRequest(spec, "onnx"), precision)
    artifact = onnx_from_torch.convert(request, folder)
    assert artifact.facts.get("islands", 0) == 0
    assert artifact.facts[f"macs_{precision}_percent"] == 100.0
    assert artifact.steps[-1].parity.cosine > 0.98
