"""`verify`: files of ours and of others, read back and compared with a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench import main
from converters.files import sha256_of
from converters.reparameterization import reparameterize_with_report

NCB = ("--against", "block/ncb", "--inputs", "2")


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def call(*argv: object) -> Answer:
        capsys.readouterr()
        code = main(["verify", *map(str, argv)])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


def block() -> nn.Module:
    """block/ncb at 7x7x32 with the weights that `random:0` means."""
    from models import instantiate
    from models.spec import ModelSpec

    net = instantiate(ModelSpec.of("block/ncb", resolution=7, in_channels=32)).eval()
    return reparameterize_with_report(net, torch.zeros(1, 32, 7, 7))[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The block as an ONNX file and an exported program."""
    from converters.quiet import captured

    folder, x = tmp_path_factory.mktemp("files"), torch.zeros(1, 32, 7, 7)
    with captured(), torch.no_grad():
        torch.onnx.export(block(), (x,), str(folder / "ncb.onnx"), dynamo=True, external_data=False)
        torch.export.save(torch.export.export(block(), (x,)), folder / "ncb.pt2")
    (folder / "ncb.engine").write_bytes(b"ptrt" + bytes(100))
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.converters.mil_programs import converted

    return converted(block(), (1, 32, 7, 7), tmp_path_factory.mktemp("package") / "ncb.mlpackage")


def test_an_onnx_file_is_read_back_and_compared(verify, files):
    answer = verify(files[".onnx"], *NCB)
    assert answer.code == 0, answer.err
    for words in ("precision", "fp32", "1x32x7x7", "Conv", "0 left", "passed", "onnxruntime", "opset_onnx"):
        assert words in answer.out
    assert "block/ncb 7x7x32" in answer.out  # the shape is the file's


def test_reading_back_alone_runs_nothing(verify, files):
    answer = verify(files[".onnx"], "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["parity"] is None
    assert found["sha256"] == sha256_of(files[".onnx"])
    assert found["op_counts"]["Conv"] == 4
    assert found["inputs"][0]["shape"] == [1, 32, 7, 7]


def test_a_core_ml_package_is_compared_as_a_program(verify, package):
    answer = verify(package, *NCB, "--json")
    found = json.loads(answer.out)
    assert answer.code == 0, answer.err
    assert (found["kind"], found["precision"], found["compression"]) == ("mlpackage", "fp16", {})
    assert found["facts"]["needs"] == "iOS16"
    (run,) = found["parity"]["runs"]
    assert 1e-5 < run["max_relative"] < 1e-2
    assert run["cosine"] > 0.9999
    assert "not Apple's kernels" in run["tool"]
    assert found["parity"]["passed"] is True


def test_other_inputs_by_another_seed(verify, package):
    errors = [
        json.loads(verify(package, *NCB, "--json", "--seed", seed).out)["parity"]["runs"][0]["max_relative"]
        for seed in (0, 0, 1)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_another_model_fails_with_the_first_operator(verify, package):
    answer = verify(package, "--against", "block/bottleneck", "--inputs", "1")
    assert answer.code == 1
    assert "FAILED" in answer.out
    assert "conv '" in answer.out
    assert "without rounding too" in answer.out


def test_what_rounding_does_is_told_apart(verify, package):
    """Between the error of fp16 weights alone and that of rounding every operator."""
    answer = verify(package, *NCB, "--tolerance", "4e-4")
    assert answer.code == 1, answer.out
    assert "by rounding: without, the program agrees" in answer.out


def test_an_exported_program_needs_its_makers_word(verify, files):
    path = files[".pt2"]
    answer = verify(path, *NCB)
    assert answer.code == 2
    assert f"--trust {sha256_of(path)}" in answer.err
    assert "can run Python code" in answer.err
    assert verify(path, *NCB, "--trust", "0" * 64).code == 2
    trusted = verify(path, *NCB, "--trust", sha256_of(path))
    assert trusted.code == 0, trusted.err
    assert "conv2d" in trusted.out


def test_an_engine_is_described_only(verify, files):
    answer = verify(files[".engine"], *NCB)
    assert answer.code == 3
    assert "needs the GPU" in answer.out
    assert sha256_of(files[".engine"]) in answer.out


def test_an_engines_record_is_told_only_for_its_own_file(verify, tmp_path):
    engine, record = tmp_path / "x.engine", tmp_path / "x.json"
    engine.write_bytes(b"an engine")
    told = {"kind": "engine", "sha256": sha256_of(engine), "precision": "fp16", "facts": {"target": "sm89"}}
    record.write_text(json.dumps(told))
    answer = verify(engine)
    assert answer.code == 3
    for words in ("fp16", "sm89", "written when this file was made"):
        assert words in answer.out
    engine.write_bytes(b"another one")
    other = verify(engine).out
    assert "describes another file" in other
    assert "sm89" not in other
    for text in ("no JSON", "[]", "{}"):
        record.write_text(text)
        assert verify(engine).code == 3


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("none.onnx",), "no file at none.onnx"),
        (("{onnx}", "--against", "block/nbc"), "block/ncb"),
        (("{onnx}", "--resolution", "7x7x32"), "--resolution: of the model to compare with"),
        (("{onnx}", *NCB, "--resolution", "14x14x32"), "takes inputs of 1x32x7x7"),
        (("{onnx}", *NCB, "--seed", "-1"), "--seed"),
        (("{onnx}", *NCB, "--tolerance", "0"), "--tolerance"),
        (("{onnx}", *NCB, "--checkpoint", "none.pth"), "none.pth"),
        (("{onnx}", "--against", "timm/mobilenetv2_035"), "--resolution says which"),
    ],
)
def test_bad_input(verify, files, argv, words):
    answer = verify(*(word.format(onnx=files[".onnx"]) for word in argv))
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["a.txt", "a.pth", "a"])
def test_an_unknown_extension_is_refused(verify, tmp_path, name):
    (tmp_path / name).write_text("")
    answer = verify(tmp_path / name)
    assert answer.code == 2
    assert ".mlpackage" in answer.err


