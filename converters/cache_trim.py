"""An artifact cache that grows no further than it may: what was used least recently is taken away first.

An artifact is renamed into `ROOT/removed/` under the lock of `converters.cache_use` and then deleted, so it
is whole or not there however this process ends; what is left in that folder goes at the next time. Nothing
goes that a living process needs. No toolchain is imported here.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from converters import cache_use
from converters.cache import (
    ABANDONED_AFTER_S,
    BUILDING,
    CORRUPT,
    LAST_USED,
    MANIFEST,
    CacheError,
    locked,
    unusable,
)

REMOVED = "removed"
KEY = re.compile(r"[0-9a-z]{32}")
Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder that can be taken away: an artifact, or what was set aside (`key` is empty).

    `files` are the bytes of its files by inode: an engine shares its tensors with its ONNX file.
    """

    folder: Path
    key: str
    last_used_ns: int
    files: dict[Inode, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was taken away, least recently used first, and what is left under the cache's folder.

    `kept` are the artifacts that a living process needs, with its id.
    """

    removed: tuple[Entry, ...]
    kept: dict[str, int]
    left_bytes: int


def entries(root: Path) -> list[Entry]:
    """Every artifact, least recently used first, unverified. Raises CacheError for an unreadable folder."""
    return sorted(_entries(root), key=_age)


def total_bytes(root: Path) -> int:
    """Bytes of all files under the root, hard links once. Raises CacheError for an unreadable folder."""
    _folders(root)
    return sum(_files(root).values())


def bytes_of(root: Path, keys: Iterable[str]) -> int:
    """Bytes of these artifacts, as far as they are there, hard links once."""
    found: dict[Inode, int] = {}
    for key in keys:
        found |= _files(root / key)
    return sum(found.values())


def made_since(root: Path, keys: Iterable[str], since_ns: int) -> set[str]:
    """Those of the artifacts that are there and were made at or after a time of the wall clock."""
    found = set()
    for key in keys:
        with contextlib.suppress(FileNotFoundError):
            if (root / key / MANIFEST).stat().st_mtime_ns >= since_ns:
                found.add(key)
    return found


def trim(
    root: Path, max_bytes: int, *, dry_run: bool = False, among: Collection[str] | None = None
) -> Trimmed:
    """Takes artifacts away until the folder holds `max_bytes` at most, or only what is needed is left.

    What was set aside as damaged goes first. `among` are the only keys that may go, and their files are then
    what `max_bytes` is for. Raises CacheError where the folder cannot be used.
    """
    if not root.is_dir():
        return Trimmed((), {}, 0)
    try:
        with cache_use.exclusive(root):
            kept = cache_use.needed(root)
            removed, left_bytes = _chosen(root, max_bytes, kept, among)
            gone = [] if dry_run else [_moved_away(root, entry) for entry in removed]
    except OSError as error:
        raise unusable(root, REMOVED, error) from error
    if not dry_run:
        _delete(root, gone)
    here = {entry.key for entry in entries(root)}
    return Trimmed(tuple(removed), {key: pid for key, pid in kept.items() if key in here}, left_bytes)


def _chosen(
    root: Path, max_bytes: int, kept: dict[str, int], among: Collection[str] | None
) -> tuple[list[Entry], int]:
    """What goes, and the bytes that are left; those of half-deleted and abandoned folders are gone too."""
    if among is None:
        waste = {inode for folder in _leftovers(root) for inode in _files(folder)}
        left_bytes = sum(size for inode, size in _files(root).items() if inode not in waste)
        candidates = [*sorted(_set_aside(root), key=_age), *entries(root)]
    else:
        left_bytes = bytes_of(root, among)
        candidates = [entry for entry in entries(root) if entry.key in among]
    uses = collections.Counter(inode for entry in candidates for inode in entry.files)
    chosen = []
    for entry in candidates:
        if left_bytes <= max_bytes:
            break
        if entry.key not in kept:
            chosen.append(entry)
            uses.subtract(entry.files.keys())
            left_bytes -= sum(size for inode, size in entry.files.items() if not uses[inode])
    return chosen, left_bytes


def _age(entry: Entry) -> tuple[int, str]:
    return entry.last_used_ns, entry.folder.name


def _entries(root: Path) -> Iterator[Entry]:
    for folder in _folders(root):
        if KEY.fullmatch(folder.name) and (folder / MANIFEST).is_file():
            yield Entry(folder, folder.name, _last_used_ns(folder), _files(folder))


def _set_aside(root: Path) -> Iterator[Entry]:
    for folder in _folders(root / CORRUPT):
        yield Entry(folder, "", _last_used_ns(folder), _files(folder))


def _leftovers(root: Path) -> list[Path]:
    """What a process that was killed left: half deleted, or half built."""
    builds = [folder for folder in _folders(root / BUILDING) if _is_abandoned(folder)]
    return [*_folders(root / REMOVED), *builds]


def _is_abandoned(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it has just been finished
        if time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S and (lock := locked(folder)) is not None:
            os.close(lock)
            return True
    return False


def _moved_away(root: Path, entry: Entry) -> Path:
    target = root / REMOVED / f"{entry.folder.name}-{uuid.uuid4().hex[:8]}"
    target.parent.mkdir(exist_ok=True)
    entry.folder.rename(target)
    return target


def _delete(root: Path, gone: list[Path]) -> None:
    """What was moved away, and what killed processes left; another process may be deleting it too."""
    for folder in dict.fromkeys((*gone, *_leftovers(root))):
        shutil.rmtree(folder, ignore_errors=True)


def _last_used_ns(folder: Path) -> int:
    """Of an artifact that was made before times of use were kept, the time of its making."""
    for name in (LAST_USED, MANIFEST, "."):
        with contextlib.suppress(OSError):
            return (folder / name).stat().st_mtime_ns
    return 0


def _folders(place: Path) -> list[Path]:
    with _readable(place):
        return [path for path in sorted(place.iterdir()) if path.is_dir()] if place.is_dir() else []


def _files(folder: Path) -> dict[Inode, int]:
    """Bytes by inode of all files below a folder; files that vanish meanwhile are left out."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = Path(place, name).lstat()
                found[status.st_dev, status.st_ino] = status.st_size
    return found


@contextlib.contextmanager
def _readable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"artifact cache {root}: cannot be read: {error.strerror or error}. Give another folder with"
            " [paths] artifacts, or make it readable."
        ) from error
