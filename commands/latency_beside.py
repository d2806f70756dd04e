"""A setting's time over the reference's: both measured side by side, in turns, every round kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reports.rounds import paired_logs
from runners.measurement import Failure, Job, Measurement, Round, Timing
from runners.suite import measure

REFERENCE, SETTING = "reference", "setting"


class NoRatioError(RuntimeError):
    """A side of a comparison failed or had no round, so there is no ratio; the message says which and why."""


@dataclass
class BesideReference:
    """The `measure` of `commands.latency_match.match`: calls for one setting go on from its earlier rounds.

    `job_of` gives the job of a setting. With `timing.turn_seconds` above 0 both are alive at once and take
    turns; `timing.max_seconds` is for one call. `rounds` holds what was measured: by setting, then by side.
    """

    reference: Job
    job_of: Callable[[int], Job]
    timing: Timing
    rounds: dict[int, dict[str, list[Round]]] = field(default_factory=dict)

    def __call__(self, setting: int, rounds: int) -> list[float]:
        """Logarithms of time over time, one per pair of rounds.

        Raises NoRatioError, and what `runners.suite.measure` raises.
        """
        kept = self.rounds.setdefault(setting, {REFERENCE: [], SETTING: []})
        jobs = {REFERENCE: self.reference, SETTING: self.job_of(setting)}

        def commit(side: str, outcome: Round | Failure) -> None:
            if isinstance(outcome, Failure):
                raise NoRatioError(f"{side} (at {setting}): {outcome.message}. {outcome.advice}")
            kept[side].append(outcome)

        measure(
            {side: replace(job, case_id=side) for side, job in jobs.items()},
            replace(self.timing, min_rounds=rounds, max_rounds=rounds),
            converged=lambda _: False,
            commit=commit,
            done=kept,
            groups=dict.fromkeys(jobs, "latency match"),
        )
        if not all(kept.values()):
            seconds = f"{self.timing.max_seconds:g} s"
            raise NoRatioError(f"{seconds} ended before both sides had a round: give it more time")
        sides = [Measurement(kept[side][-1].protocol, tuple(kept[side])) for side in (SETTING, REFERENCE)]
        return paired_logs(*sides)
