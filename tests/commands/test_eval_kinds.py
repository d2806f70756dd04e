"""`eval` of files that are no ONNX: Core ML packages of tensors and of images, and exported programs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.commands.coloured_squares import SIDE, converted_network


class Colour(nn.Module):
    """The mean of each channel, in the order of the classes: its prediction is the colour."""

    def forward(self, image: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        return image.mean(dim=(2, 3))[:, [2, 1, 0]]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def program(path: Path, *, dynamic: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    """An exported program that tells colours apart."""
    example = torch.zeros(4, 3, SIDE, SIDE, dtype=dtype)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None
    torch.export.save(torch.export.export(Colour().eval(), (example,), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_exported_program_has_the_accuracy_that_was_built_into_it(evaluate, tmp_path, dynamic):
    path = program(tmp_path / "colour.pt2", dynamic=dynamic)
    answer = evaluate(path, "--trust", sha256(path), "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["top1"]["hits"] == 15
    assert found["file"]["kind"] == "exported_program"
    assert found["file"]["batch_size"] == (32 if dynamic else 4)
    assert found["file"]["tool"].startswith("torch ")


def test_an_exported_program_that_cannot_be_evaluated_is_told(evaluate, tmp_path):
    path = program(tmp_path / "colour.pt2")
    answer = evaluate(path)
    assert answer.code == 2
    assert f"--trust {sha256(path)}" in answer.err
    answer = evaluate(path, "--trust", sha256(path), "--backend", "onnxruntime")
    assert answer.code == 2
    assert "a file of kind exported_program is run by torch" in answer.err
    other = program(tmp_path / "other.pt2", dtype=torch.float64)
    answer = evaluate(other, "--trust", sha256(other))
    assert answer.code == 2
    assert "takes float64 values; expected are float32 or float16" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_converted_program_is_compared_with_its_eager_form(evaluate, tmp_path, precision):
    path = converted_network(tmp_path, precision, to="exported-program")
    answer = evaluate(path, "--trust", sha256(path), "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["file"]["precision"], found["file"]["model"]["name"]) == (precision, "timm/test_resnet")
    assert found["file"]["key"]
    assert found["agreement"]["count"] == 18
    if precision == "fp32":
        assert found["agreement"]["hits"] == 18


@pytest.mark.slow
def test_a_core_ml_package_is_counted_by_its_program(evaluate, tmp_path):
    from tests.converters.mil_programs import converted

    package = converted(Colour().eval(), (2, 3, SIDE, SIDE), tmp_path / "colour.mlpackage")
    answer = evaluate(package, "--json")
    found = json.loads(answer.out)
    assert (found["top1"]["hits"], found["file"]["precision"]) == (15, "fp16"), answer.err
    assert "not Apple's kernels" in found["file"]["tool"]


@pytest.mark.slow
def test_a_core_ml_package_is_given_pixels_where_it_takes_images(evaluate, images, tmp_path):
    """timm's mean and deviation are in the package, so it agrees with the network that is fed tensors."""
    from models import ModelSpec, instantiate
    from models.image_data import eval_transform, open_data, preprocessing

    pytest.importorskip("coremltools", reason="coremltools is not installed")
    package = converted_network(tmp_path, "fp32", "--build", "input_type=image", to="coreml", batch_size=1)
    answer = evaluate(package, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["count"], found["file"]["batch_size"], found["file"]["kind"]) == (18, 1, "mlpackage")
    assert found["agreement"]["hits"] == 18
    net = instantiate(ModelSpec.of("timm/test_resnet", resolution=32, num_classes=3))
    data, transform = (
        open_data(images, "val"),
        eval_transform(preprocessing("timm/test_resnet", resolution=32)),
    )
    with torch.no_grad():
        outputs = net(torch.stack([transform(data.load(index)) for index in range(18)]))
    assert found["top1"]["hits"] == int((outputs.argmax(dim=1).numpy() == data.labels).sum())
    zipped = tmp_path / "packed.mlpackage.zip"
    from converters.mlpackage_archive import pack

    pack(package, zipped)
    again = json.loads(evaluate(zipped, "--json").out)
    assert again["top1"] == found["top1"]
    assert again["agreement"] is None  # nobody said what it was made of
