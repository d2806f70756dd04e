"""Engines: which device, which compute capability, which options; and what a machine without a GPU does."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest

from commands import UsageError, artifacts, targets
from commands.calibrations import Calibrations
from commands.checkpoints import Checkpoints
from commands.config import load
from commands.matrix import expanded
from commands.options import option_values
from commands.plan import Overrides, request_of
from commands.untimed import not_here
from converters.artifact import Artifact, ConversionRequest
from models.spec import Case, ModelSpec
from runners import BACKENDS, availability, environment, probe

needs_builder = pytest.mark.skipif(
    not any(probe.package_folder(package) for package in BACKENDS["trt"].packages),
    reason="no TensorRT package is installed: pip install '.[trt]'",
)
no_gpu = pytest.mark.skipif(
    bool(environment.describe_gpus()), reason="an NVIDIA GPU is here: engines are timed on it"
)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends to a machine with these GPUs; only planning is done with it."""

    def pretend(*found: str) -> None:
        monkeypatch.setattr(environment, "describe_gpus", lambda: [{"name": "x", "target": t} for t in found])
        targets._gpu_targets.cache_clear()

    yield pretend
    monkeypatch.undo()
    targets._gpu_targets.cache_clear()


def cells(project, suite: str = "nets", **overrides) -> list[Case]:
    config = load(project.config)
    chosen, asked = config.suite(suite), Overrides(**overrides)
    return list(expanded(config, chosen, asked, Checkpoints(chosen, asked), Calibrations(asked)))


def test_a_device_that_nobody_names_is_the_backends_usual_one(project, gpus):
    gpus()
    found = cells(project, backends=("onnxruntime", "trt", "torch"))
    assert {(case.backend, case.device) for case in found} == {
        ("onnxruntime", "cpu"),
        ("trt", "cuda"),
        ("torch", "cpu"),
    }
    assert {case.device for case in cells(project, backends=("torch",), devices=("cuda:1",))} == {"cuda:1"}


def test_a_suite_may_name_devices(project):
    text = project.config.read_text().replace(
        'description = "Two networks"', 'description = "x"\ndevices = ["cuda"]'
    )
    project.config.write_text(text)
    assert {case.device for case in cells(project, backends=("torch",))} == {"cuda"}


def test_only_engines_have_a_target(project, gpus):
    gpus()
    found = {(case.backend, case.target) for case in cells(project, backends=("onnxruntime", "trt"))}
    assert found == {("onnxruntime", ""), ("trt", "sm89")}


def test_targets_come_from_the_command_line_then_the_gpu_then_bench_toml(project, gpus):
    project.add('\n[trt]\ntargets = ["sm80", "sm86"]\n')
    gpus()
    assert {case.target for case in cells(project, backends=("trt",))} == {"sm80", "sm86"}
    gpus("sm90")
    assert {case.target for case in cells(project, backends=("trt",))} == {"sm90"}
    assert {case.target for case in cells(project, backends=("trt",), targets=("sm75",))} == {"sm75"}


def test_gpus_of_two_kinds_are_told_apart_or_asked_about(project, gpus, monkeypatch):
    gpus("sm80", "sm89")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    with pytest.raises(UsageError, match="GPUs of sm80, sm89: name one with --target"):
        cells(project, backends=("trt",))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert {c.target for c in cells(project, backends=("trt",), devices=("cuda:1",))} == {"sm89"}
    with pytest.raises(UsageError, match="'cuda:2' is not here: this machine has 2 GPUs"):
        cells(project, backends=("trt",), devices=("cuda:2",))


def test_an_engine_for_another_gpu_is_built_and_not_timed(gpus, monkeypatch):
    monkeypatch.setattr("commands.devices.availability", lambda backend, device: None)
    case = Case(ModelSpec.of("nextvit_small"), "trt", device="cuda", target="sm89")
    gpus("sm90")
    missing = not_here(case, "Carry it.")
    assert (missing.kind, missing.built) == ("unavailable", True)
    assert missing.message == "the GPU on this machine is sm90, the engine is built for sm89"
    gpus("sm89")
    assert not_here(case, "Carry it.") is None


