"""A build that says how far it is, and that ends when it is told to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

EVERY_S = 0.5


class Stop:
    """Set by a signal during a build; `number` is the signal's."""

    def __init__(self) -> None:
        self.number = 0

    def __bool__(self) -> bool:
        return self.number != 0


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM inside, and deliver them again on leaving.

    The library swallows what Python raises in its callbacks, so an exception of the signal's own handler
    would be lost in the middle of a build. Only the main thread may set handlers; another goes without.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        stop.number = number

    try:
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    handlers[number] = signal.signal(number, remember)
                    stack.callback(signal.signal, number, handlers[number])
            yield stop
    finally:
        if stop:
            handlers[stop.number](stop.number, None)


def monitor(trt: Any, on_phase: Callable[[str], None], stop: Stop) -> Any:
    """A progress monitor that ends the build on `stop` and tells the phase, at most every EVERY_S seconds.

    The builder calls it from several threads.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the package is known when it is loaded
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._told = time.monotonic()
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                if time.monotonic() - self._told >= EVERY_S:
                    self._told = time.monotonic()
                    on_phase(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not stop

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
