"""Pinning: a measuring process on as many cores as its case has threads, so that none of them wanders."""

from __future__ import annotations

import os
import re

OFF = "off"
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


class PinError(ValueError):
    """What is wrong with a list of cores, and what it should be."""


def parse(pin: str) -> tuple[int, ...]:
    """The cores of `off` (none), `3`, `0,2` or `4-7`, in the order given. Raises PinError."""
    if pin == OFF:
        return ()
    cores: list[int] = []
    for part in pin.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found:
            raise PinError(f"'{pin}' is neither 'off' nor a list of cores such as '2,3' or '4-7'")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise PinError(f"'{part.strip()}' in '{pin}' runs backwards: write '{last}-{first}'")
        cores += range(first, last + 1)
    if len(set(cores)) < len(cores):
        raise PinError(f"'{pin}' names a core twice")
    return tuple(cores)


def cores_for(pin: str, threads: int) -> tuple[int, ...]:
    """The first `threads` cores of the list, all of them there; none where nothing is pinned.

    Raises PinError.
    """
    cores = parse(pin)
    if not cores:
        return ()
    if not hasattr(os, "sched_setaffinity"):
        raise PinError(f"'{pin}' cannot be done: this system does not pin a process to cores; use 'off'")
    allowed = sorted(os.sched_getaffinity(0))
    missing = [core for core in cores if core not in allowed]
    if missing:
        have = ", ".join(map(str, allowed))
        raise PinError(f"core {missing[0]} of '{pin}' is not there, or not for this process: it has {have}")
    if len(cores) < threads:
        raise PinError(f"'{pin}' is too short for a case of {threads} threads: name {threads} cores or more")
    return cores[:threads]


def pin_process(pin: str, threads: int) -> tuple[int, ...]:
    """Puts this process, and every thread that it will start, on its cores, which are returned.

    Raises PinError, and OSError where the kernel refuses.
    """
    cores = cores_for(pin, threads)
    if cores:
        os.sched_setaffinity(0, cores)
    return cores
