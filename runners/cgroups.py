"""Our control group's folders in either version, and the CPU time that it may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit of CPU time, as so many cores; `unlimited`, written to `file`, takes it away."""

    cores: float
    file: Path
    unlimited: str


def folders(controller: str, proc: Path = PROC, cgroups: Path = CGROUPS) -> Iterator[Path]:
    """Folders that may hold the controller's files, our own group's before those that it lies in, each once.

    In a container the mount itself is the group, so it comes last in every case.
    """
    found = (os.path.normpath(folder) for folder in _folders(controller, proc, cgroups))
    yield from map(Path, dict.fromkeys(found))


def _folders(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    for line in _read(proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own = PurePosixPath(path.strip("/"))
        groups = (own, *own.parents)  # the last one is the mount
        if number == "0" and not controllers:
            yield from (mount / group for mount in (cgroups, cgroups / "unified") for group in groups)
        elif controller in controllers.split(","):
            yield from (cgroups / controller / group for group in groups)


def smallest_quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> Quota | None:
    """What our group may use: the smallest limit of it and of those around it; None without one."""
    found = [quota for folder in folders("cpu", proc, cgroups) if (quota := _quota(folder)) is not None]
    return min(found, key=lambda quota: quota.cores, default=None)


def throttled_ns(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Time in which CPU limits have kept our group and those around it waiting; None where nothing is told.

    A group counts what its own limit held up, and nothing of its parents: whichever limit rules, the sum
    grows. It never falls, as no count does, and where two hold a group up at once it counts both.
    """
    found = [ns for folder in folders("cpu", proc, cgroups) if (ns := _throttled_ns(folder)) is not None]
    return sum(found) if found else None


def _throttled_ns(folder: Path) -> int | None:
    for line in _read(folder / "cpu.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "throttled_usec":  # version 2
            return int(value) * 1000
        if name == "throttled_time":  # version 1, in nanoseconds
            return int(value)
    return None


def _quota(folder: Path) -> Quota | None:
    file, unlimited = folder / "cpu.max", "max"
    quota, _, period = _read(file).strip().partition(" ")
    if not quota:
        file, unlimited = folder / "cpu.cfs_quota_us", "-1"
        quota, period = _read(file).strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None
    return Quota(int(quota) / int(period), file, unlimited)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
