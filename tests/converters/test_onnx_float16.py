"""16-bit graphs: types, casts, islands where a value overflows, and a twin that rounds as the file says."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converters import onnx_float16, onnx_graph, onnx_rounding, onnx_types
from converters.artifact import ConversionError
from converters.onnx_cast import lower, prepare
from converters.onnx_float16 import Choice
from converters.parity import TOLERANCES, Array, compare

Graph = onnx.ModelProto


def inputs_of(proto: Graph, count: int = 2) -> tuple[Array, ...]:
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return tuple(np.random.default_rng(k).standard_normal(shape, dtype=np.float32) for k in range(count))


def choose(proto: Graph, precision: str = "fp16", tolerance: float | None = None) -> Choice:
    inputs = inputs_of(proto)
    reference = onnx_graph.run(onnx_graph.serialize(proto), inputs)
    allowed = tolerance or TOLERANCES[precision]
    return onnx_float16.choose(
        proto, precision, inputs, passes=lambda outputs: compare(reference, outputs, allowed).passed
    )


def error(proto: Graph, made: Graph) -> float:
    inputs = inputs_of(proto)
    reference = onnx_graph.run(onnx_graph.serialize(proto), inputs)
    with np.errstate(invalid="ignore"):
        return compare(reference, onnx_rounding.run(made, inputs), 1).max_relative


def operators(proto: Graph) -> list[str]:
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize(("precision", "most"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_healthy_graph_has_no_islands(graphs: ModuleType, precision: str, most: float) -> None:
    proto = graphs.healthy()
    choice = choose(proto, precision)
    made = choice.lowered.proto
    onnx_graph.check(made)
    assert choice.passed
    assert choice.islands == {}
    assert choice.note() == "no node stays fp32"
    assert 1e-5 < error(proto, made) < most
    report = onnx_types.read(made)
    assert report.shares == {precision: 1.0}
    assert operators(made).count("Cast") == 2  # one at each end
    assert {value.type.tensor_type.elem_type for value in (*made.graph.input, *made.graph.output)} == {1}


def test_weights_are_stored_in_the_type_and_shape_arithmetic_is_not_touched(graphs: ModuleType) -> None:
    made = lower(prepare(graphs.healthy(), "fp16"), "fp16").proto
    kinds = {weight.name: weight.data_type for weight in made.graph.initializer}
    half, whole = TensorProto.FLOAT16, TensorProto.INT64
    assert kinds == {"w_fp16": half, "b_fp16": half, "v_fp16": half, "axes": whole}
    stored = set(kinds)
    assert not any(node.op_type == "Cast" and node.input[0] in stored for node in made.graph.node)


def test_the_runtime_hides_an_overflow_that_the_twin_shows(graphs: ModuleType) -> None:
    """Why parity is not taken from running the fp16 file: ONNX Runtime's CPU session computes it well."""
    proto = graphs.wide()
    made = lower(prepare(proto, "fp16"), "fp16").proto
    inputs = inputs_of(proto)
    reference = onnx_graph.run(onnx_graph.serialize(proto), inputs)
    assert compare(reference, onnx_graph.run(onnx_graph.serialize(made), inputs), 1).max_relative < 5e-3
    assert error(proto, made) == 1  # divided by an infinite deviation: nothing but zeros


def test_values_beyond_the_range_become_islands(graphs: ModuleType) -> None:
    proto = graphs.wide()
    choice = choose(proto)
    assert choice.passed
    assert {"square", "variance"} <= choice.islands.keys() <= {"square", "variance", "deviation", "off", "n"}
    assert all(np.isinf(choice.islands[name]) for name in ("square", "variance"))
    assert "of 9 nodes stay fp32: Mul 'square' overflows" in choice.note()
    assert error(proto, choice.lowered.proto) < 5e-3
    report = onnx_types.read(choice.lowered.proto)
    onnx_types.require(report, "fp16", islands=choice.islands)
    assert report.shares == {"fp16": 1.0}
    assert not cancelling_casts(choice.lowered.proto)


def test_bfloat16_has_the_range(graphs: ModuleType) -> None:
    assert choose(graphs.wide(), "bf16").islands == {}


def cancelling_casts(proto: Graph) -> list[str]:
    makers = {name: node for node in proto.graph.node for name in node.output}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "Cast" and node.input[0] in makers and makers[node.input[0]].op_type == "Cast"
    ]


def test_neighbouring_islands_share_fp32_without_casts(graphs: ModuleType) -> None:
    proto = graphs.wide()
    names = [node.name for node in proto.graph.node]
    made = lower(prepare(proto, "fp16"), "fp16", names[1:8]).proto
    assert operators(made).count("Cast") == 4  # input, into the islands, out of them, output
    assert not cancelling_casts(made)
    every = lower(prepare(proto, "fp16"), "fp16", names).proto
    assert "Cast" not in operators(every)


