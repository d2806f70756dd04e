"""Cheap readings of process and machine, taken before and after the timed part, never during it."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from runners import cgroups

PROC = Path("/proc")
SYS = Path("/sys")
MAX_CLOCKS_READ = 8
# Kernel drivers that tell the processor's own temperature, and the types of thermal zones that do.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
CPU_ZONES = ("x86_pkg_temp", "cpu")

Readings = dict[str, int | float]
LEVELS = ("load_1min", "cpu_khz_min", "cpu_khz_max", "cpu_temperature_c")  # all others are counters


def read(proc: Path = PROC, sys_folder: Path = SYS) -> Readings:
    """Counters and levels by name; what the platform does not tell is absent.

    About 0.5 ms on Linux, and 1 ms where this may run on 64 cores.
    """
    return {
        "read_at_ns": time.monotonic_ns(),
        **_process(),
        **_load(),
        **_pressure(proc),
        **_machine_time(proc),
        **_clocks(proc, sys_folder / "devices/system/cpu"),
        **_temperature(sys_folder / "class"),
        **_quota(proc, sys_folder / "fs/cgroup"),
    }


def joined(spans: Sequence[tuple[Readings, Readings]]) -> tuple[Readings, Readings]:
    """What was read before and after each of several spans, as if they had followed each other without a gap.

    Counters grow by what they grew by inside the spans; of levels the last ones count.
    """
    before, last = spans[0][0], spans[-1][1]
    grown = {
        name: sum(end[name] - begin[name] for begin, end in spans if name in begin and name in end)
        for name in last
        if name in before and name not in LEVELS
    }
    return before, {**last, **{name: before[name] + growth for name, growth in grown.items()}}


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
    """Microseconds since boot in which some task waited for each resource, if the kernel tells."""
    return {
        f"{name}_pressure_us": int(line.rpartition("total=")[2])
        for name in ("cpu", "memory", "io")
        for line in _lines(proc / "pressure" / name)
        if line.startswith("some")
    }


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


def _clocks(proc: Path, cpus: Path) -> Readings:
    """The fastest and slowest clock of the core that runs this and some others; throttles of all that may.

    Throttles are counted on every core that may run this: a set that followed the thread to another core
    would compare the counts of different cores.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    here = [core for core in (_core(proc),) if core is not None]
    near = dict.fromkeys([*here, *allowed][:MAX_CLOCKS_READ])
    clocks = [int(line) for cpu in near for line in _lines(cpus / f"cpu{cpu}/cpufreq/scaling_cur_freq")]
    throttles = [
        int(line)
        for cpu in allowed
        for line in _lines(cpus / f"cpu{cpu}/thermal_throttle/core_throttle_count")
    ]
    values: Readings = {"cpu_khz_min": min(clocks), "cpu_khz_max": max(clocks)} if clocks else {}
    return {**values, "cpu_throttle_count": sum(throttles)} if throttles else values


def _core(proc: Path) -> int | None:
    """The core that this thread ran on last: field 39 of its stat, counted behind the name in brackets."""
    words = "".join(_lines(proc / "thread-self/stat")).rpartition(")")[2].split()
    return int(words[36]) if len(words) > 36 else None


def _temperature(classes: Path) -> Readings:
    """Degrees Celsius of the hottest of the processor's own sensors."""
    named = [
        *(folder / "temp" for folder in classes.glob("thermal/thermal_zone*") if _is_cpu(folder / "type")),
        *(
            file
            for folder in classes.glob("hwmon/hwmon*")
            if "".join(_lines(folder / "name")) in CPU_SENSORS
            for file in folder.glob("temp*_input")
        ),
    ]
    found = [int(line) / 1000 for file in named for line in _lines(file)]
    return {"cpu_temperature_c": max(found)} if found else {}


def _is_cpu(kind: Path) -> bool:
    return "".join(_lines(kind)).startswith(CPU_ZONES)


def _quota(proc: Path, groups: Path) -> Readings:
    """Nanoseconds in which a CPU limit has kept our control group waiting."""
    waited_ns = cgroups.throttled_ns(proc, groups)
    return {} if waited_ns is None else {"quota_wait_ns": waited_ns}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
