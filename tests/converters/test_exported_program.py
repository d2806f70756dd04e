"""Exported programs: what torch's runners load gives the reference again, in fp32 and in bf16."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters import exported_program_from_torch as exported_program
from converters.artifact import Artifact, ConversionError, ConversionRequest


@pytest.fixture
def request_program(request_onnx: ConversionRequest) -> ConversionRequest:
    return dataclasses.replace(request_onnx, kind="exported_program")


def relative_error(artifact: Artifact) -> float:
    net = torch.export.load(artifact.path).module()
    with np.load(artifact.tensors) as tensors, torch.no_grad():
        output = net(torch.from_numpy(tensors["input_0"])).numpy()
        assert output.dtype == np.float32
        reference = tensors["reference_0"]
    return float(np.abs(output - reference).max() / np.abs(reference).max())


def test_fp32(request_program: ConversionRequest, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = exported_program.convert(request_program, folder)
    assert [step.name for step in artifact.steps] == ["fused", "exported", "saved"]
    assert artifact.path.name == "model.pt2"
    assert artifact.op_counts == {"add": 2, "conv2d": 4, "relu": 2}
    assert artifact.batchnorms_left == 0
    assert relative_error(artifact) < 1e-5
    assert capfd.readouterr() == ("", "")


def test_bf16_computes_in_bf16_between_fp32_ends(request_program: ConversionRequest, folder: Path) -> None:
    artifact = exported_program.convert(dataclasses.replace(request_program, precision="bf16"), folder)
    assert [step.name for step in artifact.steps] == ["fused", "cast", "exported", "saved"]
    assert [step.parity.tolerance for step in artifact.steps] == [1e-4, 0.25, 0.25, 0.25]
    assert 1e-4 < relative_error(artifact) < 0.05
    program = torch.export.load(artifact.path)
    assert {tensor.dtype for tensor in program.state_dict.values()} == {torch.bfloat16}
    assert artifact.op_counts["_to_copy"] == 2  # the two casts, and no assertion beside them
    assert not any("assert" in name for name in artifact.op_counts)


def test_unfused_keeps_every_batchnorm(request_program: ConversionRequest, folder: Path) -> None:
    artifact = exported_program.convert(dataclasses.replace(request_program, fused=False), folder)
    assert artifact.batchnorms_left == artifact.op_counts["batch_norm"] == 2


def test_equal_requests_give_equal_bytes(request_program: ConversionRequest, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(exported_program.convert(request_program, tmp_path / name).sha256)
    assert made[0] == made[1]


def test_branch_on_values_is_placed(
    request_program: ConversionRequest, folder: Path, network_named: Callable[[object], None]
) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    network_named(nn.Sequential(nn.Conv2d(32, 8, 1), nn.Sequential(Branch())).eval())
    with pytest.raises(ConversionError) as caught:
        exported_program.convert(request_program, folder)
    failure = caught.value.failure
    assert (failure.kind, failure.step, failure.module) == ("export_failed", "exported", "1.0")
    assert failure.source_line.startswith(f"{__file__}:")
    assert "data-dependent" in failure.message


def test_network_that_bf16_breaks_names_the_module(
    request_program: ConversionRequest, folder: Path, network_named: Callable[[object], None]
) -> None:
    class Cancel(nn.Module):
        """A difference of nearly equal values: nothing of it is left in 8 bits."""

        def forward(self, x: Tensor) -> Tensor:
            return (x + 4096) - 4096

    network_named(nn.Sequential(nn.Conv2d(32, 8, 1), Cancel(), nn.ReLU()).eval())
    request = dataclasses.replace(request_program, precision="bf16")
    with pytest.raises(ConversionError, match="first in 1") as caught:
        exported_program.convert(request, folder)
    assert (caught.value.failure.kind, caught.value.failure.step) == ("parity_failed", "cast")
