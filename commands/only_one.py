"""Two invocations of one suite would take the same rounds: the second is told who is at it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RunBusyError(RuntimeError):
    """Another process works on this run."""


@contextmanager
def only_one(store: Path, run_id: int) -> Iterator[None]:
    """Holds a lock file beside the store while a run is worked on; it dies with the process.

    Raises RunBusyError naming the holder's process.
    """
    path = store.with_name(f"{store.name}.run-{run_id}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise RunBusyError(
                f"process {holder} is measuring run {run_id} of {store}: wait for it, or start another run"
                " with --fresh"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
