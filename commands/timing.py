"""How cases are timed: settings that contradict each other, and which cases run next to each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from commands import UsageError
from models.spec import Case, forms_left_out
from runners import affinity
from runners.measurement import Timing

TURN_SECONDS = 0.06  # where a comparison is all that is asked for: docs/decisions/0005-turns.md


def check_timing(timing: Timing) -> Timing:
    """Raises UsageError where two settings contradict each other."""
    if timing.max_rounds < timing.min_rounds:
        raise UsageError(
            f"max_rounds={timing.max_rounds} is below min_rounds={timing.min_rounds}:"
            " raise it or lower the other"
        )
    if timing.turn_seconds > timing.round_seconds:
        raise UsageError(
            f"turn_seconds={timing.turn_seconds:g} is above round_seconds={timing.round_seconds:g}:"
            " a round is cut into turns, so lower it"
        )
    if timing.max_warmup_seconds + timing.round_seconds > timing.deadline_seconds:
        raise UsageError(
            f"deadline_seconds={timing.deadline_seconds:g} leaves no time for max_warmup_seconds="
            f"{timing.max_warmup_seconds:g} and round_seconds={timing.round_seconds:g}: raise it"
        )
    if timing.max_warmup_seconds < timing.warmup_seconds:
        raise UsageError(
            f"max_warmup_seconds={timing.max_warmup_seconds:g} is below warmup_seconds="
            f"{timing.warmup_seconds:g}: raise it or lower the other"
        )
    return timing


def in_turns(timing: Timing) -> Timing:
    """With turns where the configuration asks for none: a command that wants ratios and nothing else."""
    return replace(timing, turn_seconds=timing.turn_seconds or min(TURN_SECONDS, timing.round_seconds))


def check_pin(timing: Timing, cases: Iterable[Case]) -> None:
    """Raises UsageError where this machine has not the cores that the cases are to be pinned to."""
    try:
        for threads in sorted({case.threads for case in cases}):
            affinity.cores_for(timing.pin, threads)
    except affinity.PinError as error:
        raise UsageError(f"pin: {error}") from None


def comparisons(cases: Sequence[Case]) -> dict[str, str]:
    """The comparison that each case takes part in, by case id.

    Where some leave forms for deployment out, a network is there to be compared with itself.
    """
    if any(forms_left_out(case.build) for case in cases):
        return {case.id: f"{comparison(case)} {case.model.name}" for case in cases}
    return {case.id: comparison(case) for case in cases}


def comparison(case: Case) -> str:
    """What a report compares with each other: everything but the model, and whether it is fused."""
    return f"{case.model.shape_label} {case.batch_size} {case.precision} {case.threads}"
