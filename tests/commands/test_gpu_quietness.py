"""What doctor says of a GPU, from a stand-in for NVML: no card is here."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import pytest

from commands import gpu_quietness
from commands.gpu_quietness import Card
from runners import environment


class NVMLError(Exception):
    pass


def card(index: int = 0, **answers: Any) -> Card:
    """A quiet card but for these answers; an exception is raised."""

    def answering(value: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        return call

    values = {
        "PersistenceMode": 1,
        "MaxClockInfo": 0,
        "ClockInfo": 1980,
        "EnforcedPowerLimit": 700_000,
        "PowerManagementDefaultLimit": 700_000,
        "Temperature": 45,
        "CurrentClocksThrottleReasons": 0x01,  # idle
        "ComputeRunningProcesses": [SimpleNamespace(pid=os.getpid())],
        **answers,
    }
    calls = {f"nvmlDeviceGet{name}": answering(value) for name, value in values.items()}
    constants = {"NVML_CLOCK_SM": 1, "NVML_TEMPERATURE_GPU": 0}
    return Card(SimpleNamespace(NVMLError=NVMLError, **constants, **calls), object(), index)


def test_a_quiet_card_has_nothing_to_change():
    assert list(card().findings()) == []


def test_each_thing_is_told_with_its_command():
    noisy = card(
        3,
        PersistenceMode=0,
        MaxClockInfo=1980,
        ClockInfo=1200,
        EnforcedPowerLimit=350_000,
        Temperature=86,
        CurrentClocksThrottleReasons=0x04 | 0x40,
        ComputeRunningProcesses=[SimpleNamespace(pid=12), SimpleNamespace(pid=7)],
    )
    found = list(noisy.findings())
    assert {(one.area, one.state) for one in found} == {("GPU 3", "note")}
    persistence, clock, power, heat, slowed, others = found
    assert persistence.fix == "sudo nvidia-smi -i 3 -pm 1"
    assert "1200 of at most 1980 MHz" in clock.message
    assert clock.fix == "sudo nvidia-smi -i 3 -lgc MHZ,MHZ, afterwards sudo nvidia-smi -i 3 -rgc"
    assert "350 W, below its usual 700 W" in power.message
    assert power.fix == "sudo nvidia-smi -i 3 -pl 700"
    assert "86 °C" in heat.message
    assert slowed.message.endswith("power cap, thermal slowdown (hardware)")
    assert others.message.endswith("7 12")
    assert "kill -STOP 7 12, afterwards kill -CONT 7 12" in others.fix


def test_what_a_card_does_not_tell_is_left_out():
    refused = dict.fromkeys(("PersistenceMode", "MaxClockInfo", "Temperature"), NVMLError("not supported"))
    assert list(card(**refused).findings()) == []


@pytest.fixture
def nvml(monkeypatch, tmp_path):
    """A stand-in for pynvml with a driver beside it, two cards, and one of them lost."""
    module = card(PersistenceMode=0)._nvml

    def handle(index: int) -> object:
        if index:
            raise NVMLError("GPU is lost")
        return object()

    values = {"nvmlInit": lambda: None, "nvmlDeviceGetCount": lambda: 2, "nvmlDeviceGetHandleByIndex": handle}
    vars(module).update(values, __spec__=ModuleSpec("pynvml", None))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    driver = tmp_path / "nvidiactl"
    driver.touch()
    monkeypatch.setattr(environment, "GPU_DRIVER", driver)
    return module


def test_a_card_that_is_lost_hides_no_other(nvml):
    first, lost = gpu_quietness.findings()
    assert (first.area, first.fix) == ("GPU 0", "sudo nvidia-smi -i 0 -pm 1")
    assert (lost.area, lost.message) == ("GPU 1", "NVML does not let it be asked: GPU is lost")


def test_a_driver_that_does_not_answer_is_told(nvml):
    def refuse() -> None:
        raise NVMLError("driver and library differ")

    nvml.nvmlInit = refuse
    (found,) = gpu_quietness.findings()
    assert "driver and library differ" in found.message


def test_nothing_is_said_without_a_driver(nvml):
    environment.GPU_DRIVER.unlink()
    assert list(gpu_quietness.findings()) == []
