"""Backends of another package, installed by entry points, whose runtimes fail as real ones do.

`faulty-NAME` strikes at the first inference that is timed or warms up; `faulty-later` in the second round.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

from runners import BackendInfo
from runners.runner import HOST_CLOCK, Description


class FaultyRunner:
    """Returns the larger of its input and 0, where no fault strikes."""

    fault = ""

    def __init__(self) -> None:
        self.clock = HOST_CLOCK
        self.asynchronous = False

    def load(self, job, inputs) -> None:
        self._inputs = list(inputs)
        self._strike = None if self.fault == "later" and job.round_index < 1 else FAULTS.get(self.fault)

    def infer(self, index: int) -> object:
        if self._strike:
            self._strike()
        return np.maximum(self._inputs[index], 0)

    def synchronize(self) -> None:
        """Nothing runs beside the call."""

    def outputs(self, index: int) -> list:
        return [np.maximum(self._inputs[index], 0)]

    def describe(self) -> Description:
        return Description("faulty 1", "numpy.maximum")

    def close(self) -> None:
        """Nothing was opened."""


def _hold_the_lock_asleep() -> None:
    """PyDLL keeps the interpreter's lock: no other thread of this process can run."""
    while True:
        ctypes.PyDLL(None).sleep(3600)


def _hold_the_lock_busy() -> None:
    """The expression's cost doubles with every letter, and the lock is kept all the while."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _exceed_the_address_space() -> None:
    """A limit as `ulimit -v` sets, 64 MiB above what is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept = []
    while True:
        kept.append(np.ones(1 << 20))


def _eat_memory() -> None:
    """Until the kernel ends it; only for a process in a control group with a limit."""
    kept = []
    while True:
        kept.append(np.ones(1 << 21))


def _results() -> int:
    """The descriptor of this process's result pipe, as its command line tells it."""
    return int(sys.argv[2])


def _half_a_message() -> None:
    os.write(_results(), b"DBF1" + struct.pack("<Q", 5000) + b'{"round": {')


def _half_and_gone() -> None:
    _half_a_message()
    os._exit(0)


def _half_and_asleep() -> None:
    _half_a_message()
    time.sleep(3600)


def _nonsense() -> None:
    os.write(_results(), os.urandom(4096))
    time.sleep(3600)


FAULTS = {
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "asleep": _hold_the_lock_asleep,
    "busy": _hold_the_lock_busy,
    "address_space": _exceed_the_address_space,
    "memory": _eat_memory,
    "nonsense": _nonsense,
    "half_and_gone": _half_and_gone,
    "half_and_asleep": _half_and_asleep,
    "later": lambda: os.abort(),
    "closed": lambda: os.close(_results()),
}


def backend(fault: str) -> type[FaultyRunner]:
    info = BackendInfo(f"faulty-{fault}", "onnx", "", "fails as its name says")
    return type(f"Faulty_{fault}", (FaultyRunner,), {"fault": fault, "info": info})


BACKENDS = {f"faulty-{fault}": backend(fault) for fault in FAULTS}
globals().update({found.__name__: found for found in BACKENDS.values()})
ENTRY_POINTS = [f"{name} = faulty_runner:{found.__name__}" for name, found in BACKENDS.items()]
