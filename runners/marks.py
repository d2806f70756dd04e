"""The phases of a measuring process: which one it is in, and how long each took."""

from __future__ import annotations

from collections.abc import Callable

from runners.measurement import Phases
from runners.runner import HOST_CLOCK


class Marks:
    """Which phase the process is in, told as it begins, and how long each took, the first from `began_ns`."""

    def __init__(self, announce: Callable[[str], None], *, began_ns: int | None = None) -> None:
        self.phase = "import"
        self.durations: dict[str, int] = {}
        self._announce = announce
        self._entered_ns = HOST_CLOCK() if began_ns is None else began_ns

    def enter(self, phase: str) -> None:
        now = HOST_CLOCK()
        self.durations[self.phase] = self.durations.get(self.phase, 0) + now - self._entered_ns
        self.phase, self._entered_ns = phase, now
        self._announce(phase)

    def forget(self) -> None:
        """What passed so far passed beside another process: it took no time of its own."""
        self.durations.clear()
        self._entered_ns = HOST_CLOCK()

    def phases(self) -> Phases:
        names = ("start", "import", "load", "verify", "warmup", "timed")
        return Phases(**{f"{name}_ns": self.durations.get(name, 0) for name in names})
