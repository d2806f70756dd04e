"""The TensorRT runner against a stand-in engine API and a stand-in GPU: no card has run this code.

What is real here: the measuring code of a round from loading to the Round, the options, the refusals. What is
not: TensorRT, CUDA and every nanosecond.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from runners import child, loading, process, wire
from runners.marks import Marks
from runners.measurement import Failure, Job, Round, Timing
from runners.runner import RunnerError
from runners.trt_engine import TrtEngineRunner

US, MS = 1000, 1_000_000
QUICK = Timing(round_seconds=0.1, warmup_seconds=0.05, max_warmup_seconds=1.0)
SHAPE = (2, 3, 4, 4)


@dataclass
class Rig:
    """A stand-in GPU with a stand-in package, and rounds taken on them by the real measuring code."""

    cuda: Any
    trt: Any
    make: Callable[..., Job]
    folder: Path
    patch: pytest.MonkeyPatch
    packages: tuple[str, ...] = ("tensorrt_rtx",)
    import_package: Callable[[str], Any] | None = None  # gives `trt` where it is None
    taken: int = 0

    def job(self, *, runtime: dict[str, Any] | None = None, batch: int = 2, **engine: Any) -> Job:
        engine = {"shape": SHAPE, **engine}
        path = self.folder / "model.engine"
        path.write_text(json.dumps(engine))
        random = np.random.default_rng(0)
        inputs = [random.standard_normal((batch, *SHAPE[1:])).astype(np.float32) for _ in range(3)]
        arrays = {f"input_{i}": value for i, value in enumerate(inputs)}
        np.savez(
            self.folder / "t.npz", **arrays, **{f"reference_{i}": 2 * value for i, value in enumerate(inputs)}
        )

        class Files:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            tensors = self.folder / "t.npz"

        Files.path = path
        return self.make(
            "trt", Files, device="cuda", timing=QUICK, options={"runtime": runtime or {}}, precision="fp32"
        )

    def runner(self) -> TrtEngineRunner:
        return TrtEngineRunner(
            open_device=self.cuda.open_device,
            import_package=self.import_package or (lambda name: self.trt),
            find_packages=lambda builder: self.packages,
            clock=self.cuda.clock,
        )

    def take(self, job: Job) -> Round:
        self.patch.setattr(loading, "_runner", lambda backend: self.runner())
        self.taken += 1  # this process holds the lock of each round that it took
        job = replace(job, options={**job.options, "lock_dir": str(self.folder / f"lock {self.taken}")})
        return child.measure(job, Marks(lambda phase: None))

    def refused(self, job: Job) -> RunnerError:
        with pytest.raises(RunnerError) as caught:
            self.take(job)
        return caught.value


@pytest.fixture
def rig(
    stand_in_cuda: ModuleType,
    stand_in_trt: ModuleType,
    make_job: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Rig:
    cuda = stand_in_cuda.StandInCuda()
    return Rig(cuda, stand_in_trt.StandInTrt(cuda), make_job, tmp_path, monkeypatch)


def test_a_round_holds_device_time_host_parts_layers_and_the_protocol(rig: Rig) -> None:
    taken = rig.take(rig.job(duration_ns=300 * US, enqueue_ns=20 * US))
    assert taken.loop_count == 4
    assert np.allclose(taken.samples_ns, 4 * 300 * US, rtol=1e-5)
    assert set(taken.parts) == {"host", "enqueue"}
    count = len(taken.samples_ns)
    assert {count / 10 < len(values) < count / 2 for values in taken.parts.values()} == {True}
    assert np.allclose(taken.parts["enqueue"] / taken.loop_count, 20 * US, atol=2 * US)
    assert np.allclose(taken.parts["host"] / taken.loop_count, (20 + 300) * US, atol=5 * US)
    assert taken.output_error == 0
    assert taken.layers == {"conv + relu": 150 * US, "gemm": 50 * US}
    assert taken.peak_device_bytes == 4 * 2 * 3 * 16 * 4  # three inputs and an output, fp32
    assert "cudaMemGetInfo" in taken.environment["device_memory_from"]
    protocol = taken.protocol
    assert (protocol.clock, protocol.queue_depth, protocol.cuda_graph) == ("CUDA events", 1, False)
    assert protocol.transfers == "none"
    assert "execute_async_v3" in protocol.timed
    assert "tensorrt_rtx 1.0" in protocol.runtime
    assert "sm89" in protocol.runtime
    assert "stand-in 1" in protocol.runtime
    assert "spinning" in protocol.sync


def test_inputs_take_turns_on_the_device(rig: Rig) -> None:
    rig.take(rig.job(duration_ns=2 * MS))
    used = rig.trt.contexts[0].inputs_used
    assert len(set(used)) == 3
    assert all(used.count(address) > len(used) / 4 for address in set(used))


def test_another_input_can_take_the_place_of_one_that_was_loaded(rig: Rig) -> None:
    first, second = np.random.default_rng(1).standard_normal((2, *SHAPE)).astype(np.float32)
    runner = rig.runner()
    runner.load(rig.job(), [first.copy()])
    assert np.array_equal(runner.outputs(0)[0], 2 * first)
    runner.feed(0, second)
    assert np.array_equal(runner.outputs(0)[0], 2 * second)
    runner.close()


def test_a_cuda_graph_is_replayed_and_keeps_its_own_input(rig: Rig) -> None:
    job = rig.job(duration_ns=300 * US, runtime={"cuda_graph": True})
    plain, graphed = rig.take(replace(job, options={**job.options, "runtime": {}})), rig.take(job)
    assert graphed.protocol.cuda_graph
    assert not plain.protocol.cuda_graph
    assert graphed.protocol.id != plain.protocol.id
    assert rig.cuda.launches > 100
    assert graphed.output_error == 0
    assert np.median(graphed.parts["enqueue"]) < np.median(plain.parts["enqueue"]) / 5
    assert len(rig.trt.contexts[-1].inputs_used) < 50  # loading and the profile only


@pytest.mark.parametrize("fault", ["capture", "not_capturable"])
def test_an_engine_that_cannot_be_captured_is_refused(rig: Rig, fault: str) -> None:
    rig.cuda.fault = fault
    error = rig.refused(rig.job(runtime={"cuda_graph": "true"}, fault=fault))
    assert error.kind == "load"
    assert "captur" in str(error)
    assert "cuda_graph=false" in error.advice


def test_an_error_of_a_launch_ends_the_round(rig: Rig) -> None:
    rig.cuda.fault = "lost"
    error = rig.refused(rig.job(runtime={"cuda_graph": True}))
    assert error.kind == "infer"
    assert "cudaErrorLaunchFailure" in str(error)


def test_transfers_stand_beside_the_sample(rig: Rig) -> None:
    taken = rig.take(rig.job(duration_ns=300 * US, runtime={"transfers": "both"}))
    size = 2 * 3 * 16 * 4
    assert np.allclose(taken.samples_ns, taken.loop_count * 300 * US, rtol=1e-5)
    assert np.allclose(taken.parts["h2d"], taken.loop_count * size, atol=taken.loop_count * 600)
    assert np.allclose(taken.parts["d2h"], taken.loop_count * 2 * size, atol=taken.loop_count * 600)
    assert "beside the sample" in taken.protocol.transfers


def test_streams_measure_throughput_and_say_so(rig: Rig) -> None:
    one = rig.take(rig.job(duration_ns=300 * US, enqueue_ns=2 * US))
    four = rig.take(rig.job(duration_ns=300 * US, enqueue_ns=2 * US, runtime={"streams": 4}))
    per_inference = [np.median(taken.samples_ns) / taken.loop_count for taken in (one, four)]
    assert per_inference[0] / per_inference[1] == pytest.approx(4, rel=0.05)
    assert four.loop_count % 16 == 0
    assert four.protocol.queue_depth == 4
    assert "not a latency" in four.protocol.timed
    assert {len(context.inputs_used) > 20 for context in rig.trt.contexts[-4:]} == {True}


def test_every_stream_s_output_is_checked(rig: Rig) -> None:
    error = rig.refused(rig.job(runtime={"streams": 2}, fault="second_stream"))
    assert error.kind == "wrong_output"
    assert "stream 1" in str(error)


@pytest.mark.parametrize(("fault", "words"), [("wrong_output", "off by"), ("cached_output", "output")])
def test_wrong_outputs_are_found_by_the_timed_path(rig: Rig, fault: str, words: str) -> None:
    error = rig.refused(rig.job(fault=fault))
    assert error.kind == "wrong_output"
    assert words in str(error)


def test_an_engine_that_stops_computing_is_found_after_the_timed_part(rig: Rig) -> None:
    """Its last output is still in the device's memory, and is the right one for that input."""
    error = rig.refused(rig.job(fault="stops"))
    assert error.kind == "wrong_output"
    assert "off by 1 " in str(error)


