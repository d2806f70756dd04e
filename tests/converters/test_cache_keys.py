"""The cache key: equal where the file would be equal, other where anything that shapes it changes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import converters
from converters import keys
from converters.artifact import ConversionError, ConversionRequest
from converters.keys import cache_key
from models.spec import ModelSpec

REQUEST = ConversionRequest(ModelSpec.of("block/ncb", resolution=7, in_channels=32), "onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"model": ModelSpec.of("block/ncb", resolution=14, in_channels=32)},
        {"model": ModelSpec.of("block/ncb", resolution=7, in_channels=64)},
        {"model": ModelSpec.of("block/ncb", resolution=7, in_channels=32, weights="random:1")},
        {"model": ModelSpec.of("block/mbconv", resolution=7, in_channels=32)},
        {"kind": "exported_program"},
        {"batch_size": 2},
        {"precision": "bf16"},
        {"fused": False},
        {"input_seed": 1},
        {"input_count": 3},
    ],
    ids=str,
)
def test_every_part_of_the_request_counts(change: dict[str, object]) -> None:
    assert cache_key(dataclasses.replace(REQUEST, **change)) != cache_key(REQUEST)


def test_the_checkpoints_place_does_not_count() -> None:
    moved = dataclasses.replace(REQUEST, checkpoint=Path("/elsewhere/model.safetensors"))
    assert cache_key(moved) == cache_key(REQUEST)


@settings(deadline=None)
@given(st.integers(1, 512), st.integers(1, 1024), st.booleans())
def test_key_survives_the_way_to_a_worker(resolution: int, channels: int, fused: bool) -> None:
    model = ModelSpec.of("block/ncb", resolution=resolution, in_channels=channels)
    request = ConversionRequest(model, "onnx", fused=fused)
    assert ConversionRequest.from_dict(request.to_dict()) == request
    assert cache_key(ConversionRequest.from_dict(request.to_dict())) == cache_key(request)


def test_toolchain_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key(REQUEST)
    monkeypatch.setattr(keys, "_version", lambda package: "0.0" if package == "onnxsim" else "1.0")
    changed = cache_key(REQUEST)
    monkeypatch.setattr(keys, "_version", lambda package: "1.0")
    assert len({before, changed, cache_key(REQUEST)}) == 3


def test_timm_counts_for_its_own_models_only() -> None:
    assert "timm" in keys.toolchain("onnx", ModelSpec.of("timm/resnet18"))
    assert "timm" not in keys.toolchain("onnx", REQUEST.model)
    assert keys.toolchain("onnx", REQUEST.model).keys() == {
        "torch",
        "onnx",
        "onnxscript",
        "onnxsim",
        "onnxruntime",
    }
    assert keys.toolchain("exported_program", REQUEST.model).keys() == {"torch"}


def test_sources_and_opset_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sources: test_source_graph."""
    before = cache_key(REQUEST)
    monkeypatch.setattr(keys, "sources_digest", lambda: "another")
    assert cache_key(REQUEST) != before
    monkeypatch.undo()
    assert cache_key(REQUEST) == before
    monkeypatch.setattr(keys, "OPSET", 17)
    assert cache_key(REQUEST) != before


def test_no_toolchain_is_imported_for_checking_and_looking_up(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import converters, models
from converters.cache import ArtifactCache
from converters.keys import cache_key
import converters.pool
request = converters.ConversionRequest(models.ModelSpec.of("timm/resnet18"), "onnx")
converters.check(request)
assert ArtifactCache(Path({str(tmp_path)!r})).find(cache_key(request)) is None
heavy = {{"torch", "timm", "onnx", "onnxruntime", "onnxsim", "onnxscript", "pandas", "matplotlib"}}
print(sorted(heavy & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_reparameterize_is_still_the_function_after_its_module_was_imported() -> None:
    import converters.reparameterization

    assert callable(converters.reparameterize)
    assert converters.reparameterization.reparameterize is not converters.reparameterize


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "exported_program", "precision": "fp16"},
            "cannot be made in fp16: it can be made in fp32, bf16",
        ),
        ({"kind": "exported_program", "precision": "int8"}, "it can be made in fp32, bf16"),
        ({"kind": "onx"}, "unknown kind of artifact 'onx': did you mean onnx"),
        ({"batch_size": 0}, "batch_size=0: at least 1"),
        ({"input_count": 0}, "input_count=0: at least 1"),
    ],
)
def test_impossible_requests_are_refused_at_once(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        converters.check(dataclasses.replace(REQUEST, **change))
    assert caught.value.failure.kind == "bad_input"
    assert caught.value.failure.step == "request"


def test_every_kind_has_precisions() -> None:
    assert converters.PRECISIONS.keys() == converters.CONVERTERS.keys()
