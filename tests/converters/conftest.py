"""Shared by the converters' tests: a cheap request, and any network in the place of the requested one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converters.artifact import ConversionRequest
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.mkdir()
    return path
