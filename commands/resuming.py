"""What follows from a stored run: where it goes on, how its time was spent, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from commands import NOT_TIMED, OK, SOME_FAILED
from reports.codec import encode
from reports.records import StoredRun
from runners.measurement import Failure, Phases


def first_round(stored: StoredRun, min_rounds: int) -> int:
    """The round that a case without any begins with: 0, or one after all others.

    Where another case has its `min_rounds`, the interleaved ones are over and this case is tried again. It
    has no neighbours among them, so it must not be paired with rounds that may be of another day. Whether
    the run is finished says nothing of this: an interrupted second try leaves it unfinished.
    """
    if not any(len(result.rounds) >= min_rounds for result in stored.results):
        return 0
    return max(r.round_index for result in stored.results for r in result.rounds) + 1


def is_known(stored: StoredRun, case_id: str, failure: Failure) -> bool:
    """Is it the last that the run has of this case? Details, such as how long a step took, do not count."""
    last = next((result.failure for result in stored.results if result.case.id == case_id), None)
    return last is not None and encode(_told(last)) == encode(_told(failure))


def _told(failure: Failure) -> dict[str, object]:
    return replace(failure, detail={}).to_dict()


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
