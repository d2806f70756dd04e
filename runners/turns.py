"""Our own loop on a loaded artifact, a window at a time: what stands beside a bare loop in the cross-check.

The runner, the output check, the warm-up and the loop are those of a measuring process; only the timed part
is cut into windows, so that the two sides can take turns. Arguments: a job's JSON and the inferences of a
sample. Prints `ready`, then for each line of seconds the window's median nanoseconds per inference.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np

from runners import timing, work
from runners.loading import load
from runners.marks import Marks
from runners.measurement import Job, Timing
from runners.runner import RunnerError


def main() -> None:
    job, loops = Job.from_dict(json.loads(sys.argv[1])), int(sys.argv[2])
    try:
        window = _Windows(job, loops)
    except RunnerError as error:
        raise SystemExit(f"{error.kind}: {error}") from None
    print("ready", flush=True)
    for line in sys.stdin:
        print(window.median_ns(float(line)), flush=True)


class _Windows:
    def __init__(self, job: Job, loops: int) -> None:
        loaded = load(job, Marks(lambda phase: None))
        loaded.check.run(loaded.runner, range(loaded.inputs))
        self._timing, self._clock = job.timing, loaded.runner.clock
        self._step = work.of(loaded.runner, loaded.description)
        warm = timing.warm_up(self._step, max(1, loaded.inputs), job.timing, clock=self._clock)
        # Both sides loop as often: calibration may differ from process to process.
        self._warm = replace(warm, loop_count=loops, plan=timing.rotation(max(1, loaded.inputs), loops))

    def median_ns(self, seconds: float) -> float:
        """A fifth of the window is untimed: the caches still hold what the other side worked on."""
        self._take(replace(self._timing, round_seconds=seconds / 5, min_samples=1))
        return self._take(replace(self._timing, round_seconds=seconds, min_samples=1))

    def _take(self, asked: Timing) -> float:
        samples = timing.take(self._step, self._warm, asked, clock=self._clock)
        return float(np.median(samples)) / self._warm.loop_count


if __name__ == "__main__":
    main()
