"""The file of the timing cache: whole or not there, merged between processes, begun again where damaged.

The package that is installed here keeps no timing cache. What `save` asks of one that does is played by a
cache that is a set of words; files, locks and processes are real.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from converters.gpu_here import Gpu
from converters.timing_cache import TimingCache, path_of, read, write


class Words:
    """A timing cache of words: what was measured before, and what this build adds."""

    def __init__(self, content: bytes) -> None:
        self.words = set(content.split())

    def combine(self, other: Words, ignore_mismatch: bool) -> bool:
        self.words |= other.words
        return ignore_mismatch

    def serialize(self) -> bytes:
        return b" ".join(sorted(self.words))


class Config:
    """The part of a builder's configuration that deals with timing caches."""

    def create_timing_cache(self, content: bytes) -> Words:
        return Words(content)

    def set_timing_cache(self, cache: Words, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True


def build(path: Path, learnt: bytes) -> TimingCache:
    config, cache = Config(), TimingCache(path)
    cache.attach(None, config, asked=True)
    config.cache.words.add(learnt)
    cache.save(config)
    return cache


def test_what_a_build_learns_is_there_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "timing" / "one.cache"
    assert read(path) == (b"", "")
    assert build(path, b"first").note == ""
    assert build(path, b"second").note == ""
    assert read(path) == (b"first second", "")


class OtherGpu(Config):
    """A builder that was given the timings of another GPU."""

    def set_timing_cache(self, cache: Words, ignore_mismatch: bool) -> bool:
        return False


def test_timings_of_another_gpu_are_told_of_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    write(path, b"theirs")
    cache = TimingCache(path)
    cache.attach(None, OtherGpu(), asked=False)
    cache.save(OtherGpu())
    assert cache.note == "timing cache one.cache is of another GPU or driver and is not used"
    assert read(path) == (b"theirs", "")


def test_every_model_of_gpu_and_driver_has_a_file_of_its_own(tmp_path: Path) -> None:
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.9")
    a100, a30 = Gpu("NVIDIA A100/SXM4-80GB", "sm80", "570.1"), Gpu("NVIDIA A30", "sm80", "570.1")
    files = {path_of(tmp_path, trt, "sm80", gpu) for gpu in (a100, a30, replace(a30, driver="580.2"))}
    assert len(files) == 3
    assert tmp_path / "timing" / "tensorrt-10.9-sm80-NVIDIA_A100_SXM4_80GB-570.1.cache" in files


def test_builds_that_overlap_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    config, cache = Config(), TimingCache(path)
    cache.attach(None, config, asked=False)
    config.cache.words.add(b"slow")
    build(path, b"fast")
    cache.save(config)
    assert read(path) == (b"fast slow", "")


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"\0" * 100])
def test_damaged_file_is_told_of_and_begun_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    path.write_bytes(content)
    cache = build(path, b"learnt")
    assert "one.cache is damaged (sha256 differs)" in cache.note
    assert read(path) == (b"learnt", "")


def test_truncated_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    write(path, b"a long list of tactics")
    path.write_bytes(path.read_bytes()[:-3])
    assert read(path)[0] == b""


def test_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    assert "cannot be read" in read(tmp_path)[1]


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    (tmp_path / "one.cache").mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "one.cache", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["one.cache"]


WRITER = """
import sys
from pathlib import Path
from tests.converters.test_engine_timing_cache import build
for number in range(20):
    build(Path(sys.argv[1]), f"{sys.argv[2]}-{number}".encode())
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    command = [sys.executable, "-c", WRITER, str(path)]
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([*command, name], cwd=root) for name in ("left", "right")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    words = set(read(path)[0].split())
    assert words == {f"{name}-{number}".encode() for name in ("left", "right") for number in range(20)}
