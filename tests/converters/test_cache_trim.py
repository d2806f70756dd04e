"""A cache held to a size: least recently used out, never what a process needs, whole after any kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.artifact import Artifact
from converters.byte_sizes import SIZE, parse_bytes
from converters.cache import LAST_USED, ArtifactCache, CacheError
from converters.cache_trim import REMOVED, entries, total_bytes, trim
from converters.cache_use import LEASES, exclusive, leased, needed
from converters.files import sha256_of
from models.spec import ModelSpec

ROOT = Path(__file__).parents[2]
BYTES = 10_000


def key(number: int) -> str:
    return f"{number:032x}"


def put(root: Path, number: int, *, size: int = BYTES) -> Artifact:
    """An artifact of that many bytes, used `number` seconds after 1970."""

    def build(folder: Path) -> Artifact:
        model, tensors = folder / "model.onnx", folder / "tensors.npz"
        model.write_bytes(bytes(size))
        tensors.write_bytes(b"tensors")
        return Artifact(
            kind="onnx",
            path=model,
            sha256=sha256_of(model),
            size_bytes=size,
            key=key(number),
            model=ModelSpec.of("block/ncb", resolution=7, in_channels=32),
            batch_size=1,
            precision="fp32",
            fused=True,
            inputs=(),
            outputs=(),
            tensors=tensors,
            tensors_sha256=sha256_of(tensors),
            seed=0,
            params_m=0.5,
            gmacs=0.25,
            steps=(),
        )

    made = ArtifactCache(root).store(key(number), build)
    os.utime(root / key(number) / LAST_USED, (number, number))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four artifacts, the first one used longest ago."""
    for number in range(1, 5):
        put(tmp_path / "cache", number)
    return tmp_path / "cache"


def numbers(root: Path) -> list[int]:
    return sorted(int(entry.key, 16) for entry in entries(root))


def test_the_least_recently_used_go_first(root: Path) -> None:
    before = total_bytes(root)
    done = trim(root, before - 1)
    assert [entry.key for entry in done.removed] == [key(1)]
    assert numbers(root) == [2, 3, 4]
    assert done.left_bytes <= before - BYTES
    assert abs(total_bytes(root) - done.left_bytes) < 200  # the lock's file is new
    assert list((root / REMOVED).iterdir()) == []


def test_finding_an_artifact_is_a_use(root: Path) -> None:
    """The time is that of a file of our own: this file system may keep no times of reading."""
    assert ArtifactCache(root).find(key(1))
    assert [entry.key for entry in entries(root)] == [key(2), key(3), key(4), key(1)]
    trim(root, 2 * (BYTES + 2000))
    assert numbers(root) == [1, 4]


def test_an_older_entry_without_a_time_of_use_has_that_of_its_making(root: Path) -> None:
    (root / key(2) / LAST_USED).unlink()
    os.utime(root / key(2) / "artifact.json", (0.5, 0.5))
    assert entries(root)[0].key == key(2)


def test_a_dry_run_removes_nothing_and_says_the_same(root: Path) -> None:
    foreseen = trim(root, 25_000, dry_run=True)
    assert numbers(root) == [1, 2, 3, 4]
    assert trim(root, 25_000).removed == foreseen.removed
    assert len(foreseen.removed) == 2


def test_a_file_that_two_artifacts_share_is_counted_once(root: Path) -> None:
    """An engine's tensors are a hard link to those of its ONNX file."""
    shared = root / key(1) / "model.onnx"
    (root / key(2) / "shared").hardlink_to(shared)
    before = total_bytes(root)
    assert before < 5 * BYTES
    done = trim(root, before - 1000)
    assert [entry.key for entry in done.removed] == [key(1), key(2)]  # the first alone frees next to nothing


def test_what_was_set_aside_goes_before_anything_else(root: Path) -> None:
    (root / key(4) / "model.onnx").write_bytes(b"damaged")
    assert ArtifactCache(root, report=lambda text: None).find(key(4)) is None
    done = trim(root, total_bytes(root) - 1)
    assert [entry.key for entry in done.removed] == [""]
    assert numbers(root) == [1, 2, 3]


def test_what_is_leased_stays(root: Path) -> None:
    with leased(root, [key(1), key(9)]):
        done = trim(root, 0)
        assert numbers(root) == [1]
        assert done.kept == {key(1): os.getpid()}
    trim(root, 0)
    assert numbers(root) == []


