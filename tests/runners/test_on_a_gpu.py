"""The GPU runners on a real card. Not run so far: no machine with one was at hand when this was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners import availability, gpu_readings
from runners.measurement import Failure, Job, Round, Timing
from runners.process import run_job

pytestmark = pytest.mark.gpu

ROUND = Timing(round_seconds=0.3, deadline_seconds=600.0)
RUNTIMES = [{}, {"cuda_graph": True}, {"streams": 2}, {"transfers": "both"}, {"sync": "block"}]


def require(backend: str) -> None:
    reason = availability(backend, "cuda")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def engine_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Jobs on an engine of one NCB, built for the card that is here."""
    require("trt")
    from commands.artifacts import job
    from converters import ConversionRequest, convert
    from converters.cache import ArtifactCache
    from models.spec import Case, ModelSpec

    model = ModelSpec.of("block/ncb", resolution=14, in_channels=384, out_channels=384)
    case = Case(model, "trt", device="cuda")
    artifact = convert(
        ConversionRequest.for_case(case, "engine"), ArtifactCache(tmp_path_factory.mktemp("a"))
    )
    locks = {"lock_dir": str(tmp_path_factory.mktemp("locks"))}

    def make(runtime: dict[str, Any]) -> Job:
        told = job(case, artifact, ROUND)
        return replace(told, options={**told.options, **locks, "runtime": runtime})

    return make


def measured(outcome: Round | Failure) -> Round:
    assert isinstance(outcome, Round), outcome
    return outcome


def check(taken: Round) -> None:
    assert taken.protocol.clock == "CUDA events"
    assert taken.samples_ns.min() >= 1_000_000 * 0.9
    assert all(len(values) == len(taken.samples_ns) for values in taken.parts.values())
    assert np.all(taken.parts["enqueue"] <= taken.parts["host"])
    assert taken.peak_device_bytes > 0
    assert taken.environment["before"]["gpu_sm_mhz"] > 0


@pytest.mark.parametrize("runtime", RUNTIMES, ids=str)
def test_an_engine_is_timed_and_right(engine_job: Callable[..., Job], runtime: dict[str, Any]) -> None:
    taken = measured(run_job(engine_job(runtime)))
    check(taken)
    assert taken.output_error < 1e-3
    if runtime.get("streams", 1) == 1:  # an isolated call takes the host at least the device's time
        assert np.median(taken.parts["host"]) > 0.95 * np.median(taken.samples_ns)
    if runtime.get("transfers") == "both":
        assert min(taken.parts["h2d"].min(), taken.parts["d2h"].min()) > 0


def test_layers_add_up_to_about_an_inference(engine_job: Callable[..., Job]) -> None:
    taken = measured(run_job(engine_job({})))
    one_ns = np.median(taken.samples_ns) / taken.loop_count
    assert 0.5 * one_ns < sum(taken.layers.values()) < 5 * one_ns


def test_the_median_agrees_with_a_bare_loop(engine_job: Callable[..., Job]) -> None:
    """1 % is the bar of `make benchmark`; here only that both time the same thing."""
    from runners.cross_check import against_bare_loop

    agreement = against_bare_loop(engine_job({}), pairs=3)
    assert 0.8 < agreement.ratio < 1.25


def test_copies_events_and_graphs_of_the_binding() -> None:
    require("trt")
    from runners.cuda import open_device

    cuda = open_device(0, blocking=False, binding="cuda-bindings")
    stream, start, end = cuda.stream(), cuda.event(), cuda.event()
    source, target = cuda.pinned((1 << 20,), np.float32), cuda.pinned((1 << 20,), np.float32)
    source[:] = np.arange(1 << 20)
    address = cuda.allocate(source.nbytes)
    cuda.record(start, stream)
    cuda.copy_in(address, source, stream)
    cuda.copy_out(target, address, stream)
    cuda.record(end, stream)
    cuda.synchronize(end)
    assert np.array_equal(source, target)
    assert cuda.elapsed_ms(start, end) > 0.01
    cuda.begin_capture(stream)
    cuda.copy_in(address, source, stream)
    graph = cuda.end_capture(stream)
    source[:] = 7
    cuda.launch(graph, stream)
    cuda.copy_out(target, address, stream)
    cuda.record(end, stream)
    cuda.synchronize(end)
    assert np.all(target == 7)
    assert cuda.facts().compute_capability.startswith("sm")
    cuda.close()


@pytest.mark.parametrize("runtime", [{}, {"cuda_graph": True}], ids=str)
@pytest.mark.parametrize("backend", ["torch", "torch-compile"])
def test_torch_on_the_card(
    make_job: Callable[..., Job], tmp_path: Path, backend: str, runtime: dict[str, Any]
) -> None:
    require(backend)
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()).eval()
    inputs = [torch.randn(1, 3, 64, 64) for _ in range(3)]
    torch.export.save(torch.export.export(net, (inputs[0],)), tmp_path / "net.pt2")
    with torch.inference_mode():
        arrays = {f"reference_{i}": net(value).numpy() for i, value in enumerate(inputs)}
    np.savez(tmp_path / "t.npz", **arrays, **{f"input_{i}": value.numpy() for i, value in enumerate(inputs)})
    import hashlib

    digest = hashlib.sha256((tmp_path / "net.pt2").read_bytes()).hexdigest()
    files = type("Files", (), {"path": tmp_path / "net.pt2", "sha256": digest, "tensors": tmp_path / "t.npz"})
    job = make_job(backend, files, device="cuda", timing=ROUND, options={"runtime": runtime})
    taken = measured(run_job(job))
    check(taken)
    assert taken.protocol.cuda_graph == bool(runtime)


def test_onnxruntime_on_the_card(make_job: Callable[..., Job], conv_files: Any) -> None:
    require("onnxruntime")
    check(measured(run_job(make_job("onnxruntime", conv_files, device="cuda", timing=ROUND))))


def test_nvml_finds_the_card_by_its_address() -> None:
    require("trt")
    from runners.cuda import open_device

    facts = open_device(0, blocking=False).facts()
    gpu = gpu_readings.open_gpu(0, facts.pci_bus_id)
    assert gpu is not None
    assert gpu.read()["gpu_sm_mhz"] > 0
