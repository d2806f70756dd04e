"""The artifact cache: found again, damage noticed and set aside, safe between processes, clear when full."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from converters import cache as cache_module
from converters.artifact import Artifact, Parity, Step, TensorInfo
from converters.cache import ArtifactCache, CacheError
from converters.files import sha256_of
from models.spec import ModelSpec, digest

KEY = "k" * 32


def builder(content: bytes = b"model", key: str = KEY) -> Callable[[Path], Artifact]:
    """Writes two small files and describes them, as a converter does."""

    def build(folder: Path) -> Artifact:
        model, tensors = folder / "model.onnx", folder / "tensors.npz"
        model.write_bytes(content)
        tensors.write_bytes(b"tensors")
        step = Step("exported", "tool 1", Parity(1e-6, 1e-6, 1.0, 1.0, 1e-4), 5, "note")
        return Artifact(
            kind="onnx",
            path=model,
            sha256=sha256_of(model),
            size_bytes=len(content),
            key=key,
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
            gmacs=0.25,
            steps=(step,),
            op_counts={"Conv": 4},
        )

    return build


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, notices: list[str]) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache", report=notices.append)


def test_stored_artifact_is_found_again(cache: ArtifactCache, notices: list[str]) -> None:
    assert cache.find(KEY) is None
    assert cache.keys() == []
    stored = cache.store(KEY, builder())
    assert stored.path == cache.root / KEY / "model.onnx"
    assert stored.path.read_bytes() == b"model"
    assert cache.find(KEY) == stored == ArtifactCache(cache.root).find(KEY)
    assert stored.steps[0].parity.passed
    assert cache.keys() == [KEY]
    assert cache.size_bytes() >= len(b"modeltensors")
    assert notices == []
    assert list((cache.root / "building").iterdir()) == []


def test_cache_can_be_moved(cache: ArtifactCache, tmp_path: Path) -> None:
    cache.store(KEY, builder())
    cache.root.rename(tmp_path / "moved")
    found = ArtifactCache(tmp_path / "moved").find(KEY)
    assert found is not None
    assert found.path.read_bytes() == b"model"


def edit_manifest(change: Callable[[dict], None], *, signed: bool = True) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = json.loads((folder / "artifact.json").read_text())
        change(value)
        if signed:
            value["sha256"] = digest(value["artifact"])
        (folder / "artifact.json").write_text(json.dumps(value))

    return edit


DAMAGES = {
    "model changed": lambda folder: (folder / "model.onnx").write_bytes(b"mode1"),
    "model truncated": lambda folder: os.truncate(folder / "model.onnx", 2),
    "model gone": lambda folder: (folder / "model.onnx").unlink(),
    "tensors changed": lambda folder: (folder / "tensors.npz").write_bytes(b"other"),
    "manifest gone": lambda folder: (folder / "artifact.json").unlink(),
    "manifest half": lambda folder: os.truncate(folder / "artifact.json", 100),
    "manifest empty": lambda folder: os.truncate(folder / "artifact.json", 0),
    "manifest no text": lambda folder: (folder / "artifact.json").write_bytes(b"\xff\xfe\x00"),
    "manifest a list": lambda folder: (folder / "artifact.json").write_text("[]"),
    "manifest edited": edit_manifest(lambda value: value["artifact"].update(gmacs=99), signed=False),
    "older schema": edit_manifest(lambda value: value.update(schema=0)),
    "newer schema": edit_manifest(lambda value: value.update(schema=99)),
    "missing field": edit_manifest(lambda value: value["artifact"].pop("steps")),
    "unknown field": edit_manifest(lambda value: value["artifact"].update(surprise=1)),
    "other key": edit_manifest(lambda value: value["artifact"].update(key="x" * 32)),
    "path outside": edit_manifest(lambda value: value["artifact"].update(path="../../etc/passwd")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damaged_entry_is_set_aside_and_made_again(
    damage: Callable[[Path], None], cache: ArtifactCache, notices: list[str]
) -> None:
    cache.store(KEY, builder())
    damage(cache.root / KEY)
    assert cache.find(KEY) is None
    assert len(notices) == 1
    assert KEY in notices[0]
    assert "made again" in notices[0]
    (kept,) = (cache.root / "corrupt").iterdir()
    assert (kept / "tensors.npz").exists()
    assert not (cache.root / KEY).exists()
    assert cache.store(KEY, builder()).path.read_bytes() == b"model"
    assert len(notices) == 1


def test_a_second_damage_is_kept_beside_the_first(cache: ArtifactCache) -> None:
    for _ in range(2):
        cache.store(KEY, builder())
        (cache.root / KEY / "model.onnx").write_bytes(b"bad")
        assert cache.find(KEY) is None
    assert len(list((cache.root / "corrupt").iterdir())) == 2


def test_damaged_entry_in_the_way_of_a_new_one(cache: ArtifactCache, notices: list[str]) -> None:
    cache.store(KEY, builder())
    (cache.root / KEY / "model.onnx").write_bytes(b"bad")
    assert cache.store(KEY, builder()).path.read_bytes() == b"model"
    assert len(notices) == 1


def test_failing_build_leaves_nothing(cache: ArtifactCache) -> None:
    def fail(folder: Path) -> Artifact:
        (folder / "model.onnx").write_bytes(b"half")
        raise RuntimeError("exporter")

    with pytest.raises(RuntimeError, match="exporter"):
        cache.store(KEY, fail)
    assert cache.find(KEY) is None
    assert list((cache.root / "building").iterdir()) == []


def test_builders_of_the_same_key_at_once_both_succeed(cache: ArtifactCache, notices: list[str]) -> None:
    together = threading.Barrier(4, timeout=30)
    found: list[Artifact] = []

    def build(folder: Path) -> Artifact:
        artifact = builder()(folder)
        together.wait()
        return artifact

    threads = [threading.Thread(target=lambda: found.append(cache.store(KEY, build))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(artifact == found[0] for artifact in found)
    assert found[0].path.read_bytes() == b"model"
    assert notices == []
    assert list((cache.root / "building").iterdir()) == []


def test_full_disk_is_a_clear_error(cache: ArtifactCache) -> None:
    def fill(folder: Path) -> Artifact:
        with Path("/dev/full").open("wb") as full:
            full.write(b"x" * 100_000)
        raise AssertionError("not reached")

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which Linux has")
    with pytest.raises(CacheError, match=r"No space left on device.*free space"):
        cache.store(KEY, fill)
    assert cache.keys() == []


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ArtifactCache(tmp_path / "file" / "cache")
    assert cache.find(KEY) is None
    with pytest.raises(CacheError, match="cannot write"):
        cache.store(KEY, builder())


def test_abandoned_builds_are_swept_and_running_ones_are_not(cache: ArtifactCache) -> None:
    old, fresh = cache.root / "building" / "old", cache.root / "building" / "fresh"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"half")
    past = time.time() - cache_module.ABANDONED_AFTER_S - 60
    os.utime(old, (past, past))
    cache.store(KEY, builder())
    assert not old.exists()
    assert fresh.exists()


def test_foreign_files_in_the_folder_are_no_entries(cache: ArtifactCache) -> None:
    cache.store(KEY, builder())
    (cache.root / "README").write_text("mine")
    (cache.root / "folder").mkdir()
    assert cache.keys() == [KEY]


def test_default_report_is_a_log_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ArtifactCache(tmp_path)
    cache.store(KEY, builder())
    (tmp_path / KEY / "model.onnx").write_bytes(b"bad")
    assert cache.find(KEY) is None
    assert "is damaged" in caplog.text
