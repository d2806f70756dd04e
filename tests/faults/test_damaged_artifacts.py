"""Any byte of a cached artifact flipped, or any end of its files cut off: never trusted, made again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.artifact import Artifact, Parity, Step, TensorInfo
from converters.cache import ABANDONED_AFTER_S, ArtifactCache
from converters.files import sha256_of
from models.spec import ModelSpec

KEY = "k" * 32
FILES = ("artifact.json", "model.onnx", "tensors.npz")


def build(folder: Path) -> Artifact:
    """Small files with every kind of value in the manifest."""
    model, tensors = folder / "model.onnx", folder / "tensors.npz"
    model.write_bytes(bytes(range(256)))
    tensors.write_bytes(bytes(range(200)))
    return Artifact(
        kind="onnx",
        path=model,
        sha256=sha256_of(model),
        size_bytes=256,
        key=KEY,
        model=ModelSpec.of("block/ncb", resolution=7, in_channels=32),
        batch_size=1,
        precision="fp32",
        fused=True,
        inputs=(TensorInfo("input", "float32", (1, 32, 7, 7)),),
        outputs=(TensorInfo("output", "float32", (1, 32, 7, 7)),),
        tensors=tensors,
        tensors_sha256=sha256_of(tensors),
        seed=0,
        params_m=0.5,
        gmacs=1e-7,
        steps=(Step("exported", "tool 1", Parity(1e-6, 1e-6, 1.0, 1.0, 1e-4), 5, "a note"),),
        op_counts={"Conv": 4},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A cache with one sound entry, copied for every example."""
    root = tmp_path_factory.mktemp("cache") / "artifacts"
    assert ArtifactCache(root).store(KEY, build).key == KEY
    return root


def refused(whole: Path, name: str, damage) -> ArtifactCache:
    """A copy of the cache whose damaged entry was set aside as it was."""
    root = whole.with_name("damaged")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(whole, root)
    path = root / KEY / name
    damage(path)
    damaged, notices = path.read_bytes(), []
    cache = ArtifactCache(root, report=notices.append)
    assert cache.find(KEY) is None
    (kept,) = (root / "corrupt").iterdir()
    assert (kept / name).read_bytes() == damaged
    assert len(notices) == 1
    assert str(kept) in notices[0]
    return cache


def refused_and_made_again(whole: Path, name: str, damage) -> None:
    cache = refused(whole, name, damage)
    assert cache.store(KEY, build).path.read_bytes() == bytes(range(256))
    assert cache.find(KEY) is not None


OFTEN = settings(max_examples=100, deadline=None)
VERY_OFTEN = settings(OFTEN, max_examples=4000)


def flip(whole: Path, name: str, place: int, mask: int) -> None:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= mask
        path.write_bytes(content)

    refused(whole, name, damage)


PLACES = {"name": st.sampled_from(FILES), "place": st.integers(0, 1 << 16), "mask": st.integers(1, 255)}


@OFTEN
@given(**PLACES)
def test_a_flipped_byte(whole, name, place, mask):
    flip(whole, name, place, mask)


@pytest.mark.slow
@VERY_OFTEN
@given(**PLACES)
def test_many_flipped_bytes(whole, name, place, mask):
    flip(whole, name, place, mask)


@settings(OFTEN, max_examples=60)
@given(name=st.sampled_from(FILES), share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_short(whole, name, share):
    def damage(path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * share))

    refused(whole, name, damage)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 5000, b" ", b"null", b"1e999", b'{"schema": NaN}', b"\xff"]
)
def test_a_manifest_that_is_something_else(whole, content):
    refused_and_made_again(whole, "artifact.json", lambda path: path.write_bytes(content))


def test_a_manifest_whose_spaces_were_changed_was_changed(whole):
    refused_and_made_again(whole, "artifact.json", lambda path: path.write_text(path.read_text() + "\n"))


def test_a_build_that_goes_on_is_kept_wherever_the_clock_is_set(tmp_path):
    """Its folder looks two days old to a process whose clock was set forward; its builder still lives."""
    cache = ArtifactCache(tmp_path)

    def slowly(folder: Path) -> Artifact:
        old = folder.stat().st_mtime - 2 * ABANDONED_AFTER_S
        os.utime(folder, (old, old))
        ArtifactCache(tmp_path).store("o" * 32, lambda other: _with_key(build(other), "o" * 32))
        return build(folder)

    assert cache.store(KEY, slowly).key == KEY
    assert list((tmp_path / "building").iterdir()) == []


def _with_key(artifact: Artifact, key: str) -> Artifact:
    from dataclasses import replace

    return replace(artifact, key=key)
