"""8-bit graphs: each flavour's pairs, errors node by node, and graphs whose pairs are wrong."""

from __future__ import annotations

import collections
from types import ModuleType

import numpy as np
import onnx
import pytest

from converters import onnx_graph, onnx_precision, onnx_quantize, onnx_types
from converters.artifact import ConversionError
from converters.parity import LEAST_COSINES, NODE_TOLERANCE, Array, compare

COUNTED = tuple(onnx_types.COUNTED)


def inputs_of(proto: onnx.ModelProto) -> tuple[Array, ...]:
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return tuple(np.random.default_rng(k).standard_normal(shape, dtype=np.float32) for k in range(3))


@pytest.fixture
def prepared(graphs: ModuleType) -> onnx.ModelProto:
    return onnx_quantize.prepared(graphs.healthy())


@pytest.fixture(params=["cpu", "trt"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair_types(proto: onnx.ModelProto) -> collections.Counter[int]:
    """Element types of all zero points of QuantizeLinear, and of the constants that are dequantized."""
    stored = {weight.name: weight.data_type for weight in proto.graph.initializer}
    found: collections.Counter[int] = collections.Counter()
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            found[stored[node.input[2]]] += 1
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            found[stored[node.input[0]]] += 1
    return found


def test_both_flavours_compute_in_eight_bits(prepared: onnx.ModelProto, flavour: str) -> None:
    inputs = inputs_of(prepared)
    made = onnx_quantize.quantize(prepared, flavour, inputs)
    onnx_graph.check(made)
    onnx_types.require(onnx_types.read(made), "int8")
    data, original = onnx_graph.serialize(made), onnx_graph.serialize(prepared)
    parity = compare(onnx_graph.run(original, inputs), onnx_graph.run(data, inputs), 1)
    assert 1e-4 < parity.max_relative < 0.05
    assert parity.cosine > 0.999
    assert {node.domain for node in made.graph.node} == {""}


def test_flavours_differ_where_their_runtimes_do(prepared: onnx.ModelProto) -> None:
    kind = onnx.TensorProto
    cpu = pair_types(onnx_quantize.quantize(prepared, "cpu", inputs_of(prepared)))
    trt = pair_types(onnx_quantize.quantize(prepared, "trt", inputs_of(prepared)))
    assert cpu[kind.UINT8] > 0
    assert cpu[kind.INT32] == 1  # the bias of the convolution
    assert set(trt) == {kind.INT8}


def test_symmetric_flavour_has_no_zero_points(prepared: onnx.ModelProto) -> None:
    made = onnx_quantize.quantize(prepared, "trt", inputs_of(prepared))
    stored = {weight.name: weight for weight in made.graph.initializer}
    points = [stored[node.input[2]] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert not any(onnx.numpy_helper.to_array(point).any() for point in points)


def test_quantizing_leaves_the_graph_alone_and_repeats(prepared: onnx.ModelProto, flavour: str) -> None:
    before = onnx_graph.serialize(prepared)
    made = [onnx_quantize.quantize(prepared, flavour, inputs_of(prepared)) for _ in range(2)]
    assert onnx_graph.serialize(prepared) == before
    assert onnx_graph.serialize(made[0]) == onnx_graph.serialize(made[1])


def test_every_node_alone_is_a_few_percent_off(prepared: onnx.ModelProto, flavour: str) -> None:
    inputs = inputs_of(prepared)
    made = onnx_quantize.quantize(prepared, flavour, inputs)
    errors = onnx_quantize.node_errors(prepared, made, COUNTED, inputs)
    assert errors.keys() == {"a", "y"}
    assert all(1e-4 < error < 0.05 for error in errors.values())


def test_attention_over_many_tokens_keeps_its_weights(graphs: ModuleType, flavour: str) -> None:
    """Softmax quantized to steps of 1/256, as the quantizer would by itself, makes every weight 0."""
    prepared = onnx_quantize.prepared(graphs.attention())
    inputs = inputs_of(prepared)
    made = onnx_quantize.quantize(prepared, flavour, inputs)
    assert onnx_quantize.node_errors(prepared, made, COUNTED, inputs)["y"] < 0.1


def _broken_scale(made: onnx.ModelProto) -> None:
    """The scale of the convolution's input three times too small: large values saturate."""
    name = next(node.input[1] for node in made.graph.node if node.op_type == "QuantizeLinear")
    _change(made, name, lambda array: array / 3)


def _broken_weight(made: onnx.ModelProto) -> None:
    """Output channels in another order, as a wrong axis would leave them."""
    name = next(w.name for w in made.graph.initializer if len(w.dims) == 4)
    _change(made, name, lambda array: array[::-1])


def _change(made: onnx.ModelProto, name: str, change: object) -> None:
    weight = next(w for w in made.graph.initializer if w.name == name)
    assert callable(change)
    array = np.ascontiguousarray(change(onnx.numpy_helper.to_array(weight)))
    weight.CopyFrom(onnx.numpy_helper.from_array(array, name))


@pytest.mark.parametrize("damage", [_broken_scale, _broken_weight])
def test_damaged_pairs_are_caught_at_their_node(
    prepared: onnx.ModelProto, flavour: str, damage: object
) -> None:
    inputs = inputs_of(prepared)
    made = onnx_quantize.quantize(prepared, flavour, inputs)
    assert callable(damage)
    damage(made)
    errors = onnx_quantize.node_errors(prepared, made, COUNTED, inputs)
    assert errors["a"] > NODE_TOLERANCE > errors["y"]
    with pytest.raises(ConversionError, match=r"node 'a' alone is .* % off in int8") as caught:
        onnx_precision._run_checked(onnx_graph.serialize(made), inputs, errors)
    assert caught.value.failure.kind == "parity_failed"


def test_cosine_is_a_bar_of_its_own() -> None:
    reference = [np.array([[1.0, -1.0, 0.2]], np.float32)]
    output = [np.array([[0.2, -0.2, 1.0]], np.float32)]
    assert compare(reference, output, 1.0).passed
    judged = compare(reference, output, 1.0, least_cosine=LEAST_COSINES["int8"])
    assert not judged.passed
    assert compare(reference, reference, 1.0, least_cosine=LEAST_COSINES["int8"]).passed


@pytest.mark.parametrize("block", ["wide", "healthy"])
def test_tensorrt_builds_its_flavour(graphs: ModuleType, block: str) -> None:
    """Only the builder knows whether it takes a graph's pairs; it needs no GPU for that."""
    trt = pytest.importorskip("tensorrt_rtx", reason="the trt extra is not installed")
    prepared = onnx_quantize.prepared(getattr(graphs, block)())
    made = onnx_quantize.quantize(prepared, "trt", inputs_of(prepared))
    assert _built(trt, onnx_graph.serialize(made)) > 0


def _built(trt: ModuleType, data: bytes) -> int:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, logger).parse(data)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    return int(engine.nbytes) if engine is not None else 0
