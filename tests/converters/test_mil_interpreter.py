"""Whole programs: rounding, image inputs, refusals, and where a program begins to differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import mil_interpreter
from converters.mil_divergence import first_from_eager, first_rounded
from converters.mil_interpreter import PackageError, UnsupportedOpError, evaluate, load, run, run_program
from converters.parity import compare
from converters.quiet import captured
from tests.converters.mil_programs import converted, ct, normal, program

SHAPE = (1, 3, 12, 12)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU())
        self.norm = nn.LayerNorm(8)
        self.heads = nn.ModuleDict({"wide": nn.Linear(8, 16), "narrow": nn.Linear(16, 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (B, N, C)
        return self.heads["narrow"](self.heads["wide"](self.norm(tokens)).softmax(-1)).mean(1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval()


@pytest.fixture(scope="module")
def packages(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return {
        precision: converted(net, SHAPE, folder / f"{precision}.mlpackage", precision=precision)
        for precision in ("fp16", "fp32")
    }


def eager(net: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def test_a_package_computes_what_its_network_does(net, packages):
    inputs = [normal(*SHAPE, seed=seed) for seed in range(2)]
    wanted = [eager(net, x) for x in inputs]
    for rounding in (True, False):
        exact = compare(wanted, run(packages["fp32"], inputs, rounding=rounding), 1)
        assert exact.max_relative < 1e-6
    half = compare(wanted, run(packages["fp16"], inputs, rounding=True), 1)
    weights_only = compare(wanted, run(packages["fp16"], inputs, rounding=False), 1)
    assert 1e-5 < half.max_relative < 5e-3
    assert weights_only.max_relative < half.max_relative


def test_float64_takes_the_rounding_of_fp32_away(net, packages):
    x = normal(*SHAPE)
    with torch.no_grad():
        wanted = Net().double().eval()(torch.from_numpy(x).double()).numpy()
    found = run_program(load(packages["fp32"]), [x], rounding=False, dtype=torch.float64)
    assert compare([wanted], found, 1).max_relative < 2e-7  # the program's constants are fp32


def test_every_result_is_a_number_of_its_declared_type(packages):
    program = load(packages["fp16"])
    steps = list(mil_interpreter.evaluated(program, {program.inputs[0]: normal(*SHAPE)}, rounding=True))
    assert len(steps) > 5
    for step in steps:
        for value in step.outputs.values():
            assert torch.equal(value, value.half().float()), step.operation.op_type


def test_fp16_overflows_as_it_does():
    made = program("mul", {"x": np.float16([300])}, y=np.float16(300))
    feeds = {"in_x": np.float16([300])}
    assert evaluate(made, feeds, rounding=False)["mul_0"].tolist() == [90000]
    assert np.isinf(evaluate(made, feeds, rounding=True)["mul_0"]).all()


def test_one_rounding_after_each_operator():
    """2049 is no fp16 number: it becomes 2048 before 1 is added again."""
    made = program("reduce_sum", {"x": np.float16([2048, 1, 1])}, axes=[0], keep_dims=True)
    (total,) = evaluate(made, {"in_x": np.float16([2048, 1, 1])}, rounding=True).values()
    assert total.tolist() == [2050]  # summed in fp32 inside the operator
    made = program("add", {"x": np.float16([2048])}, y=np.float16(1))
    (once,) = evaluate(made, {"in_x": np.float16([2048])}, rounding=True).values()
    assert once.tolist() == [2048]


def test_integers_keep_their_type():
    made = program("floor_div", {"x": np.int32([7, -7])}, y=np.int32(2))
    (found,) = evaluate(made, {"in_x": np.int32([7, -7])}, rounding=True).values()
    assert found.tolist() == [3, -4]


def test_an_unknown_operator_is_refused_by_name(packages, monkeypatch):
    known = {name: function for name, function in mil_interpreter.OPS.items() if name != "softmax"}
    monkeypatch.setattr(mil_interpreter, "OPS", known)
    with pytest.raises(
        UnsupportedOpError, match=r"operator softmax \(output '[^']+'\).* known are .*conv"
    ) as refused:
        load(packages["fp16"])
    assert "softmax," not in str(refused.value).partition("known are")[2]


def test_a_result_of_another_shape_than_declared_is_refused(packages, monkeypatch):
    wrong = {**mil_interpreter.OPS, "softmax": lambda call: call.tensor("x")[:, :1]}
    monkeypatch.setattr(mil_interpreter, "OPS", wrong)
    with pytest.raises(UnsupportedOpError, match=r"softmax '.*': the result has shape \(1, 1, 16\)"):
        run(packages["fp16"], [normal(*SHAPE)], rounding=True)


def test_inputs_are_checked(packages):
    made = load(packages["fp16"])
    with pytest.raises(PackageError, match=r"has shape \(1, 3, 12, 12\), and was given \(1, 3, 9, 9\)"):
        run_program(made, [normal(1, 3, 9, 9)], rounding=True)
    with pytest.raises(PackageError, match="was given y"):
        evaluate(made, {"y": normal(*SHAPE)}, rounding=True)
    two = program("add", {"x": normal(2), "y": normal(2)})
    with pytest.raises(PackageError, match="in_x, in_y; one is expected"):
        run_program(two, [normal(2)], rounding=True)


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_an_image_input_takes_pixels(net, tmp_path, layout):
    mean, scale = np.float32([0.5, 0.4, 0.3]), 1 / 255 / 0.25
    image = ct.ImageType(
        name="x",
        shape=SHAPE,
        scale=scale,
        bias=[float(-value / 0.25) for value in mean],
        color_layout=getattr(ct.colorlayout, layout),
    )
    path = converted(net, SHAPE, tmp_path / "image.mlpackage", precision="fp32", inputs=[image])
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.float32)
    ordered = pixels if layout == "RGB" else pixels[:, ::-1]
    normalized = (ordered / 255 - mean.reshape(1, 3, 1, 1)) / np.float32(0.25)
    found = run(path, [pixels], rounding=True)
    assert compare([eager(net, normalized)], found, 1).max_relative < 1e-5
    for wrong in (pixels + 0.5, pixels * 2, np.full_like(pixels, np.nan)):
        with pytest.raises(PackageError, match="whole numbers from 0 to 255"):
            run(path, [wrong], rounding=True)


def test_an_open_batch_takes_any_size(net, tmp_path):
    with torch.no_grad():
        shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
        exported = torch.export.export(net, (torch.zeros(2, 3, 12, 12),), dynamic_shapes=shapes)
    given = ct.TensorType(name="x", shape=(ct.RangeDim(1, 8), 3, 12, 12))
    with captured():
        model = ct.convert(
            exported.run_decompositions({}),
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            inputs=[given],
        )
        model.save(str(tmp_path / "open.mlpackage"))
    for batch in (1, 5):
        x = normal(batch, 3, 12, 12)
        found = run(tmp_path / "open.mlpackage", [x], rounding=True)
        assert compare([eager(net, x)], found, 1).max_relative < 1e-6


def test_no_divergence_where_a_program_agrees(net, packages):
    x = normal(*SHAPE)
    assert first_from_eager(load(packages["fp32"]), x, net, 1e-4) is None
    assert first_rounded(load(packages["fp16"]), x, 0.1) is None


@pytest.mark.parametrize(
    ("parameter", "operator", "scope"),
    [
        ("stem.0.weight", "conv", ""),  # coremltools folds the BatchNorm and drops the names
        ("heads.wide.weight", "linear", "heads.wide"),
        ("heads.narrow.bias", "linear", "heads.narrow"),
    ],
)
def test_the_first_operator_with_other_weights_is_named(packages, parameter, operator, scope):
    """The eager network's parameter is changed; the package keeps the old one."""
    other = Net().eval()
    with torch.no_grad():
        other.get_parameter(parameter).mul_(1.5).add_(0.1)
    found = first_from_eager(load(packages["fp32"]), normal(*SHAPE), other, 1e-4)
    assert found is not None
    assert (found.operator, found.scope) == (operator, scope)
    assert found.difference > 1e-2
    assert str(found).startswith(f"{operator} '{found.output}'")
    assert bool(found.after) is (parameter != "stem.0.weight")


def test_the_package_tells_modules_where_it_can(packages):
    made = load(packages["fp16"])
    linear = next(op for op in made.function.operations if op.op_type == "linear")
    told = dataclasses.replace(made, modules={linear.outputs[0].name: "heads.wide"})
    other = Net().eval()
    with torch.no_grad():
        other.heads["wide"].weight.mul_(2)
    found = first_from_eager(told, normal(*SHAPE), other, 1e-2)
    assert found is not None
    assert found.scope == "heads.wide"


def test_the_first_operator_that_overflows_is_named(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU())
    with torch.no_grad():
        net[1].weight.fill_(60000)
    path = converted(net, (1, 3, 4, 4), tmp_path / "large.mlpackage")
    found = first_rounded(load(path), 100 + normal(1, 3, 4, 4), 0.05)
    assert found is not None
    assert (found.operator, found.scope) == ("conv", "1")
    assert found.difference == float("inf")
