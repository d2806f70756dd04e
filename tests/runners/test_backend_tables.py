"""The literal tables of backends, the answer whether one can run here, and the lightness of it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runners
from models.spec import PRECISIONS
from models.tables import UnknownNameError
from runners import BACKENDS, RUNNERS, BackendInfo, availability, backend_info, parse_device, probe
from runners.options import OPTIONS, OptionError, read

ROOT = Path(runners.__file__).resolve().parent.parent


def test_tables_agree() -> None:
    assert list(RUNNERS) == [name for name in BACKENDS if name != "coreml"]  # only agents run that
    for name, info in BACKENDS.items():
        assert info.name == name
        assert info.artifact_kind in (
            *("onnx", "exported_program", "engine", "mlpackage", "simulation", "none"),
        )
        assert set(info.precisions) <= set(PRECISIONS)
        assert info.real == (info.artifact_kind not in ("simulation", "none"))


def test_every_options_default_is_one_of_its_values() -> None:
    assert {name: info.options for name, info in BACKENDS.items() if info.options} == OPTIONS
    for info in BACKENDS.values():
        for name, option in info.options.items():
            assert option.read(name, option.default) == option.default
            assert set(option.excludes) <= set(info.options)
            assert set(option.devices) <= set(info.devices)


def test_choices_of_the_table_are_those_of_the_runners() -> None:
    ort_session = pytest.importorskip("runners.ort_session", reason="onnxruntime is not installed")
    from runners import cuda

    assert tuple(ort_session.LEVELS) == OPTIONS["onnxruntime"]["graph_optimization"].choices
    assert tuple(cuda.BINDINGS) == OPTIONS["trt"]["cuda_binding"].choices


@pytest.mark.parametrize(
    ("backend", "given", "found"),
    [
        ("trt", {"streams": "4"}, {"streams": 4}),
        ("trt", {"cuda_graph": "true"}, {"cuda_graph": True}),
        ("openvino", {"ENABLE_CPU_PINNING": True}, {"ENABLE_CPU_PINNING": "true"}),
        ("trt", {"transfers": "both", "streams": 1}, {"transfers": "both"}),
    ],
)
def test_values_are_read_in_the_type_of_the_default(backend: str, given: Any, found: Any) -> None:
    defaults = {name: option.default for name, option in OPTIONS[backend].items()}
    assert read(OPTIONS[backend], given, device="cuda") == {**defaults, **found}


@given(st.sampled_from(sorted(OPTIONS)), st.text(max_size=8), st.text() | st.integers() | st.booleans())
def test_any_name_and_value_is_read_or_refused(backend: str, name: str, value: str | int | bool) -> None:
    for asked in (name, *OPTIONS[backend]):
        try:
            found = read(OPTIONS[backend], {asked: value}, device="cuda")
        except OptionError as error:
            told = f"{error} {error.advice}"
            assert asked in told
        else:
            assert found.keys() == OPTIONS[backend].keys()
            assert str(found[asked]).lower() == str(value).lower() or int(found[asked]) == int(value)


@pytest.mark.parametrize("name", ["simulated", "null"])
def test_runner_has_the_shape_of_the_protocol(name: str) -> None:
    runner = resolve_name(RUNNERS[name])()
    for method in ("load", "infer", "synchronize", "outputs", "describe", "close"):
        assert callable(getattr(runner, method))
    assert isinstance(runner.clock(), int)
    assert runner.asynchronous is False


@pytest.mark.parametrize(
    "module", ["runners", "runners.suite", "runners.process", "runners.child", "runners.overhead"]
)
def test_importing_imports_no_runtime(module: str) -> None:
    heavy = (
        "torch",
        "timm",
        "pandas",
        "matplotlib",
        "onnxruntime",
        "openvino",
        "onnx",
        "scipy",
        "argparse",
        "logging",
    )
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_for_availability_imports_no_runtime() -> None:
    code = (
        "import sys, runners;"
        "[runners.availability(name) for name in runners.BACKENDS];"
        "print([name for name in ('torch', 'onnxruntime', 'openvino', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["simulated", "null", "onnxruntime", "torch"])
def test_what_is_installed_is_available(name: str) -> None:
    assert availability(name) is None


def test_unknown_backend_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="onnxruntime"):
        backend_info("onnxruntme")
    with pytest.raises(UnknownNameError):
        availability("nothing-like-it")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "simulated"])
def test_device_that_a_backend_does_not_have(name: str) -> None:
    reason = availability(name, "tpu")
    assert reason is not None
    assert "tpu" in reason
    assert "cpu" in reason


@pytest.mark.parametrize("device", ["", ":1", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cuda:²"])
def test_malformed_devices(device: str) -> None:
    with pytest.raises(ValueError, match="cuda:1"):
        parse_device(device)
    assert "cuda:1" in (availability("torch", device) or "")


def test_devices_are_parsed() -> None:
    assert parse_device("cpu") == ("cpu", 0)
    assert parse_device("cuda") == ("cuda", 0)
    assert parse_device("cuda:12") == ("cuda", 12)


def test_missing_package_names_the_fix() -> None:
    info = BackendInfo("x", "onnx", "surely_not_installed", "")
    assert "pip install surely_not_installed" in (probe.reason(info, "cpu") or "")
    extra = BackendInfo("x", "onnx", "surely_not_installed", "", extra="openvino")
    assert "deploybench[openvino]" in (probe.reason(extra, "cpu") or "")


def test_missing_compiler_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "g++" in (availability("torch-compile") or "")
    monkeypatch.setenv("CXX", "special-compiler")
    assert "special-compiler" in (availability("torch-compile") or "")
    assert availability("torch") is None


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_cuda_without_a_driver_names_the_fix(name: str) -> None:
    assert "NVIDIA" in (availability(name, "cuda") or "")


def test_package_without_cuda_support_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "package_folder", lambda package: tmp_path)
    monkeypatch.setattr(Path, "exists", lambda path: str(path).startswith("/dev"))
    assert "onnxruntime-gpu" in (availability("onnxruntime", "cuda") or "")


def test_any_one_of_several_packages_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = BackendInfo("x", "onnx", "surely_not_installed", "", alternatives=("nor_this",), extra="trt")
    assert "surely_not_installed' or 'nor_this" in (probe.reason(info, "cpu") or "")
    monkeypatch.setattr(probe, "package_folder", lambda name: tmp_path if name == "nor_this" else None)
    assert probe.reason(info, "cpu") is None


def test_trt_without_a_binding_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "package_folder", lambda package: tmp_path)
    monkeypatch.setattr(probe, "findable", lambda package: False)
    monkeypatch.setattr(Path, "exists", lambda path: str(path).startswith("/dev"))
    assert "pip install cuda-bindings" in (availability("trt", "cuda") or "")


def test_dotted_packages_are_looked_for_without_importing_them() -> None:
    assert probe.findable("xml.dom")
    assert not probe.findable("xml.surely_not_there")
    assert not probe.findable("surely_not_there.at_all")
