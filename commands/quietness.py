"""What makes latencies noisy on this machine, and the command that changes it. Nothing is changed here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commands.finding import Finding
from runners import cgroups, readings
from runners.environment import describe_cpu

HOT_C = 85.0
BUSY_SHARE = 0.05  # of one core
WATCHED_SECONDS = 0.5
SHOWN_PROCESSES = 5


@dataclass(frozen=True, slots=True)
class Places:
    """Where the kernel tells about itself."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")

    @property
    def cpus(self) -> Path:
        return self.sys / "devices/system/cpu"


def findings(places: Places = Places()) -> Iterator[Finding]:
    """One for every setting that costs precision here, and the state of processor and load."""
    cpu = describe_cpu()
    yield Finding("cpu", "ok", f"{cpu['model']}, {cpu['logical_cores']} logical cores")
    for check in (_governor, _preference, _turbo, _siblings, _swap, _huge_pages, _quota, _power, _heat):
        yield from check(places)
    if sys.platform == "darwin":
        yield from mac_power(_output("pmset", "-g", "batt"), _output("pmset", "-g"))
    yield from _load()


def _governor(places: Places) -> Iterator[Finding]:
    files = sorted(places.cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    slow = sorted({_text(file) for file in files} - {"performance"})
    if slow:
        names = ", ".join(f"'{name}'" for name in slow)
        yield Finding("governor", "note", f"{names} changes the clock while measuring", _every(files[0]))
    elif not files:
        yield Finding("governor", "note", "the clock's governor cannot be read here (often so in a VM)")


def _preference(places: Places) -> Iterator[Finding]:
    files = sorted(places.cpus.glob("cpu[0-9]*/cpufreq/energy_performance_preference"))
    slow = sorted({_text(file) for file in files} - {"performance", ""})
    if slow:
        message = f"the processor is told to prefer '{slow[0]}' where it chooses its clock"
        yield Finding("energy preference", "note", message, _every(files[0]))


def _turbo(places: Places) -> Iterator[Finding]:
    for name, on, off in (("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")):
        if _text(places.cpus / name) == on:
            message = "the clock rises above its base while the processor is cool and few cores work"
            yield Finding("turbo", "note", message, _write(off, places.cpus / name))
            return


def _siblings(places: Places) -> Iterator[Finding]:
    if _text(places.cpus / "smt/active") != "1":
        return
    lists = {_text(file) for file in places.cpus.glob("cpu[0-9]*/topology/thread_siblings_list")}
    firsts = sorted(int(text.replace("-", ",").partition(",")[0]) for text in lists if text)
    pin = f", or pin to one thread of each core: --pin {','.join(map(str, firsts))}" if firsts else ""
    message = "two threads share a core, and so its caches and units"
    yield Finding("SMT", "note", message, _write("off", places.cpus / "smt/control") + pin)


def _swap(places: Places) -> Iterator[Finding]:
    rows = [line.split() for line in _text(places.proc / "swaps").splitlines()[1:]]
    if rows:
        total, used = (sum(int(row[column]) for row in rows) for column in (2, 3))
        message = (
            f"{total / 2**20:.1f} GiB of swap, {used / 2**20:.1f} GiB used: pages may have to be read back"
        )
        yield Finding("swap", "note", message, "sudo swapoff -a")


def _huge_pages(places: Places) -> Iterator[Finding]:
    file = places.sys / "kernel/mm/transparent_hugepage/enabled"
    if "[always]" in _text(file):
        message = "the kernel moves any process's memory into huge pages when it finds the time"
        yield Finding("huge pages", "note", message, _write("madvise", file))


def _quota(places: Places) -> Iterator[Finding]:
    limit = cgroups.smallest_quota(places.proc, places.sys / "fs/cgroup")
    if limit is None:
        return
    message = f"a control group allows {limit.cores:g} cores' time: beyond it the process stands still"
    fix = f"{_write(limit.unlimited, limit.file)}, or start the container without --cpus"
    yield Finding("CPU limit", "note", message, fix)


def _power(places: Places) -> Iterator[Finding]:
    supplies = places.sys / "class/power_supply"
    mains = [folder for folder in supplies.glob("*") if _text(folder / "type") == "Mains"]
    if mains and all(_text(folder / "online") == "0" for folder in mains):
        yield Finding("power", "note", "the machine runs on its battery", "plug it in")
    file = places.sys / "firmware/acpi/platform_profile"
    if (profile := _text(file)) not in ("", "performance"):
        known = _text(file.with_name("platform_profile_choices")).split()
        if "performance" in known:
            message = f"the platform's profile is '{profile}'"
            yield Finding("power profile", "note", message, _write("performance", file))


def _heat(places: Places) -> Iterator[Finding]:
    values = readings.read(places.proc, places.sys)
    degrees, throttles = values.get("cpu_temperature_c"), int(values.get("cpu_throttle_count", 0))
    if degrees is not None and degrees >= HOT_C:
        message = f"the processor is {degrees:.0f} °C hot and may lower its clock"
        yield Finding("temperature", "note", message, "let it cool, free its vents, or turn turbo off")
    if throttles:
        message = f"the processor has slowed itself down for heat {throttles} times since it was started"
        yield Finding("throttling", "note", message, "better cooling, or turbo off: see above")


def mac_power(battery: str, settings: str) -> Iterator[Finding]:
    """From what `pmset -g batt` and `pmset -g` print on a Mac."""
    if "'Battery Power'" in battery:
        yield Finding("power", "note", "the machine runs on its battery", "plug it in")
    if any(line.split() == ["lowpowermode", "1"] for line in settings.splitlines()):
        yield Finding("low power mode", "note", "the system saves power", "sudo pmset -a lowpowermode 0")


def _load() -> Iterator[Finding]:
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    busy = busy_processes(WATCHED_SECONDS)
    for name, pid, share in busy[:SHOWN_PROCESSES]:
        fix = f"end it, or let it wait while you measure: kill -STOP {pid}, afterwards kill -CONT {pid}"
        yield Finding("other work", "note", f"{name} (process {pid}) uses {share:.0%} of a core", fix)
    state = "note" if load > 0.3 * cores else "ok"
    fix = "stop what else is running" if state == "note" and not busy else ""
    yield Finding("load", state, f"load average is {load:.2f} on {cores} cores", fix)


def busy_processes(seconds: float) -> list[tuple[str, int, float]]:
    """(name, pid, share of a core) of what else used over BUSY_SHARE in so many seconds, busiest first."""
    import psutil

    before = _cpu_seconds()
    begun = time.monotonic()
    time.sleep(seconds)
    after, span = _cpu_seconds(), time.monotonic() - begun
    found = []
    for pid, used in after.items():
        share = (used - before.get(pid, used)) / span
        if share >= BUSY_SHARE and pid != os.getpid():
            try:
                found.append((psutil.Process(pid).name(), pid, share))
            except psutil.Error:  # it has ended since
                continue
    return sorted(found, key=lambda one: -one[2])


def _cpu_seconds() -> dict[int, float]:
    import psutil

    times = {one.pid: one.info["cpu_times"] for one in psutil.process_iter(["cpu_times"])}
    return {pid: used.user + used.system for pid, used in times.items() if used is not None}


def _every(file: Path) -> str:
    """The command that writes `performance` into this file of every core."""
    return f"echo performance | sudo tee {file.parents[2]}/cpu*/{file.parent.name}/{file.name}"


def _write(value: str, file: Path) -> str:
    return f"echo {value} | sudo tee {file}"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
