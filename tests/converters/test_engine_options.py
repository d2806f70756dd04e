"""What may be asked of an engine's builder, and where: checked without a toolchain."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import converters
from converters import tensorrt_package
from converters.artifact import ConversionError, ConversionRequest
from converters.engine_options import NAMES, EngineOptions, read
from converters.gpu_here import Gpu
from converters.keys import cache_key
from converters.stages import source_request
from models.spec import ModelSpec, sorted_options

REQUEST = ConversionRequest(
    ModelSpec.of("block/ncb", resolution=7, in_channels=32), "engine", batch_size=2, target="sm89"
)
BROKEN = tensorrt_package.broken  # the real one, which the machines here replace


def asked(**build: object) -> ConversionRequest:
    return dataclasses.replace(REQUEST, build=sorted_options(build))


@pytest.fixture(autouse=True)
def _rtx_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "tensorrt_rtx")


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *packages: str,
    gpu: str = "",
    card: str = "NVIDIA X",
    driver: str = "570.1",
    broken: tuple[str, ...] = (),
) -> None:
    """Another machine: what is installed on it, what of that is broken, and which GPU it has."""
    here = Gpu(card, gpu, driver) if gpu else Gpu()
    reason = "ImportError: libnvinfer.so.10: cannot open shared object file"
    monkeypatch.setattr(tensorrt_package, "installed", lambda: packages)
    monkeypatch.setattr(tensorrt_package, "gpu_here", lambda: here)
    monkeypatch.setattr(tensorrt_package, "broken", lambda name: reason if name in broken else "")


def test_defaults_are_the_builders_own() -> None:
    assert read(REQUEST) == EngineOptions()


def test_every_option_is_read() -> None:
    values = {
        "optimization_level": 5,
        "workspace_mib": 256,
        "avg_timing_iterations": 4,
        "min_batch": 1,
        "max_batch": 8,
        "tf32": True,
        "timing_cache": False,
        "package": "tensorrt_rtx",
    }
    assert values.keys() == set(NAMES)
    assert read(asked(**values)) == EngineOptions(5, 256, 4, True, False, "tensorrt_rtx", (1, 2, 8))
    assert read(asked(max_batch=4)).batches == (1, 2, 4)
    assert read(asked(min_batch=2)).batches == (2, 2, 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"optimization_level": 6}, "optimization_level=6: a whole number from 0 to 5 is wanted"),
        ({"optimization_level": -1}, "optimization_level=-1"),
        ({"optimization_level": True}, "optimization_level=True"),
        ({"workspace_mib": 0}, "workspace_mib=0: a whole number from 1 to"),
        ({"workspace_mib": 1.5}, "workspace_mib=1.5"),
        ({"avg_timing_iterations": "many"}, "avg_timing_iterations=many"),
        ({"tf32": 1}, "tf32=1: true or false is wanted"),
        ({"package": "tensorflow"}, "package=tensorflow: tensorrt or tensorrt_rtx is wanted"),
        ({"optimisation_level": 3}, "no option 'optimisation_level': did you mean optimization_level"),
        ({"zzz": 3}, "known: avg_timing_iterations, max_batch, min_batch"),
        ({"max_batch": 1}, "batch size 2 is outside the engine's range, min_batch=1 to max_batch=1"),
        ({"min_batch": 3, "max_batch": 8}, "batch size 2 is outside the engine's range, min_batch=3"),
        ({"min_batch": 4, "max_batch": 2}, "batch size 2 is outside the engine's range"),
    ],
    ids=str,
)
def test_options_that_are_refused(build: dict[str, object], message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        converters.check(asked(**build))
    assert caught.value.failure.kind == "bad_input"


@pytest.mark.parametrize("target", ["89", "sm8", "SM89", "sm_89", "sm089", "ampere"])
def test_targets_that_are_no_compute_capability(target: str) -> None:
    with pytest.raises(ConversionError, match=f"target '{target}' is not written like sm89"):
        converters.check(dataclasses.replace(REQUEST, target=target))


def test_a_target_is_for_engines_alone() -> None:
    with pytest.raises(ConversionError, match="target sm89: onnx is made for no GPU in particular"):
        converters.check(dataclasses.replace(REQUEST, kind="onnx"))


def test_no_package_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(ConversionError, match=r"pip install '\.\[trt\]'") as caught:
        converters.check(REQUEST)
    assert "neither tensorrt nor tensorrt_rtx is installed" in str(caught.value)
    assert len(cache_key(REQUEST)) == 32
    machine(monkeypatch, "tensorrt_rtx")
    with pytest.raises(ConversionError, match="tensorrt is not installed: pip install tensorrt"):
        converters.check(asked(package="tensorrt"))


def test_no_target_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    request = dataclasses.replace(REQUEST, target="")
    with pytest.raises(ConversionError, match="no target says for which one to build"):
        converters.check(request)
    machine(monkeypatch, "tensorrt_rtx", gpu="sm89")
    converters.check(request)


@pytest.mark.parametrize(
    ("target", "gpu", "package"),
    [
        ("", "sm90", "tensorrt"),
        ("sm90", "sm90", "tensorrt"),
        ("sm89", "sm90", "tensorrt_rtx"),
        ("sm89", "", "tensorrt_rtx"),
    ],
)
def test_full_package_for_the_gpu_here_and_rtx_for_others(
    target: str, gpu: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "tensorrt", "tensorrt_rtx", gpu=gpu)
    assert tensorrt_package.choose(target) == package
    assert tensorrt_package.choose(target, "tensorrt_rtx") == "tensorrt_rtx"
    machine(monkeypatch, "tensorrt", gpu=gpu)
    assert tensorrt_package.choose(target) == "tensorrt"


def test_rtx_builds_where_the_full_package_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("tensorrt", "tensorrt_rtx")
    machine(monkeypatch, *both, gpu="sm89", broken=("tensorrt",))
    assert tensorrt_package.choose("sm89") == tensorrt_package.choose("") == "tensorrt_rtx"
    assert tensorrt_package.choose("sm89", "tensorrt") == "tensorrt"
    told = tensorrt_package.instead(REQUEST, "tensorrt_rtx")
    assert "tensorrt is installed and cannot be imported (ImportError: libnvinfer.so.10" in told
    assert told.endswith("tensorrt_rtx builds instead")
    assert tensorrt_package.instead(dataclasses.replace(REQUEST, target="sm86"), "tensorrt_rtx") == ""
    assert tensorrt_package.instead(asked(package="tensorrt_rtx"), "tensorrt_rtx") == ""
    with_rtx = cache_key(REQUEST)
    machine(monkeypatch, *both, gpu="sm89")
    assert tensorrt_package.instead(REQUEST, "tensorrt") == ""
    assert cache_key(REQUEST) != with_rtx
    machine(monkeypatch, *both, gpu="sm89", broken=both)
    with pytest.raises(ConversionError, match="tensorrt is installed and cannot be imported: ImportError"):
        tensorrt_package.load(REQUEST, EngineOptions())


def test_a_broken_package_is_found_by_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shattered.py").write_text("raise OSError('libnvinfer.so.10:\\n cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert BROKEN("shattered") == "OSError: libnvinfer.so.10: cannot open"
    assert BROKEN("json") == ""


def test_engines_of_the_full_package_are_those_of_a_model_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A100 and A30 are both sm80; the full package times its tactics on the one that is here."""

    def key(package: str, card: str, driver: str = "570.1") -> str:
        machine(monkeypatch, package, gpu="sm80", card=card, driver=driver)
        return cache_key(dataclasses.replace(REQUEST, target="sm80"))

    assert key("tensorrt", "A100") != key("tensorrt", "A30")
    assert key("tensorrt", "A100") != key("tensorrt", "A100", driver="580.2")
    assert key("tensorrt_rtx", "A100") == key("tensorrt_rtx", "A30", driver="580.2")


