"""Cheap readings of process and machine, taken before and after the timed part, never during it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

PROC = Path("/proc")
CPUFREQ = Path("/sys/devices/system/cpu")
MAX_CPUS_READ = 8

Readings = dict[str, int | float]


def read(proc: Path = PROC, cpus: Path = CPUFREQ) -> Readings:
    """Counters and levels by name; what the platform does not tell is absent. About 0.3 ms on Linux."""
    return {**_process(), **_load(), **_pressure(proc), **_machine_time(proc), **_clocks(cpus)}


def peak_rss_bytes(proc: Path = PROC) -> int:
    """The largest resident size of this process.

    Linux hands `ru_maxrss` on through fork and exec, so it would be the parent's: VmHWM starts afresh.
    """
    for line in _lines(proc / "self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _process() -> Readings:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "voluntary_switches": usage.ru_nvcsw,
        "involuntary_switches": usage.ru_nivcsw,
        "user_cpu_ns": round(usage.ru_utime * 1e9),
        "system_cpu_ns": round(usage.ru_stime * 1e9),
        "minor_faults": usage.ru_minflt,
        "major_faults": usage.ru_majflt,
    }


def _load() -> Readings:
    try:
        return {"load_1min": os.getloadavg()[0]}
    except OSError:
        return {}


def _pressure(proc: Path) -> Readings:
    """Microseconds since boot in which some task waited for a CPU, if the kernel keeps pressure figures."""
    for line in _lines(proc / "pressure/cpu"):
        if line.startswith("some"):
            return {"cpu_pressure_us": int(line.rpartition("total=")[2])}
    return {}


def _machine_time(proc: Path) -> Readings:
    """CPU time of all processes and what the hypervisor took, since boot, and context switches."""
    values: Readings = {}
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for line in _lines(proc / "stat"):
        name, _, rest = line.partition(" ")
        if name == "cpu":
            user, nice, system, _, _, irq, softirq, steal = (int(word) for word in rest.split()[:8])
            values["machine_busy_ns"] = (user + nice + system + irq + softirq) * tick_ns
            values["machine_steal_ns"] = steal * tick_ns
        elif name == "ctxt":
            values["machine_switches"] = int(rest)
    return values


def _clocks(cpus: Path) -> Readings:
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    files = [cpus / f"cpu{cpu}" for cpu in allowed[:MAX_CPUS_READ]]
    clocks = [int(line) for folder in files for line in _lines(folder / "cpufreq/scaling_cur_freq")]
    throttles = [
        int(line) for folder in files for line in _lines(folder / "thermal_throttle/core_throttle_count")
    ]
    values: Readings = {"cpu_khz_min": min(clocks), "cpu_khz_max": max(clocks)} if clocks else {}
    return {**values, "cpu_throttle_count": sum(throttles)} if throttles else values


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
