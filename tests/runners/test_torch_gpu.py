"""PyTorch's GPU half: what can be told without a card, and the order of its calls on a stand-in."""

from __future__ import annotations

from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from runners import torch_cuda
from runners.device_timing import EventSampler, Lane
from runners.runner import RunnerError, runtime_options


@pytest.mark.parametrize("value", [True, "true"])
def test_a_cuda_graph_on_a_cpu_is_refused(make_job: Any, conv_files: Any, value: Any) -> None:
    job = make_job("torch", conv_files, options={"runtime": {"cuda_graph": value}})
    with pytest.raises(RunnerError, match="cuda_graph=true is for device cuda, not for 'cpu'") as caught:
        runtime_options(job)
    assert caught.value.kind == "load"


def test_no_cuda_graph_is_the_default(make_job: Any, conv_files: Any) -> None:
    assert runtime_options(make_job("torch", conv_files))["cuda_graph"] is False


def test_every_name_of_torch_cuda_exists() -> None:
    for name in ("Event", "CUDAGraph", "graph", "Stream", "stream", "current_stream", "max_memory_reserved"):
        assert hasattr(torch.cuda, name), name
    for name in ("record", "synchronize", "elapsed_time"):
        assert hasattr(torch.cuda.Event, name), name
    assert hasattr(torch.cuda.Stream, "wait_event")
    assert hasattr(torch.cuda.Stream, "wait_stream")
    assert hasattr(torch.cuda.CUDAGraph, "replay")


def test_the_address_of_a_gpu_as_nvml_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x65, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: told)
    assert torch_cuda.pci_bus_id(torch.device("cuda", 0)) == "00000000:65:00.0"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert torch_cuda.pci_bus_id(torch.device("cuda", 0)) == ""


def test_torch_events_time_what_lies_between_them(
    stand_in_cuda: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = stand_in_cuda.StandInCuda()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.inner = cuda.event()

        def record(self, stream: Any) -> None:
            cuda.record(self.inner, stream)

        def synchronize(self) -> None:
            cuda.synchronize(self.inner)

        def elapsed_time(self, end: Any) -> float:
            return cuda.elapsed_ms(self.inner, end.inner)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    stream = cuda.stream()
    lane = Lane(stream, lambda index: cuda.submit(stream, cuda.Operation(1_500_000)))
    sampler = EventSampler(torch_cuda.TorchEvents(), [lane], clock=cuda.clock)
    assert sampler.sample((0, 1)) == pytest.approx(3_000_000, rel=1e-6)


class FakeCapture:
    """Captures what a module would do, and does it again at replay."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.log = fails, []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        stream = SimpleNamespace(wait_stream=lambda other: self.log.append("wait"))

        class Graph:
            def replay(inner) -> None:
                self.log.append("replay")

        @contextmanager
        def capture(graph: Any) -> Any:
            if self.fails:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.log.append("capture")
            yield

        @contextmanager
        def on(stream: Any) -> Any:
            yield

        for name, value in (
            ("Stream", lambda: stream),
            ("current_stream", lambda: stream),
            ("stream", on),
            ("graph", capture),
            ("CUDAGraph", Graph),
        ):
            patch.setattr(torch.cuda, name, value)


def test_each_input_has_a_graph_of_its_own_captured_after_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCapture()
    fake.install(monkeypatch)

    def module(value: int) -> int:
        fake.log.append(f"run {value}")
        return 10 * value

    graphs = torch_cuda.Graphs(module, [1, 2])
    runs = torch_cuda.WARM_UPS * ["run 1", "run 2"]
    assert fake.log == ["wait", *runs, "wait", "capture", "run 1", "capture", "run 2"]
    assert [graphs.replay(index) for index in (1, 0)] == [20, 10]
    assert fake.log[-2:] == ["replay", "replay"]


def test_a_module_that_cannot_be_captured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCapture(fails=True).install(monkeypatch)
    with pytest.raises(RunnerError, match="not permitted when stream is capturing") as caught:
        torch_cuda.Graphs(lambda value: value, [1])
    assert caught.value.kind == "load"
    assert "cuda_graph=false" in caught.value.advice
