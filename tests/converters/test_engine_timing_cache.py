"""The file of the timing cache: whole or not there, merged between processes, begun again where damaged.

The package that is installed here keeps no timing cache. What `save` asks of one that does is played by a
cache that is a set of words; files, locks and processes are real.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converters.timing_cache import TimingCache, read, write


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
