"""The other spans of a sample beside its median: what the host and the transfers took.

A device's own clock times `h2d`, `d2h` and the computation, which is the sample; the host's clock times
`enqueue` and `host`. They are shown beside the median and are never part of a ranking.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reports.tables import Row, RunTable

# name in Round.parts -> (head of the column, what it means)
NAMES = {
    "h2d": ("H2D", "inputs to the device, device clock"),
    "d2h": ("D2H", "outputs to the host, device clock"),
    "enqueue": ("Enqueue", "host time until the work is handed over"),
    "host": (
        "Host",
        "host time of an inference that is waited for; on several streams, of a batch over its size",
    ),
    "latency": ("Latency", "H2D, compute and D2H together, as trtexec gives it"),
    "end_to_end": ("End to end", "from the first copy to the last one's end, as trtexec gives it"),
}


def present(table: RunTable) -> list[str]:
    """The parts that any row of the run has, the known ones first."""
    found = {name for row in table.rows for one in row.measurement.rounds for name in one.parts}
    return [*(name for name in NAMES if name in found), *sorted(found - set(NAMES))]


def title(name: str) -> str:
    return NAMES.get(name, (name.replace("_", " ").capitalize(), ""))[0]


def meaning(name: str) -> str:
    return NAMES.get(name, ("", "another span of the same samples"))[1]


def median_ns(row: Row, name: str) -> float | None:
    """Nanoseconds per inference: the median of the rounds' medians; None where no round has the part."""
    medians = [
        float(np.median(one.parts[name])) / one.loop_count
        for one in row.measurement.rounds
        if name in one.parts and len(one.parts[name])
    ]
    return float(np.median(medians)) if medians else None


def device_bytes(row: Row) -> int | None:
    """The most memory of the device that a round took; None where no device told it."""
    return max((one.peak_device_bytes for one in row.measurement.rounds), default=0) or None


def latency_ns(row: Row) -> float | None:
    """H2D + compute + D2H, each its median: what `trtexec` calls latency. None without both transfers."""
    parts: Iterable[float | None] = (median_ns(row, "h2d"), median_ns(row, "d2h"))
    known = [part for part in parts if part is not None]
    return row.summary.median_ns + sum(known) if len(known) == 2 else None