@pytest.mark.parametrize("name", ["x.onnx", "x.mlpackage", "x.zip"])
def test_files_that_are_none(verify, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x07not one")
    assert verify(tmp_path / name).code == 2


def foreign(folder: Path, location: str, **entries: Any) -> Path:
    """A convolution whose weight is said to be in another file."""
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    raw = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "foreign.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / "weights.bin").write_bytes(raw)
    return path


def test_a_graph_that_contradicts_itself(verify, tmp_path):
    path = foreign(tmp_path, "weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.node[0].input[0] = "missing"
    path.write_bytes(model.SerializeToString())
    answer = verify(path, *NCB)
    assert answer.code == 2
    assert "error:" in answer.err


def test_weights_in_a_file_beside_it(verify, tmp_path):
    answer = verify(foreign(tmp_path, "weights.bin"), "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["op_counts"] == {"Conv": 1}


@pytest.mark.parametrize(
    ("location", "entries", "words"),
    [
        ("../secret", {}, "outside of the file's folder"),
        ("/etc/hostname", {}, "outside of the file's folder"),
        ("sub/../../secret", {}, "outside of the file's folder"),
        ("..\\secret", {}, "outside of the file's folder"),
        ("C:secret", {}, "outside of the file's folder"),
        ("", {}, "outside of the file's folder"),
        ("none.bin", {}, "no plain file there"),
        ("linked.bin", {}, "no plain file there"),
        ("linked/secret", {}, "no plain file there"),
        ("weights.bin", {"offset": 100}, "beyond the end"),
        ("weights.bin", {"offset": -4}, "beyond the end"),
        ("weights.bin", {"length": 99}, "beyond the end"),
        ("weights.bin", {"offset": "four"}, "whole numbers"),
    ],
)
def test_weights_elsewhere_are_never_opened(verify, tmp_path, location, entries, words):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(bytes(48))
    (tmp_path / "secret").write_bytes(bytes(48))
    (inside / "sub").mkdir()
    (inside / "linked.bin").symlink_to(outside / "secret")
    (inside / "linked").symlink_to(outside)
    answer = verify(foreign(inside, location, **entries))
    assert answer.code == 2
    assert words in answer.err


def test_weights_elsewhere_in_an_attribute_of_an_inner_graph(verify, tmp_path):
    """Every place where a tensor can be is looked at."""
    path = foreign(tmp_path, "weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    weight = model.graph.initializer.pop()
    weight.external_data[0].value = "../secret"
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=weight)], "inner", [], [])
    node = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)
    path.write_bytes(model.SerializeToString())
    assert "outside of the file's folder" in verify(path).err


def test_it_is_read_as_the_file_of_a_conversion_too(verify, tmp_path, files):
    """A network without BatchNorms left says so; one with some is counted."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1)).eval()
    from converters.quiet import captured

    with captured(), torch.no_grad():
        torch.onnx.export(net, (torch.zeros(1, 3, 4, 4),), str(tmp_path / "bn.onnx"), dynamo=True)
    assert json.loads(verify(tmp_path / "bn.onnx", "--json").out)["batchnorms_left"] == 1


def test_images_are_given_pixels(verify, tmp_path):
    from models import instantiate
    from models.spec import ModelSpec
    from tests.converters.mil_programs import converted, ct

    net = instantiate(ModelSpec.of("timm/mobilenetv2_035", resolution=32)).eval()
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.register_buffer("mean", torch.from_numpy(255 * mean).reshape(1, 3, 1, 1))
            self.register_buffer("std", torch.from_numpy(255 * std).reshape(1, 3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net((x - self.mean) / self.std)

    image = ct.ImageType(name="x", shape=(1, 3, 32, 32))
    path = converted(
        Normalized(), (1, 3, 32, 32), tmp_path / "image.mlpackage", precision="fp32", inputs=[image]
    )
    answer = verify(path, "--against", "timm/mobilenetv2_035", "--inputs", "1", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0, answer.out
    assert found["facts"]["input_kind"] == "image"
    assert "pixels" in found["parity"]["note"]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Packages of block/ntb with compressed weights, of the model's own weights or of another seed's."""
    from converters.artifact import ConversionRequest
    from converters.cache import ArtifactCache
    from converters.conversion import convert
    from models.spec import ModelSpec

    cache = ArtifactCache(tmp_path_factory.mktemp("compressed"))

    def made(precision: str, seed: int) -> Path:
        spec = ModelSpec.of("block/ntb", resolution=7, weights=f"random:{seed}", in_channels=64)
        return convert(ConversionRequest(spec, "mlpackage", precision=precision), cache).path

    return made


@pytest.mark.parametrize("precision", ["fp16-int8w", pytest.param("fp16-sparse50", marks=pytest.mark.slow)])
def test_compressed_weights_are_held_to_the_models(verify, compressed, precision):
    """Outputs alone do not tell weights of another seed: a block adds its input to what it computes."""
    against = ("--against", "block/ntb", "--inputs", "1")
    own = verify(compressed(precision, 0), *against)
    assert own.code == 0, own.out
    assert "with the model's weights in place of the compressed ones" in own.out
    other = verify(compressed(precision, 1), *against)
    assert other.code == 1
    assert "is none of the network's" in other.out
