"""Rounds that share their time: processes alive at once, of which one works while all others sleep.

A shared machine's speed wanders by per cents within seconds. Rounds that follow each other differ by that;
windows that take turns of some hundredths of a second do not. docs/decisions/0005-turns.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from runners.measurement import Failure, Job, Round
from runners.measuring_process import Child, could_not_start, is_ready
from runners.turn import FIRST_IN_TURNS, IN_TURNS

Anyone = TypeVar("Anyone")


def run(jobs: Sequence[Job], *, command: Sequence[str], lock: int | None) -> list[Round | Failure]:
    """A round of every job, in its order; whoever holds the device's lock calls this.

    All get ready side by side. Then each warms up and works its windows, one at a time, there and back
    through all. What getting ready took counts for the first. One that fails costs only its own round; one
    that runs out of memory beside others is tried again alone.
    """
    outcomes = _together(jobs, command, lock)
    if len(jobs) == 1:
        return outcomes
    return [
        _together([job], command, lock)[0] if _out_of_memory(outcome) else outcome
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]


def _together(jobs: Sequence[Job], command: Sequence[str], lock: int | None) -> list[Round | Failure]:
    begun_ns = time.perf_counter_ns()
    company: list[Child | Failure] = []
    try:
        for job in jobs:
            place = FIRST_IN_TURNS if not company else IN_TURNS
            company.append(_started(job, place, command, lock, begun_ns))
        children = [child for child in company if isinstance(child, Child)]
        _get_ready(children, begun_ns)
        _take_turns(children, first=jobs[0].round_index)
    finally:
        for child in company:
            if isinstance(child, Child):
                child.end()
    return [child.outcome() if isinstance(child, Child) else child for child in company]


def _started(job: Job, place: str, command: Sequence[str], lock: int | None, company: int) -> Child | Failure:
    try:
        return Child.spawn(job, place, command, lock, company=company)
    except OSError as error:
        return could_not_start(job, error)


def _get_ready(children: Sequence[Child], begun_ns: int) -> None:
    for child in children:
        child.wait(until=is_ready)
        if child.over:
            child.end()
    for child in children[:1]:
        child.active_ns += time.perf_counter_ns() - begun_ns


def there_and_back(all_of_them: Sequence[Anyone], first: int) -> list[Anyone]:
    """A pass over all, begun by the one whose turn it is to begin, and a pass the other way round.

    Whoever ends the way there begins the way back, its data still in the caches, and is faster for it: the
    next time it is another.
    """
    start = first % len(all_of_them)
    there = [*all_of_them[start:], *all_of_them[:start]]
    return [*there, *reversed(there)]


def _take_turns(children: Sequence[Child], *, first: int) -> None:
    while left := [child for child in children if not child.over]:
        for child in there_and_back(left, first):
            if not child.over:
                child.go_on()
            if child.over:  # one that hangs must not work beside the next one's window
                child.end()
        first += 1


def _out_of_memory(outcome: Round | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.kind == "out_of_memory"
