"""One measurement at a time per device: a file lock that dies with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from runners.runner import RunnerError

WAIT_SECONDS = 30.0


def default_folder() -> Path:
    """`$XDG_RUNTIME_DIR/deploybench`, else the user's cache folder, else one in the temporary one."""
    runtime, cache = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("XDG_CACHE_HOME")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "deploybench"
    if cache or os.environ.get("HOME"):
        return Path(cache or Path.home() / ".cache") / "deploybench" / "locks"
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"deploybench-{os.getuid()}"


def acquire(folder: Path, device: str, *, wait_seconds: float, purpose: str) -> int:
    """Takes the device's lock, waiting for at most so long; the open descriptor holds it until it is closed.

    Raises RunnerError `unavailable`, with the holder's pid in `detail["holder_pid"]`.
    """
    path = folder / (re.sub(r"[^A-Za-z0-9._-]", "-", device) + ".lock")
    descriptor = _open(path)
    try:
        _lock(descriptor, wait_seconds)
    except TimeoutError:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise _busy(device, path, holder, wait_seconds) from None
    _write_holder(descriptor, purpose)
    return descriptor


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunnerError(
            "unavailable",
            f"cannot open the device lock {path}: {error.strerror}",
            "Make the folder writable, or set XDG_RUNTIME_DIR to one that is.",
        ) from None


def _lock(descriptor: int, wait_seconds: float) -> None:
    """Sleeps in the kernel while it waits: a waiter that polls would disturb whoever is measuring."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if wait_seconds <= 0:
            raise TimeoutError from None
        with _alarm(wait_seconds):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside, from a signal handler, after so many seconds."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _write_holder(descriptor: int, purpose: str) -> None:
    note = {"pid": os.getpid(), "parent": os.getppid(), "purpose": purpose, "since_ns": time.time_ns()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _holder(descriptor: int) -> dict[str, Any]:
    """What the holder wrote; empty where it has not yet, or wrote nonsense."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _busy(device: str, path: Path, holder: dict[str, Any], waited: float) -> RunnerError:
    pid = holder.get("pid", "unknown")
    return RunnerError(
        "unavailable",
        f"device '{device}' is being measured by process {pid} ({holder.get('purpose', 'purpose unknown')}); "
        f"waited {waited:g} s for {path}",
        f"Wait for that suite to end, or end its process {holder.get('parent', 'unknown')}.",
        holder_pid=pid,
    )
