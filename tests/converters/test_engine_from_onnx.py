"""Engines built for real, without a GPU: what the file is, what is told about it, and every refusal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters import convert as convert_any
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache
from converters.engine_from_onnx import convert
from converters.engine_log import recording
from converters.engine_network import module_of, parse
from converters.engine_precision import check_declared
from converters.engine_types import read as read_types
from converters.tensorrt_package import capability_here, targets
from models.spec import ModelSpec, sorted_options
from tests.converters import engine_graphs

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx builds the engines and is not installed")
needs_no_gpu = pytest.mark.skipif(bool(capability_here()), reason="is about a machine without an NVIDIA GPU")

REQUEST = ConversionRequest(
    ModelSpec.of("block/ncb", resolution=7, in_channels=32),
    "engine",
    target="sm89",
    build=(("package", "tensorrt_rtx"),),
)
MakeSource = Callable[[bytes], Artifact]


def asked(**build: object) -> ConversionRequest:
    return dataclasses.replace(REQUEST, build=sorted_options({"package": "tensorrt_rtx", **build}))


def refusal(request: ConversionRequest, folder: Path, source: Artifact) -> ConversionFailure:
    with pytest.raises(ConversionError) as caught:
        convert(request, folder, source=source)
    assert not (folder / "model.engine").exists()
    assert caught.value.failure.steps == source.steps
    return caught.value.failure


def parsed(data: bytes) -> tuple[Any, tuple[Any, ...]]:
    """The network of a file, and what has to live as long."""
    with recording(trt) as (logger, _):
        builder = trt.Builder(logger)
        network, parser = parse(trt, builder, logger, data=data)
    return network, (builder, parser)


def test_engine_of_a_block_through_both_stages(tmp_path: Path) -> None:
    cache, seen = ArtifactCache(tmp_path), list[str]()
    request = dataclasses.replace(REQUEST, input_count=1)
    made = convert_any(request, cache, seen.append)
    assert seen[:5] == ["eager", "fused", "exported", "simplified", "engine"]
    source = cache.find(made.source_key)
    assert source is not None
    assert (source.kind, source.target, source.build) == ("onnx", "", ())
    assert (made.kind, made.target, made.build) == ("engine", "sm89", (("package", "tensorrt_rtx"),))
    assert made.path.name == "model.engine"
    assert made.path.read_bytes()[:4] != source.path.read_bytes()[:4]
    assert made.size_bytes == made.path.stat().st_size > 100_000
    assert [step.name for step in made.steps] == ["fused", "exported", "simplified", "engine"]
    assert made.steps[-1].parity is None
    assert "for sm89; multiply-accumulates: 100 % fp32" in made.steps[-1].note
    assert made.steps[-1].note.endswith("compared with the reference where it is timed")
    assert made.parity == source.parity
    assert made.toolchain["tensorrt_rtx"] == trt.__version__
    assert made.tensors.read_bytes() == source.tensors.read_bytes()
    assert convert_any(request, cache, seen.append) == made
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("precision", "build"), [("fp16", {}), ("bf16", {}), ("int8", {}), ("fp32", {"max_batch": 4})], ids=str
)
def test_every_precision_and_an_open_batch_axis_through_both_stages(
    precision: str, build: dict[str, object], tmp_path: Path
) -> None:
    request = dataclasses.replace(
        asked(**build),
        model=ModelSpec.of("block/bottleneck", resolution=7, in_channels=32),
        precision=precision,
        flavour="trt" if precision == "int8" else "",
        input_count=1,
    )
    made = convert_any(request, ArtifactCache(tmp_path))
    assert made.facts[f"macs_{precision}_percent"] == 100.0
    assert made.inputs[0].shape == (-1 if build else 1, 32, 7, 7)
    assert made.parity is not None


def test_facts_are_what_parser_and_builder_tell(folder: Path, onnx_source: MakeSource) -> None:
    made = convert(REQUEST, folder, source=onnx_source(engine_graphs.convolution()))
    facts = dict(made.facts)
    assert facts.pop("build_ns") > 0
    # Nine kernel positions of 16 x 16 channels in fp32, padded by the builder, and no bias.
    assert 4 * 9 * 16 * 16 <= facts.pop("weights_bytes") < 4 * 9 * 16 * 16 + 1024
    assert facts.pop("activation_bytes") > 4 * 16 * 8 * 8
    assert facts == {
        "builder": f"tensorrt_rtx {trt.__version__}",
        "layers": 3,
        "macs_fp32_percent": 100.0,
        "nodes_fp32": 1,
        "target": "sm89",
        "tf32": False,
    }
    assert "Total Weights Memory" in (folder / "builder.log").read_text()
    assert "VERBOSE" not in (folder / "builder.log").read_text()


@needs_no_gpu
def test_no_gpu_no_layers(folder: Path, onnx_source: MakeSource) -> None:
    made = convert(REQUEST, folder, source=onnx_source(engine_graphs.convolution()))
    assert sorted(path.name for path in folder.iterdir()) == ["builder.log", "model.engine", "tensors.npz"]
    assert "engine_layers" not in made.facts


def test_inputs_and_references_are_the_sources(folder: Path, onnx_source: MakeSource) -> None:
    source = onnx_source(engine_graphs.convolution())
    made = convert(REQUEST, folder, source=source)
    assert made.tensors == folder / "tensors.npz"
    assert made.tensors.read_bytes() == source.tensors.read_bytes()
    assert made.tensors_sha256 == source.tensors_sha256
    assert made.source_key == source.key
    shape = (1, engine_graphs.CHANNELS, engine_graphs.SIDE, engine_graphs.SIDE)
    assert [(t.name, t.dtype, t.shape) for t in made.inputs] == [("input", "float32", shape)]
    assert [(t.name, t.dtype, t.shape) for t in made.outputs] == [("output", "float32", shape)]


def test_equal_requests_give_equal_bytes_and_options_count(tmp_path: Path, onnx_source: MakeSource) -> None:
    source = onnx_source(engine_graphs.convolution())
    requests = {
        "once": REQUEST,
        "again": REQUEST,
        "tf32": asked(tf32=True),
        "other_target": dataclasses.replace(REQUEST, target="sm120"),
        "smaller_workspace": asked(workspace_mib=64),
    }
    digests = {}
    for name, request in requests.items():
        (tmp_path / name).mkdir()
        made = convert(request, tmp_path / name, source=source)
        digests[name] = made.sha256
        assert made.facts["tf32"] == (name == "tf32")
    assert digests["once"] == digests["again"]
    assert len(set(digests.values())) == 4


@pytest.mark.parametrize("target", targets(trt))
def test_every_target_of_the_package(target: str, folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, target=target)
    made = convert(request, folder, source=onnx_source(engine_graphs.convolution()))
    assert made.facts["target"] == made.target == target


def test_the_targets_are_those_of_the_enumeration() -> None:
    assert {"sm75", "sm89", "sm120"} <= set(targets(trt))
    assert list(targets(trt)) == sorted(targets(trt), key=lambda name: int(name[2:]))
    assert "current" not in targets(trt)


def test_target_that_the_package_cannot_build_for(folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, target="sm90")
    failure = refusal(request, folder, onnx_source(engine_graphs.convolution()))
    assert (failure.kind, failure.step) == ("unsupported", "engine")
    assert f"cannot build for sm90: it can for {', '.join(targets(trt))}" in failure.message
    assert "use the package tensorrt on a machine that has one" in failure.advice


@needs_no_gpu
def test_gpu_here_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no target says for which one to build") as caught:
        convert_any(dataclasses.replace(REQUEST, target=""), ArtifactCache(tmp_path))
    assert caught.value.failure.kind == "bad_input"
    assert list(tmp_path.iterdir()) == []


def test_turing_has_no_fp32_matrix_products(folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, target="sm75")
    failure = refusal(request, folder, onnx_source(engine_graphs.matrix_product()))
    assert (failure.kind, failure.operator, failure.module) == ("unsupported", "MatMul", "mix")
    assert "Turing (SM75): FP32 GEMM is not supported" in failure.message
    assert ".cpp:20" not in failure.message


def test_integer_biases_are_refused_with_the_parsers_words(folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, precision="int8")
    failure = refusal(request, folder, onnx_source(engine_graphs.quantized(integer_bias=True)))
    assert (failure.kind, failure.step) == ("unsupported", "parsed")
    assert (failure.operator, failure.module) == ("DequantizeLinear", "body")
    assert "'/body/bias_dequantize'" in failure.message
    assert "input has type Int32" in failure.message
    assert "CUDA" not in failure.message


def test_operator_that_tensorrt_does_not_have(folder: Path, onnx_source: MakeSource) -> None:
    failure = refusal(REQUEST, folder, onnx_source(engine_graphs.custom_operator()))
    assert (failure.kind, failure.operator, failure.module) == ("unsupported", "Rotate", "body.3.turn")
    assert "Plugin not found" in failure.message


@pytest.mark.parametrize("damage", ["truncated", "junk", "empty"])
def test_file_that_is_no_onnx(damage: str, folder: Path, onnx_source: MakeSource) -> None:
    whole = engine_graphs.convolution()
    data = {"truncated": whole[: len(whole) // 2], "junk": b"junk", "empty": b""}[damage]
    failure = refusal(REQUEST, folder, onnx_source(data))
    assert (failure.kind, failure.step) == ("export_failed", "parsed")
    expected = "0 inputs and 0 outputs" if damage == "empty" else "Failed to parse the ONNX model"
    assert expected in failure.message


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_types_are_read_back_from_the_network(precision: str, folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, precision=precision)
    made = convert(request, folder, source=onnx_source(engine_graphs.convolution(precision)))
    assert made.facts[f"macs_{precision}_percent"] == 100.0


def test_eight_bits_are_read_through_the_dequantization(folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, precision="int8")
    made = convert(request, folder, source=onnx_source(engine_graphs.quantized()))
    assert made.facts["macs_int8_percent"] == 100.0


@pytest.mark.parametrize("asked_for", ["fp16", "bf16", "int8"])
def test_another_precision_than_asked_for(asked_for: str, folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(REQUEST, precision=asked_for)
    failure = refusal(request, folder, onnx_source(engine_graphs.convolution("fp32")))
    assert failure.kind == "precision_mismatch"
    assert f"{asked_for} was asked for and does 0.0 %" in failure.message


def test_the_larger_share_of_the_work_decides(tmp_path: Path, onnx_source: MakeSource) -> None:
    source = onnx_source(engine_graphs.two_types())
    (tmp_path / "full").mkdir()
    made = convert(REQUEST, tmp_path / "full", source=source)
    assert (made.facts["macs_fp32_percent"], made.facts["macs_fp16_percent"]) == (90.0, 10.0)
    (tmp_path / "half").mkdir()
    failure = refusal(dataclasses.replace(REQUEST, precision="fp16"), tmp_path / "half", source)
    assert failure.kind == "precision_mismatch"


@pytest.mark.parametrize(("precision", "wide"), [("fp16", "fp32"), ("bf16", "fp32"), ("fp32", "fp16")])
@pytest.mark.parametrize("where", ["conv", "relu"])
def test_a_layer_in_another_type_than_its_node_fails_the_case(precision: str, wide: str, where: str) -> None:
    """Nine tenths of the work are as asked for: it is the one layer that is told."""
    declared = engine_graphs.two_layers(precision, conv=precision, relu=precision)
    network, kept = parsed(
        engine_graphs.two_layers(precision, **{"conv": precision, "relu": precision, where: wide})
    )
    types = read_types(trt, network, 1)
    assert types.shares[precision] > 0.5
    with pytest.raises(ConversionError) as caught:
        check_declared(network, types, declared, precision)
    assert caught.value.failure.kind == "precision_mismatch"
    assert f"'/tail/{where.capitalize()}' in {wide} instead of {precision}" in caught.value.failure.message
    del kept


def test_islands_that_the_file_declares_are_right() -> None:
    data = engine_graphs.two_layers("fp16", conv="fp32", relu="fp32")
    network, kept = parsed(data)
    check_declared(network, read_types(trt, network, 1), data, "fp16")
    del kept


def test_eight_bits_that_the_parser_dropped_fail_the_case() -> None:
    network, kept = parsed(engine_graphs.matrix_product().replace(b"/mix/MatMul", b"/body/conv/"))
    types = read_types(trt, network, 1)
    with pytest.raises(ConversionError, match="in fp32 instead of int8") as caught:
        check_declared(network, types, engine_graphs.quantized(), "int8")
    assert caught.value.failure.kind == "precision_mismatch"
    del kept


def test_range_of_batch_sizes(folder: Path, onnx_source: MakeSource) -> None:
    request = dataclasses.replace(asked(min_batch=1, max_batch=8), batch_size=2)
    made = convert(request, folder, source=onnx_source(engine_graphs.convolution(batch="N")))
    assert made.batch_size == 2
    assert made.inputs[0].shape[0] == made.outputs[0].shape[0] == -1


def test_range_needs_an_open_batch_axis(folder: Path, onnx_source: MakeSource) -> None:
    failure = refusal(asked(max_batch=8), folder, onnx_source(engine_graphs.convolution(batch=1)))
    assert "input 'input' has a fixed batch size of 1" in failure.message


def test_timing_cache_that_the_package_does_not_keep(folder: Path, onnx_source: MakeSource) -> None:
    failure = refusal(asked(timing_cache=True), folder, onnx_source(engine_graphs.convolution()))
    assert failure.kind == "bad_input"
    assert "no-ops" in failure.message


def test_options_reach_the_builder(folder: Path, onnx_source: MakeSource) -> None:
    """And are read back from it: a level that it clips is refused."""
    from converters import engine_builder

    config = trt.Builder(trt.Logger()).create_builder_config()
    engine_builder._configure(trt, config, REQUEST, engine_builder.EngineOptions(optimization_level=1))
    assert config.builder_optimization_level == 1
    assert not config.get_flag(trt.BuilderFlag.TF32)
    options = engine_builder.EngineOptions(workspace_mib=64, avg_timing_iterations=5, tf32=True)
    engine_builder._configure(trt, config, REQUEST, options)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 * 2**20
    assert config.avg_timing_iterations == 5
    assert config.get_flag(trt.BuilderFlag.TF32)
    with pytest.raises(ConversionError, match=r"optimization_level: .* made 5 of 9"):
        engine_builder._configure(trt, config, REQUEST, engine_builder.EngineOptions(optimization_level=9))


@needs_no_gpu
def test_damaged_engine_is_refused_by_its_checksum(tmp_path: Path) -> None:
    """No GPU, no loading: the cache's sha256 is what stands between a truncated engine and a runtime."""
    notices: list[str] = []
    cache = ArtifactCache(tmp_path, report=notices.append)
    request = dataclasses.replace(REQUEST, input_count=1)
    made = convert_any(request, cache)
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[: len(whole) // 2])
    assert cache.find(made.key) is None
    assert "model.engine is not the file that was written (sha256 differs)" in notices[0]
    assert convert_any(request, cache).path.read_bytes() == whole


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/stem/stem.0/conv/Conv", "stem.0.conv"),
        ("/stages/stages.1/stages.1.3/e_mhsa/MatMul", "stages.1.3.e_mhsa"),
        ("/head/Gemm", "head"),
        ("/Add", ""),
        ("node_conv2d_3", ""),
        ("", ""),
    ],
)
def test_module_of_a_node(node: str, module: str) -> None:
    assert module_of(node) == module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nextvit_small", "timm/resnet50", "timm/swin_tiny_patch4_window7_224"])
def test_engines_of_whole_networks(name: str, tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, model=ModelSpec.of(name), input_count=1)
    made = convert_any(request, ArtifactCache(tmp_path))
    assert made.facts["macs_fp32_percent"] == 100.0
    assert made.size_bytes > 3.9e6 * made.params_m  # fp32 weights are in the file