def test_outputs_come_from_the_graph_that_is_timed(rig: Rig) -> None:
    runner, job = rig.runner(), rig.job(runtime={"cuda_graph": True})
    with np.load(job.tensors) as file:
        runner.load(job, [file[f"input_{i}"] for i in range(3)])
    launches, enqueued = rig.cuda.launches, len(rig.trt.contexts[0].inputs_used)
    runner.outputs(1)
    runner.infer(1)
    runner.synchronize()
    assert rig.cuda.launches == launches + 2
    assert len(rig.trt.contexts[0].inputs_used) == enqueued
    runner.close()
    assert runner.device_side is None


def test_a_runner_that_did_not_wait_would_be_found(rig: Rig) -> None:
    rig.patch.setattr(TrtEngineRunner, "_finish", lambda self, worker: None)
    assert rig.refused(rig.job()).kind == "wrong_output"


def test_too_little_memory_is_out_of_memory(rig: Rig, stand_in_cuda: ModuleType) -> None:
    rig.cuda = stand_in_cuda.StandInCuda(memory_bytes=1000)
    rig.trt.cuda = rig.cuda
    error = rig.refused(rig.job())
    assert error.kind == "out_of_memory"
    assert "cudaErrorMemoryAllocation" in str(error)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"types": {"x": "INT32"}}, "int32"),
        ({"types": {"y": "BF16"}}, "BF16"),
        ({"shape": (1, 3, 4, 4)}, "(1, 3, 4, 4)"),
        ({"more_inputs": 1}, "2 inputs"),
        ({"y_shape": (-1, 3)}, "depends on the data"),
        ({"fault": "no_context"}, "execution context"),
        ({"shape": (-1, 3, 4, 4), "profiles": [[(4, 3, 4, 4), (8, 3, 4, 4), (8, 3, 4, 4)]]}, "(4, 3, 4, 4)"),
    ],
)
def test_engines_that_do_not_fit_the_request(rig: Rig, engine: dict[str, Any], words: str) -> None:
    error = rig.refused(rig.job(**engine))
    assert error.kind == "load"
    assert words in str(error)