def test_greedy_search_takes_the_worst_and_stops_early(graphs: ModuleType) -> None:
    """A tolerance that only some islands meet: the nodes that are the furthest off alone come first."""
    proto = graphs.healthy()
    whole = choose(proto)
    bar = error(proto, whole.lowered.proto) * 0.7
    choice = choose(proto, tolerance=bar)
    assert choice.passed
    errors = onnx_rounding.node_errors(prepare(proto, "fp16"), "fp16", inputs_of(proto))
    assert 0 < len(choice.islands) < len(errors)
    assert min(choice.islands.values()) >= max(e for name, e in errors.items() if name not in choice.islands)


def test_search_is_bounded_and_its_failure_is_told(graphs: ModuleType) -> None:
    graphs_run = []
    proto = graphs.healthy()

    def passes(outputs: object) -> bool:
        graphs_run.append(outputs)
        return False

    choice = onnx_float16.choose(proto, "fp16", inputs_of(proto), passes=passes)
    assert not choice.passed
    assert choice.islands == {}
    assert len(graphs_run) <= onnx_float16.MAX_GRAPHS + 1


def test_masks_are_clamped_to_the_finite_range(graphs: ModuleType) -> None:
    proto = graphs.masked()
    choice = choose(proto)
    assert choice.lowered.clamped == ("mask",)
    assert choice.islands == {}
    mask = next(w for w in choice.lowered.proto.graph.initializer if w.name == "mask_fp16")
    assert onnx.numpy_helper.to_array(mask).min() == np.finfo(np.float16).min
    assert error(proto, choice.lowered.proto) < 2e-3


def test_infinite_constants_stay_infinite(graphs: ModuleType) -> None:
    proto = graphs.masked()
    mask = next(w for w in proto.graph.initializer if w.name == "mask")
    array = np.where(onnx.numpy_helper.to_array(mask) < 0, -np.inf, 0).astype(np.float32)
    mask.CopyFrom(onnx.numpy_helper.from_array(array, "mask"))
    choice = choose(proto)
    assert (choice.lowered.clamped, choice.passed) == ((), True)


def test_weight_of_an_island_and_of_a_16_bit_node_is_stored_twice(graphs: ModuleType) -> None:
    nodes = [graphs.node("MatMul", ["x", "w"], "a"), graphs.node("MatMul", ["a", "w"], "y")]
    proto = graphs.model(nodes, {"w": graphs.normal(8, 8)}, [2, 8], [2, 8])
    made = lower(prepare(proto, "fp16"), "fp16", ["y"]).proto
    assert {w.name: w.data_type for w in made.graph.initializer} == {"w_fp16": 10, "w": 1}
    assert operators(made) == ["Cast", "MatMul", "Cast", "MatMul"]


SINGLE: dict[str, tuple[str, list[str], dict[str, object], dict[str, np.ndarray], list[int], list[int]]] = {
    "Gelu": ("Gelu", ["x"], {}, {}, [1, 4], [1, 4]),
    "LayerNormalization": (
        "LayerNormalization", ["x", "s", "b"], {"axis": -1},
        {"s": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}, [2, 4], [2, 4],
    ),
    "GroupNormalization": (
        "GroupNormalization", ["x", "s", "b"], {"num_groups": 2},
        {"s": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}, [1, 4, 3, 3], [1, 4, 3, 3],
    ),
    "Resize": (
        "Resize", ["x", "", "scales"], {"mode": "linear"},
        {"scales": np.array([1, 1, 2, 2], np.float32)}, [1, 2, 3, 3], [1, 2, 6, 6],
    ),
    "Pad": (
        "Pad", ["x", "pads", "value"], {},
        {"pads": np.array([0, 1, 0, 1], np.int64), "value": np.array(0.5, np.float32)}, [1, 4], [1, 6],
    ),
    "Clip": (
        "Clip", ["x", "low", "high"], {},
        {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}, [1, 4], [1, 4],
    ),
    "ReduceMean": ("ReduceMean", ["x", "axes"], {}, {"axes": np.array([1], np.int64)}, [2, 4], [2, 1]),
    "Softmax": ("Softmax", ["x"], {"axis": -1}, {}, [2, 4], [2, 4]),
    "ConstantOfShape": (
        "ConstantOfShape", ["shape"], {}, {"shape": np.array([2, 4], np.int64)}, [2, 4], [2, 4],
    ),
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", SINGLE)
def test_operators_with_inputs_of_their_own_types(graphs: ModuleType, name: str, precision: str) -> None:
    operator, operands, attributes, weights, shape, out = SINGLE[name]
    nodes = [graphs.node(operator, operands, "a", **attributes), graphs.node("Relu", ["a"], "y")]
    proto = graphs.model(nodes, weights, shape, out)
    if operator == "GroupNormalization":  # deprecated before opset 21, and ONNX infers no type for it
        proto.opset_import[0].version = 21
        proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, out))
    made = lower(prepare(proto, precision), precision).proto
    onnx_graph.check(made)
    assert error(proto, made) < TOLERANCES[precision] / 10
    assert onnx_types.read(made).nodes == {precision: 2}
    integers = [w for w in made.graph.initializer if w.data_type == TensorProto.INT64]
    assert len(integers) == sum(value.dtype == np.int64 for value in weights.values())


