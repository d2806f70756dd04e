"""`doctor` and `list` on engines: the builder, its targets, the GPU and the CUDA binding."""

from __future__ import annotations

import json

import pytest

from commands import engines
from converters import tensorrt_package
from runners import cuda, environment


@pytest.fixture
def machine(monkeypatch):
    """Pretends to a machine with these builders, targets, GPUs and bindings."""

    def pretend(*, packages=(), targets=(), gpus=(), bindings=()) -> None:
        monkeypatch.setattr(tensorrt_package, "installed", lambda: tuple(packages))
        monkeypatch.setattr(engines, "_version", lambda package: "1.2.3")
        monkeypatch.setattr(engines, "targets", lambda package: tuple(targets))
        monkeypatch.setattr(environment, "describe_gpus", lambda: list(gpus))
        monkeypatch.setattr(cuda, "installed", lambda: tuple(bindings))

    return pretend


def findings(project) -> dict[str, dict[str, str]]:
    found = json.loads(project.bench("doctor", "--json").out)["findings"]
    return {finding["area"]: finding for finding in found}


def test_nothing_there(project, machine):
    machine()
    found = findings(project)
    assert found["engine builder"]["state"] == "missing"
    assert found["engine builder"]["fix"] == "pip install '.[trt]'"
    assert found["gpu"]["state"] == "missing"
    assert "bundle" in found["gpu"]["fix"]
    assert found["cuda binding"]["state"] == "missing"


def test_a_builder_for_other_gpus_and_no_gpu(project, machine):
    machine(packages=("tensorrt_rtx",), targets=("sm86", "sm89"), bindings=("cuda-bindings", "pycuda"))
    found = findings(project)
    assert found["engine builder"]["state"] == "ok"
    assert "tensorrt_rtx 1.2.3 builds for sm86, sm89" in found["engine builder"]["message"]
    assert found["gpu"]["state"] == "missing"
    assert found["cuda binding"]["message"] == "cuda-bindings 1.2.3 is what runners use"


def test_a_builder_for_the_gpu_here(project, machine):
    gpu = {"name": "NVIDIA H200", "target": "sm90", "driver": "570.1", "memory_bytes": 1}
    machine(packages=("tensorrt",), gpus=(gpu,))
    found = findings(project)
    assert "for the GPU here alone" in found["engine builder"]["message"]
    assert found["gpu"]["message"] == "NVIDIA H200 (sm90, driver 570.1)"


def test_a_builder_that_cannot_be_imported(project, machine, monkeypatch):
    def broken(package: str) -> tuple[str, ...]:
        raise OSError("libnvinfer.so: cannot open shared object file")

    machine(packages=("tensorrt",))
    monkeypatch.setattr(engines, "targets", broken)
    found = findings(project)["engine builder"]
    assert found["state"] == "missing"
    assert "libnvinfer.so" in found["message"]
    assert found["fix"]


def test_where_the_full_package_is_broken_the_other_one_builds(project, machine, monkeypatch):
    def targets(package: str) -> tuple[str, ...]:
        if package == "tensorrt":
            raise RuntimeError("libnvinfer.so.10 is of another version")
        return ("sm89",)

    machine(packages=("tensorrt", "tensorrt_rtx"))
    monkeypatch.setattr(engines, "targets", targets)
    told = json.loads(project.bench("doctor", "--json").out)["findings"]
    builders = [finding for finding in told if finding["area"].startswith("engine builder")]
    assert [finding["state"] for finding in builders] == ["missing", "ok", "note"]
    assert "libnvinfer.so.10 is of another version" in builders[0]["message"]
    assert builders[2]["message"].startswith(
        "tensorrt is broken, so tensorrt_rtx builds for the GPU here too"
    )


def test_backends_say_what_builds_and_devices_what_an_engine_is_for(project, machine):
    gpu = {"name": "NVIDIA H200", "target": "sm90", "driver": "570.1", "memory_bytes": 1}
    machine(packages=("tensorrt_rtx",), gpus=(gpu,))
    rows = json.loads(project.bench("list", "backends", "--json").out)["backends"]
    trt = next(row for row in rows if row["name"] == "trt")
    assert trt["builder"] == "tensorrt_rtx 1.2.3"
    assert trt["devices"] == ["cuda"]
    assert "does not run on device" not in trt["here"]
    streams = {"default": 1, "allowed": "a whole number from 1 to 64"}
    assert streams.items() <= trt["options"]["streams"].items()
    assert (
        "--runtime sync: how the host waits; one of spin, block (default spin)"
        in project.bench("list", "backends").out
    )
    (_, device) = json.loads(project.bench("list", "devices", "--json").out)["devices"]
    assert (device["name"], device["target"]) == ("cuda:0", "sm90")
    assert "cuda:0  NVIDIA H200, sm90" in project.bench("list", "devices").out


def test_the_builder_here_tells_its_own_targets():
    if not tensorrt_package.installed():
        pytest.skip("no TensorRT package is installed: pip install '.[trt]'")
    package = tensorrt_package.installed()[-1]
    found = engines.targets(package)
    assert package == "tensorrt" or "sm89" in found
