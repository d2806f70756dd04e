"""The names that the runner uses, in the real package; no engine is loaded, which needs a driver."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners import trt_layers, trt_loading, trt_tensors
from runners.runner import RunnerError

NAMES = {
    "ICudaEngine": (
        "num_io_tensors",
        "num_optimization_profiles",
        "get_tensor_name",
        "get_tensor_mode",
        "get_tensor_dtype",
        "get_tensor_shape",
        "get_tensor_profile_shape",
        "create_engine_inspector",
        "create_execution_context",
    ),
    "IExecutionContext": (
        "profiler",
        "set_optimization_profile_async",
        "set_input_shape",
        "infer_shapes",
        "get_tensor_shape",
        "set_tensor_address",
        "execute_async_v3",
    ),
    "EngineInspector": ("get_engine_information",),
    "Runtime": ("deserialize_cuda_engine",),
    "IProfiler": ("report_layer_time",),
    "LayerInformationFormat": ("JSON",),
    "TensorIOMode": ("INPUT", "OUTPUT"),
}


@pytest.fixture(scope="module", params=trt_loading.PACKAGES)
def trt(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


def test_every_name_is_there(trt: Any) -> None:
    for kind, names in NAMES.items():
        for name in names:
            assert hasattr(getattr(trt, kind), name), f"{kind}.{name}"
    assert set(trt_tensors.HOST_TYPES) <= set(trt.DataType.__members__)


def test_rtx_compiles_for_dynamic_shapes_while_loading() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert "EAGER" in rtx.DynamicShapesKernelSpecializationStrategy.__members__
    assert hasattr(rtx.ICudaEngine, "create_runtime_config")
    assert hasattr(rtx.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(rtx.IExecutionContext, "is_stream_capturable")


def test_a_file_that_is_no_engine_is_refused_by_the_real_package(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "no.engine"
    path.write_bytes(b"no engine at all")
    with pytest.raises(RunnerError, match=rf"{trt.__name__} {trt.__version__}") as caught:
        trt_loading.load_engine(path, [trt.__name__])
    assert caught.value.kind == "load"
    assert "build it here" in caught.value.advice


def test_a_profiler_of_the_real_package_adds_up_layers(trt: Any) -> None:
    """The base class is the package's; what reports to it here is this test."""
    context = SimpleNamespace(profiler=None)

    def run(number: int) -> None:
        for name, ms in (("conv", 0.1 + 0.01 * number), ("gemm", 0.02), ("conv", 0.1)):
            context.profiler.report_layer_time(name, ms)

    found = trt_layers.profile(trt, context, run)
    assert list(found) == ["conv", "gemm"]
    assert found["conv"] == pytest.approx(245_000, abs=1)
    assert found["gemm"] == 20_000


def test_layers_that_change_from_run_to_run_are_refused() -> None:
    trt = SimpleNamespace(IProfiler=type("IProfiler", (), {}))
    context = SimpleNamespace(profiler=None)
    with pytest.raises(RunnerError, match="differ between inferences"):
        trt_layers.profile(
            trt, context, lambda number: context.profiler.report_layer_time(f"layer {number}", 1.0)
        )


@pytest.mark.parametrize(("builder", "words"), [("onnxruntime 1.31", "onnxruntime"), ("nothing", "nothing")])
def test_an_unknown_builder_is_named(builder: str, words: str) -> None:
    with pytest.raises(RunnerError, match=words):
        trt_loading.candidates(builder)


def test_the_builder_s_package_is_the_only_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_loading, "find_spec", lambda name: object())
    assert trt_loading.candidates("tensorrt_rtx 1.7.1.116") == ("tensorrt_rtx",)
    assert trt_loading.candidates("") == trt_loading.PACKAGES
    monkeypatch.setattr(trt_loading, "find_spec", lambda name: None)
    for builder in ("", "tensorrt 10.3"):
        with pytest.raises(RunnerError, match="installed") as caught:
            trt_loading.candidates(builder)
        assert caught.value.kind == "unavailable"
        assert "pip install" in caught.value.advice


@pytest.mark.parametrize(
    "text", ["no json", "[]", '{"Layers": ["name only"]}', '{"Layers": [{"Name": "a"}]}']
)
def test_an_inspector_that_tells_no_types_tells_none(text: str) -> None:
    inspector = SimpleNamespace(get_engine_information=lambda format: text)
    trt = SimpleNamespace(LayerInformationFormat=SimpleNamespace(JSON=1))
    assert trt_layers.executed_types(trt, SimpleNamespace(create_engine_inspector=lambda: inspector)) == ()
    assert trt_layers.executed_types(trt, SimpleNamespace(create_engine_inspector=lambda: None)) == ()