def test_an_engine_that_refuses_to_run(rig: Rig) -> None:
    assert rig.refused(rig.job(fault="refuses")).kind == "infer"


def test_a_dynamic_batch_takes_the_profile_that_admits_it(rig: Rig) -> None:
    profiles = [[(n, 3, 4, 4) for n in sizes] for sizes in ((1, 1, 1), (2, 4, 8))]
    taken = rig.take(rig.job(shape=(-1, 3, 4, 4), profiles=profiles))
    assert taken.output_error == 0
    assert rig.trt.contexts[0].profile == 1
    assert rig.trt.configs[0].dynamic_shapes_kernel_specialization_strategy == "eager"


def test_an_fp16_input_is_fed_in_fp16(rig: Rig) -> None:
    job = replace(rig.job(types={"x": "HALF", "y": "HALF"}), tolerance=2e-3)
    taken = rig.take(job)
    assert 0 < taken.output_error < 2e-3
    assert taken.protocol.options["input_type"] == "HALF"


def layers(*types: str) -> list[dict[str, Any]]:
    """As TensorRT's inspector writes them for an engine built with detailed verbosity."""
    return [
        {"Name": f"layer {i}", "Inputs": [{"Name": "a", "Format/Datatype": text}], "Outputs": []}
        for i, text in enumerate(types)
    ]


@pytest.mark.parametrize(
    ("precision", "types", "found"),
    [
        ("fp16", ("Row major linear FP32",), "fp32"),
        ("fp32", ("Row major linear FP32", "Channel major FP16 format where C % 8 == 0"), "fp16"),
        ("int8", ("Half", "Float"), "fp16"),
        ("bf16", ("Half",), "fp16"),
    ],
)
def test_types_that_contradict_the_request(
    rig: Rig, precision: str, types: tuple[str, ...], found: str
) -> None:
    error = rig.refused(replace(rig.job(layers=layers(*types)), precision=precision))
    assert error.kind == "precision_mismatch"
    assert error.detail == {"asked": precision, "found": found}


def test_types_that_agree_are_in_the_protocol_and_untold_ones_are_said_to_be(rig: Rig) -> None:
    told = rig.job(layers=layers("Half", "Float", "Int32"))
    assert (
        rig.take(replace(told, precision="fp16", tolerance=1e-2)).protocol.options["engine_types"]
        == "fp16,fp32"
    )
    assert rig.take(rig.job()).protocol.options["engine_types"] == "not told by the engine"


def test_an_engine_of_another_version_is_refused_with_both_packages_words(rig: Rig) -> None:
    rig.packages = ("tensorrt", "tensorrt_rtx")
    rig.trt.refuses = "Version tag does not match"
    error = rig.refused(rig.job())
    assert error.kind == "load"
    assert str(error).count("Version tag does not match") == 2
    assert "build it here" in error.advice


def importing(good: dict[str, Any], broken: dict[str, Exception]) -> Callable[[str], Any]:
    """Imports of packages of which some are installed and broken."""

    def import_package(name: str) -> Any:
        if name in broken:
            raise broken[name]
        return good[name]

    return import_package


