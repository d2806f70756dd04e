"""What follows from a stored run: where it goes on, how its time was spent, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence

from commands import NOT_TIMED, OK, SOME_FAILED
from reports.records import StoredRun
from runners.measurement import Phases


def first_round(stored: StoredRun) -> int:
    """Rounds of a case that is tried again in a finished run are numbered after all others.

    They have no neighbours, so they must not be paired with rounds of another day.
    """
    if stored.info.finished_at_ns is None:
        return 0
    return max((r.round_index for result in stored.results for r in result.rounds), default=-1) + 1


def exit_code(stored: StoredRun, *, short: bool) -> int:
    """A case without its rounds and without a missing device to blame is a failed one."""
    failed = [result for result in stored.results if result.failure]
    if short or any(not result.untimed for result in failed):
        return SOME_FAILED
    return NOT_TIMED if failed else OK


def ledger(phases: Sequence[Phases], *, measuring_ns: int, failed_ns: int) -> dict[str, int]:
    """Where the time of measuring went: the phases of all processes, and the parent's time between them."""
    parts = {name: sum(getattr(one, name) for one in phases) for name in Phases.__slots__}
    parts["parent_ns"] = measuring_ns - parts.pop("process_ns") - failed_ns
    if failed_ns:
        parts["failed_processes_ns"] = failed_ns
    return parts
