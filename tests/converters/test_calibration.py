"""The inputs that an int8 graph is calibrated on, and the others on which it is judged."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import onnx_from_torch, onnx_quantize
from converters.artifact import Artifact, ConversionError, ConversionRequest
from converters.calibration import calibration_of
from converters.calibration_images import held_out
from converters.parity import Array
from converters.source import Source, run_eager
from models.counting import Counts
from models.spec import ModelSpec


def source_of(batch_size: int, count: int = 4) -> Source:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)).eval()
    draw = partial(drawn, batch_size)
    inputs = draw(0, count)
    return Source(net, inputs, run_eager(net, inputs), Counts(0.0, 0.0), draw)


def drawn(batch_size: int, first: int, count: int) -> tuple[Array, ...]:
    return tuple(
        np.random.default_rng(k).standard_normal((batch_size, 3, 8, 8), dtype=np.float32)
        for k in range(first, first + count)
    )


@pytest.mark.parametrize(
    ("batch_size", "calibrated", "judged"), [(1, 16, 16), (3, 18, 18), (8, 16, 32), (40, 40, 160)]
)
def test_no_input_is_both_calibrated_and_judged_on(batch_size: int, calibrated: int, judged: int) -> None:
    """At least 16 images each; what is timed, four inputs, is judged too."""
    source = source_of(batch_size)
    request = ConversionRequest(ModelSpec.of("nextvit_micro"), "onnx", batch_size)
    found = calibration_of(request, source)
    both = [*found.inputs, *found.judged.inputs]
    assert len({value.tobytes() for value in both}) == len(both)
    assert {value.shape for value in both} == {(batch_size, 3, 8, 8)}
    assert found.facts == {
        "calibration": "random", "calibration_images": calibrated, "judged_images": judged,
    }  # fmt: skip
    assert f"calibrated on {calibrated} random inputs" in found.told
    assert f"judged on {judged} others" in found.told
    assert found.judged.inputs[:4] == source.inputs
    for value, reference in zip(found.judged.inputs, found.judged.reference, strict=True):
        assert np.array_equal(run_eager(source.net, [value])[0], reference)


def test_an_int8_file_is_quantized_on_inputs_that_it_is_not_judged_on(
    request_onnx: ConversionRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[Array] = []
    real = onnx_quantize.quantize

    def seen(proto: object, flavour: str, inputs: object) -> object:
        calibrated.extend(inputs)  # type: ignore[arg-type]
        return real(proto, flavour, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx_quantize, "quantize", seen)
    request = dataclasses.replace(request_onnx, precision="int8", flavour="cpu")
    artifact = onnx_from_torch.convert(request, folder)
    with np.load(artifact.tensors) as tensors:
        timed = {tensors[f"input_{k}"].tobytes() for k in range(request.input_count)}
    assert len(calibrated) == 16
    assert not timed & {value.tobytes() for value in calibrated}
    step = artifact.steps[-1]
    assert step.parity is not None
    assert step.parity.top1_positions == 16 * 49
    assert artifact.steps[0].parity.top1_positions == request.input_count * 49  # type: ignore[union-attr]
    assert artifact.facts["judged_images"] == artifact.facts["calibration_images"] == 16
    assert Artifact.from_dict(artifact.to_dict()).steps == artifact.steps


def test_the_bundled_digits_are_found_without_a_place() -> None:
    """As `gate` needs them, which knows a case and not the command that measured it."""
    model = ModelSpec.of("nextvit_micro")
    asked = ConversionRequest(model, "onnx", precision="int8", calibration=f"digits:4:{'0' * 64}")
    first, second = held_out(asked, 0, 2)
    assert first.shape == second.shape == (1, *model.input_shape(1)[1:])
    with pytest.raises(ConversionError, match="photos 00000000 is not in the cache, and where its images"):
        held_out(dataclasses.replace(asked, calibration=f"photos:4:{'0' * 64}"), 0, 2)
