"""How cases are timed: settings that contradict each other, and which cases run next to each other."""

from __future__ import annotations

from collections.abc import Iterable

from commands import UsageError
from models.spec import Case
from runners import affinity
from runners.measurement import Timing


def check_timing(timing: Timing) -> Timing:
    """Raises UsageError where two settings contradict each other."""
    if timing.max_rounds < timing.min_rounds:
        raise UsageError(
            f"max_rounds={timing.max_rounds} is below min_rounds={timing.min_rounds}:"
            " raise it or lower the other"
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


def check_pin(timing: Timing, cases: Iterable[Case]) -> None:
    """Raises UsageError where this machine has not the cores that the cases are to be pinned to."""
    try:
        for threads in sorted({case.threads for case in cases}):
            affinity.cores_for(timing.pin, threads)
    except affinity.PinError as error:
        raise UsageError(f"pin: {error}") from None


def comparison(case: Case) -> str:
    """What a report compares with each other: everything but the model, and whether it is fused."""
    return f"{case.model.shape_label} {case.batch_size} {case.precision} {case.threads}"
