"""What doctor says of a GPU, from a stand-in for NVML: no card is here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from commands import gpu_quietness
from commands.gpu_quietness import Card


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
    assert "7, 12" in others.message


def test_what_a_card_does_not_tell_is_left_out():
    refused = dict.fromkeys(("PersistenceMode", "MaxClockInfo", "Temperature"), NVMLError("not supported"))
    assert list(card(**refused).findings()) == []


def test_nothing_is_said_without_a_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_quietness, "DRIVER", tmp_path / "nvidiactl")
    assert list(gpu_quietness.findings()) == []
