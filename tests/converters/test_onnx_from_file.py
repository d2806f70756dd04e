"""An ONNX file of somebody's own taken over: checked, shaped, in its precision, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converters import check, onnx_types
from converters.artifact import Artifact, ConversionError, ConversionRequest
from converters.conversion import convert as convert_any
from converters.external_data import ExternalDataError, place_of
from converters.onnx_from_file import convert
from converters.onnx_header import HeaderError, identity, read_header
from models.spec import ModelSpec, sorted_options
from tests.small_onnx import Change, gpu_kernel, net


def asked(path: Path, *, side: int = 32, shape: str = "", **request) -> ConversionRequest:
    options = sorted_options({"input_shape": shape} if shape else {})
    spec = ModelSpec(path.name, side, options, f"sha256:{identity(path)}")
    return ConversionRequest(spec, "onnx", input_count=2, checkpoint=path, **request)


def refusal(request: ConversionRequest, folder: Path) -> str:
    with pytest.raises(ConversionError) as refused:
        convert(request, folder)
    assert refused.value.failure.advice
    return refused.value.failure.message


def made(request: ConversionRequest, folder: Path) -> tuple[Artifact, onnx.ModelProto]:
    artifact = convert(request, folder)
    return artifact, onnx.load(artifact.path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.mkdir()
    return path


def test_a_file_with_its_shape_set_is_taken_as_it_is(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx")
    artifact, proto = made(asked(path), folder)
    assert [step.name for step in artifact.steps] == ["reference", "taken over"]
    assert "no eager form" in artifact.steps[0].note
    assert artifact.parity is not None
    assert artifact.parity.max_absolute == 0
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Relu", "ReduceMean"]
    assert artifact.params_m == pytest.approx(8 * 27 / 1e6)
    assert artifact.gmacs == pytest.approx(15 * 15 * 8 * 27 / 1e9)
    with np.load(artifact.tensors) as tensors:
        assert tensors["input_0"].shape == (1, 3, 32, 32)
        assert tensors["reference_1"].shape == (1, 8)


def test_open_dimensions_are_set(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx", batch="N", side="S")
    artifact, proto = made(asked(path, side=48, batch_size=4), folder)
    assert artifact.inputs[0].shape == (4, 3, 48, 48)
    assert artifact.outputs[0].shape == (4, 8)
    assert [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim] == [4, 3, 48, 48]
    assert artifact.gmacs == pytest.approx(23 * 23 * 8 * 27 / 1e9)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_another_precision_is_made_by_caster_and_quantizer(tmp_path, folder, precision) -> None:
    path = net(tmp_path / "net.onnx")
    flavour = "cpu" if precision == "int8" else ""
    artifact, proto = made(asked(path, precision=precision, flavour=flavour), folder)
    assert onnx_types.precision_of(proto) == precision
    assert artifact.steps[-1].parity is not None


def test_a_file_in_fp16_stays_in_fp16(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx", kind=TensorProto.FLOAT16)
    assert read_header(path).precision == "fp16"
    artifact, _ = made(asked(path, precision="fp16"), folder)
    assert artifact.inputs[0].dtype == "float16"
    assert "computes in fp16, and int8 was asked for" in refusal(
        asked(path, precision="int8", flavour="cpu"), folder
    )


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "Sparkle", "my.domain"
    model.opset_import.append(helper.make_opsetid("my.domain", 1))


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, None))


def token_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "cast"


def weights_in(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    return change


def infinite(model: onnx.ModelProto) -> None:
    weight = np.full((8, 3, 3, 3), np.inf, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (foreign_operator, "operator my.domain:Sparkle, which ONNX Runtime cannot compute on a CPU"),
        (gpu_kernel, "operator NhwcConv, which ONNX Runtime cannot compute on a CPU"),
        (two_inputs, "2 inputs (image, more): one can be measured"),
        (two_outputs, "2 outputs (scores, maps): one can be compared"),
        (token_input, "'image' is a tensor(int64)"),
        (weights_in("../weights.bin"), "outside of the file's folder"),
        (weights_in("/etc/passwd"), "outside of the file's folder"),
        (weights_in("gone.bin"), "no plain file there"),
        (infinite, "not finite"),
    ],
)
def test_what_cannot_be_measured_says_why(tmp_path, folder, change, said) -> None:
    assert said in refusal(asked(net(tmp_path / "net.onnx", change=change)), folder)


def test_shapes_that_it_does_not_take(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx")
    assert "takes batch 1 alone (its input is 1x3x32x32)" in refusal(asked(path, batch_size=8), folder)
    assert "takes 1x3x32x32: 1x3x64x64 was asked for" in refusal(asked(path, side=64), folder)
    assert "1x10 was asked for" in refusal(asked(path, shape="10"), folder)
    small = net(tmp_path / "small.onnx", side="S")
    assert "does not run on 1x3x2x2" in refusal(asked(small, side=2), folder)


def test_damaged_changed_missing_and_unnamed_files(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx")
    request = asked(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    assert "was changed since it was planned" in refusal(request, folder)
    path.write_bytes(whole[: len(whole) // 2])
    assert "no ONNX file" in refusal(asked(path), folder)
    path.unlink()
    assert "cannot be read" in refusal(request, folder)
    assert "where it lies is not told" in refusal(
        ConversionRequest(request.model, "onnx", input_count=2), folder
    )


def test_other_kinds_are_refused_at_once(tmp_path: Path) -> None:
    request = asked(net(tmp_path / "net.onnx"))
    for kind in ("exported_program", "mlpackage"):
        with pytest.raises(ConversionError, match=f"no {kind} can be made of one"):
            check(ConversionRequest(request.model, kind))


def test_the_cache_finds_it_again_without_the_file(tmp_path: Path) -> None:
    from converters.cache import ArtifactCache

    path, cache = net(tmp_path / "net.onnx"), ArtifactCache(tmp_path / "cache")
    first = convert_any(asked(path), cache)
    request = asked(path)
    path.unlink()
    assert convert_any(request, cache) == first


def test_weights_beside_the_file_are_part_of_its_identity(tmp_path: Path, folder: Path) -> None:
    path = net(tmp_path / "net.onnx", change=weights_in("weights.bin"))
    (tmp_path / "weights.bin").write_bytes(np.ones(216, np.float32).tobytes())
    assert read_header(path).locations == ("weights.bin",)
    before = identity(path)
    artifact, _ = made(asked(path), folder)
    assert artifact.path.stat().st_size > 864  # it holds its weights itself
    (tmp_path / "weights.bin").write_bytes(np.zeros(216, np.float32).tobytes())
    assert identity(path) != before
    (tmp_path / "weights.bin").rename(tmp_path / "other.bin")
    (tmp_path / "weights.bin").symlink_to(tmp_path / "other.bin")
    assert "no plain file there" in refusal(asked(path), folder)


def test_the_header_tells_open_and_fixed_sides(tmp_path: Path) -> None:
    header = read_header(net(tmp_path / "net.onnx", batch="N", side=32))
    assert header.inputs == {"image": (None, 3, 32, 32)}
    assert header.precision == "fp32"


@settings(max_examples=60)
@given(cut=st.integers(0, 2000), noise=st.binary(min_size=1, max_size=8))
def test_any_damage_is_one_clear_error(tmp_path_factory, cut: int, noise: bytes) -> None:
    """The header's reader never fails otherwise, and never reads beyond a field's end."""
    path = tmp_path_factory.mktemp("damaged") / "net.onnx"
    data = bytearray(net(path).read_bytes())
    place = cut % len(data)
    data[place : place + len(noise)] = noise
    path.write_bytes(data)
    try:
        header = read_header(path)
    except HeaderError as error:
        assert str(error)  # noqa: PT017  whether it is damaged for this reader is not known beforehand
    else:
        assert all(isinstance(dims, tuple) for dims in header.inputs.values())


@pytest.mark.parametrize("location", ["", "/etc/passwd", "../x", "a/../../x", "C:\\x", "a\\b", "c:x", "a\0b"])
def test_places_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ExternalDataError, match="outside"):
        place_of(tmp_path, location)
