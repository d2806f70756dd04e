"""What part of its machine's processor a run was allowed to use, and how that of two runs differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.records import RunInfo

_NAMED = 6  # stretches of cores that are named


def allowed_differences(a: RunInfo, b: RunInfo) -> list[str]:
    """`cores (0-3 and 0, 2)`, `CPU quota in cores (2 and none told)`; empty where they are one or not told.

    They are those of the process that began the run: its measuring processes may be pinned to fewer.
    """
    found = []
    cores = [_affinity(info) for info in (a, b)]
    if all(cores) and cores[0] != cores[1]:
        found.append("cores ({} and {})".format(*map(_stretches, cores)))
    quotas = [_quota(info) for info in (a, b)]
    if quotas[0] != quotas[1] and all(cores):
        found.append("CPU quota in cores ({} and {})".format(*quotas))
    return found


def _affinity(info: RunInfo) -> tuple[int, ...]:
    """The cores, sorted; none where the platform does not tell, or a file has something else there."""
    cores = _cpu(info).get("affinity")
    if not isinstance(cores, list) or any(type(core) is not int for core in cores):
        return ()
    return tuple(sorted(set(cores)))


def _quota(info: RunInfo) -> str:
    cores = _cpu(info).get("quota_cores")
    return f"{cores:g}" if isinstance(cores, int | float) else "none told"


def _cpu(info: RunInfo) -> Mapping[str, Any]:
    cpu = info.environment.get("cpu")
    return cpu if isinstance(cpu, Mapping) else {}


def _stretches(cores: Sequence[int]) -> str:
    """`0-1, 4`; of many, how many they are."""
    ends: list[list[int]] = []
    for core in cores:
        if ends and core == ends[-1][1] + 1:
            ends[-1][1] = core
        else:
            ends.append([core, core])
    named = [f"{first}-{last}" if last > first else str(first) for first, last in ends]
    more = f" … ({len(cores)} cores)" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