def test_scales_of_resize_stay_fp32(graphs: ModuleType) -> None:
    operator, operands, attributes, weights, shape, out = SINGLE["Resize"]
    proto = graphs.model([graphs.node(operator, operands, "y", **attributes)], weights, shape, out)
    made = lower(prepare(proto, "fp16"), "fp16").proto
    assert [weight.data_type for weight in made.graph.initializer] == [TensorProto.FLOAT]


def test_constant_nodes_and_nameless_nodes(graphs: ModuleType) -> None:
    value = onnx.numpy_helper.from_array(np.array(2, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["two"], value=value),
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Mul", ["a", "two"], ["y"]),
    ]
    prepared = prepare(graphs.model(nodes, {}, [4], [4]), "fp16")
    assert [node.op_type for node in prepared.graph.node] == ["Mul", "Mul"]
    assert len({node.name for node in prepared.graph.node}) == 2
    assert error(prepared, lower(prepared, "fp16").proto) < 1e-3


def test_output_that_is_used_inside_too(graphs: ModuleType) -> None:
    nodes = [graphs.node("Relu", ["x"], "y"), graphs.node("Exp", ["y"], "unused")]
    made = lower(prepare(graphs.model(nodes, {}, [4], [4]), "fp16"), "fp16").proto
    onnx_graph.check(made)
    assert made.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert operators(made) == ["Cast", "Relu", "Cast", "Exp"]


def test_subgraphs_are_refused_by_name(graphs: ModuleType) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_tensor_value_info("r", 1, [4])]
    )
    nodes = [graphs.node("If", ["c"], "y", then_branch=branch, else_branch=branch)]
    proto = graphs.model(nodes, {"c": np.array(True)}, [4], [4])
    with pytest.raises(ConversionError, match="If 'y' holds a graph of its own") as caught:
        prepare(proto, "fp16")
    assert (caught.value.failure.kind, caught.value.failure.operator) == ("unsupported", "If")


def test_node_errors_are_local(graphs: ModuleType) -> None:
    """A node behind one that overflows is measured on the fp32 graph's value, not on infinity."""
    errors = onnx_rounding.node_errors(prepare(graphs.wide(), "fp16"), "fp16", inputs_of(graphs.wide()))
    assert np.isinf(errors["square"])
    assert errors["y"] < 1e-3
    assert errors["a"] < 1e-3


CONSTANTS = {
    "value_float": 0.5,
    "value_floats": [0.5],
    "value": helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5]),
}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("form", CONSTANTS)
def test_constants_in_every_form(precision: str, form: str) -> None:
    """The standard lets a Constant be a tensor, or a number or list that is written as it is."""
    shape = [1, 4, 2, 2]
    nodes = [
        helper.make_node("Constant", [], ["half"], "half", **{form: CONSTANTS[form]}),
        helper.make_node("Mul", ["input", "half"], ["scaled"], "scale"),
        helper.make_node("Constant", [], ["sides"], "sides", value_ints=[1, 16]),
        helper.make_node("Reshape", ["scaled", "sides"], ["flat"], "flatten"),
        helper.make_node("Constant", [], ["axis"], "axis", value_int=1),
        helper.make_node("CumSum", ["flat", "axis"], ["summed"], "sum"),
        helper.make_node("Cast", ["summed"], ["output"], "out", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "constants",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 16])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    made = choose(proto, precision).lowered.proto
    onnx_graph.check(made)
    stored = {weight.name: weight.data_type for weight in made.graph.initializer}
    assert stored[f"half_{precision}"] == onnx_types.TYPE_OF_PRECISION[precision]
    assert (stored["sides"], stored["axis"]) == (TensorProto.INT64, TensorProto.INT64)
    assert "Constant" not in operators(made)
    assert error(proto, made) < TOLERANCES[precision]


def test_sparse_constants_are_refused() -> None:
    dense = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    sparse = helper.make_sparse_tensor(dense, helper.make_tensor("at", TensorProto.INT64, [1], [0]), [4])
    nodes = [
        helper.make_node("Constant", [], ["c"], "few", sparse_value=sparse),
        helper.make_node("Add", ["input", "c"], ["output"], "add"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("input", "output")]
    proto = helper.make_model(helper.make_graph(nodes, "sparse", values[:1], values[1:]))
    with pytest.raises(ConversionError, match="Constant 'few' is a sparse_value") as caught:
        prepare(proto, "fp16")
    assert caught.value.failure.kind == "unsupported"
