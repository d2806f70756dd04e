"""coremltools' own remote client, unmodified, against a stand-in `xcrun` and `devicectl` on PATH.

One thing cannot be had on Linux and is replaced: `compile_model`, which is Apple's compiler.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from device_agents.problems import DeviceProblem

coremltools = pytest.importorskip("coremltools")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

STAND_IN = Path(__file__).parent / "stand_in_modelrunner.py"
UDID = "00008110-001A2B3C4D5E6F70"


@pytest.fixture
def phone(tmp_path, monkeypatch):
    programs, phone = tmp_path / "bin", tmp_path / "phone"
    programs.mkdir()
    phone.mkdir()
    for name in ("xcrun", "devicectl"):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_IN} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_PHONE", str(phone))
    return phone


@pytest.fixture
def device(phone, tmp_path):
    """A connected phone with a session, as `prepare_for_model_debugging` leaves it behind Xcode's build."""
    from device_agents.coremltools_remote import connected_phones

    (found,) = connected_phones()
    session = found._install_and_launch_app(tmp_path / "ModelRunner.app", tmp_path)
    yield dataclasses.replace(found, session=session)
    session.stop()
    session._process.wait()
    for stream in (session._process.stdin, session._process.stdout, session._process.stderr):
        stream.close()


@pytest.fixture
def model(tmp_path, monkeypatch):
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types
    from coremltools.models.ml_program.experimental import async_wrapper

    def compile_model(model, destination_path):
        Path(destination_path).mkdir(parents=True)
        (Path(destination_path) / "model.mil").write_text("compiled")

    monkeypatch.setattr(async_wrapper, "compile_model", compile_model)

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 3, 8, 8), dtype=types.fp32)])
    def program(x):
        return Builder.relu(x=x)

    return coremltools.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
        compute_units=coremltools.ComputeUnit.CPU_AND_NE,
    )


def measure(model, device):
    from device_agents.coremltools_remote import benchmark

    name = model.get_spec().description.input[0].name
    inputs = {name: np.ones((1, 3, 8, 8), np.float32)}
    return asyncio.run(benchmark(model, device, inputs, loads=2, predictions=3))


def test_the_unmodified_client_gives_the_phones_nanoseconds(phone, device, model):
    from device_agents.coremltools_remote import round_of

    samples = measure(model, device)
    assert samples.load_ns == (50_000_001, 50_000_002)
    assert samples.warmup_ns == 2_000_001
    assert samples.samples_ns == (2_000_002, 2_000_003, 2_000_004)
    found = round_of(samples, device, "CPU_AND_NE", version=coremltools.__version__)
    assert found.protocol.compute_unit == "cpuAndNeuralEngine"
    assert "idles" in found.protocol.sync
    assert found.flags == ("other_tool",)
    assert UDID not in json.dumps(found.to_dict())
    methods = (phone / "methods").read_text().split()
    assert methods.count("MLModelService.Prediction") == 4
    assert methods.count("MLModelService.Load") == 2


def test_an_error_of_the_app_is_a_named_problem_without_the_identifier(phone, device, model):
    (phone / "error").write_text(f"the device was not, or could not be, unlocked {UDID}")
    with pytest.raises(DeviceProblem) as caught:
        measure(model, device)
    assert caught.value.name == "locked"
    assert UDID not in str(caught.value)


def test_without_devicectl_it_says_what_to_install(monkeypatch, tmp_path):
    from coremltools.models.ml_program.experimental.remote_device import _DeviceCtl

    from device_agents.coremltools_remote import connected_phones

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_DeviceCtl, "_validation_done", False)
    with pytest.raises(DeviceProblem) as caught:
        connected_phones()
    assert caught.value.name == "tool_missing"


def test_agent_run_takes_packages_this_way(phone, model, tmp_path, monkeypatch, capsys):
    """All but Xcode's build of coremltools' app, for which the stand-in has an installed one."""
    from bench import main
    from device_agents import coremltools_remote, drivers

    package = tmp_path / "tiny.mlpackage"
    model.save(str(package))
    sessions = []

    async def prepared(device, *, team):
        assert team == "TEAM"
        sessions.append(device._install_and_launch_app(tmp_path / "ModelRunner.app", tmp_path))
        return dataclasses.replace(device, session=sessions[0])

    monkeypatch.setattr(coremltools_remote, "prepared", prepared)
    monkeypatch.setattr("device_agents.coremltools_jobs.PREDICTIONS", 3)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert not drivers.COREMLTOOLS.missing()
    places = ("--store", str(tmp_path / "s.db"), "--outbox", str(tmp_path / "box"), "--json")
    command = ["agent", "run", str(package), "--driver", "coremltools", *places]
    assert main(command) == 2
    assert "--team ID is missing" in capsys.readouterr().err
    code = main([*command, "--team", "TEAM"])
    told = json.loads(capsys.readouterr().out)
    for session in sessions:
        session.stop()
        session._process.wait()
        for stream in (session._process.stdin, session._process.stdout, session._process.stderr):
            stream.close()
    assert code == 0
    (case,) = told["cases"]
    assert case["rounds"] == 1
    assert case["flags"] == ["other_tool"]
    assert case["median_ns"] == 2_000_003
    assert b"TEAM" not in (tmp_path / "s.db").read_bytes()
