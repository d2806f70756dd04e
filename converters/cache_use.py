"""Which artifacts a living process needs: while it does, nobody removes them.

A lease is a file `ROOT/leases/ID` that names keys and is locked by its process, so it ends with the process
however that ends. Leases are written, and artifacts taken away, under one lock of the folder: what is found
under a lease stays until its end. No toolchain is imported here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converters.artifact import ConversionRequest
from converters.cache import unusable
from converters.keys import cache_key
from converters.stages import source_request

LEASES, LOCK = "leases", "lock"
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def keys_of(requests: Iterable[ConversionRequest]) -> set[str]:
    """The keys of the artifacts of requests, and of those that they are built from."""
    asked = set(requests)
    sources = {source for request in asked if (source := source_request(request)) is not None}
    return {cache_key(request) for request in asked | sources}


@contextmanager
def leased(root: Path, keys: Iterable[str]) -> Iterator[None]:
    """Keeps the artifacts of these keys, there already or made meanwhile, from being removed.

    Of a cache that may only be read nothing is kept: whoever may write to it is not told. Raises CacheError
    where the folder cannot be used.
    """
    descriptor, path = -1, root / LEASES / uuid.uuid4().hex
    wanted = sorted(set(keys))
    try:
        if wanted:
            descriptor = _taken(root, path, wanted)
        yield
    finally:
        if descriptor >= 0:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _taken(root: Path, path: Path, keys: list[str]) -> int:
    """An open descriptor whose lock is the lease; -1 in a folder that may only be read."""
    try:
        with exclusive(root):
            return _written(path, json.dumps({"pid": os.getpid(), "keys": keys}).encode())
    except OSError as error:
        if error.errno in _READ_ONLY and root.is_dir():
            return -1
        raise unusable(root, LEASES, error) from error


def _written(path: Path, content: bytes) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Holds the lock under which leases are written and artifacts are taken away. Raises OSError."""
    folder = root / LEASES
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def needed(root: Path) -> dict[str, int]:
    """The keys that living processes need, each with the id of one of them; leases of dead ones are removed.

    To be called under `exclusive`.
    """
    found: dict[str, int] = {}
    for path in sorted((root / LEASES).iterdir()):
        if path.name != LOCK:
            with contextlib.suppress(FileNotFoundError):  # its process has just given it up
                found |= _needed_by(path)
    return found


def _needed_by(path: Path) -> dict[str, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        value = json.loads(path.read_bytes())
        return dict.fromkeys(value["keys"], int(value["pid"]))
    else:
        path.unlink()  # nobody holds it
        return {}
    finally:
        os.close(descriptor)
