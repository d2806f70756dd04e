"""ONNX Runtime with bound inputs and outputs: its real CPU provider, over host memory that plays the GPU's.

The calls into ONNX Runtime are the real ones; its CUDA provider has not been run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from runners import ort_cuda
from runners.measurement import Timing
from runners.runner import RunnerError
from runners.timing import take, warm_up


@pytest.fixture
def host_cuda(stand_in_cuda: ModuleType) -> Any:
    class HostCuda(stand_in_cuda.StandInCuda):
        """Real addresses of host memory. What is copied out arrives with a synchronize, as on a GPU."""

        def allocate(self, size_bytes: int) -> int:
            self._pinned.append(np.full(size_bytes, 0xAB, dtype=np.uint8))
            return int(self._pinned[-1].ctypes.data)

        def copy_in(self, address: int, source: np.ndarray, stream: Any) -> None:
            ctypes.memmove(address, source.ctypes.data, source.nbytes)

        def copy_out(self, target: np.ndarray, address: int, stream: Any) -> None:
            copied = stand_in_cuda.Operation(
                1, lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes)
            )
            self.submit(stream, copied)

    return HostCuda()


def bound(cuda: Any, files: Any) -> tuple[ort_cuda.BoundSession, list[np.ndarray], list[np.ndarray]]:
    session = ort.InferenceSession(str(files.path), providers=["CPUExecutionProvider"])
    with np.load(files.tensors) as file:
        inputs = [file[f"input_{i}"] for i in range(4)]
        references = [file[f"reference_{i}"] for i in range(4)]
    stream = cuda.stream()
    return (
        ort_cuda.BoundSession(session, cuda, stream, inputs, index=0, memory="cpu"),
        inputs,
        references,
    )


def test_every_input_has_its_own_binding_and_gives_its_own_output(host_cuda: Any, conv_files: Any) -> None:
    session, _, references = bound(host_cuda, conv_files)
    for index in (2, 0, 3, 1, 1):
        (output,) = session.outputs(index)
        assert np.allclose(output, references[index], rtol=1e-4, atol=1e-4)


def test_outputs_are_those_of_the_bound_run_not_of_an_earlier_one(host_cuda: Any, conv_files: Any) -> None:
    session, _, _ = bound(host_cuda, conv_files)
    (first,) = session.outputs(0)
    session.infer = lambda index: None  # type: ignore[method-assign]
    (second,) = session.outputs(0)
    assert np.any(first)
    assert not np.any(second)


def test_it_is_timed_by_events(host_cuda: Any, conv_files: Any) -> None:
    session, _, _ = bound(host_cuda, conv_files)
    plain = session.infer

    def infer(index: int) -> object:
        host_cuda.now_ns += 2_000_000  # the CPU provider blocks: all of it is host time
        return plain(index)

    session.infer = infer  # type: ignore[method-assign]
    side = session.device_side(host_cuda.memory()[0], clock=host_cuda.clock)
    policy = Timing(round_seconds=0.1, warmup_seconds=0.02, max_warmup_seconds=0.2)
    samples = take(
        side.sampler, warm_up(side.sampler, 4, policy, clock=host_cuda.clock), policy, clock=host_cuda.clock
    )
    assert np.all(samples >= 2_000_000)
    assert np.all(side.sampler.parts(len(samples))["enqueue"] >= 2_000_000)
    assert side.pci_bus_id == "0000:01:00.0"
    assert "cudaMemGetInfo" in side.peak_bytes()[1]


def test_the_runtime_names_the_gpu(
    host_cuda: Any, make_job: Any, conv_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cards of one machine are two protocols, whichever of them is `cuda:0` to a process."""
    from runners import cuda, ort_session

    monkeypatch.setitem(ort_session.PROVIDERS, "cuda", "CPUExecutionProvider")
    monkeypatch.setattr(cuda, "open_device", host_cuda.open_device)
    monkeypatch.setattr(ort_cuda, "provider_options", lambda *place: {})
    monkeypatch.setattr(ort_cuda, "BoundSession", partial(ort_cuda.BoundSession, memory="cpu"))
    runner = ort_session.OrtSessionRunner()
    with np.load(conv_files.tensors) as file:
        runner.load(make_job("onnxruntime", conv_files, device="cuda"), [file["input_0"]])
    assert runner.describe().runtime == f"onnxruntime {ort.__version__} CPUExecutionProvider on Stand-in GPU"


def test_the_provider_is_told_our_stream_and_no_tf32(host_cuda: Any) -> None:
    stream: Any = host_cuda.stream()
    options = ort_cuda.provider_options(host_cuda, stream, 1)
    assert options == {
        "device_id": "1",
        "use_tf32": "0",
        "user_compute_stream": str(stream.address),
    }


def test_the_option_that_does_not_wait_is_one_that_onnxruntime_takes() -> None:
    options = ort.RunOptions()
    options.add_run_config_entry(ort_cuda.ASYNCHRONOUS, "1")
    assert options.get_run_config_entry(ort_cuda.ASYNCHRONOUS) == "1"


def test_without_a_driver_the_gpu_half_is_unavailable(
    make_job: Any, conv_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    from runners import ort_session

    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    monkeypatch.setattr(ort_session, "_provider", lambda device: "CUDAExecutionProvider")
    inputs: Sequence[np.ndarray] = [np.zeros((1, 3, 24, 24), np.float32)]
    with pytest.raises(RunnerError, match="cudaError") as caught:
        ort_session.OrtSessionRunner().load(make_job("onnxruntime", conv_files, device="cuda"), inputs)
    assert caught.value.kind == "unavailable"