WRONG = {
    "target of a backend that has none": (
        ["--suite", "nets", "--target", "sm89"],
        "--target sm89: backend 'onnxruntime' builds for no target",
    ),
    "target": (["--suite", "nets", "--backend", "trt", "--target", "8.9"], "written like 'sm89'"),
    "runtime option": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "cuda_grap=true"],
        "no runtime option 'cuda_grap': did you mean cuda_graph",
    ),
    "runtime option of a backend without any": (
        ["--suite", "tiny", "--runtime", "cuda_graph=true"],
        "backend 'simulated': no runtime option 'cuda_graph': it has none",
    ),
    "type of a runtime option": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "streams=true"],
        "runtime option streams=true takes a whole number from 1 to 64",
    ),
    "range of a runtime option": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "streams=0"],
        "backend 'trt': runtime option streams=0 takes a whole number from 1 to 64",
    ),
    "choice of a runtime option": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "sync=foo"],
        "runtime option sync=foo takes one of spin, block",
    ),
    "choice of another backend's runtime option": (
        ["--suite", "nets", "--runtime", "graph_optimization=xyz"],
        "backend 'onnxruntime': runtime option graph_optimization=xyz takes one of disable, basic,",
    ),
    "switch of a runtime option": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "cuda_graph=maybe"],
        "runtime option cuda_graph=maybe takes true or false",
    ),
    "runtime options that exclude each other": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "streams=2", "--runtime", "transfers=both"],
        "transfers=both and streams=2 exclude each other",
    ),
    "runtime option of another device": (
        ["--suite", "nets", "--backend", "torch", "--runtime", "cuda_graph=true"],
        "runtime option cuda_graph=true is for device cuda, not for 'cpu'",
    ),
    "form": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "cuda_graph"],
        "not written like NAME=VALUE",
    ),
    "twice": (
        ["--suite", "nets", "--backend", "trt", "--runtime", "streams=1", "--runtime", "streams=2"],
        "--runtime: 'streams' is given twice",
    ),
    "build option where nothing is built": (
        ["--suite", "tiny", "--build", "optimization_level=5"],
        "backend 'simulated' builds no file",
    ),
}


@pytest.mark.parametrize(("argv", "message"), WRONG.values(), ids=list(WRONG))
def test_wrong_targets_and_options_are_named(project, argv, message):
    answer = project.bench(*argv, "--dry-run")
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert [path.name for path in project.folder.iterdir()] == ["bench.toml"]


@needs_builder
@pytest.mark.parametrize(
    ("option", "message"),
    [("optimisation_level=5", "did you mean optimization_level"), ("optimization_level=9", "from 0 to 5")],
)
def test_a_wrong_build_option_is_named(project, option, message):
    answer = project.bench("--suite", "nets", "--backend", "trt", "--build", option, "--dry-run")
    assert answer.code == 2
    assert message in answer.err


def test_a_wrong_target_in_bench_toml_is_named_with_its_place(project):
    project.add('\n[trt]\ntargets = ["89"]\n')
    assert "trt.targets[0] = '89'" in project.bench("--suite", "tiny", "--dry-run").err


def test_values_are_read_as_what_they_look_like():
    texts = ["a=true", "b=false", "c=3", "d=0.5", "e=spin", "f=1e3", "g=nan", "h=x=y"]
    assert option_values(texts, "--runtime") == {
        "a": True, "b": False, "c": 3, "d": 0.5, "e": "spin", "f": 1000.0, "g": "nan", "h": "x=y",
    }  # fmt: skip


def test_options_of_the_suite_are_overridden_by_name(project):
    table = "resolutions = [224]\nruntime = { cuda_graph = true, streams = 2 }\nbuild = { tf32 = true }"
    project.config.write_text(project.config.read_text().replace("resolutions = [224]", table))
    (case, *_) = cells(project, backends=("trt",), runtime={"streams": 4}, build={"workspace_mib": 64})
    assert case.runtime == (("cuda_graph", True), ("streams", 4))
    assert case.build == (("tf32", True), ("workspace_mib", 64))


def test_a_stated_default_is_the_same_case(project):
    plain = cells(project, backends=("trt",))
    stated = cells(project, backends=("trt",), runtime={"cuda_graph": False, "sync": "spin"})
    assert [case.id for case in stated] == [case.id for case in plain]


