"""Each runtime in real measuring processes: right outputs, the settings asked for, clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners import simulated
from runners.measurement import Failure, Job, Round, Timing
from runners.overhead import (
    iteration_cost_ns,
    median_ns,
    null_job,
    round_cost_ns,
    sample_cost_ns,
    sleep_reading_ns,
)
from runners.process import run_job

MakeJob = Callable[..., Job]
QUICK = Timing(round_seconds=0.05, warmup_seconds=0.02, max_warmup_seconds=0.4)


def measured(outcome: Round | Failure) -> Round:
    assert isinstance(outcome, Round), outcome
    return outcome


def failed(outcome: Round | Failure) -> Failure:
    assert isinstance(outcome, Failure), outcome
    return outcome


@pytest.mark.parametrize("files", ["conv_files", "matmul_files"])
def test_onnxruntime_measures_what_it_was_told(
    make_job: MakeJob, files: str, request: pytest.FixtureRequest
) -> None:
    taken = measured(run_job(make_job("onnxruntime", request.getfixturevalue(files))))
    assert 0 <= taken.output_error < 1e-4
    assert taken.top1 is not None
    assert taken.top1.share > 0.99
    assert taken.samples_ns.min() >= 1e6 / 2
    assert taken.loop_count > 1
    assert "onnxruntime" in taken.protocol.runtime
    assert "CPUExecutionProvider" in taken.protocol.runtime
    options = taken.protocol.options
    assert (options["intra_op_num_threads"], options["inter_op_num_threads"]) == ("1", "1")
    assert options["execution_mode"] == "ORT_SEQUENTIAL"
    assert options["allow_spinning"] == "no workers"


def test_onnxruntime_threads_and_options_are_part_of_the_protocol(make_job: MakeJob, conv_files: Any) -> None:
    job = replace(make_job("onnxruntime", conv_files), threads=2)
    default = measured(run_job(job)).protocol
    runtime = {"allow_spinning": "false", "graph_optimization": "basic"}
    changed = measured(run_job(replace(job, options={**job.options, "runtime": runtime}))).protocol
    assert default.options["allow_spinning"] == "1"
    assert default.options["intra_op_num_threads"] == "2"
    assert changed.options["allow_spinning"] == "0"
    assert changed.options["graph_optimization_level"] == "ORT_ENABLE_BASIC"
    assert default.id != changed.id


def test_onnxruntime_refuses_a_device_that_it_cannot_use(make_job: MakeJob, conv_files: Any) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    failure = failed(run_job(replace(make_job("onnxruntime", conv_files), device="cuda:0")))
    assert failure.kind == "unavailable"
    assert failure.built
    assert "cuda:0" in failure.message
    assert "onnxruntime-gpu" in failure.advice


def test_onnxruntime_silent_fallback_is_refused() -> None:
    """What ONNX Runtime does when a provider is known but cannot start: it goes on with the CPU."""
    from runners import ort_session
    from runners.runner import RunnerError

    with pytest.raises(RunnerError, match="CUDAExecutionProvider was asked for") as caught:
        ort_session._check_provider(["CPUExecutionProvider"], "CUDAExecutionProvider", "cuda")
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    "runtime", [{"allow_spinning": "2"}, {"graph_optimization": "most"}, {"no_such_option": "1"}]
)
def test_onnxruntime_options_out_of_range(
    make_job: MakeJob, conv_files: Any, runtime: dict[str, str]
) -> None:
    failure = failed(run_job(make_job("onnxruntime", conv_files, options={"runtime": runtime})))
    assert failure.kind == "load"
    assert next(iter(runtime)) in failure.message + failure.advice


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_file_that_is_no_model_is_a_load_failure(
    make_job: MakeJob, conv_files: Any, tmp_path: Path, backend: str
) -> None:
    import hashlib

    path = tmp_path / "broken.onnx"
    path.write_bytes(conv_files.path.read_bytes()[:200])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    failure = failed(run_job(replace(make_job(backend, conv_files), artifact=path, artifact_sha256=digest)))
    assert failure.kind == "load"
    assert "traceback" in failure.detail


def test_wrong_reference_is_a_wrong_output(make_job: MakeJob, conv_files: Any, matmul_files: Any) -> None:
    job = make_job("onnxruntime", conv_files)
    with np.load(conv_files.tensors) as file:
        arrays = dict(file)
    arrays["reference_2"] = arrays["reference_2"] * 1.01
    tensors = job.options["lock_dir"] + ".npz"
    np.savez(tensors, **arrays)
    failure = failed(run_job(replace(job, tensors=Path(tensors))))
    assert failure.kind == "wrong_output"
    assert "output 2" in failure.message
    assert failed(run_job(replace(job, tensors=matmul_files.tensors))).kind in ("infer", "wrong_output")


def test_precision_of_the_graph_is_checked(make_job: MakeJob, conv_files: Any) -> None:
    failure = failed(run_job(replace(make_job("onnxruntime", conv_files), precision="fp16")))
    assert failure.kind == "precision_mismatch"
    assert "fp32" in failure.message


def test_openvino_runs_the_precision_asked_for(make_job: MakeJob, conv_files: Any) -> None:
    """Without a hint it computes in bf16 on CPUs with AMX; the error of bf16 is far above this bound."""
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    taken = measured(run_job(make_job("openvino", conv_files)))
    assert taken.output_error < 1e-5
    options = taken.protocol.options
    assert options["INFERENCE_PRECISION_HINT"] == "f32"
    assert options["executed_precision"] == "f32"
    assert (options["INFERENCE_NUM_THREADS"], options["NUM_STREAMS"]) == ("1", "1")
    assert options["PERFORMANCE_HINT"] == "LATENCY"


def test_openvino_bf16_is_bf16_or_refused(make_job: MakeJob, conv_files: Any) -> None:
    openvino = pytest.importorskip("openvino", reason="the openvino extra is not installed")
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    outcome = run_job(replace(make_job("openvino", conv_files), precision="bf16", tolerance=0.05))
    if capable:
        taken = measured(outcome)
        assert taken.protocol.options["executed_precision"] == "bf16"
        assert taken.output_error > 1e-4
    else:
        assert failed(outcome).kind == "precision_mismatch"


def with_judged(files: Any, folder: Path, *, wrong: bool = False) -> Any:
    """The last two of the four inputs as judged ones: not timed, compared in the first round."""
    with np.load(files.tensors) as file:
        arrays = {f"{name}_{k}": file[f"{name}_{k}"] for name in ("input", "reference") for k in (0, 1)}
        for k in (0, 1):
            arrays[f"judged_input_{k}"] = file[f"input_{k + 2}"]
            arrays[f"judged_reference_{k}"] = file[f"reference_{2 if wrong else k + 2}"]
    np.savez(folder / "judged.npz", **arrays)
    return replace(files, tensors=folder / "judged.npz")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_judged_inputs_are_compared_in_the_first_round_and_never_timed(
    make_job: MakeJob, conv_files: Any, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend, reason=f"the package {backend} is not installed")
    job = make_job(backend, with_judged(conv_files, tmp_path))
    first, second = (measured(run_job(replace(job, round_index=index))) for index in (0, 1))
    assert first.top1 is not None
    assert second.top1 is not None
    assert (first.top1.positions, second.top1.positions) == (4 * 24 * 24, 2 * 24 * 24)
    assert first.protocol == second.protocol
    assert first.protocol.inputs.startswith("2 real-valued inputs")


def test_a_judged_output_that_is_wrong_fails_the_first_round(
    make_job: MakeJob, conv_files: Any, tmp_path: Path
) -> None:
    job = make_job("onnxruntime", with_judged(conv_files, tmp_path, wrong=True))
    failure = failed(run_job(job))
    assert failure.kind == "wrong_output"
    assert "output 3" in failure.message
    measured(run_job(replace(job, round_index=1)))


@pytest.mark.parametrize(
    ("change", "kind"), [({"precision": "int8"}, "precision_mismatch"), ({"device": "gpu"}, "unavailable")]
)
def test_openvino_refuses_what_it_cannot_be_told(
    make_job: MakeJob, conv_files: Any, change: dict[str, str], kind: str
) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    assert failed(run_job(replace(make_job("openvino", conv_files), **change))).kind == kind


@pytest.fixture(scope="session")
def exported_files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small network saved as an exported program, with torch's own outputs."""
    import hashlib
    from types import SimpleNamespace

    import torch

    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)
    ).eval()
    inputs = [torch.randn(1, 3, 16, 16) for _ in range(3)]
    path = folder / "net.pt2"
    torch.export.save(torch.export.export(net, (inputs[0],)), path)
    with torch.inference_mode():
        arrays = {f"reference_{i}": net(value).numpy() for i, value in enumerate(inputs)}
    np.savez(folder / "net.npz", **arrays, **{f"input_{i}": value.numpy() for i, value in enumerate(inputs)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return SimpleNamespace(path=path, sha256=digest, tensors=folder / "net.npz")


def test_torch_runs_the_exported_program(make_job: MakeJob, exported_files: Any) -> None:
    taken = measured(run_job(make_job("torch", exported_files)))
    assert taken.output_error < 1e-5
    assert taken.protocol.runtime.startswith("torch ")
    assert "exported program" in taken.protocol.timed
    assert (taken.protocol.options["num_threads"], taken.protocol.options["interop_threads"]) == ("1", "1")
    assert taken.protocol.options["cudnn.allow_tf32"] == "False"
    assert taken.protocol.options["inference_mode"] == "True"


def test_torch_refuses_cuda_where_there_is_none(make_job: MakeJob, exported_files: Any) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    failure = failed(run_job(replace(make_job("torch", exported_files), device="cuda")))
    assert failure.kind == "unavailable"
    assert "cuda" in failure.message


def test_torch_compile_without_a_compiler_says_so(
    make_job: MakeJob, exported_files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    failure = failed(run_job(make_job("torch-compile", exported_files)))
    assert failure.kind == "unavailable"
    assert "compiler" in failure.message


@pytest.mark.slow
def test_torch_compile_compiles_while_loading(make_job: MakeJob, exported_files: Any) -> None:
    taken = measured(
        run_job(
            replace(make_job("torch-compile", exported_files), timing=replace(QUICK, deadline_seconds=300))
        )
    )
    assert taken.output_error < 1e-5
    assert taken.protocol.options["backend"] == "inductor"
    assert taken.phases.load_ns > 10 * taken.phases.verify_ns


def test_simulated_latencies_are_those_described(simulate: MakeJob) -> None:
    timing = Timing(round_seconds=4.0)
    taken = measured(run_job(simulate(median_ns=2e6, sigma=0.05, timing=timing)))
    values = np.log(taken.samples_ns / 2e6)
    assert len(values) > 1500
    assert abs(np.median(values)) < 0.005
    assert abs(np.std(values) - 0.05) < 0.004


def test_simulated_shapes(simulate: MakeJob) -> None:
    timing = Timing(round_seconds=3.0)
    bimodal = measured(run_job(simulate(median_ns=2e6, second_share=0.25, second_ratio=1.5, timing=timing)))
    assert abs(np.mean(bimodal.samples_ns > 2.5e6) - 0.25) < 0.05
    drift = measured(run_job(simulate(median_ns=2e6, drift_per_second=0.1, timing=timing))).samples_ns
    assert drift[-100:].mean() > 1.15 * drift[:100].mean()
    step = measured(
        run_job(simulate(median_ns=2e6, step_after=1000, step_ratio=1.3, timing=timing))
    ).samples_ns
    assert step[-100:].mean() > 1.25 * step[:100].mean()
    related = measured(
        run_job(simulate(median_ns=2e6, sigma=0.05, correlation=0.8, timing=timing))
    ).samples_ns
    assert np.corrcoef(related[:-1], related[1:])[0, 1] > 0.6


def test_simulated_processes_differ_between_rounds_and_repeat_exactly(simulate: MakeJob) -> None:
    def medians() -> list[float]:
        return [median_ns(measured(run_job(simulate(between_sigma=0.1, round_index=i)))) for i in range(3)]

    first = medians()
    assert first == medians()
    assert np.std(np.log(first)) > 0.01


@pytest.mark.parametrize(
    "settings",
    [
        {"fault": "explode"},
        {"fault_phase": "sleep"},
        {"median_ns": 0},
        {"sigma": -1},
        {"correlation": 1.0},
        {"second_share": 2},
    ],
)
def test_impossible_simulations_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        simulated.write(tmp_path, simulated.Simulation(**settings))


def test_null_backend_needs_no_file_and_sleeps_what_it_is_told(lock_dir: Path) -> None:
    reading = sleep_reading_ns(10_000_000, QUICK, lock_dir=str(lock_dir))
    assert reading >= 10_000_000
    job = null_job(QUICK, sleep_ns=0, lock_dir=str(lock_dir))
    taken = measured(run_job(job))
    assert taken.loop_count > 1000
    assert taken.protocol.inputs == "none"
    assert round_cost_ns(taken) > 0
    wrong = {**job.options, "runtime": {"sleep_ns": "-1"}}
    assert failed(run_job(replace(job, options=wrong))).kind == "load"


def test_an_iteration_costs_less_than_a_microsecond_and_a_sample_costs_more(lock_dir: Path) -> None:
    """An iteration costs about 0.03 µs: no neighbour on the machine can make this fail.

    That a sample of one inference costs less than 1 µs is for `make benchmark`: a busy machine may miss it.
    """
    iteration_ns = iteration_cost_ns(QUICK, lock_dir=str(lock_dir))
    sample_ns = sample_cost_ns(QUICK, lock_dir=str(lock_dir))
    assert 0 < iteration_ns < 1000
    assert iteration_ns < sample_ns


def test_busy_wait_is_inside_the_sample_and_in_the_protocol(lock_dir: Path) -> None:
    job = null_job(QUICK, sleep_ns=0, lock_dir=str(lock_dir))
    slowed = measured(run_job(replace(job, options={**job.options, "busy_wait_ns": 200_000})))
    assert median_ns(slowed) >= 200_000
    assert slowed.protocol.options["busy_wait_ns"] == "200000"
