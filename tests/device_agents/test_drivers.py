"""Every line of the driver table, and the named problems behind them."""

from __future__ import annotations

import pytest

from device_agents import DRIVERS
from device_agents.agent_process import main
from device_agents.drivers import DriverInfo
from device_agents.job import COMPUTE_UNITS, MODEL_FORMATS
from device_agents.problems import PROBLEMS, DeviceProblem
from models.tables import lookup

FAILURE_KINDS = {
    "unavailable", "load", "infer", "crashed", "out_of_memory", "deadline", "bad_artifact",
}  # fmt: skip


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_tells_what_it_is_for_and_why_it_cannot_work(name):
    info = lookup(DRIVERS, "drivers", name)
    assert isinstance(info, DriverInfo)
    assert info.name == name
    assert info.model_format in MODEL_FORMATS
    assert set(info.compute_units) <= set(COMPUTE_UNITS)
    reason, _, fix = info.missing().partition("; ")
    assert bool(reason) == bool(fix) or name == "xcode-report"


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_a_failure_with_a_next_step(name):
    failure = DeviceProblem(name, "what was seen", stage="load").failure()
    assert failure.kind in FAILURE_KINDS
    assert failure.advice.endswith(".")
    assert failure.detail == {"problem": name, "stage": "load"}
    assert failure.built == (failure.kind == "unavailable")


def test_an_agent_process_knows_its_engines(capsys, tmp_path):
    assert main(["nothing", str(tmp_path)]) == 2
    assert "local|mac|simulated" in capsys.readouterr().err
    assert main(["simulated", str(tmp_path)]) == 0
    assert not list(tmp_path.iterdir())