def test_openvino_takes_bf16_from_the_fp32_file(project):
    case = Case(ModelSpec.of("nextvit_small"), "openvino", precision="bf16")
    assert request_of(case) == request_of(replace(case, precision="fp32")).judged
    assert request_of(case).precision == "fp32"
    assert [request_of(replace(case, batch_size=n)).judged_count for n in (1, 2, 4, 8)] == [12, 4, 0, 0]
    (only,) = {c.precision for c in cells(project, backends=("openvino",), precisions=("bf16",))}
    assert only == "bf16"


def test_an_int8_request_names_the_flavour_of_its_backend():
    case = Case(ModelSpec.of("nextvit_small"), "trt", precision="int8", device="cuda", target="sm89")
    request = request_of(case)
    assert (request.kind, request.flavour, request.target) == ("engine", "trt", "sm89")
    assert request_of(replace(case, precision="fp16")).flavour == ""


def artifact(case: Case, tmp_path, *, tolerance: float, **changes) -> Artifact:
    from converters.artifact import Parity, Step

    request: ConversionRequest = request_of(case)
    made = Artifact(
        request.kind, tmp_path / "f", "0" * 64, 1, "k", case.model, 1, request.precision, True, (), (),
        tmp_path / "t", "1" * 64, 0, 1.0, 1.0,
        (Step("exported", "x", Parity(0, 0, 1, 1, tolerance), 1), Step("engine", "x", None, 1)),
    )  # fmt: skip
    return replace(made, **changes)


def test_a_job_is_told_runtime_options_builder_and_tolerance(tmp_path):
    from runners.measurement import Timing

    case = Case(ModelSpec.of("nextvit_small"), "trt", device="cuda", target="sm89", runtime=(("streams", 2),))
    made = artifact(case, tmp_path, tolerance=0.1, facts={"builder": "tensorrt_rtx 1.7.1"})
    told = artifacts.job(case, made, Timing())
    assert told.options == {"runtime": {"streams": 2}, "builder": "tensorrt_rtx 1.7.1"}
    assert told.tolerance == 0.1
    lowered = Case(ModelSpec.of("nextvit_small"), "openvino", precision="bf16")
    assert artifacts.job(lowered, artifact(lowered, tmp_path, tolerance=1e-4), Timing()).tolerance == 0.25


@no_gpu
@needs_builder
def test_engines_are_built_once_and_not_timed_here(project):
    """Exit code 3, a report with what the builder tells, and a second run that has nothing left to do."""
    argv = ("--suite", "tiny", "--backend", "trt", "--model", "block/bottleneck", "--resolution", "7")
    first = project.bench(*argv)
    assert first.code == 3, first.err
    assert "Nothing was timed: 1 case built, and no NVIDIA GPU on this machine" in " ".join(first.out.split())
    assert "python bench.py bundle --suite tiny --model block/bottleneck" in first.out
    assert "±" not in first.out
    page = (project.folder / "results/tiny.html").read_text()
    assert 'id="built"' in page
    assert 'id="latency"' not in page

    built = {path: path.stat().st_mtime_ns for path in (project.folder / "artifacts").rglob("*.engine")}
    assert len(built) == 1
    again = project.bench(*argv)
    assert again.code == 3
    assert "holds 0 of 1 cases, 1 built and not timed" in again.err
    assert {path: path.stat().st_mtime_ns for path in built} == built
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        assert db.execute("SELECT count(*), count(DISTINCT run_id) FROM records").fetchone() == (1, 1)
        assert db.execute("SELECT count(*) FROM runs WHERE finished_at_ns IS NOT NULL").fetchone() == (1,)


@no_gpu
@needs_builder
def test_a_mixed_suite_times_what_it_can(project):
    argv = (
        "--suite",
        "tiny",
        "--backend",
        "simulated,trt",
        "--model",
        "block/bottleneck",
        "--resolution",
        "7",
    )
    answer = project.bench(*argv, "--json")
    assert answer.code == 3, answer.err
    results = json.loads(answer.out)["cases"]
    assert sorted(bool(result["failure"]) for result in results) == [False, True]
    assert availability("trt", "cuda").startswith("no NVIDIA GPU on this machine")
