"""One measurement at a time per device: a file lock that dies with the processes that hold it.

A suite takes it before it starts a measuring process, which inherits it: it is free when both are gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from runners import parse_device
from runners.measurement import Job
from runners.runner import RunnerError

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.2
SHARED_FOLDER = "/tmp/deploybench-locks"  # TMPDIR may differ between users


def default_folder() -> Path:
    """One folder for all users of the machine, who share its devices; `$DEPLOYBENCH_LOCKS` names another."""
    return Path(os.environ.get("DEPLOYBENCH_LOCKS") or SHARED_FOLDER)


def place_of(job: Job) -> tuple[Path, str] | None:
    """(folder, device) of the lock that a job takes; None for a simulation, which needs no quiet device.

    Unless a folder for it is named, that is.
    """
    folder = job.options.get("lock_dir")
    if folder is None and job.backend == "simulated":
        return None
    kind, index = parse_device(job.device)
    device = kind if kind == "cpu" else f"{kind}-{index}"  # `cuda` and `cuda:0` are one device
    return Path(folder or default_folder()), device


def acquire_for(job: Job) -> int | None:
    """The lock of a job's device, waited for; None where none is needed. Raises RunnerError as `acquire`."""
    place = place_of(job)
    if place is None:
        return None
    seconds = float(job.options.get("lock_seconds", WAIT_SECONDS))
    return acquire(
        *place, wait_seconds=seconds, purpose=f"{job.backend} {job.case_id} round {job.round_index}"
    )


def acquire(folder: Path, device: str, *, wait_seconds: float, purpose: str) -> int:
    """Takes the device's lock, waiting for at most so long; the open descriptor holds it until it is closed.

    Raises RunnerError `unavailable`, with the holder's pid in `detail["holder_pid"]`.
    """
    path = _file(folder, device)
    descriptor = _open(path)
    try:
        _lock(descriptor, wait_seconds)
    except TimeoutError:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise _busy(device, path, holder, wait_seconds) from None
    _write_holder(descriptor, purpose)
    return descriptor


def _file(folder: Path, device: str) -> Path:
    return folder / (re.sub(r"[^A-Za-z0-9._-]", "-", device) + ".lock")


def _open(path: Path) -> int:
    try:
        _make_folder(path.parent)
        return _open_shared(path)
    except OSError as error:
        raise RunnerError(
            "unavailable",
            f"cannot open the device lock {path}: {error.strerror}",
            "Make it writable for every user who measures here, or name a folder in DEPLOYBENCH_LOCKS.",
        ) from None


def _make_folder(folder: Path) -> None:
    """For every user, like the temporary folder: nobody can remove what another made."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o1777)


def _open_shared(path: Path) -> int:
    """A file that every user can lock, made where it is missing.

    Opened without O_CREAT first: Linux refuses that flag for another user's file in such a folder.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    with suppress(FileExistsError):  # somebody else was faster
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(descriptor, 0o666)
        return descriptor
    return os.open(path, flags)


def _lock(descriptor: int, wait_seconds: float) -> None:
    """Sleeps in the kernel while it waits: a waiter that polls would disturb whoever is measuring.

    Outside the main thread, where no alarm can be set, it looks a few times a second.
    """
    if _tried(descriptor):
        return
    if wait_seconds <= 0:
        raise TimeoutError
    if threading.current_thread() is threading.main_thread():
        with _alarm(wait_seconds):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    expires = time.monotonic() + wait_seconds
    while not _tried(descriptor):
        if time.monotonic() >= expires:
            raise TimeoutError
        time.sleep(POLL_SECONDS)


def _tried(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
    note = {"pid": os.getpid(), "purpose": purpose, "since_ns": time.time_ns()}
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
        f"device '{device}' is in use by process {pid} ({holder.get('purpose', 'purpose unknown')}); "
        f"waited {waited:g} s for {path}",
        "Wait for that suite to end, or end that process.",
        holder_pid=pid,
    )
