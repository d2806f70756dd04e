"""Core ML packages end to end: converted, read back, evaluated, and equal; failures that say where."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters import mil_interpreter, mlpackage_convert
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.mlpackage_facts import describe
from converters.mlpackage_from_torch import convert
from models.spec import ModelSpec, Option, sorted_options

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)

NTB = ModelSpec.of("block/ntb", resolution=7, in_channels=128)
NCB = ModelSpec.of("block/ncb", resolution=8, in_channels=64)
IMAGE = ModelSpec.of("nextvit_small", resolution=32)


def asked(model: ModelSpec = NTB, precision: str = "fp16", **build: Option) -> ConversionRequest:
    return ConversionRequest(
        model, "mlpackage", precision=precision, input_count=2, build=sorted_options(build)
    )


def steps(artifact: Artifact) -> list[str]:
    return [step.name for step in artifact.steps]


def unpacked_bytes(artifact: Artifact) -> int:
    with zipfile.ZipFile(artifact.path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def error(artifact: Artifact, *, rounding: bool) -> float:
    """Of the file in the artifact's folder, for the tensors beside it."""
    with np.load(artifact.tensors) as tensors:
        output = mil_interpreter.run(artifact.path, [tensors["input_0"]], rounding=rounding)[0]
        reference = tensors["reference_0"]
    return float(np.abs(output - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="module")
def ntb(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The block with attention in fp16, made once."""
    return convert(asked(), tmp_path_factory.mktemp("ntb"))


@pytest.fixture(scope="module")
def ncb(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return convert(asked(NCB), tmp_path_factory.mktemp("ncb"))


def test_fp32(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = convert(asked(precision="fp32"), folder)
    assert steps(artifact) == ["fused", "layout", "exported", "mlpackage"]
    assert artifact.path.name == "model.mlpackage.zip"
    assert sorted(path.name for path in folder.iterdir()) == ["model.mlpackage.zip", "tensors.npz"]
    assert artifact.facts["computes"] == "fp32"
    assert artifact.facts["weight_bits"] == pytest.approx(32, abs=0.2)
    assert (artifact.inputs[0].name, artifact.inputs[0].dtype) == ("input", "float32")
    assert (artifact.outputs[0].name, artifact.outputs[0].shape) == ("output", (1, 128, 7, 7))
    assert error(artifact, rounding=True) < 1e-5
    assert capfd.readouterr() == ("", "")


def test_fp16_is_fp16_between_fp32_ends(ntb: Artifact) -> None:
    artifact = ntb
    assert steps(artifact) == ["fused", "layout", "exported", "mlpackage", "float16"]
    assert artifact.batchnorms_left == 0
    assert artifact.folded["conv_bn"] >= 1
    assert artifact.inputs[0].dtype == artifact.outputs[0].dtype == "float32"
    assert artifact.facts == {
        "computes": "fp16",
        "input_kind": "tensor",
        "layout": "ane",
        "minimum_deployment_target": "iOS16",
        "modules_laid_out": 1,
        "needs": "iOS16",
        "operators": sum(artifact.op_counts.values()),
        "package_bytes": pytest.approx(unpacked_bytes(artifact), abs=32),  # the manifest is written anew
        "specification_version": 7,
        "weight_bits": pytest.approx(16, abs=0.2),
    }
    assert 1e-5 < error(artifact, rounding=False) < error(artifact, rounding=True) < 1e-2


def test_the_layout_has_one_transpose_and_two_reshapes(ntb: Artifact, folder: Path) -> None:
    plain = convert(asked(layout="plain"), folder)
    assert (ntb.op_counts["transpose"], ntb.op_counts["reshape"]) == (1, 2)
    assert (plain.op_counts["transpose"], plain.op_counts["reshape"]) == (1, 5)
    assert ntb.op_counts["einsum"] == 2 * 3  # heads
    assert plain.facts["layout"] == "plain"
    assert "layout" not in steps(plain)


def test_equal_requests_give_equal_bytes(ncb: Artifact, folder: Path) -> None:
    assert convert(asked(NCB), folder).sha256 == ncb.sha256


@pytest.mark.slow
def test_equal_requests_for_compressed_weights_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = (convert(asked(NCB, "fp16-pal6"), place) for place in (folder, tmp_path / "b"))
    assert first.sha256 == second.sha256


def test_operators_know_their_modules(ntb: Artifact) -> None:
    modules = describe(ntb.path).modules
    assert set(modules.values()) >= {"e_mhsa.q", "e_mhsa.attention", "mlp.conv1", "mhca.group_conv3x3"}
    assert [name for name, module in modules.items() if module == "e_mhsa.pool"] == []  # reduction 1 has none
    assert sum(module == "e_mhsa.attention" for module in modules.values()) >= 3 * 3  # heads, three each


def test_no_copy_of_a_package_stays_among_the_temporary_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    convert(asked(NCB, "fp16-pal4"), folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("precision", "kind", "bits"),
    [
        ("fp16-pal4", "palette", 4),
        pytest.param("fp16-int8w", "linear", 8, marks=pytest.mark.slow),
        pytest.param("fp16-pal8", "palette", 8, marks=pytest.mark.slow),
        pytest.param("fp16-pal6", "palette", 6, marks=pytest.mark.slow),
        pytest.param("fp16-sparse50", "sparse", 9, marks=pytest.mark.slow),
    ],
)
def test_compressed_weights(precision: str, kind: str, bits: int, folder: Path) -> None:
    artifact = convert(asked(NCB, precision), folder)
    assert steps(artifact)[-1] == "compressed"
    assert artifact.precision == precision
    told = describe(artifact.path)
    assert set(told.compressions) == {kind}
    assert "mhca.group_conv3x3" in told.modules.values()
    assert told.compressions[kind] == 4
    assert bits <= float(artifact.facts["weight_bits"]) < bits + 0.7
    assert artifact.parity is not None
    assert artifact.parity.max_relative < 1e-2
    assert error(artifact, rounding=True) < 1e-2  # the reference is the network's with these weights
    assert "with these weights the network is" in artifact.steps[-1].note


def test_unfused_keeps_every_batchnorm(folder: Path) -> None:
    artifact = convert(dataclasses.replace(asked(NCB), fused=False), folder)
    assert artifact.batchnorms_left == artifact.op_counts["batch_norm"] >= 1


def test_the_scale_of_a_groupnorm_counts_as_no_batchnorm(folder: Path) -> None:
    artifact = convert(asked(ModelSpec.of("block/poolformer", resolution=7, in_channels=32)), folder)
    assert artifact.op_counts["batch_norm"] == 2
    assert artifact.batchnorms_left == 0


@pytest.mark.parametrize(
    "model",
    [
        NCB,
        pytest.param(NTB, marks=pytest.mark.slow),
        pytest.param(ModelSpec.of("efficientmod_xxs", resolution=64), marks=pytest.mark.slow, id="a form"),
    ],
)
def test_an_open_batch(model: ModelSpec, folder: Path) -> None:
    artifact = convert(asked(model, max_batch=4), folder)
    assert artifact.inputs[0].shape == (-1, *model.input_shape(1)[1:])
    assert steps(artifact)[-1] == "batch 2"


def test_listed_resolutions(folder: Path) -> None:
    artifact = convert(asked(NCB, resolutions="12+16"), folder)
    assert artifact.inputs[0].shape == (1, 64, -1, -1)
    assert set(describe(artifact.path).alternatives) == {(1, 64, side, side) for side in (8, 12, 16)}
    assert steps(artifact)[-2:] == ["resolution 12", "resolution 16"]


def test_an_image_is_normalized_inside(folder: Path, network_named: Callable[[object], None]) -> None:
    network_named(Small().eval())
    artifact = convert(asked(IMAGE, input_type="image"), folder)
    assert steps(artifact)[:2] == ["fused", "image"]
    assert (artifact.inputs[0].dtype, artifact.inputs[0].shape) == ("uint8", (1, 3, 32, 32))
    assert artifact.facts["input_kind"] == "image"
    with np.load(artifact.tensors) as tensors:
        pixels, reference = tensors["input_0"], tensors["reference_0"]
    assert (pixels == np.clip(np.round(pixels), 0, 255)).all()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalized = (pixels.transpose(0, 2, 3, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = Small().eval()(torch.from_numpy(normalized.transpose(0, 3, 1, 2)).float())
    np.testing.assert_allclose(reference, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert error(artifact, rounding=True) < 2e-2


class Small(nn.Module):
    """A padded convolution with different weights per channel, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Linear(8, 5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.stem(x).relu().mean(dim=(2, 3)))
        return out


class Deep(nn.Module):
    """Six axes that are computed with."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(2, 3).relu()
        return x.reshape(b, c, h, w)


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 1), inner)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def failure(request: ConversionRequest, folder: Path) -> ConversionFailure:
    with pytest.raises(ConversionError) as caught:
        convert(request, folder)
    return caught.value.failure


@pytest.mark.parametrize(
    ("inner", "operator", "advice"),
    [(Deep(), "aten.", "five axes at most"), (Foreign(), "bessel_j0", "with operators that Core ML has")],
)
def test_what_core_ml_cannot_hold_names_operator_module_and_line(
    inner: nn.Module, operator: str, advice: str, folder: Path, network_named: Callable[[object], None]
) -> None:
    network_named(Wrapped(inner).eval())
    found = failure(asked(IMAGE), folder)
    assert (found.kind, found.step, found.module) == ("unsupported", "mlpackage", "inner.1")
    assert operator in found.operator
    assert "test_mlpackage_from_torch.py:" in found.source_line
    assert advice in found.advice
    assert [step.name for step in found.steps] == ["fused", "exported"]
    assert not list(folder.glob("*.zip"))


class Overflowing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 1000 * 1000).abs().sqrt()


def test_an_overflow_names_the_first_operator(folder: Path, network_named: Callable[[object], None]) -> None:
    network_named(Wrapped(Overflowing()).eval())
    found = failure(asked(IMAGE), folder)
    assert (found.kind, found.step) == ("parity_failed", "float16")
    assert "mul" in found.module


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(nn.functional.avg_pool2d(x, 2))
        return out


def test_an_image_that_no_convolution_reads_first_is_refused(
    folder: Path, network_named: Callable[[object], None]
) -> None:
    network_named(Pooled().eval())
    found = failure(asked(IMAGE, input_type="image"), folder)
    assert (found.kind, found.step) == ("unsupported", "image")
    assert "avg_pool2d reads the image" in found.message


def test_nothing_to_compress_is_a_mismatch(folder: Path, network_named: Callable[[object], None]) -> None:
    network_named(Pooled().eval())
    found = failure(asked(IMAGE, "fp16-pal4"), folder)
    assert found.kind == "precision_mismatch"
    assert "no compressed weights" in found.message


def test_without_coremltools_the_line_that_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlpackage_convert, "installed", lambda: False)
    found = failure(asked(), folder)
    assert found.kind == "bad_input"
    assert "pip install '.[coreml]'" in found.message
