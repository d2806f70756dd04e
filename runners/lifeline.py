"""A measuring process never outlives its parent, not even one that was killed without warning."""

from __future__ import annotations

import _thread
import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
ORPHANED = 113  # exit status that nobody is left to read


def tie_to(parent_pid: int, control: int) -> Callable[[], None]:
    """Ends this process when the parent dies; the returned function sleeps until the parent says go.

    Linux sends SIGKILL, which also ends a process that hangs holding the interpreter lock. Everywhere, a
    thread sleeps in a read of the control pipe: a byte is the word to go, and its end of file means that the
    parent is gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(ORPHANED)
    go = _thread.allocate_lock()
    go.acquire()
    _thread.start_new_thread(_watch, (control, go))

    def wait() -> None:
        go.acquire()

    return wait


def _watch(control: int, go: _thread.LockType) -> None:
    while os.read(control, 1):
        go.release()
    os._exit(ORPHANED)