@pytest.mark.parametrize(
    "change",
    [
        {"target": "sm86"},
        {"build": (("tf32", True),)},
        {"precision": "fp16"},
        {"batch_size": 4},
        {"input_seed": 3},
    ],
    ids=str,
)
def test_key_changes_with_what_is_asked_for(change: dict[str, object]) -> None:
    assert cache_key(dataclasses.replace(REQUEST, **change)) != cache_key(REQUEST)


def test_key_changes_with_the_source_and_with_the_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from converters import keys

    here = dataclasses.replace(REQUEST, target="")
    before, unnamed = cache_key(REQUEST), cache_key(here)
    assert keys.key_facts(REQUEST)["source"] == cache_key(source_request(REQUEST))
    machine(monkeypatch, "tensorrt_rtx", gpu="sm86")
    assert cache_key(REQUEST) == before
    assert cache_key(here) != unnamed
    monkeypatch.setattr(keys, "_version", lambda package: "0.0" if package == "onnxsim" else "1.0")
    older = cache_key(REQUEST)
    monkeypatch.setattr(keys, "_version", lambda package: "1.0")
    assert cache_key(REQUEST) != older


def test_source_is_the_same_for_all_targets_and_options() -> None:
    source = source_request(REQUEST)
    assert source == dataclasses.replace(REQUEST, kind="onnx", target="")
    others = [
        dataclasses.replace(asked(tf32=True, optimization_level=2), target=t) for t in ("sm80", "sm120")
    ]
    assert {source_request(other) for other in others} == {source}
    assert source_request(source) is None


def test_source_has_the_batch_axis_and_the_flavour_that_the_engine_needs() -> None:
    source = source_request(asked(max_batch=8, tf32=True))
    assert source is not None
    assert source.build == (("dynamic_batch", True),)
    quantized = source_request(dataclasses.replace(REQUEST, precision="int8", flavour="trt"))
    assert quantized is not None
    assert quantized.flavour == "trt"
    assert source.flavour == ""


def test_checking_imports_no_toolchain() -> None:
    code = """
import sys
import converters
from converters import tensorrt_package
from converters.artifact import ConversionRequest
from converters.keys import cache_key
from models.spec import ModelSpec
tensorrt_package.installed = lambda: ("tensorrt_rtx",)
request = ConversionRequest(ModelSpec.of("nextvit_small"), "engine", target="sm89")
converters.check(request)
cache_key(request)
heavy = {"torch", "timm", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda.bindings"}
print(sorted(heavy & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
