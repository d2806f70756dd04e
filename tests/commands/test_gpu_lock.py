"""Engines that are built on the GPU here: one at a time, and not while a suite measures on it.

The GPU is pretended; lock files, workers and engines are real: tensorrt_rtx builds for any target.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands import UsageError
from commands.gpu_lock import DEVICE, GpuLock
from converters import tensorrt_package
from converters.artifact import Artifact, ConversionRequest
from converters.pool import ConversionEvent, convert_all
from models.spec import ModelSpec
from runners import locks
from runners.runner import RunnerError

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@pytest.fixture(autouse=True)
def _gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_package, "capability_here", lambda: "sm89")
    monkeypatch.setattr(tensorrt_package, "installed", lambda: ("tensorrt_rtx",))
    monkeypatch.setenv("DEPLOYBENCH_LOCKS", str(tmp_path / "locks"))


def engine(target: str, level: int = 2) -> ConversionRequest:
    spec = ModelSpec.of("block/bottleneck", resolution=7, in_channels=32)
    build = (("optimization_level", level), ("package", "tensorrt_rtx"))
    return ConversionRequest(spec, "engine", input_count=1, target=target, build=build)


def onnx() -> ConversionRequest:
    return ConversionRequest(engine("sm89").model, "onnx", input_count=1)


def measuring() -> Callable[[], None]:
    """Take the GPU as a suite that measures does; call the result to let go."""
    held = locks.acquire(locks.default_folder(), DEVICE, wait_seconds=0, purpose="measuring")
    return lambda: os.close(held)


def test_a_build_holds_the_lock_that_measuring_takes() -> None:
    lock = GpuLock(pytest.fail)
    assert lock.take(engine("sm89"))
    with pytest.raises(
        RunnerError, match=r"'cuda-0' is in use by process .* \(building an engine of block/"
    ) as no:
        measuring()
    assert no.value.detail["holder_pid"] == os.getpid()
    assert not lock.take(engine("sm89", level=3))
    lock.release(engine("sm89"))
    measuring()()
    assert lock.take(engine("sm89", level=3))


def test_what_needs_no_gpu_does_not_wait() -> None:
    release = measuring()
    lock = GpuLock(pytest.fail)
    assert lock.take(engine("sm86"))
    assert lock.take(onnx())
    lock.release(onnx())
    release()


@pytest.mark.parametrize("target", ["", "sm89", "sm86"])
def test_the_full_package_always_times_on_the_gpu(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_package, "installed", lambda: ("tensorrt",))
    request = ConversionRequest(engine("sm89").model, "engine", target=target)
    assert tensorrt_package.uses_gpu(request)
    monkeypatch.setattr(tensorrt_package, "capability_here", lambda: "")
    assert not tensorrt_package.uses_gpu(request)


def test_who_waits_is_told_once_for_whom() -> None:
    release, told = measuring(), list[str]()
    lock = GpuLock(told.append)
    assert not lock.take(engine("sm89"))
    assert not lock.take(engine("sm89"))
    assert told == [f"waiting to build on cuda-0, which process {os.getpid()} uses"]
    timer = threading.Timer(0.3, release)
    timer.start()
    with lock.hold(engine("sm89")):
        timer.join()
        assert not GpuLock(told.append).take(engine("sm89"))
    measuring()()


def test_a_lock_that_cannot_be_opened_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(UsageError, match="DEPLOYBENCH_LOCKS"):
        GpuLock(pytest.fail).take(engine("sm89"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact cache, so that the block's ONNX file is made once."""
    return tmp_path_factory.mktemp("cache")


@needs_rtx
def test_builds_for_the_gpu_here_wait_and_take_turns_and_others_do_not(cache: Path) -> None:
    here, elsewhere = [engine("sm89"), engine("sm89", level=3)], engine("sm86")
    release = measuring()
    events: list[tuple[ConversionRequest, str]] = []

    def watch(event: ConversionEvent) -> None:
        if event.kind in ("started", "done", "failed"):
            events.append((event.request, event.kind))
        if event.request in here and event.kind == "started":
            with pytest.raises(RunnerError, match="building an engine"):
                measuring()
        if event.request == elsewhere and event.kind in ("done", "failed"):
            release()

    lock = GpuLock(lambda text: None)
    made = dict(convert_all([*here, elsewhere], cache, workers=2, on_event=watch, reservations=lock))
    assert all(isinstance(outcome, Artifact) for outcome in made.values())
    built = [event for event in events if event[0] in here]
    assert [kind for _, kind in built] == ["started", "done", "started", "done"]
    assert events.index((elsewhere, "done")) < events.index(built[0])
    measuring()()


@needs_rtx
def test_the_lock_is_free_after_an_interrupted_build(cache: Path) -> None:
    def interrupt(event: ConversionEvent) -> None:
        if (event.kind, event.detail) == ("step", "engine"):
            raise KeyboardInterrupt

    lock = GpuLock(pytest.fail)
    with pytest.raises(KeyboardInterrupt):
        list(convert_all([engine("sm89", level=1)], cache, on_event=interrupt, reservations=lock))
    measuring()()
