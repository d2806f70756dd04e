"""Conversions in worker processes, real ones and ones that crash, hang, are killed or talk too much.

The misbehaving converters come in as a package outside this project does: through an entry point.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from converters import pool
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache, CacheError
from converters.conversion import convert
from converters.keys import cache_key
from converters.pool import ConversionEvent, convert_all
from converters.stages import source_request
from models.spec import ModelSpec

PROJECT = Path(pool.__file__).parent.parent

CONVERTERS = """
import os, signal, sys, time
from pathlib import Path
from converters.artifact import Artifact
from converters.files import sha256_of
from converters.keys import cache_key
from converters.quiet import captured


def good(request, folder, *, on_step):
    on_step("made")
    model, tensors = folder / "model.bin", folder / "tensors.npz"
    model.write_bytes(b"model %d" % request.batch_size)
    tensors.write_bytes(b"")
    return Artifact(
        kind=request.kind, path=model, sha256=sha256_of(model), size_bytes=7, key=cache_key(request),
        model=request.model, batch_size=request.batch_size, precision=request.precision, fused=request.fused,
        inputs=(), outputs=(), tensors=tensors, tensors_sha256=sha256_of(tensors), seed=0, params_m=0.0,
        gmacs=0.0, steps=(),
    )


def noisy(request, folder, *, on_step):
    print('{"artifact": "not a reply"}', flush=True)
    os.write(1, b'{"failure": "nor this"}\\n')
    os.write(2, b"x" * 300_000)
    return good(request, folder, on_step=on_step)


def crashing(request, folder, *, on_step):
    on_step("exported")
    with captured():
        os.write(2, b"Assertion failed: shape.size() == 4\\n")
        os.kill(os.getpid(), signal.SIGSEGV)


def killed(request, folder, *, on_step):
    os.kill(os.getpid(), signal.SIGKILL)


def exiting(request, folder, *, on_step):
    os._exit(3)


def hanging(request, folder, *, on_step):
    on_step("forever")
    Path(os.environ["HANGING_PID"]).write_text(str(os.getpid()))
    time.sleep(600)


def out_of_memory(request, folder, *, on_step):
    raise MemoryError


def full_disk(request, folder, *, on_step):
    raise OSError(28, "No space left on device")
