"""The CUDA interface: errors and their kinds, and the real bindings where no driver answers them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners import cuda
from runners.runner import RunnerError

NO_DRIVER = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA driver")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudaErrorInsufficientDriver", "unavailable"),
        ("cudaErrorNoDevice", "unavailable"),
        ("cudaErrorMemoryAllocation", "out_of_memory"),
        ("cudaErrorLaunchFailure", "infer"),
        ("cudaErrorIllegalAddress", "infer"),
    ],
)
def test_errors_carry_cuda_s_name_and_text(name: str, kind: str) -> None:
    with pytest.raises(RunnerError, match=rf"cudaMalloc failed: {name} \(some text\)") as caught:
        cuda.fail("cudaMalloc", name, "some text")
    assert caught.value.kind == kind
    assert caught.value.detail == {"cuda_error": name}
    assert caught.value.advice


def test_every_name_of_an_error_exists_in_cuda() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    known = {error.name for error in runtime.cudaError_t}
    assert known >= cuda.UNAVAILABLE
    assert "cudaErrorMemoryAllocation" in known


def test_an_unknown_binding_names_the_known() -> None:
    with pytest.raises(RunnerError, match="cupy") as caught:
        cuda.open_device(0, blocking=False, binding="cupy")
    assert "cuda-bindings" in caught.value.advice
    assert "pycuda" in caught.value.advice


def test_without_any_binding_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "installed", lambda: ())
    with pytest.raises(RunnerError) as caught:
        cuda.open_device(0, blocking=False)
    assert caught.value.kind == "unavailable"
    assert "pip install" in caught.value.advice


def test_a_binding_that_cannot_be_imported_is_unavailable() -> None:
    if "pycuda" in cuda.installed():
        pytest.skip("pycuda is installed")
    with pytest.raises(RunnerError) as caught:
        cuda.open_device(0, blocking=False, binding="pycuda")
    assert caught.value.kind == "unavailable"
    assert "pycuda" in str(caught.value)


@NO_DRIVER
@pytest.mark.parametrize("blocking", [False, True])
def test_without_a_driver_the_device_is_unavailable(blocking: bool) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    with pytest.raises(RunnerError, match=r"cudaErrorInsufficientDriver|cudaErrorNoDevice") as caught:
        cuda.open_device(0, blocking=blocking, binding="cuda-bindings")
    assert caught.value.kind == "unavailable"


@NO_DRIVER
def test_every_call_of_the_binding_is_one_that_cuda_has_and_takes() -> None:
    """Without a driver each answers with its own error: a wrong name, arity or return would raise another."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    import numpy as np

    from runners.cuda_bindings import BindingsCuda

    device = BindingsCuda.__new__(BindingsCuda)
    device._index, device._event_flags, device._addresses, device._host = 0, 0, [1], []
    array = np.zeros(4, dtype=np.float32)
    calls = [
        device.facts,
        device.memory,
        lambda: device.allocate(16),
        lambda: device.pinned((4,), np.float32),
        lambda: device.copy_in(4096, array, 5),
        lambda: device.copy_out(array, 4096, 5),
        device.stream,
        device.event,
        lambda: device.record(7, 5),
        lambda: device.wait(5, 7),
        lambda: device.synchronize(7),
        lambda: device.elapsed_ms(7, 8),
        lambda: device.begin_capture(5),
        lambda: device.end_capture(5),
        lambda: device.launch(9, 5),
        device.close,
    ]
    for number, call in enumerate(calls):
        with pytest.raises(RunnerError, match="cudaError") as caught:
            call()
        assert caught.value.kind == "unavailable", number


def test_a_stream_s_address_is_what_cuda_was_given() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    from runners.cuda_bindings import BindingsCuda

    assert BindingsCuda.stream_address(BindingsCuda.__new__(BindingsCuda), runtime.cudaStream_t(4096)) == 4096
