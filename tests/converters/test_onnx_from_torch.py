"""ONNX conversion end to end: the ledger, the file, the fallback between exporters, and every failure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from converters import onnx_exporters, onnx_from_torch, onnx_graph
from converters.artifact import ConversionError, ConversionRequest, TensorInfo
from converters.files import sha256_of
from converters.keys import OPSET, cache_key
from models.errors import ModelError
from models.spec import ModelSpec

UseNetwork = Callable[[object], None]


class Net(nn.Module):
    """Convolution, then whatever the test is about, in a module of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(32, 8, 1), nn.ReLU())
        self.body = nn.Sequential(Apply(function))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_block(request_onnx: ConversionRequest, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    artifact = onnx_from_torch.convert(request_onnx, folder, on_step=seen.append)
    assert seen == ["eager", "fused", "exported", "simplified"]
    assert [step.name for step in artifact.steps] == ["fused", "exported", "simplified"]
    assert all(step.parity.passed and step.parity.max_relative < 5e-6 for step in artifact.steps)
    assert all(step.duration_ns > 0 for step in artifact.steps)
    assert artifact.parity is artifact.steps[-1].parity
    exported = artifact.steps[1]
    assert exported.tool == f"torch.onnx TorchScript {torch.__version__} opset {OPSET}"
    assert exported.note == "first choice; dynamo not needed"
    assert artifact.batchnorms_left == 0
    assert artifact.folded == {"bn_conv": 1, "conv_bn": 1}
    assert artifact.op_counts["Conv"] == 4
    assert artifact.inputs == (TensorInfo("input", "float32", (1, 32, 7, 7)),)
    assert artifact.outputs == (TensorInfo("output", "float32", (1, 32, 7, 7)),)
    assert artifact.params_m > 0
    assert artifact.gmacs > 0
    assert artifact.conversion_ns > sum(step.duration_ns for step in artifact.steps)
    assert (artifact.sha256, artifact.tensors_sha256) == (
        sha256_of(artifact.path),
        sha256_of(artifact.tensors),
    )
    assert capfd.readouterr() == ("", "")


def test_the_file_gives_the_reference_in_an_optimizing_session(
    request_onnx: ConversionRequest, folder: Path
) -> None:
    artifact = onnx_from_torch.convert(request_onnx, folder)
    session = ort.InferenceSession(artifact.path, providers=["CPUExecutionProvider"])
    with np.load(artifact.tensors) as tensors:
        assert sorted(tensors) == ["input_0", "input_1", "reference_0", "reference_1"]
        for k in range(2):
            output = session.run(None, {"input": tensors[f"input_{k}"]})[0]
            np.testing.assert_allclose(output, tensors[f"reference_{k}"], rtol=1e-4, atol=1e-4)


def test_the_file_describes_itself_and_nothing_else(request_onnx: ConversionRequest, folder: Path) -> None:
    proto = onnx.load(onnx_from_torch.convert(request_onnx, folder).path)
    facts = {entry.key.removeprefix("deploybench."): entry.value for entry in proto.metadata_props}
    assert facts.keys() == {"key", "model", "batch_size", "precision", "computes", "fused"}
    assert facts["key"] == cache_key(request_onnx)
    assert ModelSpec.from_dict(json.loads(facts["model"])) == request_onnx.model
    assert facts["fused"] == "true"
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", OPSET)]
    assert str(Path(torch.__file__).parent).encode() not in proto.SerializeToString()


def test_equal_requests_give_equal_bytes(request_onnx: ConversionRequest, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(onnx_from_torch.convert(request_onnx, tmp_path / name))
    assert made[0].sha256 == made[1].sha256
    assert made[0].tensors_sha256 == made[1].tensors_sha256


def test_unfused_keeps_the_batchnorm_that_only_algebra_removes(
    request_onnx: ConversionRequest, folder: Path
) -> None:
    artifact = onnx_from_torch.convert(dataclasses.replace(request_onnx, fused=False), folder)
    assert [step.name for step in artifact.steps] == ["exported", "simplified"]
    assert artifact.op_counts["BatchNormalization"] == artifact.batchnorms_left == 1
    assert artifact.folded == {}


def test_batch_size(request_onnx: ConversionRequest, folder: Path) -> None:
    single = onnx_from_torch.convert(request_onnx, folder)
    artifact = onnx_from_torch.convert(dataclasses.replace(request_onnx, batch_size=3), folder)
    assert artifact.inputs[0].shape == (3, 32, 7, 7)
    assert artifact.gmacs == single.gmacs  # at batch 1, whatever the batch


def test_next_vit_small(folder: Path) -> None:
    """All 61 BatchNorms gone, attention still made of standard operators."""
    request = ConversionRequest(ModelSpec.of("nextvit_small", resolution=64), "onnx", input_count=1)
    artifact = onnx_from_torch.convert(request, folder)
    assert artifact.batchnorms_left == 0
    assert sum(artifact.op_counts.values()) <= 290
    assert artifact.op_counts["Softmax"] == 4
    assert artifact.parity.max_relative < 1e-5
    assert artifact.params_m == pytest.approx(31.73, abs=0.01)  # 31.76 with what fusion takes in


def test_gelu_is_one_operator(folder: Path) -> None:
    spec = ModelSpec.of("block/efficientformer4d", resolution=7, in_channels=32)
    artifact = onnx_from_torch.convert(ConversionRequest(spec, "onnx", input_count=1), folder)
    assert artifact.op_counts["Gelu"] == 1
    assert "Erf" not in artifact.op_counts


def test_attention_stays_portable(folder: Path) -> None:
    """onnxsim's own default would make it com.microsoft.Attention, which other runtimes refuse."""
    spec = ModelSpec.of("timm/nextvit_small", resolution=32)
    artifact = onnx_from_torch.convert(ConversionRequest(spec, "onnx", input_count=1), folder)
    proto = onnx.load(artifact.path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert artifact.toolchain.keys() >= {"timm", "torch", "onnxsim"}


def test_second_exporter_takes_over(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    network_named(Net(torch.expm1))  # no TorchScript symbolic, but a dynamo one
    exported = onnx_from_torch.convert(request_onnx, folder).steps[1]
    assert exported.tool == f"torch.onnx dynamo {torch.__version__} opset {OPSET}"
    assert "torchscript not used" in exported.note
    assert "aten::expm1" in exported.note


def test_operator_without_onnx_is_placed(
    request_onnx: ConversionRequest,
    folder: Path,
    network_named: UseNetwork,
    capfd: pytest.CaptureFixture[str],
) -> None:
    network_named(Net(lambda x: torch.lgamma(x + 1)))
    with pytest.raises(ConversionError) as caught:
        onnx_from_torch.convert(request_onnx, folder)
    failure = caught.value.failure
    assert (failure.kind, failure.step) == ("export_failed", "exported")
    assert failure.operator.endswith("lgamma")
    assert failure.module == "body.0"
    assert failure.source_line.startswith(f"{__file__}:")
    assert "torchscript: " in failure.message
    assert "dynamo: " in failure.message
    assert failure.advice
    assert capfd.readouterr() == ("", "")  # TorchScript prints the graph from C++


def test_exporter_of_wrong_files_is_passed_over(
    request_onnx: ConversionRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporters = dict(onnx_exporters.EXPORTERS)
    monkeypatch.setattr(
        onnx_from_torch, "EXPORTERS", {**exporters, "torchscript": wrong(exporters["torchscript"])}
    )
    exported = onnx_from_torch.convert(request_onnx, folder).steps[1]
    assert "dynamo" in exported.tool
    assert "outputs differ from the eager model's" in exported.note


def test_wrong_files_of_every_exporter_fail_parity_at_a_module(
    request_onnx: ConversionRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporters = {name: wrong(export) for name, export in onnx_exporters.EXPORTERS.items()}
    monkeypatch.setattr(onnx_from_torch, "EXPORTERS", exporters)
    with pytest.raises(ConversionError) as caught:
        onnx_from_torch.convert(request_onnx, folder)
    failure = caught.value.failure
    assert (failure.kind, failure.step) == ("parity_failed", "exported")
    assert failure.module == "mhca" or failure.module.startswith("mhca.")
    assert [step.name for step in failure.steps] == ["fused", "exported"]
    assert failure.steps[-1].first_divergence == failure.module
    assert not failure.steps[-1].parity.passed


def wrong(
    export: Callable[[nn.Module, Tensor], onnx_exporters.Exported],
) -> Callable[[nn.Module, Tensor], onnx_exporters.Exported]:
    """An exporter whose first convolution has other weights."""

    def export_wrongly(net: nn.Module, example: Tensor) -> onnx_exporters.Exported:
        exported = export(net, example)
        name = next(node for node in exported.proto.graph.node if node.op_type == "Conv").input[1]
        weight = next(tensor for tensor in exported.proto.graph.initializer if tensor.name == name)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, name))
        return exported

    return export_wrongly


def test_wrong_fusion_fails_at_the_fused_step(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(32, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

        def fuse(self) -> nn.Module:
            self.conv.weight.data.mul_(1.1)
            return self

    network_named(nn.Sequential(nn.ReLU(), Wrong(), nn.Conv2d(8, 8, 1)).eval())
    with pytest.raises(
        ConversionError, match=r"the fused model's outputs differ .* first in 1\.conv"
    ) as caught:
        onnx_from_torch.convert(request_onnx, folder)
    assert caught.value.failure.kind == "parity_failed"
    assert caught.value.failure.step == "fused"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Conv2d(3, 8, 1), "does not run on a 1x32x7x7 input"),
        (Net(lambda x: (x, x)), "returns 2 outputs; one tensor is supported"),
        (Net(lambda x: x / 0), "not finite"),
    ],
)
def test_networks_that_cannot_be_measured(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork, net: nn.Module, message: str
) -> None:
    network_named(net.eval())
    with pytest.raises(ConversionError, match=message) as caught:
        onnx_from_torch.convert(request_onnx, folder)
    assert (caught.value.failure.kind, caught.value.failure.step) == ("bad_input", "eager")
    assert list(folder.iterdir()) == []


def test_unknown_model_is_the_models_own_error(folder: Path) -> None:
    with pytest.raises(ModelError, match="block/ncc"):
        onnx_from_torch.convert(ConversionRequest(ModelSpec.of("block/ncc"), "onnx"), folder)


def test_weights_beyond_two_gigabytes_are_refused(
    request_onnx: ConversionRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_from_torch, "MAX_BYTES", 1000)
    with pytest.raises(ConversionError, match="an ONNX file holds at most") as caught:
        onnx_from_torch.convert(request_onnx, folder)
    assert caught.value.failure.kind == "unsupported"


def test_operator_outside_the_standard_is_refused() -> None:
    node = onnx.helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")
    value = {name: onnx.helper.make_tensor_value_info(name, 1, [4, 4]) for name in "xy"}
    graph = onnx.helper.make_graph([node], "g", [value["x"]], [value["y"]])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    with pytest.raises(ConversionError, match=r"outside the ONNX standard: com\.microsoft\.FusedMatMul"):
        onnx_graph.simplify(onnx.helper.make_model(graph, opset_imports=opsets))


def test_invalid_graph_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["nothing"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([node], "g", [], [output])
    with pytest.raises(ConversionError, match=r"onnx\.checker"):
        onnx_graph.check(onnx.helper.make_model(graph))


def test_other_weights_are_another_file(request_onnx: ConversionRequest, tmp_path: Path) -> None:
    made = set()
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        spec = dataclasses.replace(request_onnx.model, weights=f"random:{seed}")
        request = ConversionRequest(spec, "onnx", input_count=1)
        made.add(onnx_from_torch.convert(request, tmp_path / str(seed)).sha256)
    assert len(made) == 2


class Amplifier(nn.Module):
    """The logistic map doubles an error each time: eager fp32 itself is far off its float64 result."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.times = times
        with torch.no_grad():
            self.norm.running_var.uniform_(0.5, 1.5)
            self.norm.weight.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = 0.5 + 0.5 * x / (1 + x.abs())  # exact to a digit in every runtime, as a sigmoid is not
        for _ in range(self.times):
            x = 4 * x * (1 - x)
        return x


def test_tolerance_follows_a_networks_own_rounding(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    torch.manual_seed(0)
    network_named(Amplifier(9).eval())
    fused = onnx_from_torch.convert(request_onnx, folder).steps[0]
    assert 1e-4 < fused.parity.max_relative < fused.parity.tolerance <= 1e-2
    assert "tolerance widened: eager fp32 is" in fused.note


def test_tolerance_is_never_widened_without_bound(
    request_onnx: ConversionRequest, folder: Path, network_named: UseNetwork
) -> None:
    torch.manual_seed(0)
    network_named(Amplifier(24).eval())
    with pytest.raises(ConversionError, match="tolerance 1e-02") as caught:
        onnx_from_torch.convert(request_onnx, folder)
    assert caught.value.failure.kind == "parity_failed"


def test_runtime_that_refuses_the_file_is_a_failure_with_both_reasons(
    request_onnx: ConversionRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(net: nn.Module, example: Tensor) -> onnx_exporters.Exported:
        exported = onnx_exporters.export_torchscript(net, example)
        exported.proto.graph.node[0].op_type = "Konv"
        return exported

    monkeypatch.setattr(onnx_from_torch, "EXPORTERS", {"torchscript": broken, "dynamo": broken})
    with pytest.raises(ConversionError, match=r"torchscript: .*Konv.* dynamo: .*Konv") as caught:
        onnx_from_torch.convert(request_onnx, folder)
    assert caught.value.failure.kind == "export_failed"


def test_judged_inputs_lie_beside_the_timed_ones(folder: Path) -> None:
    """A further draw of the same inputs, with the eager network's outputs."""
    request = ConversionRequest(
        ModelSpec.of("block/bottleneck", resolution=7, in_channels=32), "onnx", batch_size=3, input_count=2
    )
    with np.load(onnx_from_torch.convert(request.judged, folder).tensors) as file:
        judged = {name: file[name] for name in file.files}
    other = folder / "other"
    other.mkdir()
    with np.load(onnx_from_torch.convert(dataclasses.replace(request, input_count=6), other).tensors) as file:
        timed = {name: file[name] for name in file.files}
    assert len(judged) == len(timed) == 12
    for name, value in timed.items():
        kind, number = name.rsplit("_", 1)
        same = f"judged_{kind}_{int(number) - 2}" if int(number) >= 2 else name
        np.testing.assert_array_equal(judged[same], value)