"""
KINDS = ("good", "noisy", "crashing", "killed", "exiting", "hanging", "out_of_memory", "full_disk")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with converters of its own on the path of this process and of the workers."""
    site = tmp_path / "site"
    metadata = site / "outside-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "outside_converters.py").write_text(CONVERTERS)
    lines = [f"{kind} = outside_converters:{kind}" for kind in KINDS]
    (metadata / "entry_points.txt").write_text("[deploybench.converters]\n" + "\n".join(lines) + "\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("HANGING_PID", str(tmp_path / "hanging_pid"))
    return site


def asked(kind: str, batch_size: int = 1) -> ConversionRequest:
    return ConversionRequest(ModelSpec.of("block/ncb", resolution=7, in_channels=32), kind, batch_size)


def no_child_left() -> bool:
    return not psutil.Process().children(recursive=True)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_real_conversions_then_the_cache(tmp_path: Path) -> None:
    spec = ModelSpec.of("block/bottleneck", resolution=7, in_channels=32)
    requests = [ConversionRequest(spec, "onnx", fused=fused, input_count=1) for fused in (True, False)]
    events: list[ConversionEvent] = []
    made = dict(convert_all([*requests, requests[0]], tmp_path / "cache", workers=1, on_event=events.append))
    assert made.keys() == set(requests)
    assert all(isinstance(outcome, Artifact) for outcome in made.values())
    assert [event.detail for event in events if event.request == requests[0]] == [
        "", "eager", "fused", "exported", "simplified", "",
    ]  # fmt: skip
    assert [event.kind for event in events if event.kind != "step"] == ["started", "done"] * 2
    events.clear()
    again = dict(convert_all(requests, tmp_path / "cache", on_event=events.append))
    assert again == made
    assert [event.kind for event in events] == ["cached", "cached"]
    assert no_child_left()


def test_bad_input_and_refused_requests_are_failures(tmp_path: Path) -> None:
    unknown = ConversionRequest(ModelSpec.of("block/nbc", resolution=7, in_channels=32), "onnx")
    impossible = ConversionRequest(
        ModelSpec.of("block/ncb", resolution=7, in_channels=32), "exported_program", precision="int8"
    )
    outcomes = dict(convert_all([unknown, impossible], tmp_path))
    assert isinstance(outcomes[unknown], ConversionFailure)
    assert (outcomes[unknown].kind, outcomes[impossible].kind) == ("bad_input", "bad_input")
    assert "block/nbc" in outcomes[unknown].message
    assert "it can be made in fp32" in outcomes[impossible].message


@pytest.mark.usefixtures("outside")
def test_a_lost_process_costs_its_own_request_only(tmp_path: Path) -> None:
    """Five requests that end badly between good ones, on two workers."""
    bad = ["crashing", "killed", "exiting", "hanging", "out_of_memory"]
    requests = [request for n, kind in enumerate(bad) for request in (asked(kind), asked("good", n + 1))]
    outcomes = dict(convert_all(requests, tmp_path / "cache", workers=2, deadline_seconds=4))
    assert outcomes.keys() == set(requests)
    assert all(isinstance(outcomes[asked("good", n + 1)], Artifact) for n in range(len(bad)))
    failures = {kind: outcomes[asked(kind)] for kind in bad}
    assert {kind: failure.kind for kind, failure in failures.items()} == {
        "crashing": "crashed",
        "killed": "out_of_memory",
        "exiting": "crashed",
        "hanging": "deadline",
        "out_of_memory": "out_of_memory",
    }
    assert all(failure.message and failure.advice for failure in failures.values())
    assert "signal 11 (SIGSEGV): Assertion failed: shape.size() == 4" in failures["crashing"].message
    assert failures["crashing"].step == "exported"
    assert "exit status 3" in failures["exiting"].message
    assert "after 4 s" in failures["hanging"].message
    assert failures["hanging"].step == "forever"
    assert no_child_left()


@pytest.mark.usefixtures("outside")
def test_chatter_does_not_disturb_the_protocol(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    requests = [asked("noisy"), asked("noisy", 2)]
    outcomes = dict(convert_all(requests, tmp_path / "cache", workers=1))
    assert all(isinstance(outcome, Artifact) for outcome in outcomes.values())
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("outside")
def test_unusable_cache_stops_everything(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="No space left on device"):
        list(convert_all([asked("full_disk"), asked("good")], tmp_path / "cache", workers=1))
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot write"):
        list(convert_all([asked("good")], tmp_path / "file" / "cache"))
    assert no_child_left()


@pytest.mark.usefixtures("outside")
def test_damaged_entry_is_noticed_and_made_again(tmp_path: Path) -> None:
    root, request = tmp_path / "cache", asked("good")
    list(convert_all([request], root))
    (root / cache_key(request) / "model.bin").write_bytes(b"damaged")
    events: list[ConversionEvent] = []
    ((_, outcome),) = convert_all([request], root, on_event=events.append)
    assert isinstance(outcome, Artifact)
    assert [event.kind for event in events] == ["notice", "started", "step", "done"]
    assert "is damaged" in events[0].detail


@pytest.mark.usefixtures("outside")
def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    results = convert_all([asked("good"), asked("hanging")], tmp_path / "cache", workers=2)
    assert isinstance(next(results)[1], Artifact)
    assert not no_child_left()
    results.close()
    assert no_child_left()


@pytest.mark.usefixtures("outside")
def test_two_suites_converting_the_same_at_once(tmp_path: Path) -> None:
    request = ConversionRequest(
        ModelSpec.of("block/repvgg", resolution=7, in_channels=32), "onnx", input_count=1
    )
    first = convert_all([asked("good"), request], tmp_path, workers=2)
    second = convert_all([asked("good", 2), request], tmp_path, workers=2)
    started = [next(first), next(second)]  # both have begun with what neither found
    outcomes = [*started, *first, *second]
    keys = [outcome.key for asked_for, outcome in outcomes if asked_for == request]
    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.fixture
def engine_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a package named tensorrt_rtx before the real one, for the workers: its code is the argument."""

    def use(code: str) -> None:
        shadow = tmp_path / "shadow"
        shadow.mkdir()
        (shadow / "tensorrt_rtx.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(shadow))

    return use


def engine(target: str, side: int = 7, precision: str = "fp32") -> ConversionRequest:
    spec = ModelSpec.of("block/bottleneck", resolution=side, in_channels=32)
    build = (("package", "tensorrt_rtx"),)
    return ConversionRequest(spec, "engine", precision=precision, input_count=1, target=target, build=build)


needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@needs_rtx
def test_engines_share_one_source(tmp_path: Path) -> None:
    """Five engines of one block: its ONNX file is made once, and nobody asked for it."""
    requests = [engine(target) for target in ("sm80", "sm86", "sm89", "sm120", "sm121")]
    source = source_request(requests[0])
    assert source is not None
    events: list[ConversionEvent] = []
    made = dict(convert_all(requests, tmp_path / "cache", workers=2, on_event=events.append))
    assert made.keys() == set(requests)
    assert all(isinstance(outcome, Artifact) for outcome in made.values())
    assert {outcome.source_key for outcome in made.values()} == {cache_key(source)}
    assert len({outcome.sha256 for outcome in made.values()}) == 5
    assert [e.kind for e in events if e.request == source and e.kind != "step"] == ["started", "done"]
    assert [e.detail for e in events if e.request == source and e.kind == "step"] == [
        "eager", "fused", "exported", "simplified",
    ]  # fmt: skip
    for request in requests:
        told = [(event.kind, event.detail) for event in events if event.request == request]
        assert told[:2] == [("started", ""), ("step", "engine")]
        assert told[-1] == ("done", "")
    order = [(event.request, event.kind) for event in events]
    assert order.index((source, "done")) < min(order.index((each, "started")) for each in requests)

    events.clear()
    assert dict(convert_all([*requests, source], tmp_path / "cache", on_event=events.append)) == {
        **made,
        source: ArtifactCache(tmp_path / "cache").find(cache_key(source)),
    }
    assert [event.kind for event in events] == ["cached"] * 6


@needs_rtx
def test_source_that_is_asked_for_or_cached_is_made_once(tmp_path: Path) -> None:
    first, second = engine("sm89"), engine("sm120")
    source = source_request(first)
    assert source is not None
    events: list[ConversionEvent] = []
    outcomes = list(convert_all([first, source], tmp_path / "cache", on_event=events.append))
    assert [request for request, _ in outcomes] == [source, first]
    assert sum(event.kind == "started" for event in events) == 2
    events.clear()
    ((request, outcome),) = convert_all([second], tmp_path / "cache", on_event=events.append)
    assert request == second
    assert isinstance(outcome, Artifact)
    assert {event.request for event in events} == {second}


@needs_rtx
def test_failed_source_fails_all_that_need_it_and_no_other(tmp_path: Path) -> None:
    good, bad = engine("sm89"), [engine(target, side=14) for target in ("sm80", "sm86")]
    checkpoint = tmp_path / "none.safetensors"
    bad = [dataclasses.replace(request, checkpoint=checkpoint) for request in bad]
    events: list[ConversionEvent] = []
    outcomes = dict(convert_all([*bad, good], tmp_path / "cache", workers=1, on_event=events.append))
    assert isinstance(outcomes[good], Artifact)
    assert outcomes.keys() == {good, *bad}
    assert outcomes[bad[0]] == outcomes[bad[1]]
    assert isinstance(outcomes[bad[0]], ConversionFailure)
    assert "none.safetensors" in outcomes[bad[0]].message
    for request in bad:
        assert [event.kind for event in events if event.request == request] == ["failed"]


CRASHING = """
import os, signal
__version__ = "0"
os.write(2, b"Assertion failed: tactic != nullptr\\n")
os.kill(os.getpid(), signal.SIGSEGV)
"""


@needs_rtx  # the check before a conversion looks for it
def test_crash_in_the_builder_costs_its_own_request(
    tmp_path: Path, engine_package: Callable[[str], None]
) -> None:
    """The library takes the process down; the ONNX file and what waits behind it are made all the same."""
    engine_package(CRASHING)
    request, other = engine("sm89"), ConversionRequest(engine("sm89", side=14).model, "onnx", input_count=1)
    source = source_request(request)
    assert source is not None
    outcomes = dict(convert_all([request, other], tmp_path / "cache", workers=1))
    failure = outcomes[request]
    assert isinstance(failure, ConversionFailure)
    assert (failure.kind, failure.step) == ("crashed", "engine")
    assert "signal 11 (SIGSEGV): Assertion failed: tactic != nullptr" in failure.message
    assert isinstance(outcomes[other], Artifact)
    cache = ArtifactCache(tmp_path / "cache")
    assert cache.find(cache_key(source)) is not None
    assert cache.find(cache_key(request)) is None
    assert no_child_left()


HANGING = """
import time
__version__ = "0"
time.sleep(600)
"""


@needs_rtx
def test_killed_builder_leaves_no_entry(tmp_path: Path, engine_package: Callable[[str], None]) -> None:
    engine_package(HANGING)
    request = engine("sm89")
    source = source_request(request)
    assert source is not None

    def kill(event: ConversionEvent) -> None:
        if event.detail == "engine":
            (worker,) = psutil.Process().children()
            worker.kill()

    root = tmp_path / "cache"
    ((_, failure),) = convert_all([request], root, workers=1, on_event=kill)
    assert isinstance(failure, ConversionFailure)
    assert (failure.kind, failure.step) == ("out_of_memory", "engine")
    cache = ArtifactCache(root)
    assert cache.find(cache_key(source)) is not None
    assert cache.find(cache_key(request)) is None
    assert not list(root.rglob("model.engine"))


PARENT = """
import sys
from pathlib import Path
from converters import ConversionRequest
from converters.pool import convert_all
from models.spec import ModelSpec
request = ConversionRequest(ModelSpec.of("block/ncb", resolution=7, in_channels=32), "hanging")
try:
    list(convert_all([request], Path(sys.argv[1])))
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.fixture
def hanging_parent(outside: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A process whose only worker hangs, and that worker."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(PROJECT), str(outside)))}
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path / "cache")]
    pid_file = tmp_path / "hanging_pid"
    with subprocess.Popen(command, env=environment, start_new_session=True) as parent:
        try:
            wait_until(lambda: pid_file.exists() and pid_file.read_text())
            yield parent, psutil.Process(int(pid_file.read_text()))
        finally:
            parent.kill()


def test_killed_parent_leaves_no_worker(
    hanging_parent: tuple[subprocess.Popen[bytes], psutil.Process],
) -> None:
    parent, worker = hanging_parent
    parent.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_ctrl_c_ends_parent_and_worker(
    hanging_parent: tuple[subprocess.Popen[bytes], psutil.Process],
) -> None:
    parent, worker = hanging_parent
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the whole group
    assert parent.wait(60) == 7
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_conversion_in_this_process(tmp_path: Path, request_onnx: ConversionRequest) -> None:
    cache, seen = ArtifactCache(tmp_path), list[str]()
    made = convert(request_onnx, cache, seen.append)
    assert seen == ["eager", "fused", "exported", "simplified"]
    assert convert(request_onnx, cache, seen.append) == made
    assert len(seen) == 4
    unknown = ConversionRequest(ModelSpec.of("nextvit_smal"), "onnx")
    with pytest.raises(ConversionError, match="nextvit_small") as caught:
        convert(unknown, cache)
    assert caught.value.failure.kind == "bad_input"
