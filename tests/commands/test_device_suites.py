"""Suites whose cases an agent measures: jobs without a device, rounds with one, and the way between."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from commands import devices
from reports.store import Store
from tests.commands.conftest import Answer, Project

pytest.importorskip("coremltools", reason="needs coremltools: pip install '.[coreml]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SUITE = """
schema = 1

[timing]
min_rounds = 2
max_rounds = 2
round_seconds = 0.05
warmup_seconds = 0.0
max_warmup_seconds = 0.5
target = 0.5
max_seconds = 60

[suites.tiny]
description = "One block"
backends = ["coreml"]

[[suites.tiny.matrix]]
models = ["block/repvgg"]
shapes = ["7x7x16"]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of both backends, made in this process: a worker's start takes seconds."""
    from converters import convert
    from converters.artifact import ConversionRequest
    from converters.cache import ArtifactCache
    from models.spec import ModelSpec

    folder = tmp_path_factory.mktemp("artifacts")
    spec = ModelSpec.of("block/repvgg", resolution=7, in_channels=16)
    for kind, precision in (("mlpackage", "fp16"), ("onnx", "fp32")):
        convert(ConversionRequest(spec, kind, precision=precision), ArtifactCache(folder))
    return folder


@pytest.fixture
def suite(project: Project, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    paths = f'[paths]\nstore = "{tmp_path}/bench.db"\nreports = "{tmp_path}"\nartifacts = "{cache}"\n'
    project.config.write_text(f"{SUITE}\n{paths}")
    monkeypatch.setenv("PATH", str(tmp_path))  # neither xcrun nor pymobiledevice3

    def run(*argv: str) -> Answer:
        return project.bench("--suite", "tiny", *argv)

    return run


def document(answer: Answer) -> dict:
    return json.loads(answer.out)


def test_a_dry_run_tells_of_no_budget_that_is_for_this_machine(suite):
    told = suite("--device", "iphone", "--compute-unit", "all,cpuOnly", "--dry-run").out
    assert "2 cases, 2 rounds each: at least 0 s of the device's time" in told
    assert "at most" not in told
    here = suite("--backend", "onnxruntime", "--dry-run").out
    assert "1 cases, 2 to 2 rounds each: measuring takes at least 0 s, at most 60 s" in here


def rounds_of(value: dict) -> list[int]:
    return [case["summary"]["rounds"] for case in value["cases"]]


def test_without_a_phone_jobs_wait_and_the_next_command_is_told(suite, tmp_path):
    answer = suite("--device", "iphone", "--compute-unit", "all,cpuOnly")
    assert answer.code == 3, answer.err
    assert "neither xcrun nor pymobiledevice3" in answer.out
    assert f"python bench.py agent run {tmp_path}/outbox --driver iphone --config {tmp_path}" in answer.out
    for unit in ("all", "cpuOnly"):
        assert re.search(rf"repvgg +{unit} ", answer.out)
    jobs = sorted((tmp_path / "outbox").glob("*/job.json"))
    told = [json.loads(job.read_bytes()) for job in jobs]
    assert sorted(job["compute_unit"] for job in told) == ["all", "cpuOnly"]
    assert {job["model"]["minimum_os"] for job in told} == {"16.0"}
    again = document(suite("--device", "iphone", "--compute-unit", "all,cpuOnly", "--json"))
    assert sorted((tmp_path / "outbox").glob("*/job.json")) == jobs
    assert [case["attempts"] for case in again["cases"]] == [1, 1]
    assert {case["case"]["compute_unit"] for case in again["cases"]} == {"all", "cpuOnly"}


def test_rounds_of_a_phone_in_software_are_marked_resumed_and_not_doubled(suite):
    answer = suite("--device", "simulated", "--compute-unit", "all,cpuOnly")
    assert answer.code == 0, answer.err
    told = [line.partition("] ")[2] for line in answer.err.splitlines() if "measuring" in line]
    case = "measuring block/repvgg 7x7x16 fp16 coreml simulated"
    assert [line.partition(", about")[0] for line in told] == [
        f"{case} all, round 1 of 2: 0/4 done",
        f"{case} all, round 2 of 2: 1/4 done",
        f"{case} cpuOnly, round 1 of 2: 2/4 done",
        f"{case} cpuOnly, round 2 of 2: 3/4 done",
    ]
    assert ["about" in line for line in told] == [False, True, True, True]
    assert "SIMULATED: 2 of 2 results come from no device" in answer.out
    assert "cpuOnly" in answer.out
    value = document(suite("--device", "simulated", "--compute-unit", "all,cpuOnly", "--json"))
    assert rounds_of(value) == [2, 2]
    again = suite("--device", "simulated", "--compute-unit", "all,cpuOnly")
    assert "measuring" not in again.err
    assert all("simulated" in [flag["name"] for flag in case["flags"]] for case in value["cases"])
    fresh = document(suite("--device", "simulated", "--compute-unit", "all,cpuOnly", "--json", "--fresh"))
    assert fresh["run"]["run_id"] != value["run"]["run_id"]
    assert rounds_of(fresh) == [2, 2]


def test_this_machine_by_its_agent_is_compared_with_the_references(suite, tmp_path):
    value = document(suite("--backend", "onnxruntime", "--device", "local", "--json"))
    (case,) = value["cases"]
    assert rounds_of(value) == [2]
    assert case["case"]["compute_unit"] == "cpuOnly"
    assert "simulated" not in [flag["name"] for flag in case["flags"]]
    with Store(tmp_path / "bench.db") as store:
        (result,) = store.load_run(value["run"]["run_id"]).results
    assert {one.protocol.device.partition(", ")[0] for one in result.rounds} == {"local"}
    assert [0 < one.output_error < 1e-3 for one in result.rounds] == [True, True]


@pytest.mark.parametrize("carried", [False, True])
def test_an_outbox_that_is_run_later_times_the_very_run(suite, project, tmp_path, monkeypatch, carried):
    """At this machine, or at another one that has no store; the device is one that was not here before."""
    driver = devices.driver
    away = replace(devices.driver("simulated"), missing=lambda: "no phone; plug one in")
    monkeypatch.setattr(devices, "driver", lambda name: away)
    waiting = document(suite("--device", "simulated", "--json"))
    assert waiting["cases"][0]["failure"]["message"] == "no phone"
    monkeypatch.setattr(devices, "driver", driver)
    box, run_id = tmp_path / "outbox", waiting["run"]["run_id"]
    places = ("--config", str(project.config))
    if carried:
        there = tmp_path / "there"
        shutil.copytree(box, there)
        done = project.call(["agent", "run", str(there), "--driver", "simulated", "--store",
                             str(tmp_path / "other.db"), *places])  # fmt: skip
        assert done.code == 0, done.err
        assert project.call(["agent", "import", str(box), *places]).code == 3
        shutil.copytree(there, box, dirs_exist_ok=True)
        back = project.call(["agent", "import", str(box), "--json", *places])
        assert (back.code, json.loads(back.out)["runs"][0]["rounds_added"]) == (0, 2)
        again = project.call(["agent", "import", str(box), "--json", *places])
        assert json.loads(again.out)["runs"][0]["rounds_added"] == 0
    else:
        done = project.call(["agent", "run", str(box), "--driver", "simulated", *places])
        assert done.code == 0, done.err
        assert f"--run {run_id}" in done.out
    value = document(suite("--device", "simulated", "--json"))
    assert value["run"]["run_id"] == run_id
    assert rounds_of(value) == [2]
    assert value["cases"][0]["failure"] is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--device", "iphnoe"), "does not run on device 'iphnoe': it runs on iphone, mac"),
        (("--device", "iphone:1"), "does not run on device 'iphone:1'"),
        (("--device", "local"), "does not run on device 'local'"),
        (("--device", "iphone", "--compute-unit", "ane"), "no compute unit 'ane'"),
        (("--backend", "onnxruntime", "--compute-unit", "all"), "has no compute units"),
        (("--device", "iphone", "--threads", "2"), "leave out --threads"),
        (("--device", "iphone", "--precision", "int8"), "mlpackage cannot be made in int8"),
    ],
)
def test_what_an_agent_cannot_be_asked_is_refused(suite, argv, words):
    answer = suite(*argv)
    assert answer.code == 2
    assert words in answer.err


def test_agents_measure_no_bundle(project, suite, tmp_path):
    answer = project.bench("bundle", "--suite", "tiny", "--device", "iphone", "-o", str(tmp_path / "b.tar"))
    assert answer.code == 2
    assert "outbox" in answer.err


def test_an_outbox_of_another_store_is_refused(project, suite, tmp_path):
    assert suite("--device", "iphone").code == 3
    places = ("--config", str(project.config), "--store", str(tmp_path / "other.db"))
    imported = project.call(["agent", "import", str(tmp_path / "outbox"), *places])
    assert (imported.code, "there is no result store" in imported.err) == (2, True)
