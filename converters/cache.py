"""Artifacts, found again by what they were made from and trusted only while their bytes are unchanged.

Layout: `ROOT/KEY/{artifact.json, model.*, tensors.npz}`. A folder is built under `ROOT/building/` and renamed
when it is complete and on the disk, so no reader sees a half-written one. What turns out damaged is moved to
`ROOT/corrupt/` and kept. `KEY/last_used` tells by its own time of change when an artifact was last found, as
file systems may keep no times of reading. No toolchain is imported here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.artifact import Artifact
from converters.files import sha256_of, sync_folder
from converters.keys import SCHEMA
from models.spec import digest

MANIFEST = "artifact.json"
# A builder locks its folder as soon as it is there, so what is older and not locked has lost its process.
ABANDONED_AFTER_S = 60
BUILDING, CORRUPT = "building", "corrupt"
LAST_USED = "last_used"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class CacheError(Exception):
    """The cache folder cannot be used: not writable, or no space left. Names the path and the fix."""


def unusable(root: Path, name: str, error: OSError) -> CacheError:
    """The error of a folder in which `name` cannot be written."""
    return CacheError(
        f"artifact cache {root}: cannot write {name}: {error.strerror or error}. "
        "Give another folder, free space on its disk, or make it writable."
    )


class ArtifactCache:
    """Artifacts under one folder; any number of processes may use it at once.

    `report` is told, in one sentence, about an entry that had to be set aside.
    """

    def __init__(self, root: Path, report: Callable[[str], None] | None = None) -> None:
        self.root = root.absolute()
        self._report = report or logging.getLogger(__name__).warning

    def find(self, key: str) -> Artifact | None:
        """The artifact of a key with its files' sha256 verified, or None; a damaged one is set aside."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        try:
            found = self._read(folder)
            _note_use(folder)
            return found
        except _DAMAGE as error:
            self._set_aside(folder, error)
            return None

    def store(self, key: str, build: Callable[[Path], Artifact]) -> Artifact:
        """Have `build` write its files into a new folder, then make it the entry of `key`.

        Returns the artifact with its final paths; where another process was faster, that one's. Raises
        CacheError for a folder that cannot be written, and whatever `build` raises.
        """
        folder, lock = self._new_folder()
        try:
            with self._writable(folder):
                self._write_manifest(folder, build(folder))
                sync_folder(folder)
                self._publish(folder, key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        found = self.find(key)
        if found is None:
            raise CacheError(f"{self.root / key}: written and then damaged or removed; is the disk sound?")
        return found

    def keys(self) -> list[str]:
        """Keys of all entries, unverified, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if (path / MANIFEST).is_file())

    def size_bytes(self) -> int:
        """Bytes of every file under the root, set-aside ones included."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def _read(self, folder: Path) -> Artifact:
        text = (folder / MANIFEST).read_text()
        value = json.loads(text)
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}, this version reads {SCHEMA}")
        if value["sha256"] != digest(value["artifact"]) or text != _manifest(value["artifact"]):
            raise ValueError(f"{MANIFEST} is not as it was written (sha256 differs)")
        artifact = Artifact.from_dict(value["artifact"], relative_to=folder)
        if artifact.key != folder.name or artifact.path.parent != folder or artifact.tensors.parent != folder:
            raise ValueError(f"{MANIFEST} belongs to another entry, {artifact.key}")
        for path, expected in ((artifact.path, artifact.sha256), (artifact.tensors, artifact.tensors_sha256)):
            if sha256_of(path) != expected:
                raise ValueError(f"{path.name} is not the file that was written (sha256 differs)")
        return artifact

    def _set_aside(self, folder: Path, error: Exception) -> None:
        target = self.root / CORRUPT / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        with self._writable(folder):
            target.parent.mkdir(exist_ok=True)
            try:
                folder.rename(target)
            except FileNotFoundError:
                return  # another process set it aside
        self._report(f"artifact {folder.name} is damaged ({error}); kept in {target} and made again")

    def _new_folder(self) -> tuple[Path, int]:
        """(a folder to build in, the descriptor whose lock says that its builder lives)."""
        folder = self.root / BUILDING / uuid.uuid4().hex
        with self._writable(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(folder.parent)
            folder.mkdir()
            lock = locked(folder)
        assert lock is not None  # nobody else knows the name
        return folder, lock

    def _sweep(self, building: Path) -> None:
        """Remove what killed processes left half-built. The clock may have been set: a lock protects more."""
        for folder in building.iterdir():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # another process may sweep too
                if time.time() - folder.stat().st_mtime <= ABANDONED_AFTER_S:
                    continue
                if (lock := locked(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

    def _write_manifest(self, folder: Path, artifact: Artifact) -> None:
        (folder / MANIFEST).write_text(_manifest(artifact.to_dict(relative_to=folder)))

    def _publish(self, folder: Path, key: str) -> None:
        target = self.root / key
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another process published first, or a damaged entry is in the way; `find` tells which.
            if self.find(key) is None:
                folder.rename(target)
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _writable(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unusable(self.root, path.name, error) from error


def _note_use(folder: Path) -> None:
    """In a cache that may only be read, or on a full disk, the time of the last use stays as it was."""
    with contextlib.suppress(OSError):
        (folder / LAST_USED).touch()


def locked(folder: Path) -> int | None:
    """An open descriptor of the folder with its lock, or None where another process holds that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _manifest(facts: Mapping[str, Any]) -> str:
    """The one text of an entry's manifest: every other one was changed, if only in its spaces."""
    value = {"schema": SCHEMA, "sha256": digest(facts), "artifact": facts}
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