@pytest.mark.parametrize("error", [ImportError("libnvinfer.so.10 is missing"), OSError("bad library")])
def test_a_broken_package_does_not_hide_a_working_one(rig: Rig, error: Exception) -> None:
    rig.packages = ("tensorrt", "tensorrt_rtx")
    rig.import_package = importing({"tensorrt_rtx": rig.trt}, {"tensorrt": error})
    assert "tensorrt_rtx 1.0" in rig.take(rig.job()).protocol.runtime


def test_a_broken_package_is_told_where_the_other_one_refuses(rig: Rig) -> None:
    rig.packages = ("tensorrt", "tensorrt_rtx")
    rig.trt.refuses = "Version tag does not match"
    rig.import_package = importing({"tensorrt_rtx": rig.trt}, {"tensorrt": ImportError("no library")})
    error = rig.refused(rig.job())
    assert error.kind == "load"
    assert "tensorrt cannot be imported: no library" in str(error)
    assert "Version tag does not match" in str(error)


def test_packages_that_are_all_broken_are_unavailable(rig: Rig) -> None:
    rig.packages = ("tensorrt", "tensorrt_rtx")
    broken = {"tensorrt": ImportError("no library"), "tensorrt_rtx": OSError("not for this machine")}
    rig.import_package = importing({}, broken)
    error = rig.refused(rig.job())
    assert error.kind == "unavailable"
    assert all(str(said) in str(error) for said in broken.values())
    assert "pip install" in error.advice


@pytest.mark.parametrize(
    "runtime",
    [
        {"cuda_graph": "perhaps"},
        {"transfers": "in"},
        {"streams": 0},
        {"streams": "many"},
        {"streams": 65},
        {"sync": "yield"},
        {"no_such": 1},
        {"transfers": "both", "streams": 2},
    ],
)
def test_options_out_of_range_name_the_fix(rig: Rig, runtime: dict[str, Any]) -> None:
    error = rig.refused(rig.job(runtime=runtime))
    assert error.kind == "load"
    assert next(iter(runtime)) in str(error)
    assert error.advice


def test_blocking_is_asked_of_the_device_and_told(rig: Rig) -> None:
    taken = rig.take(rig.job(runtime={"sync": "block"}))
    assert rig.cuda.blocking is True
    assert "blocking" in taken.protocol.sync


def test_a_profile_that_fails_costs_no_round(rig: Rig) -> None:
    def fails(self: TrtEngineRunner) -> dict[str, int]:
        raise RunnerError("infer", "no profile here")

    rig.patch.setattr(TrtEngineRunner, "_layers", fails)
    taken = rig.take(rig.job())
    assert taken.layers == {}
    assert taken.environment["layers_error"] == "no profile here"
    assert len(taken.samples_ns) > 5


@pytest.mark.parametrize("raised", [RuntimeError, TypeError, AttributeError, ValueError])
def test_an_error_of_the_package_s_profiler_costs_no_round(rig: Rig, raised: type[Exception]) -> None:
    def fails(self: object) -> None:
        raise raised("no such profiler")

    rig.trt.IProfiler = type("IProfiler", (), {"__init__": fails})
    taken = rig.take(rig.job())
    assert taken.layers == {}
    assert taken.environment["layers_error"] == f"the profiler failed: {raised.__name__}: no such profiler"
    assert len(taken.samples_ns) > 5


def test_a_busy_wait_does_not_pass_on_the_device_clock(rig: Rig) -> None:
    job = rig.job()
    error = rig.refused(replace(job, options={**job.options, "busy_wait_ns": 5}))
    assert "CUDA events" in str(error)


def test_parts_and_layers_travel_to_the_parent(rig: Rig) -> None:
    taken = rig.take(rig.job(runtime={"transfers": "both"}))
    (message,) = wire.Decoder().feed(wire.encode_round(taken))
    arrived = wire.decode_round(message)
    assert set(arrived.parts) == {"host", "enqueue", "h2d", "d2h"}
    assert all(np.array_equal(arrived.parts[name], taken.parts[name]) for name in taken.parts)
    assert arrived.layers == taken.layers
    assert arrived.protocol == taken.protocol


def test_without_a_driver_a_real_process_says_unavailable_and_built(
    rig: Rig, lock_dir: Path, tmp_path: Path
) -> None:
    """The real packages: cuda.bindings answers with an error, and no engine is touched."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    outcome = process.run_job(rig.job())
    assert isinstance(outcome, Failure)
    assert outcome.kind == "unavailable"
    assert outcome.built
    assert outcome.message.strip()
