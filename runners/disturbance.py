"""Was a round disturbed? Judged from what was read before and after its timed part.

The limits were found on a machine with known load on it: docs/measurement.md, "What disturbs a round". A
standstill alone is told from the samples, and against the median of their own round: no round is called
disturbed for being slow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from runners.measurement import Samples
from runners.readings import Readings

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # the kernel counts the machine's CPU time in these


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a Load disturbs, field by field; `switches_per_s` for each thread of the process.

    A short round must have seen so many `ticks` of other work, and of stolen time, on top of its share, as
    the machine's time is counted in no finer unit, and have lost its cores `switches` times.
    """

    other_cpu: float = 0.10
    switches_per_s: float = 100.0
    steal: float = 0.02
    pressure: float = 0.10
    clock_drop: float = 0.10
    quota_wait: float = 0.01
    ticks: int = 4
    switches: int = 10


LIMITS = Limits()

STILL_MEDIANS = 10
STILL_SHARE = 0.10  # of all samples' time
STILL_NS = 40_000_000  # a process that shares its core waits shorter than that for its turn


@dataclass(frozen=True, slots=True)
class Load:
    """What happened during the timed part, apart from it; None where the platform does not tell.

    `other_cpu` is other work's CPU time over the time that this process left on the machine's cores, at least
    that of one core; `steal` what the hypervisor gave to others, over the time of all cores; `pressure` the
    share of the time in which some task waited for a CPU; `quota_wait` that in which our control group's
    limit held it up; `clock_drop` how much slower the fastest core's clock became. `throttles` counts how
    often the processor slowed itself down for heat.
    """

    span_ns: int
    other_cpu: float | None = None
    steal: float | None = None
    switches_per_s: float | None = None
    pressure: float | None = None
    quota_wait: float | None = None
    clock_drop: float | None = None
    throttles: int | None = None


def load(before: Readings, after: Readings, *, cores: int) -> Load:
    """What two readings around a timed part say of it, on a machine of so many cores.

    Raises ValueError where they were not taken one after the other.
    """
    span_ns = int(after["read_at_ns"] - before["read_at_ns"])
    if span_ns <= 0:
        raise ValueError(f"{span_ns} ns lie between the readings: 'after' is not after 'before'")
    khz = before.get("cpu_khz_max", 0)
    grown = {name: after[name] - before[name] for name in after if name in before}
    all_ns = span_ns * max(1, cores)
    own_ns = grown["user_cpu_ns"] + grown["system_cpu_ns"]
    return Load(
        span_ns,
        other_cpu=_share(grown.get("machine_busy_ns"), minus=own_ns, over=max(span_ns, all_ns - own_ns)),
        steal=_share(grown.get("machine_steal_ns"), over=all_ns),
        switches_per_s=grown["involuntary_switches"] / span_ns * 1e9,
        pressure=_share(grown.get("cpu_pressure_us"), over=span_ns / 1e3),
        quota_wait=_share(grown.get("quota_wait_ns"), over=span_ns),
        clock_drop=_share(-grown["cpu_khz_max"], over=khz) if khz and "cpu_khz_max" in grown else None,
        throttles=int(grown["cpu_throttle_count"]) if "cpu_throttle_count" in grown else None,
    )


def reasons(
    before: Readings, after: Readings, *, cores: int, threads: int = 1, limits: Limits = LIMITS
) -> list[str]:
    """Why a round of so many threads counts as disturbed, one line each; empty for a quiet one."""
    return list(_reasons(load(before, after, cores=cores), cores, threads, limits))


def standstill(samples_ns: Samples) -> list[str]:
    """One line where a sample holds a stop of the process or the machine, or a step of the clock; else none.

    The sample is over STILL_MEDIANS times the round's median, over STILL_SHARE of the time of all samples,
    and over STILL_NS. It spoils the round's mean and throughput and ends the round early; the median stays.
    """
    longest_ns, median_ns = float(samples_ns.max()), float(np.median(samples_ns))
    limit_ns = max(STILL_NS, STILL_MEDIANS * median_ns, STILL_SHARE * samples_ns.sum(dtype=np.float64))
    if longest_ns <= limit_ns:
        return []
    times = longest_ns / max(1.0, median_ns)
    return [f"one sample lasted {longest_ns / 1e6:.0f} ms, {times:.0f} times the median: a standstill"]


def _reasons(seen: Load, cores: int, threads: int, limits: Limits) -> Iterator[str]:
    counted = limits.ticks * TICK_NS / seen.span_ns
    if seen.other_cpu is not None and seen.other_cpu > limits.other_cpu + counted:
        yield f"other work used {seen.other_cpu:.0%} of the CPU time that was left"
    if seen.steal is not None and seen.steal > limits.steal + counted / cores:
        yield f"the hypervisor took {seen.steal:.0%} of the cores' time"
    usual_per_s = max(limits.switches_per_s * threads, limits.switches / seen.span_ns * 1e9)
    if seen.switches_per_s is not None and seen.switches_per_s > usual_per_s:
        yield f"the process lost its core {seen.switches_per_s:.0f} times a second"
    if seen.pressure is not None and seen.pressure > limits.pressure:
        yield f"tasks waited for a CPU in {seen.pressure:.0%} of the time"
    if seen.quota_wait is not None and seen.quota_wait > limits.quota_wait:
        yield f"CPU limits of its control groups held work up for {seen.quota_wait:.0%} of the time"
    if seen.clock_drop is not None and seen.clock_drop > limits.clock_drop:
        yield f"the clock fell by {seen.clock_drop:.0%}"
    if seen.throttles is not None and seen.throttles > 0:
        yield "the processor slowed itself down for heat"


def _share(part: float | None, *, over: float, minus: float = 0.0) -> float | None:
    return None if part is None else max(0.0, part - minus) / over
