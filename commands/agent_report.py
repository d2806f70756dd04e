"""What a device told of a job, in a few lines or as a JSON table: times, loads, placement, drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from device_agents.modelbench import aggregate, drift
from device_agents.outbox import Waiting
from reports.formatting import count, duration
from runners.measurement import Failure, Round


def table_of(waiting: Waiting, rounds: Sequence[Round], failure: Failure | None) -> dict[str, Any]:
    """Medians are over rounds; `modelbench_mean_ns` is the papers' aggregate, beside the median."""
    medians = [float(np.median(taken.samples_ns / taken.loop_count)) for taken in rounds]
    bench = aggregate(rounds)
    # The last round was stored last, so it knows of every load.
    device: Mapping[str, Any] = rounds[-1].environment["device"] if rounds else {}
    return {
        "case": waiting.case.to_dict(),
        "job_id": waiting.job.job_id,
        "compute_unit": waiting.job.compute_unit,
        "rounds": len(rounds),
        "median_ns": float(np.median(medians)) if medians else None,
        "modelbench_mean_ns": bench.mean_ns if bench else None,
        "modelbench_complete": bool(bench and bench.complete),
        "drift": float(np.median([drift(taken) for taken in rounds])) if rounds else None,
        "compile_ns": device.get("compile_ns", []),
        "cold_load_ns": device.get("cold_load_ns", []),
        "warm_load_ns": device.get("warm_load_ns", []),
        "placement": device.get("placement", []),
        "flags": sorted({flag for taken in rounds for flag in taken.flags}),
        "failure": failure.to_dict() if failure else None,
    }


def lines_of(waiting: Waiting, rounds: Sequence[Round], failure: Failure | None) -> Iterator[str]:
    """For a terminal. Estimated cost is named as such: it is no time."""
    table = table_of(waiting, rounds, failure)
    yield waiting.case.label
    if table["median_ns"] is not None:
        yield f"  {duration(table['median_ns'])} (median of {count(len(rounds), 'round')})"
    if table["modelbench_mean_ns"] is not None:
        whole = "" if table["modelbench_complete"] else ", of fewer than 20 rounds of 50"
        yield f"  {duration(table['modelbench_mean_ns'])} by ModelBench's trimmed mean{whole}"
    for name in ("compile_ns", "cold_load_ns", "warm_load_ns"):
        if table[name]:
            yield f"  {name.removesuffix('_ns').replace('_', ' ')}: {duration(float(np.median(table[name])))}"
    for share in table["placement"]:
        cost = share["cost_ppb"] / 1e7
        place = share["place"].replace("_", " ")
        yield f"  {place}: {count(share['operations'], 'operation')}, {cost:.0f} % of the estimated cost"
    if table["drift"]:
        yield f"  last third of a round against its first: {100 * table['drift']:+.1f} %"
    for flag in table["flags"]:
        yield f"  flag: {flag.replace('_', ' ')}"
    if failure is not None:
        yield f"  {failure.detail.get('problem', failure.kind)}: {failure.message}"
        yield f"  {failure.advice}"