HOLD = """
import sys, time
from pathlib import Path
from converters.cache_use import leased
with leased(Path(sys.argv[1]), sys.argv[2:]):
    print("held", flush=True)
    time.sleep(600)
"""
TRIM = """
import sys
from pathlib import Path
from converters.cache_trim import trim
print("begun", flush=True)
trim(Path(sys.argv[1]), int(sys.argv[2]))
"""


def started(code: str, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *argv]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_another_process_keeps_what_it_needs_until_it_is_killed(root: Path) -> None:
    process = started(HOLD, str(root), key(1), key(2))
    try:
        done = trim(root, 0)
        assert numbers(root) == [1, 2]
        assert set(done.kept.values()) == {process.pid}
    finally:
        process.kill()
        process.communicate()
    trim(root, 0)
    assert numbers(root) == []
    assert [path.name for path in (root / LEASES).iterdir()] == ["lock"]


def test_a_lease_and_a_trim_at_once_never_lose_a_found_artifact(root: Path) -> None:
    """Whoever finds an artifact under a lease can read it until the lease ends, whatever others remove."""
    end = time.monotonic() + 1.5
    trims = 0

    def remove() -> None:
        nonlocal trims
        while time.monotonic() < end:
            trim(root, 0)
            trims += 1

    thread = threading.Thread(target=remove)
    thread.start()
    found = 0
    while time.monotonic() < end:
        with leased(root, [key(1)]):
            put(root, 1)
            artifact = ArtifactCache(root).find(key(1))
            assert artifact is not None
            assert artifact.path.read_bytes() == bytes(BYTES)
            found += 1
    thread.join()
    assert found > 3
    assert trims > 3


def test_two_trims_at_once_remove_each_artifact_once(root: Path) -> None:
    for number in range(5, 60):
        put(root, number, size=100)
    removed: list[str] = []

    def work() -> None:
        removed.extend(entry.key for entry in trim(root, 0).removed)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(removed) == [key(number) for number in range(1, 60)]
    assert numbers(root) == []


def test_a_kill_at_any_moment_of_an_eviction_leaves_a_sound_cache(tmp_path: Path) -> None:
    root, chance = tmp_path / "cache", random.Random(3)
    killed = 0
    notices: list[str] = []
    for _ in range(8):
        for number in range(1, 40):
            if number not in numbers(root):
                put(root, number, size=200_000)
        process = started(TRIM, str(root), "300000")
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        cache = ArtifactCache(root, report=notices.append)
        for number in numbers(root):
            assert cache.find(key(number)) is not None
    assert notices == []
    assert killed >= 2
    trim(root, 300_000)
    assert total_bytes(root) <= 300_000 + 1000
    assert list((root / REMOVED).iterdir()) == []


def test_builds_of_dead_processes_go_and_living_ones_stay(root: Path) -> None:
    dead, alive = root / "building" / "dead", root / "building" / "alive"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"half")
        os.utime(folder, (1, 1))
    import fcntl

    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    trim(root, total_bytes(root))
    os.close(lock)
    assert alive.exists()
    assert not dead.exists()
    assert numbers(root) == [1, 2, 3, 4]


def test_a_folder_that_is_not_there_is_an_empty_cache(tmp_path: Path) -> None:
    assert trim(tmp_path / "none", 0).removed == ()
    with leased(tmp_path / "none", []):
        assert not (tmp_path / "none").exists()


def test_a_lease_where_nothing_can_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="make it writable"), leased(tmp_path / "file" / "cache", [key(1)]):
        raise AssertionError("not reached")


def test_leases_are_removed_when_they_end(root: Path) -> None:
    with leased(root, [key(1)]), leased(root, [key(2)]), exclusive(root):
        assert set(needed(root)) == {key(1), key(2)}
    with exclusive(root):
        assert needed(root) == {}


@pytest.mark.parametrize(
    ("text", "size"),
    [("40 GB", 40 * 10**9), ("512MiB", 512 << 20), ("1.5kb", 1500), ("7", 7), (" 2 TB ", 2 * 10**12)],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@given(st.text(max_size=12))
def test_any_other_text_is_a_clear_error(text: str) -> None:
    if not SIZE.fullmatch(text.strip().lower()):
        with pytest.raises(ValueError, match="written like 40 GB"):
            parse_bytes(text)


def test_no_manifest_is_needed_to_be_read(root: Path, unreadable: Callable[[Path], None]) -> None:
    unreadable(root / key(1) / "artifact.json")
    trim(root, 0)
    assert numbers(root) == []


@pytest.fixture
def unreadable() -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_text(json.dumps("[" * 50))

    return spoil
