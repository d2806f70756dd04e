"""What follows from a stored run: where it goes on, how its time was spent, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from commands import NOT_TIMED, OK, SOME_FAILED
from converters.artifact import Artifact, ConversionFailure
from reports.codec import encode
from reports.records import CaseResult, StoredRun
from reports.rounds import counted_rounds
from runners.measurement import Failure, Phases


def first_rounds(stored: StoredRun, min_rounds: int) -> dict[str, int]:
    """The round, by case id, before which a case may not go on: 0, or one after all that are stored.

    The latter for a case that failed last and is tried again: rounds that take the place of those it missed
    would be paired with others of another day. And for a case without any round where another has its
    `min_rounds`, as the interleaved ones are over then. Whether the run is finished says nothing of this: an
    interrupted second try leaves it unfinished.
    """
    after = max((r.round_index for result in stored.results for r in result.rounds), default=-1) + 1
    over = any(taken(result) >= min_rounds for result in stored.results)
    late = {r.case.id for r in stored.results if r.failure or (over and not r.rounds)}
    return {result.case.id: after if result.case.id in late else 0 for result in stored.results}


def same_files(stored: StoredRun, outcomes: Mapping[str, Artifact | ConversionFailure]) -> bool:
    """Were the stored rounds taken from the very files that are here now? `outcomes` are by case id."""
    for result in stored.results:
        outcome = outcomes.get(result.case.id)
        if result.artifact and isinstance(outcome, Artifact) and result.artifact.sha256 != outcome.sha256:
            return False
    return True


def taken(result: CaseResult) -> int:
    """Rounds that count: one that was disturbed and taken again counts once."""
    return len(counted_rounds(result.rounds))


def is_known(stored: StoredRun, case_id: str, failure: Failure) -> bool:
    """Is it the last that the run has of this case? Details, such as how long a step took, do not count."""
    last = next((result.failure for result in stored.results if result.case.id == case_id), None)
    return last is not None and encode(_told(last)) == encode(_told(failure))


def _told(failure: Failure) -> dict[str, object]:
    return replace(failure, detail={}).to_dict()


def goes_on(fresh: bool) -> str:
    """What to tell after an interrupt of an invocation that was `fresh`, or not."""
    without = " without --fresh" if fresh else ""
    return f"the same command{without} goes on from there"


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
