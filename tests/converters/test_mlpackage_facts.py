"""Packages of others, read back: what they hold, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.mil_load import PackageError
from converters.mlpackage_facts import MODULES, describe
from converters.quiet import captured

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)


def saved(path: Path, *, precision: str = "FLOAT16", target: str = "iOS16", **options: Any) -> Path:
    """A package of one convolution and a ReLU, made without this project's converter."""
    with captured():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb

        weight = np.random.default_rng(0).standard_normal((8, 3, 1, 1)).astype(np.float32)
        opset = getattr(ct.target, target)

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 4, 4))], opset_version=opset)
        def program(x: Any) -> Any:
            return mb.relu(x=mb.conv(x=x, weight=weight), name="activated")

        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=opset,
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
            **options,
        )
        model.user_defined_metadata[MODULES] = options.get("modules", json.dumps({"activated": "act"}))
        model.save(str(path))
    return path


@pytest.mark.parametrize(
    ("precision", "target", "short", "version", "bits"),
    [("FLOAT16", "iOS16", "fp16", 7, 16), ("FLOAT32", "iOS15", "fp32", 6, 32)],
)
def test_a_package_of_others(
    precision: str, target: str, short: str, version: int, bits: int, tmp_path: Path
) -> None:
    told = describe(saved(tmp_path / "a.mlpackage", precision=precision, target=target))
    assert (told.precision, told.specification_version, told.needs) == (short, version, target)
    assert told.op_counts["conv"] == told.op_counts["relu"] == 1
    assert "const" not in told.op_counts
    assert (told.inputs[0].name, told.inputs[0].dtype, told.inputs[0].shape) == ("x", "float32", (1, 3, 4, 4))
    assert told.outputs[0].shape == (1, 8, 4, 4)
    assert (told.input_kind, told.compressions, told.alternatives) == ("tensor", {}, ())
    assert told.modules == {"activated": "act"}
    assert told.size_bytes == sum(
        p.stat().st_size for p in (tmp_path / "a.mlpackage").rglob("*") if p.is_file()
    )
    assert told.weight_bits == 0 or told.weight_bits >= bits


def test_a_modules_map_of_another_form_is_none(tmp_path: Path) -> None:
    package = saved(tmp_path / "a.mlpackage")
    file = package / "Data/com.apple.CoreML/model.mlmodel"
    with captured():
        from coremltools import proto

        model = proto.Model_pb2.Model()
        model.ParseFromString(file.read_bytes())
    for text in ("[1]", '{"a": 1}', "no JSON", "[" * 10_000):
        model.description.metadata.userDefined[MODULES] = text
        file.write_bytes(model.SerializeToString())
        assert describe(package).modules == {}


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    package = saved(tmp_path / "a.mlpackage")
    with captured():
        from coremltools import proto

        other = proto.Model_pb2.Model()
        other.specificationVersion = 4
        other.neuralNetwork.SetInParent()
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(other.SerializeToString())
    with pytest.raises(PackageError, match="'neuralNetwork', not an ML program"):
        describe(package)


def test_a_program_without_its_main_function_is_refused(tmp_path: Path) -> None:
    package = saved(tmp_path / "a.mlpackage")
    file = package / "Data/com.apple.CoreML/model.mlmodel"
    with captured():
        from coremltools import proto

        model = proto.Model_pb2.Model()
        model.ParseFromString(file.read_bytes())
        del model.mlProgram.functions["main"]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="function 'main' has 0 blocks"):
        describe(package)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        describe(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(PackageError):
        describe(tmp_path / "a.zip")
