"""A build that is interrupted or killed ends at once and leaves no half-written artifact."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.artifact import Artifact, ConversionRequest
from converters.cache import ArtifactCache
from converters.engine_from_onnx import convert
from converters.engine_progress import Stop, monitor, stoppable
from models.spec import ModelSpec
from tests.converters import engine_graphs

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx builds the engines and is not installed")

REQUEST = ConversionRequest(
    ModelSpec.of("block/ncb", resolution=7, in_channels=32),
    "engine",
    target="sm89",
    build=(("package", "tensorrt_rtx"),),
)


def test_monitor_ends_the_build() -> None:
    """What `stop` does to the builder itself, without a signal."""
    phases: list[str] = []
    stop = Stop()
    stop.number = signal.SIGINT
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(engine_graphs.convolution())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    watcher = monitor(trt, phases.append, stop)
    config.progress_monitor = watcher
    assert builder.build_serialized_network(network, config) is None
    stop.number = 0
    assert builder.build_serialized_network(network, config) is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_build_ends_it(
    number: signal.Signals,
    tmp_path: Path,
    onnx_source: Callable[[bytes], Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal comes in the builder's first phase, where an exception of its handler would be swallowed."""
    from converters import engine_progress

    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    sent: list[str] = []

    def interrupt(step: str) -> None:
        if step.startswith("engine: "):
            sent.append(step)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(engine_progress, "EVERY_S", 0.0)
    source, cache = onnx_source(engine_graphs.convolution()), ArtifactCache(tmp_path / "cache")
    previous = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            cache.store("key", lambda folder: convert(REQUEST, folder, source=source, on_step=interrupt))
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, previous)
    assert sent[0] == "engine: Building engine"
    assert "engine: Optimizing graph" not in sent  # the build went no further
    assert list((tmp_path / "cache" / "building").iterdir()) == []
    assert not (tmp_path / "cache" / "key").exists()


def test_default_and_ignored_signals_are_left_alone() -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a worker has it
    try:
        with stoppable() as stop:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop
    finally:
        signal.signal(signal.SIGINT, previous)


def test_another_thread_builds_without_handlers(
    tmp_path: Path, onnx_source: Callable[[bytes], Artifact]
) -> None:
    source, made = onnx_source(engine_graphs.convolution()), list[Artifact]()
    thread = threading.Thread(target=lambda: made.append(convert(REQUEST, tmp_path, source=source)))
    thread.start()
    thread.join(60)
    assert made[0].path.exists()


def test_phases_are_told(
    folder: Path, onnx_source: Callable[[bytes], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    from converters import engine_progress

    monkeypatch.setattr(engine_progress, "EVERY_S", 0.0)
    steps: list[str] = []
    convert(REQUEST, folder, source=onnx_source(engine_graphs.convolution()), on_step=steps.append)
    assert steps[:2] == ["engine", "engine: Building engine"]
    assert "engine: Optimizing graph" in steps
