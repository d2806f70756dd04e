"""How often the kernel has ended a process for want of memory, as far as this process may know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runners import cgroups as groups
from runners.cgroups import CGROUPS, PROC


def oom_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Kills counted by our control group and, where that tells nothing, by the machine; 0 where neither does.

    Only the growth of the count between two readings means anything.
    """
    for file in _group_files(proc, cgroups):
        count = _counter(file)
        if count is not None:
            return count
    return _counter(proc / "vmstat") or 0


def limit_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """What our group may use: the smallest memory limit of it and of those around it; None without one."""
    limits = (
        _read(folder / name).strip()
        for folder in groups.folders("memory", proc, cgroups)
        for name in ("memory.max", "memory.limit_in_bytes")
    )
    # version 1 writes a huge number for no limit
    return min((int(text) for text in limits if text.isdigit() and int(text) < 1 << 60), default=None)


def _group_files(proc: Path, cgroups: Path) -> Iterator[Path]:
    for folder in groups.folders("memory", proc, cgroups):
        yield folder / "memory.events"  # version 2
        yield folder / "memory.oom_control"  # version 1


def _counter(file: Path) -> int | None:
    for line in _read(file).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
