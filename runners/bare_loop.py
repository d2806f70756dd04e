"""ONNX Runtime timed with nothing around it: what our own number for the same file is checked against.

Run as a script, not imported: it knows nothing of this project. Arguments: one JSON object with `artifact`,
`tensors`, `threads`, `loops` and `warmup_seconds`. Prints `ready`, then for each line of seconds the median
nanoseconds per inference of so long a window, after a fifth of it untimed.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import onnxruntime as ort


def main() -> None:
    asked = json.loads(sys.argv[1])
    options = ort.SessionOptions()
    options.intra_op_num_threads = asked["threads"]
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(asked["artifact"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with np.load(asked["tensors"]) as file:
        feeds = [{name: file[key]} for key in file.files if key.startswith("input_")]
    _time(session, feeds, loops=asked["loops"], seconds=asked["warmup_seconds"])
    print("ready", flush=True)
    for line in sys.stdin:
        _time(session, feeds, loops=asked["loops"], seconds=float(line) / 5)
        samples = _time(session, feeds, loops=asked["loops"], seconds=float(line))
        print(statistics.median(samples), flush=True)


def _time(session: Any, feeds: list[dict[str, Any]], *, loops: int, seconds: float) -> list[float]:
    samples = []
    rotated = itertools.cycle(feeds)  # as every protocol has it: one input alone would stay in the caches
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        for feed in itertools.islice(rotated, loops):
            session.run(None, feed)
        samples.append((time.perf_counter_ns() - start) / loops)
    return samples


if __name__ == "__main__":
    main()
