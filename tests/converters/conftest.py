"""Shared by the converters' tests: a cheap request, and any network in the place of the requested one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from converters.artifact import Artifact, ConversionRequest, Parity, Step, TensorInfo
from converters.files import sha256_of
from models.spec import ModelSpec


@pytest.fixture
def request_onnx() -> ConversionRequest:
    return ConversionRequest(ModelSpec.of("block/ncb", resolution=7, in_channels=32), "onnx", input_count=2)


@pytest.fixture
def network_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Make a conversion's source build the given module, whatever its spec says."""
    from converters import source

    def use(net: object) -> None:
        source._network.cache_clear()
        monkeypatch.setattr(source, "instantiate", lambda spec, checkpoint=None: net)

    yield use
    source._network.cache_clear()


@pytest.fixture(scope="session")
def graphs() -> ModuleType:
    """The graphs of onnx_graphs.py, beside this file: test folders are no packages."""
    file = Path(__file__).with_name("onnx_graphs.py")
    spec = importlib.util.spec_from_file_location("converters_onnx_graphs", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.mkdir()
    return path


@pytest.fixture
def onnx_source(tmp_path: Path) -> Callable[[bytes], Artifact]:
    """An artifact for the bytes of an ONNX file, as an engine's converter is given it."""

    def make(data: bytes) -> Artifact:
        folder = tmp_path / "cache" / "source"
        folder.mkdir(parents=True)
        path, tensors = folder / "model.onnx", folder / "tensors.npz"
        path.write_bytes(data)
        tensors.write_bytes(b"inputs and references")
        return Artifact(
            kind="onnx",
            path=path,
            sha256=sha256_of(path),
            size_bytes=len(data),
            key="source",
            model=ModelSpec.of("block/ncb", resolution=7, in_channels=32),
            batch_size=1,
            precision="fp32",
            fused=True,
            inputs=(TensorInfo("input", "float32", (1, 32, 7, 7)),),
            outputs=(TensorInfo("output", "float32", (1, 32, 7, 7)),),
            tensors=tensors,
            tensors_sha256=sha256_of(tensors),
            seed=0,
            params_m=0.0,
            gmacs=0.0,
            steps=(Step("simplified", "by hand", Parity(1e-7, 1e-7, 1.0, 1.0, 1e-4), 1),),
        )

    return make
